/* SPDX-License-Identifier: MIT */
/* Ranges of backend/trace.h as NVTX ranges of the domain "swd", where a profiler listens. */
#ifndef SWD_CUDA_NVTX_H
#define SWD_CUDA_NVTX_H
#include "backend/backend.h"

/* Fills range_push and range_pop of b, or leaves them NULL. */
void cuda_nvtx_open(swd_backend *b);
void cuda_nvtx_close(swd_backend *b);
#endif
