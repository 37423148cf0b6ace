/* SPDX-License-Identifier: MIT */
/* The list of shapes, timed on a device, or as the roofline would have it. */
#ifndef SWD_TOOLS_GPU_CHECK_BENCH_H
#define SWD_TOOLS_GPU_CHECK_BENCH_H
#include "backend/backend.h"
#include "device.h"
#include "options.h"
#include "report.h"

/* Every shape that passes the filter; one that cannot be run, or whose result is not the library's, is a failure. */
void bench_shapes(report *r, const options *o, const device *d, swd_backend *b);
/* Prints docs/kernels.md. */
void bench_expect(void);
#endif
