/* SPDX-License-Identifier: MIT */
/* Sums over the devices of several processes, as far as one process can tell. */
#ifndef SWD_TOOLS_GPU_CHECK_SUMS_H
#define SWD_TOOLS_GPU_CHECK_SUMS_H
#include "backend/backend.h"
#include "options.h"
#include "report.h"

/* Section "sums": NCCL is found, takes this device as the only one, and leaves numbers as they were, in order with copies. */
void check_sums(report *r, const options *o, swd_backend *b);
#endif
