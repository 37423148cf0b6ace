/* SPDX-License-Identifier: MIT */
/* SD3Transformer2DModel of diffusers: SD3, SD3.5-M, SD3.5-L. */
#ifndef SWD_MODEL_MMDIT_H
#define SWD_MODEL_MMDIT_H
#include "backend/ops.h"
#include "io/config.h"
#include "model/conditions.h"
#include "model/load.h"
#include "model/mixed.h"

typedef struct mmdit mmdit;

/* Reads and packs every weight (w can be closed afterwards). compute: of the products, SWD_F32 or SWD_BF16. */
swd_status mmdit_create(mmdit **out, const config_sd3 *cfg, weights *w, swd_backend *be,
                        swd_dtype compute, swd_err *err);
/* The same with modulations that come one by one: w stays open, mmdit_relay() gets room. */
swd_status mmdit_create_streamed(mmdit **out, const config_sd3 *cfg, weights *w, swd_backend *be,
                                 swd_dtype compute, swd_err *err);
relay *mmdit_relay(mmdit *m); /* NULL: not streamed */

/* Rows: pairs of t and pooled, steps x samples. */
conditions mmdit_conditions_alloc(int64_t rows, int64_t batch, int64_t text_tokens, const mmdit *m,
                                  swd_exec *ex);
/* context [B, L, joint_attention_dim] */
swd_status mmdit_embed_context(const conditions *c, swd_tensor context, const mmdit *m,
                               swd_exec *ex);
/* t F32 [up to rows, a multiple of B] = 1000 sigma, pooled F32 [B, pooled_projection_dim]: row r is of sample r % B. */
swd_status mmdit_modulate(const conditions *c, swd_tensor t, swd_tensor pooled, const mmdit *m,
                          swd_exec *ex);
/* velocity, latents F32 [B, C, h, w] (h, w multiples of the patch, a grid of up to pos_embed_max_size); the samples' modulations are the
 * rows of c from first_row on */
swd_status mmdit_forward(swd_tensor velocity, swd_tensor latents, const conditions *c,
                         int64_t first_row, const mmdit *m, swd_exec *ex);
/* Images of several sizes at once, each with its row of c: that of part 0's first image is row 0. Equal to a call for each but for the order
 * of sums. */
swd_status mmdit_forward_mixed(const mixed_batch *mix, const conditions *c, const mmdit *m,
                               swd_exec *ex);
/* The same, and the image tokens as they are after block `after` (from 0): features F32 [B, n, inner_dim], or absent. velocity absent:
 * the blocks behind that one are left out. Each block is a segment (exec_segment). */
swd_status mmdit_forward_features(swd_tensor velocity, swd_tensor features, int after,
                                  swd_tensor latents, const conditions *c, int64_t first_row,
                                  const mmdit *m, swd_exec *ex);
/* Linear layers and attention, 2 per multiply-add. */
double mmdit_flops(const mmdit *m, int64_t batch, int64_t h, int64_t w, int64_t text_tokens);
const holdings *mmdit_holdings(const mmdit *m); /* the model's */
const config_sd3 *mmdit_config(const mmdit *m);
void mmdit_destroy(mmdit **m);
#endif
