// SPDX-License-Identifier: MIT
#include "train_encode.h"
#include "base/clock.h"
#include "base/memory.h"
#include "io/digest.h"
#include "io/mapping.h"
#include "pipeline/networks.h"
#include "pipeline/prompt.h"
#include "text/vocab.h"
#include <math.h>
#include <string.h>

enum { PROMPTS_BYTES_MAX = 1 << 24 };

/* ---- what decides the contents ---- */

static swd_status digest_model(uint64_t *out, const encode_source *e, swd_err *err)
{
    static const char *const folders[] = {
        "vae",       "text_encoder", "text_encoder_2", "text_encoder_3",
        "tokenizer", "tokenizer_2",  "tokenizer_3"};
    uint64_t h = digest_u64(DIGEST_SEED, (uint64_t)e->p->compute);
    h = digest_u64(h, (uint64_t)e->max_tokens);
    for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
        char *path;
        SWD_TRY(path_join(&path, e->p->dir, folders[i], err), err);
        swd_status s = digest_folder(&h, path, err);
        free(path);
        SWD_TRY(s, err);
    }
    *out = h;
    return SWD_OK;
}

swd_status encode_begin(encode_source *e, pipeline *p, const swd_train_params *params, swd_err *err)
{
    e->p = p;
    e->params = params;
    e->context_rows = prompt_tokens(p, e->max_tokens);
    e->context_width = p->facts.context_width;
    e->pooled_width = p->facts.pooled_width;
    return digest_model(&e->digest, e, err);
}

/* ---- text ---- */

static swd_status text_pass(float *context, float *pooled, const char *caption,
                            const encode_source *e, bool dry, size_t *peak, swd_err *err)
{
    pipeline *p = e->p;
    swd_exec exec = pipeline_exec(p, dry, err), *ex = &exec;
    swd_tensor c = exec3(ex, SWD_F32, 1, e->context_rows, e->context_width);
    swd_tensor q = exec2(ex, SWD_F32, 1, e->pooled_width);
    RUN(prompt_encode(c, q, caption, e->max_tokens, p, ex));
    *peak = ex->peak;
    if (dry) return SWD_OK;
    RUN(p->backend->download(p->backend, context, c, NULL, err));
    RUN(p->backend->download(p->backend, pooled, q, NULL, err));
    return p->backend->synchronize(p->backend, NULL, err);
}

swd_status encode_text(void *user, float *context, float *pooled, const char *caption, swd_err *err)
{
    const encode_source *e = user;
    size_t peak;
    SWD_TRY(pipeline_load_text(e->p, err), err);
    SWD_TRY(text_pass(context, pooled, caption, e, true, &peak, err), err);
    SWD_TRY(pipeline_reserve(e->p, peak, err), err);
    return text_pass(context, pooled, caption, e, false, &peak, err);
}

/* ---- pictures ---- */

static swd_status image_pass(float *moments, const float *pixels, int side, pipeline *p, bool dry,
                             size_t *peak, swd_err *err)
{
    swd_exec exec = pipeline_exec(p, dry, err), *ex = &exec;
    int s = side / pipeline_vae_factor(p);
    swd_tensor picture = exec4(ex, SWD_F32, 1, side, side, 3);
    swd_tensor out = exec4(ex, SWD_F32, 1, 2 * p->vae_config.latent_channels, s, s);
    if (!dry) RUN(p->backend->upload(p->backend, picture, pixels, NULL, err));
    RUN(vae_encode_moments(out, picture, p->encoder, ex));
    *peak = ex->peak;
    if (dry) return SWD_OK;
    RUN(p->backend->download(p->backend, moments, out, NULL, err));
    return p->backend->synchronize(p->backend, NULL, err);
}

static swd_status encode_image(void *user, float *mean, float *deviation, const float *pixels,
                               int side, swd_err *err)
{
    encode_source *e = user;
    const config_vae *c = &e->p->vae_config;
    size_t s = (size_t)(side / pipeline_vae_factor(e->p)), peak,
           n = (size_t)c->latent_channels * s * s;
    float *moments;
    SWD_TRY(pipeline_load_encoder(e->p, err), err);
    SWD_TRY(swd_malloc(&moments, 2 * n, sizeof(*moments), "latents", err), err);
    swd_status st = image_pass(NULL, NULL, side, e->p, true, &peak, err);
    if (st == SWD_OK) st = pipeline_reserve(e->p, peak, err);
    if (st == SWD_OK) st = image_pass(moments, pixels, side, e->p, false, &peak, err);
    for (size_t i = 0; i < n && st == SWD_OK; i++) {
        float logvar = fminf(fmaxf(moments[n + i], -30), 20);
        mean[i] = (moments[i] - (float)c->shift_factor) * (float)c->scaling_factor;
        deviation[i] = expf(0.5f * logvar) * (float)c->scaling_factor;
    }
    free(moments);
    return st;
}

