/* SPDX-License-Identifier: MIT */
/* Pieces that the steps of training are made of: a network over noised latents, host tensors in the slab and back. */
#ifndef SWD_TRAIN_PASSES_H
#define SWD_TRAIN_PASSES_H
#include "train/distill.h"

/* What the model has learnt, and nothing else, is in use from here on. */
void passes_use(tape *t, const model *m, bool train);
/* A host tensor, contiguous, in the slab. */
swd_status passes_put(swd_tensor *out, swd_tensor host, swd_exec *ex);
/* y = (1 - sigma) bicubic(x) + sigma eps */
swd_status passes_noise(swd_tensor y, swd_tensor x, const noise_input *noise, swd_exec *ex);
/* x0 = x - sigma v */
swd_status passes_x0(swd_tensor x0, swd_tensor x, swd_tensor v, const float *sigma, swd_exec *ex);
/* As denoiser_forward_features, with conditions made for sigma [B]. */
swd_status passes_run(swd_tensor velocity, swd_tensor features, int after, swd_tensor x,
                      const float *sigma, const text_input *text, float guidance,
                      const denoiser *net, swd_exec *ex);
/* A place for the features of latents. */
swd_tensor passes_features(swd_tensor latents, const denoiser *net, swd_exec *ex);
/* Adds a host gradient of x, contiguous F32. NULL: dry. */
swd_status passes_seed(tape *t, swd_tensor x, const float *grad, swd_exec *ex);

/* A tensor's values on the host, and zeros for its gradient. */
typedef struct host_copy {
    float *value, *grad;
} host_copy;
swd_status host_copy_get(host_copy *h, swd_tensor x, bool with_grad, swd_exec *ex);
void host_copy_free(host_copy *h);
#endif
