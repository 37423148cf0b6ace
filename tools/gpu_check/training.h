/* SPDX-License-Identifier: MIT */
/* Op cases in reverse on a device, gradients beside differences of their oracles. */
#ifndef SWD_TOOLS_GPU_CHECK_TRAINING_H
#define SWD_TOOLS_GPU_CHECK_TRAINING_H
#include "backend/backend.h"
#include "options.h"
#include "report.h"

/* With our kernels; then linear layers with cuBLASLt, where that is to be had. */
void check_training(report *r, const options *o, swd_backend *b);
#endif
