// SPDX-License-Identifier: MIT
/* Pictures and latents files -> spectrum -> proposed schedule. */
#include "eval/spectrum_run.h"
#include "base/memory.h"
#include "eval/progress.h"
#include "eval/spectrum.h"
#include "image/image.h"
#include "io/safetensors.h"
#include "pipeline/networks.h"
#include "pipeline/picture.h"
#include "sample/schedule.h"
#include <math.h>
#include <string.h>

/* One allocation: the public struct and all it points to. */
typedef struct result {
    swd_spectrum pub;
    swd_spectrum_step steps[SWD_STEPS_MAX];
    swd_spectrum_scale scales[SPECTRUM_SIDE_MAX / 2];
    double frequency[SPECTRUM_SIDE_MAX / 2], power[SPECTRUM_SIDE_MAX / 2],
        sigma[SPECTRUM_SIDE_MAX / 2];
} result;

typedef struct job {
    const swd_spectrum_params *a;
    pipeline *p;
    result *r;
    spectrum *sum; // NULL until the first latents tell their size
} job;

/* ---- input ---- */

static swd_status add_latents(job *j, const float *z, int channels, int height, int width,
                              const char *file, swd_err *err)
{
    swd_spectrum *o = &j->r->pub;
    if (!j->sum) {
        SWD_TRY(spectrum_create(&j->sum, height, width, err), err);
        o->height = height;
        o->width = width;
        o->channels = channels;
    }
    if (height != o->height || width != o->width || channels != o->channels)
        return SWD_FAIL(
            err, SWD_ERR_FILE,
            "%s: latents of %d channels and %dx%d beside %d and %dx%d; measure sizes apart", file,
            channels, width, height, o->channels, o->width, o->height);
    size_t plane = (size_t)height * (size_t)width;
    for (size_t i = 0; i < plane * (size_t)channels; i++)
        if (!isfinite(z[i]))
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: latents hold NaN or infinity", file);
    for (int c = 0; c < channels; c++) spectrum_add(j->sum, z + (size_t)c * plane);
    o->n_pictures++;
    return SWD_OK;
}

static swd_status add_tensor(job *j, const st_tensor *t, const char *file, swd_err *err)
{
    char shape[96];
    float *z = NULL;
    if (!t) return SWD_FAIL(err, SWD_ERR_FILE, "%s: no tensor \"latents\"", file);
    st_describe_shape(t->shape, t->ndim, shape, sizeof(shape));
    if (t->dtype != SWD_F32 || t->ndim != 4 || t->numel < 1 || t->shape[1] > 4096 ||
        t->shape[2] > SPECTRUM_SIDE_MAX || t->shape[3] > SPECTRUM_SIDE_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: latents is %s %s; it must be F32 [B, C, h, w], sides up to %d", file,
                        t->dtype_text, shape, SPECTRUM_SIDE_MAX);
    size_t one = (size_t)(t->numel / t->shape[0]);
    SWD_TRY(swd_malloc(&z, one, sizeof(*z), "latents", err), err);
    swd_status s = SWD_OK;
    for (int64_t b = 0; b < t->shape[0] && s == SWD_OK; b++) {
        memcpy(z, t->data + (size_t)b * one * sizeof(*z), one * sizeof(*z));
        s = add_latents(j, z, (int)t->shape[1], (int)t->shape[2], (int)t->shape[3], file, err);
    }
    free(z);
    return s;
}

static swd_status add_file(job *j, const char *file, swd_err *err)
{
    safetensors *st = NULL;
    SWD_TRY(safetensors_open(&st, file, "latents", err), err);
    swd_status s = add_tensor(j, safetensors_find(st, "latents"), file, err);
    safetensors_close(&st);
    return s;
}

/* With a dry exec only the slab is measured. */
static swd_status encode(float *z, const float *rgb, int side, bool dry, size_t *peak, pipeline *p,
                         swd_err *err)
{
    swd_exec exec = pipeline_exec(p, dry, err), *ex = &exec;
    int latent = side / pipeline_vae_factor(p);
    swd_tensor picture = exec4(ex, SWD_F32, 1, side, side, 3);
    swd_tensor out = exec4(ex, SWD_F32, 1, p->vae_config.latent_channels, latent, latent);
    if (!dry) RUN(p->backend->upload(p->backend, picture, rgb, NULL, err));
    RUN(vae_encode(out, picture, p->encoder, ex));
    *peak = ex->peak;
    if (dry) return SWD_OK;
    RUN(p->backend->download(p->backend, z, out, NULL, err));
    return p->backend->synchronize(p->backend, NULL, err);
}

