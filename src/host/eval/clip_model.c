// SPDX-License-Identifier: MIT
#include "eval/clip_model.h"
#include "base/memory.h"
#include "image/bicubic.h"
#include "model/clip_text.h"
#include "model/clip_vision.h"
#include "text/clip_bpe.h"
#include <math.h>
#include <string.h>

struct clip_model {
    swd_backend *be;
    swd_dtype act;
    config_clip_vision vision_config;
    config_clip_text text_config;
    config_clip_processor processor;
    clip_vision *vision;
    clip_text *text; // NULL: none
    clip_bpe *bpe;
    void *slab;
    size_t slab_bytes;
};

/* ---- opening ---- */

static swd_status read_configs(clip_model *m, const char *dir, swd_err *err)
{
    char *config = NULL, *processor = NULL;
    swd_status s = path_join(&config, dir, "config.json", err);
    if (s == SWD_OK) s = path_join(&processor, dir, "preprocessor_config.json", err);
    if (s == SWD_OK) s = config_clip_vision_read(&m->vision_config, config, err);
    if (s == SWD_OK) s = config_clip_processor_read(&m->processor, processor, err);
    if (s == SWD_OK && m->vision_config.with_text)
        s = config_clip_text_read(&m->text_config, config, err);
    if (s == SWD_OK && m->processor.crop != m->vision_config.image_size)
        s = SWD_FAIL(err, SWD_ERR_FILE, "%s: crop_size is %d, the network's image_size %d",
                     processor, m->processor.crop, m->vision_config.image_size);
    m->text_config.projection_dim = m->vision_config.projection_dim;
    free(config);
    free(processor);
    return s;
}

static swd_status load(clip_model *m, const char *dir, swd_dtype compute, swd_err *err)
{
    weights *w = NULL;
    SWD_TRY(read_configs(m, dir, err), err);
    SWD_TRY(weights_open(&w, dir, "model", err), err);
    swd_status s = clip_vision_create(&m->vision, &m->vision_config, w, m->be, compute, err);
    if (s == SWD_OK && m->vision_config.with_text)
        s = clip_text_create(&m->text, &m->text_config, w, m->be, compute, err);
    weights_close(&w);
    if (s == SWD_OK && m->text) s = clip_bpe_open(&m->bpe, dir, err);
    return s;
}

