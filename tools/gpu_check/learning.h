/* SPDX-License-Identifier: MIT */
/* Iterations of distillation on a device, on a small random network, beside the CPU's. */
#ifndef SWD_TOOLS_GPU_CHECK_LEARNING_H
#define SWD_TOOLS_GPU_CHECK_LEARNING_H
#include "report.h"

/* Gradients and parameters, with our kernels and with the libraries wherever those can; small: with ours, a batch of one. Checks go to section
 * "training". */
void learning_check(report *r, const char *device, bool small);
#endif
