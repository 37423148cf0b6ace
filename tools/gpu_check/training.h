/* SPDX-License-Identifier: MIT */
/* Training on a device: the gradients of op cases beside differences of their oracles, then iterations of distillation on a small random
 * network beside the CPU's. */
#ifndef SWD_TOOLS_GPU_CHECK_TRAINING_H
#define SWD_TOOLS_GPU_CHECK_TRAINING_H
#include "backend/backend.h"
#include "options.h"
#include "report.h"

/* With our kernels, then what is left to cuBLASLt and cuDNN where those are to be had. */
void check_training(report *r, const options *o, swd_backend *b);
#endif
