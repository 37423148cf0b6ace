// SPDX-License-Identifier: MIT
#include "pipeline/parts.h"
#include "backend/slab.h"
#include "base/memory.h"
#include "image/image.h"
#include "io/safetensors_write.h"
#include "pipeline/ahead.h"
#include "pipeline/networks.h"
#include "pipeline/output.h"
#include "weights/weights.h"
#include <stdio.h>
#include <string.h>

enum { IMAGES_PER_FILE_MAX = 10000 };

/* ---- picture -> latents ---- */

static swd_status encode(float *latents, const image_rgb8 *image, pipeline *p, int h, int w,
                         bool dry, size_t *peak, swd_err *err)
{
    swd_exec exec = pipeline_exec(p, dry, err), *ex = &exec;
    swd_tensor picture = exec4(ex, SWD_U8, 1, image->height, image->width, 3);
    swd_tensor out = exec4(ex, SWD_F32, 1, p->vae_config.latent_channels, h, w);
    if (!dry) RUN(p->backend->upload(p->backend, picture, image->rgb, NULL, err));
    RUN(vae_encode(out, picture, p->encoder, ex));
    *peak = ex->peak;
    if (dry) return SWD_OK;
    RUN(p->backend->download(p->backend, latents, out, NULL, err));
    return p->backend->synchronize(p->backend, NULL, err);
}

swd_status parts_encode_file(const char *latents_file, const char *image_file, pipeline *p,
                             swd_err *err)
{
    image_rgb8 image = {0};
    float *latents = NULL;
    size_t peak;
    swd_status s;
    SWD_TRY(pipeline_load_encoder(p, err), err);
    SWD_TRY(image_read(&image, image_file, err), err);
    int factor = pipeline_vae_factor(p), h = image.height / factor, w = image.width / factor,
        c = p->vae_config.latent_channels;
    if (image.width % factor || image.height % factor)
        s = SWD_FAIL(
            err, SWD_ERR_FILE,
            "%s is %dx%d; the autoencoder needs sides that are multiples of %d: crop or resize it",
            image_file, image.width, image.height, factor);
    else
        s = swd_malloc(&latents, (size_t)c * (size_t)h * (size_t)w, sizeof(float), "latents", err);
    if (s == SWD_OK) s = encode(latents, &image, p, h, w, true, &peak, err);
    if (s == SWD_OK) s = pipeline_reserve(p, peak, err);
    if (s == SWD_OK) s = encode(latents, &image, p, h, w, false, &peak, err);
    st_write_tensor t = {
        .name = "latents", .dtype = SWD_F32, .ndim = 4, .shape = {1, c, h, w}, .data = latents};
    if (s == SWD_OK) s = safetensors_write(latents_file, &t, 1, NULL, 0, err);
    free(latents);
    image_free(&image);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

/* ---- latents -> picture ---- */

/* One image [C, h, w] of float32, anywhere in memory, to rgb. */
static swd_status decode(uint8_t *rgb, const float *latents, pipeline *p, int64_t h, int64_t w,
                         bool dry, size_t *peak, swd_err *err)
{
    swd_exec exec = pipeline_exec(p, dry, err), *ex = &exec;
    int factor = pipeline_vae_factor(p);
    swd_tensor in = exec4(ex, SWD_F32, 1, p->vae_config.latent_channels, h, w);
    swd_tensor out = exec4(ex, SWD_U8, 1, h * factor, w * factor, 3);
    if (!dry) RUN(p->backend->upload(p->backend, in, latents, NULL, err));
    RUN(p->tiny ? tiny_vae_decode(out, in, p->tiny, ex) : vae_decode(out, in, p->decoder, ex));
    *peak = ex->peak;
    if (dry) return SWD_OK;
    RUN(p->backend->download(p->backend, rgb, out, NULL, err));
    return p->backend->synchronize(p->backend, NULL, err);
}

static swd_status check_latents(const st_tensor *t, const char *file, const pipeline *p,
                                swd_err *err)
{
    char shape[96];
    int side_max = SWD_SIDE_MAX / pipeline_vae_factor(p);
    if (!t) return SWD_FAIL(err, SWD_ERR_FILE, "%s: no tensor \"latents\"", file);
    st_describe_shape(t->shape, t->ndim, shape, sizeof(shape));
    if (t->dtype != SWD_F32)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: latents is %s; it must be F32", file,
                        t->dtype_text);
    if (t->ndim != 4 || t->shape[1] != p->vae_config.latent_channels)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: latents is %s; the autoencoder needs [B,%d,h,w]",
                        file, shape, p->vae_config.latent_channels);
    if (t->shape[0] < 1 || t->shape[0] > IMAGES_PER_FILE_MAX || t->shape[2] < 1 ||
        t->shape[3] < 1 || t->shape[2] > side_max || t->shape[3] > side_max)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: latents is %s; sides are 1 to %d, images 1 to %d",
                        file, shape, side_max, IMAGES_PER_FILE_MAX);
    return SWD_OK;
}