static swd_status decode_pass(uint8_t *rgb, const float *latents, pipeline *p, int height,
                              int width, bool dry, size_t *peak, swd_err *err)
{
    swd_exec exec = pipeline_exec(p, dry, err), *ex = &exec;
    int factor = pipeline_vae_factor(p);
    swd_tensor in = exec4(ex, SWD_F32, 1, p->vae_config.latent_channels, height, width);
    swd_tensor out = exec4(ex, SWD_U8, 1, height * factor, width * factor, 3);
    if (!dry) RUN(p->backend->upload(p->backend, in, latents, NULL, err));
    RUN(vae_decode(out, in, p->decoder, ex));
    *peak = ex->peak;
    if (dry) return SWD_OK;
    RUN(p->backend->download(p->backend, rgb, out, NULL, err));
    return p->backend->synchronize(p->backend, NULL, err);
}

swd_status encode_prepare_decode(const encode_source *e, int height, int width, swd_err *err)
{
    size_t peak;
    SWD_TRY(pipeline_load_decoder(e->p, err), err);
    SWD_TRY(decode_pass(NULL, NULL, e->p, height, width, true, &peak, err), err);
    return pipeline_reserve(e->p, peak, err);
}

swd_status encode_decode(void *user, uint8_t *rgb, const float *latents, int height, int width,
                         swd_err *err)
{
    const encode_source *e = user;
    size_t peak;
    SWD_TRY(encode_prepare_decode(e, height, width, err), err);
    return decode_pass(rgb, latents, e->p, height, width, false, &peak, err);
}

/* ---- for the cache ---- */

cache_maker encode_maker(encode_source *e)
{
    return (cache_maker){.user = e,
                         .channels = e->p->vae_config.latent_channels,
                         .factor = pipeline_vae_factor(e->p),
                         .context_rows = e->context_rows,
                         .context_width = e->context_width,
                         .pooled_width = e->pooled_width,
                         .digest = e->digest,
                         .text = encode_text,
                         .image = encode_image};
}

bool encode_progress(void *user, const char *what, int64_t done, int64_t total)
{
    encode_source *e = user;
    double now = clock_now_s();
    if (done == 1 || e->started_s == 0 || done <= e->started_at) {
        e->started_s = now;
        e->started_at = done;
    }
    int64_t made = done - e->started_at;
    swd_train_progress p = {
        .size = sizeof(p),
        .stage = what,
        .step = done,
        .n_steps = total,
        .loss = NAN,
        .left_s = made > 0 ? (now - e->started_s) / (double)made * (double)(total - done) : -1};
    return !e->params->progress || e->params->progress(e->params->user, &p) == 0;
}

void encode_release(encode_source *e)
{
    pipeline *p = e->p;
    static const pipeline_part parts[] = {PART_CLIP_L, PART_CLIP_G, PART_T5, PART_ENCODER};
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) pipeline_release(p, parts[i]);
    if (p->slab) p->backend->release(p->backend, p->slab);
    p->slab = NULL;
    p->slab_bytes = 0;
}

/* ---- prompts of the sheets ---- */

static swd_status add_line(char **out, int *n, int max, const char *line, size_t length,
                           const char *path, swd_err *err)
{
    if (*n == max) return SWD_FAIL(err, SWD_ERR_FILE, "%s: more than %d prompts", path, max);
    if (memchr(line, 0, length) || text_check_utf8(line, length, NULL) != SWD_OK)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: line %d is not UTF-8", path, *n + 1);
    SWD_TRY(swd_asprintf(&out[*n], err, "%.*s", (int)length, line), err);
    ++*n;
    return SWD_OK;
}

swd_status encode_read_prompts(char **out, int *n, int max, const char *path, swd_err *err)
{
    swd_mapping m;
    *n = 0;
    SWD_TRY(mapping_open(&m, path, PROMPTS_BYTES_MAX, err), err);
    const char *at = (const char *)m.data, *end = at + m.size;
    swd_status s = SWD_OK;
    while (s == SWD_OK && at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline ? newline : end;
        size_t length = (size_t)(stop - at);
        if (length && at[length - 1] == '\r') length--;
        s = add_line(out, n, max, at, length, path, err);
        at = stop + 1;
    }
    mapping_close(&m);
    if (s == SWD_OK && *n == 0) s = SWD_FAIL(err, SWD_ERR_FILE, "%s: no prompt in it", path);
    for (int i = 0; s != SWD_OK && i < *n; i++) free(out[i]);
    if (s != SWD_OK) *n = 0;
    return s;
}
