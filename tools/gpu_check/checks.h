/* SPDX-License-Identifier: MIT */
/* What must be right on a device. Every failure goes to the report, none ends the run, unless the device itself is lost. */
#ifndef SWD_TOOLS_GPU_CHECK_CHECKS_H
#define SWD_TOOLS_GPU_CHECK_CHECKS_H
#include "backend/backend.h"
#include "options.h"
#include "report.h"

/* dev.cuh's wrappers beside the words that the emulator left; e4m3: the device has that type. */
void check_wrappers(report *r, const options *o, swd_backend *b, bool e4m3);
/* Every op case beside its oracle, then every op with damaged arguments. */
void check_ops(report *r, const options *o, swd_backend *b);
/* The cases of products once more, by cuBLASLt and cuDNN wherever those can; skipped where neither is to be had. */
void check_vendor(report *r, const options *o, swd_backend *b);
#endif