static swd_status decode_all(const char *image_file, const st_tensor *t, const char *latents_file,
                             pipeline *p, swd_err *err)
{
    SWD_TRY(check_latents(t, latents_file, p, err), err);
    int factor = pipeline_vae_factor(p), n = (int)t->shape[0], width = (int)t->shape[3] * factor,
        height = (int)t->shape[2] * factor;
    size_t numbers = (size_t)(t->numel / n), peak = 0;
    float *latents = NULL;
    uint8_t *rgb = NULL;
    SWD_TRY(output_check(image_file, n, err), err);
    swd_status s = swd_malloc(&latents, numbers, sizeof(float), "latents", err);
    if (s == SWD_OK) s = swd_malloc(&rgb, (size_t)width * (size_t)height, 3, "a picture", err);
    if (s == SWD_OK) s = decode(rgb, latents, p, t->shape[2], t->shape[3], true, &peak, err);
    if (s == SWD_OK) s = pipeline_reserve(p, peak, err);
    for (int i = 0; i < n && s == SWD_OK; i++) {
        char *path = NULL, comment[64];
        memcpy(latents, t->data + (size_t)i * numbers * sizeof(float), numbers * sizeof(float));
        for (size_t k = 0; k < numbers && s == SWD_OK; k++)
            if (!(latents[k] - latents[k] == 0))
                s = SWD_FAIL(err, SWD_ERR_FILE,
                             "%s: latents holds NaN or infinity at element %zu of image %d",
                             latents_file, k, i);
        snprintf(comment, sizeof(comment), "Version: swd %s", SWD_VERSION);
        if (s == SWD_OK) s = decode(rgb, latents, p, t->shape[2], t->shape[3], false, &peak, err);
        if (s == SWD_OK) s = output_name(&path, image_file, i, n, err);
        if (s == SWD_OK) s = output_write(path, rgb, width, height, comment, err);
        free(path);
    }
    free(latents);
    free(rgb);
    return s;
}

