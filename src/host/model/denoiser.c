// SPDX-License-Identifier: MIT
// One table over the classes of denoising networks.
#include "model/denoiser.h"
#include "base/memory.h"
#include "model/flux.h"
#include "model/mmdit.h"
#include <stdio.h>

typedef struct denoiser_class {
    const char *name;
    swd_status (*read)(config_denoiser *out, const char *path, swd_err *err);
    denoiser_facts (*facts)(const config_denoiser *c);
    void (*describe)(const config_denoiser *c, char *buf, size_t n);
    swd_status (*create)(denoiser *d, const config_denoiser *c, weights *w, bool streamed,
                         swd_backend *be, swd_dtype compute, swd_err *err);
    relay *(*relay)(const denoiser *d); /* NULL: not streamed */
    void (*destroy)(denoiser *d);
    conditions (*conditions)(int64_t rows, int64_t batch, int64_t text_tokens, const denoiser *d,
                             swd_exec *ex);
    swd_status (*embed_context)(const conditions *c, swd_tensor context, const denoiser *d,
                                swd_exec *ex);
    swd_status (*modulate)(const conditions *c, swd_tensor t, swd_tensor pooled, float guidance,
                           const denoiser *d, swd_exec *ex);
    float (*timestep)(float sigma);
    swd_status (*forward)(swd_tensor velocity, swd_tensor latents, const conditions *c,
                          int64_t first_row, const denoiser *d, swd_exec *ex);
    swd_status (*forward_mixed)(const mixed_batch *mix, const conditions *c, const denoiser *d,
                                swd_exec *ex); /* NULL: it has none */
    double (*flops)(const denoiser *d, int64_t batch, int64_t h, int64_t w, int64_t text_tokens);
    /* NULL: is not trained */
    swd_status (*features)(swd_tensor velocity, swd_tensor features, int after, swd_tensor latents,
                           const conditions *c, int64_t first_row, const denoiser *d, swd_exec *ex);
    denoiser_size (*features_size)(const denoiser *d, int64_t h, int64_t w);
    const holdings *(*holdings)(const denoiser *d);
} denoiser_class;

struct denoiser {
    const denoiser_class *class;
    union {
        mmdit *sd3;
        flux *flux;
    };
};

/* ---- SD3Transformer2DModel ---- */

static swd_status sd3_read(config_denoiser *out, const char *path, swd_err *err)
{
    return config_sd3_read(&out->sd3, path, err);
}

static denoiser_facts sd3_facts(const config_denoiser *c)
{
    const config_sd3 *s = &c->sd3;
    return (denoiser_facts){.channels = s->in_channels,
                            .patch = s->patch_size,
                            .sample_size = s->sample_size,
                            .side_max = s->pos_embed_max_size * s->patch_size,
                            .context_width = s->joint_attention_dim,
                            .pooled_width = s->pooled_projection_dim};
}

static void sd3_describe(const config_denoiser *c, char *buf, size_t n)
{
    const config_sd3 *s = &c->sd3;
    snprintf(buf, n, "%d layers, %d heads of %d, dual attention in %d, %s, patch %d, %d channels",
             s->num_layers, s->num_attention_heads, s->attention_head_dim, s->n_dual,
             s->qk_norm_rms ? "QK RMS norm" : "no QK norm", s->patch_size, s->in_channels);
}

static swd_status sd3_create(denoiser *d, const config_denoiser *c, weights *w, bool streamed,
                             swd_backend *be, swd_dtype compute, swd_err *err)
{
    return (streamed ? mmdit_create_streamed : mmdit_create)(&d->sd3, &c->sd3, w, be, compute, err);
}

static relay *sd3_relay_of(const denoiser *d)
{
    return mmdit_relay(d->sd3);
}

static void sd3_destroy(denoiser *d)
{
    mmdit_destroy(&d->sd3);
}

static conditions sd3_conditions(int64_t rows, int64_t batch, int64_t text_tokens,
                                 const denoiser *d, swd_exec *ex)
{
    return mmdit_conditions_alloc(rows, batch, text_tokens, d->sd3, ex);
}

static swd_status sd3_embed_context(const conditions *c, swd_tensor context, const denoiser *d,
                                    swd_exec *ex)
{
    return mmdit_embed_context(c, context, d->sd3, ex);
}

static swd_status sd3_modulate(const conditions *c, swd_tensor t, swd_tensor pooled, float guidance,
                               const denoiser *d, swd_exec *ex)
{
    (void)guidance;
    return mmdit_modulate(c, t, pooled, d->sd3, ex);
}

static float sd3_timestep(float sigma)
{
    return 1000.0f * sigma;
}