/* The middle square, so that the spectrum is not stretched. */
static void crop_square(image_rgb8 *m)
{
    int side = m->width < m->height ? m->width : m->height;
    int x = (m->width - side) / 2, y = (m->height - side) / 2;
    for (int row = 0; row < side; row++)
        memmove(m->rgb + (size_t)row * (size_t)side * 3,
                m->rgb + ((size_t)(y + row) * (size_t)m->width + (size_t)x) * 3, (size_t)side * 3);
    m->width = m->height = side;
}

static swd_status add_picture(job *j, float *z, const char *file, int side, swd_err *err)
{
    image_rgb8 m = {0};
    float *rgb = NULL;
    size_t peak;
    pipeline *p = j->p;
    int latent = side / pipeline_vae_factor(p);
    SWD_TRY(image_read(&m, file, err), err);
    crop_square(&m);
    swd_status s = picture_resize(&rgb, side, side, m.rgb, m.width, m.height, err);
    if (s == SWD_OK) s = encode(z, rgb, side, false, &peak, p, err);
    if (s == SWD_OK)
        s = add_latents(j, z, p->vae_config.latent_channels, latent, latent, file, err);
    free(rgb);
    image_free(&m);
    return s;
}

static swd_status add_pictures(job *j, swd_err *err)
{
    pipeline *p = j->p;
    const swd_spectrum_params *a = j->a;
    size_t peak = 0;
    float *z = NULL;
    SWD_TRY(pipeline_load_encoder(p, err), err);
    int factor = pipeline_vae_factor(p), side = a->side;
    if (!side) {
        SWD_TRY(pipeline_read_configs(p, err), err);
        side = p->facts.sample_size * factor;
    }
    if (side < SPECTRUM_SIDE_MIN * factor || side > SWD_SIDE_MAX || side % factor)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "pictures of %d pixels; give a multiple of %d from %d to %d", side, factor,
                        SPECTRUM_SIDE_MIN * factor, SWD_SIDE_MAX);
    SWD_TRY(encode(NULL, NULL, side, true, &peak, p, err), err);
    SWD_TRY(pipeline_reserve(p, peak, err), err);
    size_t numbers =
        (size_t)p->vae_config.latent_channels * (size_t)(side / factor) * (size_t)(side / factor);
    SWD_TRY(swd_malloc(&z, numbers, sizeof(*z), "latents", err), err);
    swd_status s = SWD_OK;
    for (int i = 0; i < a->n_images && s == SWD_OK; i++) {
        s = eval_progress(p, i, a->n_images, err);
        if (s == SWD_OK) s = add_picture(j, z, a->images[i], side, err);
    }
    free(z);
    return s;
}

/* ---- what follows from it ---- */

static int round_up(double side, int multiple)
{
    return (int)ceil(side / multiple - 1e-9) * multiple;
}

static swd_status propose_scales(job *j, const double *level, const double *sigmas, int n,
                                 int multiple, int smallest, swd_err *err)
{
    swd_spectrum *o = &j->r->pub;
    if (n > 1 && sigmas[n - 1] == 0) n--;
    if (n > SWD_STEPS_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d noise levels; at most %d", n, SWD_STEPS_MAX);
    for (int k = 0; k < n; k++) {
        if (!(sigmas[k] > 0 && sigmas[k] <= 1) || (k && sigmas[k] >= sigmas[k - 1]))
            return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                            "noise level %d is %g; they fall from 1 to above 0", k + 1, sigmas[k]);
        double f = spectrum_masked_from(level, o->n_bins, o->side, sigmas[k]);
        int side = round_up(2 * f * o->side, multiple);
        if (side < smallest) side = smallest;
        if (side > o->side) side = o->side;
        j->r->steps[k] = (swd_spectrum_step){.side = side, .sigma = sigmas[k], .masked_from = f};
    }
    o->n_steps = n;
    return SWD_OK;
}

static swd_status propose_sigmas(job *j, const double *level, swd_err *err)
{
    swd_spectrum *o = &j->r->pub;
    const swd_spectrum_params *a = j->a;
    if (a->n_scales < 1 || a->n_scales > SWD_STEPS_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d scales; give 1 to %d", a->n_scales,
                        SWD_STEPS_MAX);
    for (int k = 0; k < a->n_scales; k++) {
        int side = a->scales[k];
        if (side < 2 || side % 2 || (k && side <= a->scales[k - 1]))
            return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                            "scale %d is %d; they are even and each is larger than the one before",
                            k + 1, side);
        double sigma = k ? spectrum_scale_sigma(level, o->n_bins, o->side, a->scales[k - 1]) : 1;
        if (k && sigma >= j->r->steps[k - 1].sigma)
            return SWD_FAIL(
                err, SWD_ERR_ARGUMENT,
                "scales %d and %d: the same noise masks what either lacks; leave one out",
                a->scales[k - 1], side);
        double f = spectrum_masked_from(level, o->n_bins, o->side, sigma);
        j->r->steps[k] = (swd_spectrum_step){.side = side, .sigma = sigma, .masked_from = f};
    }
    if (a->scales[a->n_scales - 1] != o->side)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "the last scale is %d; the latents' side is %d",
                        a->scales[a->n_scales - 1], o->side);
    o->n_steps = a->n_scales;
    return SWD_OK;
}

