// SPDX-License-Identifier: MIT
// What launchers ask about the current device before they choose a kernel.
#ifndef SWD_CUDA_KERNELS_DEVICE_CUH
#define SWD_CUDA_KERNELS_DEVICE_CUH
#include "dev.cuh"

static inline int multiprocessors()
{
    int device = 0, n = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&n, cudaDevAttrMultiProcessorCount, device) != cudaSuccess)
        return 1;
    return n;
}
#endif