static swd_status sd3_forward(swd_tensor velocity, swd_tensor latents, const conditions *c,
                              int64_t first_row, const denoiser *d, swd_exec *ex)
{
    return mmdit_forward(velocity, latents, c, first_row, d->sd3, ex);
}

static swd_status sd3_forward_mixed(const mixed_batch *mix, const conditions *c, const denoiser *d,
                                    swd_exec *ex)
{
    return mmdit_forward_mixed(mix, c, d->sd3, ex);
}

static double sd3_flops(const denoiser *d, int64_t batch, int64_t h, int64_t w, int64_t text_tokens)
{
    return mmdit_flops(d->sd3, batch, h, w, text_tokens);
}

static swd_status sd3_features(swd_tensor velocity, swd_tensor features, int after,
                               swd_tensor latents, const conditions *c, int64_t first_row,
                               const denoiser *d, swd_exec *ex)
{
    return mmdit_forward_features(velocity, features, after, latents, c, first_row, d->sd3, ex);
}

static denoiser_size sd3_features_size(const denoiser *d, int64_t h, int64_t w)
{
    const config_sd3 *c = mmdit_config(d->sd3);
    return (denoiser_size){h / c->patch_size * (w / c->patch_size), c->inner_dim};
}

static const holdings *sd3_holdings(const denoiser *d)
{
    return mmdit_holdings(d->sd3);
}

/* ---- FluxTransformer2DModel ---- */

static swd_status flux_read(config_denoiser *out, const char *path, swd_err *err)
{
    return config_flux_read(&out->flux, path, err);
}

static denoiser_facts flux_facts(const config_denoiser *c)
{
    const config_flux *f = &c->flux;
    return (denoiser_facts){.channels = f->in_channels / (FLUX_PATCH * FLUX_PATCH),
                            .patch = FLUX_PATCH,
                            .sample_size = 128, /* of the pipeline, the config has none */
                            .side_max = FLUX_PLACES * FLUX_PATCH,
                            .context_width = f->joint_attention_dim,
                            .pooled_width = f->pooled_projection_dim,
                            .guided = f->guidance_embeds};
}

static void flux_describe(const config_denoiser *c, char *buf, size_t n)
{
    const config_flux *f = &c->flux;
    snprintf(buf, n,
             "%d double and %d single blocks, %d heads of %d (%d + %d + %d), %s, %d channels",
             f->num_layers, f->num_single_layers, f->num_attention_heads, f->attention_head_dim,
             f->axes_dims_rope[0], f->axes_dims_rope[1], f->axes_dims_rope[2],
             f->guidance_embeds ? "guidance embedding" : "no guidance",
             f->in_channels / (FLUX_PATCH * FLUX_PATCH));
}

static swd_status flux_make(denoiser *d, const config_denoiser *c, weights *w, bool streamed,
                            swd_backend *be, swd_dtype compute, swd_err *err)
{
    return (streamed ? flux_create_streamed : flux_create)(&d->flux, &c->flux, w, be, compute, err);
}

static relay *flux_relay_of(const denoiser *d)
{
    return flux_relay(d->flux);
}

static void flux_unmake(denoiser *d)
{
    flux_destroy(&d->flux);
}

static conditions flux_conditions(int64_t rows, int64_t batch, int64_t text_tokens,
                                  const denoiser *d, swd_exec *ex)
{
    return flux_conditions_alloc(rows, batch, text_tokens, d->flux, ex);
}

static swd_status flux_context(const conditions *c, swd_tensor context, const denoiser *d,
                               swd_exec *ex)
{
    return flux_embed_context(c, context, d->flux, ex);
}

static swd_status flux_modulations(const conditions *c, swd_tensor t, swd_tensor pooled,
                                   float guidance, const denoiser *d, swd_exec *ex)
{
    return flux_modulate(c, t, pooled, guidance, d->flux, ex);
}

/* The pipeline divides by 1000 in float32, the class multiplies by it. */
static float flux_timestep(float sigma)
{
    return 1000.0f * sigma / 1000.0f * 1000.0f;
}

static swd_status flux_run(swd_tensor velocity, swd_tensor latents, const conditions *c,
                           int64_t first_row, const denoiser *d, swd_exec *ex)
{
    return flux_forward(velocity, latents, c, first_row, d->flux, ex);
}

static double flux_count(const denoiser *d, int64_t batch, int64_t h, int64_t w,
                         int64_t text_tokens)
{
    return flux_flops(d->flux, batch, h, w, text_tokens);
}

/* ---- the table ---- */

