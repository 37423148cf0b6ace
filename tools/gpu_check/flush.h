/* SPDX-License-Identifier: MIT */
/* Emptying the L2 cache between runs of a bench. */
#ifndef SWD_TOOLS_GPU_CHECK_FLUSH_H
#define SWD_TOOLS_GPU_CHECK_FLUSH_H
#include <cuda_runtime_api.h>
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif
/* Reads n floats of device memory, so that a cache smaller than that holds clean lines of theirs and nothing else: after a
 * memset it would hold dirty ones, and the kernel that is measured would pay for writing them back. *sink is not written but
 * where the sum is NaN. */
cudaError_t flush_read(const float *p, size_t n, float *sink, cudaStream_t s);
#ifdef __cplusplus
}
#endif
#endif