static swd_status conclude(job *j, swd_err *err)
{
    result *r = j->r;
    swd_spectrum *o = &r->pub;
    const swd_spectrum_params *a = j->a;
    o->n_bins = spectrum_bins(j->sum);
    o->side = o->height < o->width ? o->height : o->width;
    int eighth = o->side / 16 * 2, multiple = a->scale_multiple ? a->scale_multiple : eighth;
    if (multiple < 2) multiple = 2;
    int smallest = a->scale_min ? a->scale_min : round_up(o->side / 4.0, multiple);
    if (multiple % 2 || multiple > o->side || smallest < 2 || smallest % 2 || smallest > o->side)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "sides that are multiples of %d from %d on; give even numbers up to %d",
                        multiple, smallest, o->side);
    spectrum_mean(r->power, j->sum);
    for (int i = 0; i < o->n_bins; i++) {
        r->frequency[i] = (i + 1.0) / o->side;
        r->sigma[i] = spectrum_masking_sigma(r->power[i]);
    }
    double level[SPECTRUM_SIDE_MAX / 2];
    spectrum_envelope(level, r->power, o->n_bins);
    for (int side = multiple; side <= o->side; side += multiple)
        r->scales[o->n_scales++] =
            (swd_spectrum_scale){.side = side,
                                 .nyquist = 0.5 * side / o->side,
                                 .sigma = spectrum_scale_sigma(level, o->n_bins, o->side, side)};
    if (a->scales) return propose_sigmas(j, level, err);
    const schedule_preset *usual = schedule_find("sd3.5-medium-6");
    return propose_scales(j, level, a->sigmas ? a->sigmas : usual->sigmas,
                          a->sigmas ? a->n_sigmas : usual->n_steps, multiple, smallest, err);
}

static swd_status check(const swd_spectrum_params *a, swd_err *err)
{
    if (a->scales && a->sigmas)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "scales and sigmas are both given; one is proposed from the other");
    if (a->n_images < 0 || a->n_latents < 0 || a->n_images + (int64_t)a->n_latents < 1)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "no pictures and no latents; name some files");
    for (int i = 0; i < a->n_images; i++)
        if (!a->images || !a->images[i])
            return SWD_FAIL(err, SWD_ERR_ARGUMENT, "picture %d is NULL", i);
    for (int i = 0; i < a->n_latents; i++)
        if (!a->latents || !a->latents[i])
            return SWD_FAIL(err, SWD_ERR_ARGUMENT, "latents file %d is NULL", i);
    if (a->sigmas && a->n_sigmas < 1)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d noise levels", a->n_sigmas);
    return SWD_OK;
}

swd_status spectrum_run(swd_spectrum **out, const swd_spectrum_params *a, pipeline *p, swd_err *err)
{
    job j = {.a = a, .p = p};
    *out = NULL;
    SWD_TRY(check(a, err), err);
    SWD_TRY(swd_calloc(&j.r, 1, sizeof(*j.r), "a spectrum", err), err);
    swd_spectrum *o = &j.r->pub;
    *o = (swd_spectrum){.size = sizeof(*o),
                        .frequency = j.r->frequency,
                        .power = j.r->power,
                        .sigma = j.r->sigma,
                        .scales = j.r->scales,
                        .steps = j.r->steps};
    swd_status s = a->n_images ? add_pictures(&j, err) : SWD_OK;
    for (int i = 0; i < a->n_latents && s == SWD_OK; i++) {
        s = eval_progress(p, i, a->n_latents, err);
        if (s == SWD_OK) s = add_file(&j, a->latents[i], err);
    }
    if (s == SWD_OK) s = conclude(&j, err);
    spectrum_destroy(&j.sum);
    if (s == SWD_OK)
        *out = o;
    else
        free(j.r);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

void spectrum_result_free(swd_spectrum **s)
{
    free(*s); // the first member of its result
    *s = NULL;
}
