/* SPDX-License-Identifier: MIT */
/* Timing a few ways of one piece of work on the device, on operands of its own. */
#ifndef SWD_CUDA_VENDOR_MEASURE_H
#define SWD_CUDA_VENDOR_MEASURE_H
#include "backend_cuda.h"

enum { MEASURE_MAX = 17 };

/* Queues the work of one contestant on stream. SWD_ERR_UNSUPPORTED: it does not do this work. */
typedef swd_status measure_run(void *arg, int contestant, cudaStream_t stream, swd_err *err);

/* us [n]: median of some runs of each, in turns, the device's L2 without their operands; negative for one that does not do the work. */
swd_status measure_times(double *us, int n, measure_run *run, void *arg, swd_backend *b,
                         swd_err *err);
/* Whether it does the work: one run, waited for. */
swd_status measure_can(bool *can, int contestant, measure_run *run, void *arg, swd_backend *b,
                       swd_err *err);

/* SWD_ERR_MEMORY with what to do about it. */
swd_status measure_no_memory(swd_err *err);

/* Device memory of n elements full of normal numbers, which repeat after 2^18; to be released to the backend, on failure too. */
swd_status measure_operand(void **out, k_dtype dtype, int64_t n, swd_backend *b, swd_err *err);
#endif
