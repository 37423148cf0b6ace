// SPDX-License-Identifier: MIT
// One table over the classes of denoising networks, and what they have in common.
#include "model/denoiser.h"
#include "base/memory.h"
#include "model/denoiser_class.h"
#include "model/flux.h"
#include "model/mmdit.h"

static const denoiser_class *const classes[DENOISER_KINDS] = {
    [DENOISER_SD3] = &mmdit_class, [DENOISER_FLUX] = &flux_class};

swd_status denoiser_config_read(config_denoiser *out, denoiser_kind kind, const char *path,
                                swd_err *err)
{
    out->kind = kind;
    return classes[kind]->read(out, path, err);
}

denoiser_facts denoiser_facts_of(const config_denoiser *c)
{
    return classes[c->kind]->facts(c);
}

const char *denoiser_class_name(denoiser_kind kind)
{
    return classes[kind]->name;
}

char *denoiser_describe(const config_denoiser *c, char *buf, size_t n)
{
    classes[c->kind]->describe(c, buf, n);
    return buf;
}

static swd_status create(denoiser **out, const config_denoiser *c, weights *w, bool streamed,
                         swd_backend *be, swd_dtype compute, swd_err *err)
{
    const denoiser_class *class = classes[c->kind];
    denoiser *d;
    *out = NULL;
    SWD_TRY(swd_calloc(&d, 1, class->bytes, "a transformer", err), err);
    d->class = class;
    loader l = loader_begin(&d->held, w, be, compute, err);
    class->load(&l, d, c, streamed);
    swd_status s = loader_end(&l, NULL);
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
    return d->modulations.streamed != NULL;
}

swd_status denoiser_make_room(denoiser *d, swd_err *err)
{
    return relay_make_room(d->modulations.streamed, err);
}

void denoiser_destroy(denoiser **d)
{
    if (!*d) return;
    modulations_release(&(*d)->modulations);
    holdings_release(&(*d)->held);
    free(*d);
    *d = NULL;
}

conditions denoiser_conditions(int64_t rows, int64_t batch, int64_t text_tokens, const denoiser *d,
                               swd_exec *ex)
{
    return conditions_alloc(rows, batch, text_tokens, d->width, &d->modulations, ex);
}

swd_status denoiser_embed_context(const conditions *c, swd_tensor context, const denoiser *d,
                                  swd_exec *ex)
{
    return op_linear(c->context, context, d->context, SWD_ACT_NONE, ex);
}

swd_status denoiser_modulate(const conditions *c, swd_tensor t, swd_tensor pooled, float guidance,
                             const denoiser *d, swd_exec *ex)
{
    return conditions_modulate(c, t, pooled, guidance, &d->embedder, &d->modulations, ex);
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
    if (!d->class->forward_features)
        return SWD_FAIL(ex->err, SWD_ERR_UNSUPPORTED, "networks of this class are not trained");
    return d->class->forward_features(velocity, features, after, latents, c, first_row, d, ex);
}

denoiser_size denoiser_features_size(const denoiser *d, int64_t h, int64_t w)
{
    if (!d->class->forward_features) return (denoiser_size){0, 0};
    return (denoiser_size){h / d->patch * (w / d->patch), d->width};
}

const holdings *denoiser_holdings(const denoiser *d)
{
    return d->class->forward_features ? &d->held : NULL;
}
