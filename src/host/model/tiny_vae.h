/* SPDX-License-Identifier: MIT */
/* AutoencoderTiny: blocks of three 3x3 convolutions with ReLU, no norms, no attention. */
#ifndef SWD_MODEL_TINY_VAE_H
#define SWD_MODEL_TINY_VAE_H
#include "backend/ops.h"
#include "io/config.h"
#include "weights/weights.h"

typedef struct tiny_vae tiny_vae;

/* As vae_create: reads and packs the halves asked for, w can be closed afterwards, the backend is borrowed. */
swd_status tiny_vae_create(tiny_vae **out, const config_tiny_vae *cfg, weights *w, swd_backend *be,
                           swd_dtype compute, bool with_encoder, bool with_decoder, swd_err *err);
/* latents F32 [B, C, h, w]; latents / scaling + shift of the tiny config are decoded, as diffusers' pipelines do (latent_magnitude
 * and latent_shift only serve storage as bytes) -> image U8 or F32 (in [-1, 1], before clamping) [B, f h, f w, 3]. */
swd_status tiny_vae_decode(swd_tensor image, swd_tensor latents, const tiny_vae *m, swd_exec *ex);
/* image U8 or F32 [B, f h, f w, 3] -> latents F32 [B, C, h, w] = (encoded - shift) * scaling. */
swd_status tiny_vae_encode(swd_tensor latents, swd_tensor image, const tiny_vae *m, swd_exec *ex);
void tiny_vae_destroy(tiny_vae **m);
#endif
