/* SPDX-License-Identifier: MIT */
/* AutoencoderKL: resnets of group norm, SiLU and 3x3 convolutions around a middle block with attention of one head. */
#ifndef SWD_MODEL_VAE_H
#define SWD_MODEL_VAE_H
#include "backend/ops.h"
#include "io/config.h"
#include "weights/weights.h"

typedef struct vae vae;

/* Reads and packs the weights of the halves asked for; w can be closed afterwards. The backend is borrowed until vae_destroy.
 * Missing, misshapen and unknown tensors are SWD_ERR_FILE; *out is NULL on failure. */
swd_status vae_create(vae **out, const config_vae *cfg, weights *w, swd_backend *be,
                      swd_dtype compute, bool with_encoder, bool with_decoder, swd_err *err);
/* latents F32 [B, C, h, w] as the sampler leaves them (scaling and shift are undone inside) -> image U8 [B, f h, f w, 3], or F32
 * NHWC in [-1, 1] before clamping; f = 2^(n_blocks - 1). */
swd_status vae_decode(swd_tensor image, swd_tensor latents, const vae *m, swd_exec *ex);
/* image U8 or F32 [B, f h, f w, 3] -> latents F32 [B, C, h, w] = (mean - shift) * scaling. */
swd_status vae_encode(swd_tensor latents, swd_tensor image, const vae *m, swd_exec *ex);
/* The posterior as the network gives it: moments F32 [B, 2 C, h, w], mean, then the logarithm of the variance (which diffusers clamps to
 * [-30, 20]). Latents are (z - shift) * scaling of z = mean, or of a sample. */
swd_status vae_encode_moments(swd_tensor moments, swd_tensor image, const vae *m, swd_exec *ex);
void vae_destroy(vae **m);
#endif
