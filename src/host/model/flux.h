/* SPDX-License-Identifier: MIT */
/* FluxTransformer2DModel of diffusers: FLUX.1. */
#ifndef SWD_MODEL_FLUX_H
#define SWD_MODEL_FLUX_H
#include "backend/ops.h"
#include "io/config.h"
#include "model/conditions.h"

/* Latents are packed in patches of FLUX_PATCH; there are FLUX_PLACES positions along each side of their grid. */
enum { FLUX_PATCH = 2, FLUX_PLACES = CONFIG_LATENT_SIDE_MAX / FLUX_PATCH };

typedef struct flux flux;

/* Reads and packs every weight (w can be closed afterwards). compute: of the products, SWD_F32 or SWD_BF16. */
swd_status flux_create(flux **out, const config_flux *cfg, weights *w, swd_backend *be,
                       swd_dtype compute, swd_err *err);
/* The same with modulations that come one by one: w stays open, flux_relay() gets room. */
swd_status flux_create_streamed(flux **out, const config_flux *cfg, weights *w, swd_backend *be,
                                swd_dtype compute, swd_err *err);
relay *flux_relay(flux *m); /* NULL: not streamed */

/* Rows: pairs of t and pooled, steps x samples. */
conditions flux_conditions_alloc(int64_t rows, int64_t batch, int64_t text_tokens, const flux *m,
                                 swd_exec *ex);
/* context [B, L, joint_attention_dim] */
swd_status flux_embed_context(const conditions *c, swd_tensor context, const flux *m, swd_exec *ex);
/* t F32 [up to rows, a multiple of B] = 1000 sigma, pooled F32 [B, pooled_projection_dim]: row r is of sample r % B. guidance: of no meaning
 * without guidance_embeds. */
swd_status flux_modulate(const conditions *c, swd_tensor t, swd_tensor pooled, float guidance,
                         const flux *m, swd_exec *ex);
/* velocity, latents F32 [B, in_channels / 4, h, w] (h, w even, at most CONFIG_LATENT_SIDE_MAX); the samples' modulations are the rows of c
 * from first_row on */
swd_status flux_forward(swd_tensor velocity, swd_tensor latents, const conditions *c,
                        int64_t first_row, const flux *m, swd_exec *ex);
/* Linear layers and attention, 2 per multiply-add. */
double flux_flops(const flux *m, int64_t batch, int64_t h, int64_t w, int64_t text_tokens);
void flux_destroy(flux **m);
#endif
