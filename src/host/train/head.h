/* SPDX-License-Identifier: MIT */
/* The discriminator's head over a network's features: mean over the image tokens, then four times LayerNorm, GELU, Linear, of widths
 * int(linspace(d, 1, 5)). */
#ifndef SWD_TRAIN_HEAD_H
#define SWD_TRAIN_HEAD_H
#include "train/params.h"
#include "train/tape.h"

enum { HEAD_LAYERS = 4 };

typedef struct head head;

/* Layers as torch.nn makes them: weights and biases uniform in +-1 / sqrt(in), norms one and zero; drawn by seed. d: of the features. */
swd_status head_create(head **out, swd_backend *be, int64_t d, uint64_t seed, swd_err *err);
void head_destroy(head **h); /* writes NULL; accepts it */
params *
head_params(head *h); /* "0.norm.weight", "0.norm.bias", "0.linear.weight", "0.linear.bias", ... */
/* logits F32 [B, 1] of features F32 [B, n, d]; the head's parameters must be in use (tape_use) */
swd_status head_forward(swd_tensor logits, swd_tensor features, const head *h, swd_exec *ex);
#endif