swd_status clip_model_open(clip_model **out, const char *dir, swd_backend *be, swd_dtype compute,
                           swd_err *err)
{
    clip_model *m;
    *out = NULL;
    SWD_TRY(swd_calloc(&m, 1, sizeof(*m), "a CLIP model", err), err);
    m->be = be;
    m->act = compute;
    swd_status s = load(m, dir, compute, err);
    if (s != SWD_OK) clip_model_close(&m);
    *out = m;
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

void clip_model_close(clip_model **out)
{
    clip_model *m = *out;
    if (!m) return;
    clip_vision_destroy(&m->vision);
    clip_text_destroy(&m->text);
    clip_bpe_close(&m->bpe);
    if (m->slab) m->be->release(m->be, m->slab);
    free(m);
    *out = NULL;
}

int clip_model_dim(const clip_model *m)
{
    return m->vision_config.projection_dim;
}

int clip_model_side(const clip_model *m)
{
    return m->vision_config.image_size;
}

bool clip_model_has_text(const clip_model *m)
{
    return m->text != NULL;
}

const config_clip_processor *clip_model_processor(const clip_model *m)
{
    return &m->processor;
}

/* ---- pictures to pixels ---- */

swd_status clip_pixels(float *pixels, const image_rgb8 *image, const config_clip_processor *c,
                       swd_err *err)
{
    uint8_t *rgb;
    int w = image->width, h = image->height, edge = c->shortest_edge;
    // The longer side is cut to a whole number, as the processor does.
    int to_w = w <= h ? edge : (int)((int64_t)edge * w / h),
        to_h = h <= w ? edge : (int)((int64_t)edge * h / w);
    bicubic_crop middle = {(to_w - c->crop) / 2, (to_h - c->crop) / 2, c->crop, c->crop};
    SWD_TRY(bicubic_resize_crop(&rgb, to_w, to_h, middle, image->rgb, w, h, err), err);
    for (int k = 0; k < 3; k++)
        for (int y = 0; y < c->crop; y++)
            for (int x = 0; x < c->crop; x++) {
                double v = rgb[((size_t)y * (size_t)c->crop + (size_t)x) * 3 + (size_t)k];
                *pixels++ = (float)((v / 255 - c->mean[k]) / c->std[k]);
            }
    free(rgb);
    return SWD_OK;
}

/* ---- vectors ---- */

static swd_exec exec_of(const clip_model *m, bool dry, swd_err *err)
{
    return (swd_exec){.backend = m->be,
                      .err = err,
                      .act = m->act,
                      .dry = dry,
                      .slab = dry ? NULL : m->slab,
                      .slab_bytes = dry ? 0 : m->slab_bytes};
}

static swd_status reserve(clip_model *m, size_t bytes, swd_err *err)
{
    if (bytes <= m->slab_bytes) return SWD_OK;
    if (m->slab) m->be->release(m->be, m->slab);
    m->slab_bytes = 0;
    m->slab = m->be->alloc(m->be, bytes);
    if (!m->slab) return SWD_FAIL(err, SWD_ERR_MEMORY, "%zu bytes for CLIP's activations", bytes);
    m->slab_bytes = bytes;
    return SWD_OK;
}

/* Every row to length sqrt(d); one that is all zero stays. */
static void rescale(float *rows, int n, int d)
{
    for (int i = 0; i < n; i++, rows += d) {
        double squares = 0;
        for (int k = 0; k < d; k++) squares += (double)rows[k] * (double)rows[k];
        double by = squares > 0 ? sqrt(d / squares) : 0;
        for (int k = 0; k < d; k++) rows[k] = (float)(rows[k] * by);
    }
}

static swd_status run_pictures(float *features, const float *pixels, int n, bool dry, size_t *peak,
                               clip_model *m, swd_err *err)
{
    swd_exec exec = exec_of(m, dry, err), *ex = &exec;
    int side = clip_model_side(m);
    swd_tensor in = exec4(ex, SWD_F32, n, 3, side, side),
               out = exec2(ex, SWD_F32, n, clip_model_dim(m));
    if (!dry) RUN(m->be->upload(m->be, in, pixels, NULL, err));
    RUN(clip_vision_forward(out, in, m->vision, ex));
    *peak = ex->peak;
    if (dry) return SWD_OK;
    RUN(m->be->download(m->be, features, out, NULL, err));
    return m->be->synchronize(m->be, NULL, err);
}

swd_status clip_model_pictures(float *features, const float *pixels, int n, clip_model *m,
                               swd_err *err)
{
    size_t peak = 0;
    SWD_TRY(run_pictures(features, pixels, n, true, &peak, m, err), err);
    SWD_TRY(reserve(m, peak, err), err);
    SWD_TRY(run_pictures(features, pixels, n, false, &peak, m, err), err);
    rescale(features, n, clip_model_dim(m));
    return SWD_OK;
}

static swd_status run_prompts(float *features, const int32_t *ids, int n, int length, bool dry,
                              size_t *peak, clip_model *m, swd_err *err)
{
    swd_exec exec = exec_of(m, dry, err), *ex = &exec;
    swd_tensor in = exec2(ex, SWD_I32, n, length), out = exec2(ex, SWD_F32, n, clip_model_dim(m)),
               hidden = exec3(ex, ex->act, n, length, m->text_config.hidden_size);
    if (!dry) RUN(m->be->upload(m->be, in, ids, NULL, err));
    RUN(clip_text_forward(hidden, out, in, dry ? NULL : ids, m->text, ex));
    *peak = ex->peak;
    if (dry) return SWD_OK;
    RUN(m->be->download(m->be, features, out, NULL, err));
    return m->be->synchronize(m->be, NULL, err);
}

swd_status clip_model_prompts(float *features, const char *const *prompts, int n, clip_model *m,
                              swd_err *err)
{
    int length = m->text_config.max_position_embeddings;
    int32_t *ids = NULL;
    size_t peak = 0;
    if (!m->text)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "this CLIP folder has no text tower for prompts");
    if (clip_bpe_max_length(m->bpe) < length) length = clip_bpe_max_length(m->bpe);
    SWD_TRY(swd_malloc(&ids, (size_t)n * (size_t)length, sizeof(*ids), "token ids", err), err);
    swd_status s = SWD_OK;
    for (int i = 0; i < n && s == SWD_OK; i++)
        s = clip_bpe_encode(m->bpe, ids + (size_t)i * (size_t)length, length, NULL, prompts[i],
                            strlen(prompts[i]), err);
    if (s == SWD_OK) s = run_prompts(features, ids, n, length, true, &peak, m, err);
    if (s == SWD_OK) s = reserve(m, peak, err);
    if (s == SWD_OK) s = run_prompts(features, ids, n, length, false, &peak, m, err);
    if (s == SWD_OK) rescale(features, n, clip_model_dim(m));
    free(ids);
    return s;
}