swd_status parts_decode_file(const char *image_file, const char *latents_file, pipeline *p,
                             swd_err *err)
{
    safetensors *file = NULL;
    SWD_TRY(output_check(image_file, 0, err), err);
    SWD_TRY(pipeline_load_decoder(p, err), err);
    SWD_TRY(safetensors_open(&file, latents_file, "latents", err), err);
    swd_status s = decode_all(image_file, safetensors_find(file, "latents"), latents_file, p, err);
    safetensors_close(&file);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

/* ---- what is there ---- */

static void summarize(swd_component *c, const pipeline *p)
{
    const config_vae *v = &p->vae_config;
    size_t n = sizeof(c->summary);
    if (strcmp(c->name, "transformer") == 0)
        denoiser_describe(&p->transformer_config, c->summary, n);
    else if (strcmp(c->name, "vae") == 0)
        snprintf(c->summary, n, "factor %d, %d channels, %d resnets a block, %d groups",
                 pipeline_vae_factor(p), v->latent_channels, v->layers_per_block,
                 v->norm_num_groups);
}

static swd_status add_component(swd_info *o, const config_component *part, const pipeline *p,
                                swd_err *err)
{
    bool diffusers = strcmp(part->name, "transformer") == 0 || strcmp(part->name, "vae") == 0;
    if (!diffusers && !str_starts(part->name, "text_encoder")) return SWD_OK;
    if (o->n_components == 16) return SWD_OK;
    swd_component *c = &o->components[o->n_components++];
    snprintf(c->name, sizeof(c->name), "%s", part->name);
    snprintf(c->class_name, sizeof(c->class_name), "%s", part->class_name);
    summarize(c, p);
    char *path = NULL;
    weights *w = NULL;
    SWD_TRY(path_join(&path, p->dir, part->name, err), err);
    swd_status s = weights_open(&w, path, diffusers ? "diffusion_pytorch_model" : "model", err);
    free(path);
    SWD_TRY(s, err);
    c->parameters = weights_parameters(w);
    c->file_bytes = weights_file_bytes(w);
    c->n_files = weights_file_count(w);
    c->memory_bf16 = c->parameters * 2;
    c->memory_f32 =
        c->parameters * (weights_mostly_bf16(w) ? 2 : 4); /* bf16 files stay bf16 in memory */
    weights_close(&w);
    for (int i = 0; i < PIPELINE_PARTS; i++) /* the autoencoder comes in two halves */
        if (p->weights[i].folder && strcmp(p->weights[i].folder, part->name) == 0)
            c->memory_loaded += (int64_t)p->weights[i].bytes;
    return SWD_OK;
}

/* What a request takes: planned on a device that can, else measured, where nothing is left to be loaded for it; and what the device has. */
static swd_status add_memory(swd_info *o, pipeline *p, swd_err *err)
{
    swd_memory m = {0};
    memory_plan plan = {0};
    size_t bytes = 0;
    bool there = p->text_loaded && p->transformer && (p->decoder || p->tiny);
    if (slab_has(p->backend)) SWD_TRY(ahead_plan(&plan, NULL, p, err), err);
    if (slab_has(p->backend))
        bytes = plan.activations;
    else if (there)
        SWD_TRY(ahead_measure(&bytes, p, err), err);
    o->memory_activations = (int64_t)bytes;
    o->plan_all = (int64_t)plan.all;
    o->plan_text = (int64_t)plan.text;
    o->plan_pictures = (int64_t)plan.pictures;
    o->plan_denoise = (int64_t)plan.denoise;
    o->plan_decode = (int64_t)plan.decode;
    o->plan_streamed = (int64_t)plan.streamed;
    if (p->backend->memory) SWD_TRY(p->backend->memory(p->backend, &m, err), err);
    o->memory_peak = (int64_t)m.peak;
    o->device_free = (int64_t)m.free;
    o->device_total = (int64_t)m.total;
    return SWD_OK;
}

swd_status parts_info(swd_info *o, pipeline *p, swd_err *err)
{
    *o = (swd_info){.size = sizeof(*o)};
    SWD_TRY(pipeline_read_configs(p, err), err);
    SWD_TRY(pipeline_load_backend(p, err), err);
    snprintf(o->model, sizeof(o->model), "%s", p->dir);
    snprintf(o->family, sizeof(o->family), "%s", p->index.class_name);
    o->vae_factor = pipeline_vae_factor(p);
    o->latent_channels = p->vae_config.latent_channels;
    o->width = o->height = p->facts.sample_size * o->vae_factor;
    o->size_multiple = p->facts.patch * o->vae_factor;
    snprintf(o->device, sizeof(o->device), "%s: %s", p->backend->name, p->backend->device);
    snprintf(o->precision, sizeof(o->precision), "%s", p->compute == SWD_BF16 ? "bf16" : "f32");
    for (int i = 0; i < p->index.n_components; i++)
        SWD_TRY(add_component(o, &p->index.components[i], p, err), err);
    return add_memory(o, p, err);
}