static const denoiser_class classes[DENOISER_KINDS] = {
    [DENOISER_SD3] = {"SD3Transformer2DModel", sd3_read, sd3_facts, sd3_describe, sd3_create,
                      sd3_relay_of, sd3_destroy, sd3_conditions, sd3_embed_context, sd3_modulate,
                      sd3_timestep, sd3_forward, sd3_forward_mixed, sd3_flops,
                      .features = sd3_features, .features_size = sd3_features_size,
                      .holdings = sd3_holdings},
    [DENOISER_FLUX] = {"FluxTransformer2DModel", flux_read, flux_facts, flux_describe, flux_make,
                       flux_relay_of, flux_unmake, flux_conditions, flux_context, flux_modulations,
                       flux_timestep, flux_run, NULL, flux_count, NULL, NULL, NULL},
};

swd_status denoiser_config_read(config_denoiser *out, denoiser_kind kind, const char *path,
                                swd_err *err)
{
    out->kind = kind;
    return classes[kind].read(out, path, err);
}

denoiser_facts denoiser_facts_of(const config_denoiser *c)
{
    return classes[c->kind].facts(c);
}

const char *denoiser_class_name(denoiser_kind kind)
{
    return classes[kind].name;
}

char *denoiser_describe(const config_denoiser *c, char *buf, size_t n)
{
    classes[c->kind].describe(c, buf, n);
    return buf;
}

static swd_status create(denoiser **out, const config_denoiser *c, weights *w, bool streamed,
                         swd_backend *be, swd_dtype compute, swd_err *err)
{
    denoiser *d;
    *out = NULL;
    SWD_TRY(swd_calloc(&d, 1, sizeof *d, "a transformer", err), err);
    d->class = &classes[c->kind];
    swd_status s = d->class->create(d, c, w, streamed, be, compute, err);
    if (s != SWD_OK) denoiser_destroy(&d);
    *out = d;
    return s;
}

swd_status denoiser_create(denoiser **out, const config_denoiser *c, weights *w, swd_backend *be,
                           swd_dtype compute, swd_err *err)
{
    return create(out, c, w, false, be, compute, err);
}

swd_status denoiser_create_streamed(denoiser **out, const config_denoiser *c, weights *w,
                                    swd_backend *be, swd_dtype compute, swd_err *err)
{
    return create(out, c, w, true, be, compute, err);
}

bool denoiser_streams(const denoiser *d)
{
    return d->class->relay(d) != NULL;
}

swd_status denoiser_make_room(denoiser *d, swd_err *err)
{
    return relay_make_room(d->class->relay(d), err);
}

void denoiser_destroy(denoiser **d)
{
    if (!*d) return;
    (*d)->class->destroy(*d);
    free(*d);
    *d = NULL;
}

conditions denoiser_conditions(int64_t rows, int64_t batch, int64_t text_tokens, const denoiser *d,
                               swd_exec *ex)
{
    return d->class->conditions(rows, batch, text_tokens, d, ex);
}

swd_status denoiser_embed_context(const conditions *c, swd_tensor context, const denoiser *d,
                                  swd_exec *ex)
{
    return d->class->embed_context(c, context, d, ex);
}

swd_status denoiser_modulate(const conditions *c, swd_tensor t, swd_tensor pooled, float guidance,
                             const denoiser *d, swd_exec *ex)
{
    return d->class->modulate(c, t, pooled, guidance, d, ex);
}

float denoiser_timestep(const denoiser *d, float sigma)
{
    return d->class->timestep(sigma);
}

swd_status denoiser_forward(swd_tensor velocity, swd_tensor latents, const conditions *c,
                            int64_t first_row, const denoiser *d, swd_exec *ex)
{
    return d->class->forward(velocity, latents, c, first_row, d, ex);
}

bool denoiser_mixes(const denoiser *d)
{
    return d->class->forward_mixed != NULL;
}

swd_status denoiser_forward_mixed(const mixed_batch *mix, const conditions *c, const denoiser *d,
                                  swd_exec *ex)
{
    return d->class->forward_mixed(mix, c, d, ex);
}

double denoiser_flops(const denoiser *d, int64_t batch, int64_t h, int64_t w, int64_t text_tokens)
{
    return d->class->flops(d, batch, h, w, text_tokens);
}

swd_status denoiser_forward_features(swd_tensor velocity, swd_tensor features, int after,
                                     swd_tensor latents, const conditions *c, int64_t first_row,
                                     const denoiser *d, swd_exec *ex)
{
    if (!d->class->features)
        return SWD_FAIL(ex->err, SWD_ERR_UNSUPPORTED, "networks of this class are not trained");
    return d->class->features(velocity, features, after, latents, c, first_row, d, ex);
}

denoiser_size denoiser_features_size(const denoiser *d, int64_t h, int64_t w)
{
    return d->class->features_size ? d->class->features_size(d, h, w) : (denoiser_size){0, 0};
}

const holdings *denoiser_holdings(const denoiser *d)
{
    return d->class->holdings ? d->class->holdings(d) : NULL;
}
