/* SPDX-License-Identifier: MIT */
/* Inception-v3 up to its last pooling, in the variant that Frechet distances (FID) are made with: the mean poolings leave the border out of
 * their counts, and the last block takes maxima. Batch norms are folded into the convolutions (tools/reference/convert_inception.py). */
#ifndef SWD_MODEL_INCEPTION_H
#define SWD_MODEL_INCEPTION_H
#include "backend/ops.h"
#include "io/config_vision.h"
#include "weights/weights.h"

typedef struct inception inception;

swd_status inception_create(inception **out, const config_inception *cfg, weights *w,
                            swd_backend *be, swd_dtype compute, swd_err *err);
int inception_dim(const inception *m); /* 2048 / width_divisor */
/* pixels F32 [B, side, side, 3] in [-1, 1] -> features F32 [B, dim] */
swd_status inception_forward(swd_tensor features, swd_tensor pixels, inception *m, swd_exec *ex);
void inception_destroy(inception **m);
#endif
