/* SPDX-License-Identifier: MIT */
/* What every network shares: how its weights come in, and the slab-sized forward calls.
 * Pattern for each model X: X_create(out, cfg, weights, backend, compute, err) reads and packs all weights (the files can be closed
 * afterwards); X_forward(..., ex) is ordinary C over op_*(); run it with a dry exec to size the slab; X_destroy(&x). */
#ifndef SWD_MODEL_MODEL_H
#define SWD_MODEL_MODEL_H
#include "backend/ops.h"
#include "io/config.h"
#include "weights/weights.h"

/* text: ids I32 [B, N] -> hidden [B, N, D] = hidden_states[-2] (no final norm), pooled F32 [B, P] (projected) */
typedef struct clip_text clip_text;
swd_status clip_text_create(clip_text **out, const config_clip_text *cfg, weights *w, swd_backend *be, swd_dtype compute, swd_err *err);
swd_status clip_text_forward(swd_tensor hidden, swd_tensor pooled, swd_tensor ids, const int32_t *host_ids, const clip_text *m, swd_exec *ex);
void clip_text_destroy(clip_text **m);

/* ids I32 [B, N] -> hidden [B, N, D], after the final norm, no attention mask */
typedef struct t5 t5;
swd_status t5_create(t5 **out, const config_t5 *cfg, weights *w, swd_backend *be, swd_dtype compute, swd_err *err);
swd_status t5_forward(swd_tensor hidden, swd_tensor ids, const t5 *m, swd_exec *ex);
void t5_destroy(t5 **m);

/* SD3 and SD3.5. velocity, latents F32 [B, C, h, w] (h, w multiples of the patch, even grid up to pos_embed_max_size);
 * t F32 [B] = 1000 sigma (device); context [B, L, joint_attention_dim]; pooled F32 [B, P] */
typedef struct mmdit mmdit;
swd_status mmdit_create(mmdit **out, const config_sd3 *cfg, weights *w, swd_backend *be, swd_dtype compute, swd_err *err);
swd_status mmdit_forward(swd_tensor velocity, swd_tensor latents, swd_tensor t, swd_tensor context, swd_tensor pooled, const mmdit *m,
                         swd_exec *ex);
double mmdit_flops(const mmdit *m, int64_t batch, int64_t h, int64_t w, int64_t text_tokens); /* 2 per multiply-add */
void mmdit_destroy(mmdit **m);

/* AutoencoderKL. decode: latents F32 NCHW as the sampler leaves them (scaling and shift are undone inside) -> U8 [B, 8h, 8w, 3] or
 * F32 NHWC in [-1, 1] before clamping, by the dtype of image. encode: image U8 or F32 NHWC -> (mean - shift) * scaling. */
typedef struct vae vae;
swd_status vae_create(vae **out, const config_vae *cfg, weights *w, swd_backend *be, swd_dtype compute, bool with_encoder, bool with_decoder,
                      swd_err *err);
swd_status vae_decode(swd_tensor image, swd_tensor latents, const vae *m, swd_exec *ex);
swd_status vae_encode(swd_tensor latents, swd_tensor image, const vae *m, swd_exec *ex);
void vae_destroy(vae **m);

typedef struct tiny_vae tiny_vae; /* AutoencoderTiny, same contracts */
swd_status tiny_vae_create(tiny_vae **out, const config_tiny_vae *cfg, weights *w, swd_backend *be, swd_dtype compute, bool with_encoder,
                           bool with_decoder, swd_err *err);
swd_status tiny_vae_decode(swd_tensor image, swd_tensor latents, const tiny_vae *m, swd_exec *ex);
swd_status tiny_vae_encode(swd_tensor latents, swd_tensor image, const tiny_vae *m, swd_exec *ex);
void tiny_vae_destroy(tiny_vae **m);
#endif
