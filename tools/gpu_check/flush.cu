// SPDX-License-Identifier: MIT
#include "flush.h"
#include "dev.cuh"

namespace
{
constexpr int THREADS = 256, BLOCKS = 1024;

__global__ void __launch_bounds__(THREADS) read_all(const float *p, int64_t n, float *sink)
{
    float sum = 0;
    int64_t stride = static_cast<int64_t>(gridDim.x) * THREADS;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < n; i += stride)
        sum += p[i];
    if (sum != sum) *sink = sum;
}
}

extern "C" cudaError_t flush_read(const float *p, size_t n, float *sink, cudaStream_t s)
{
    int64_t blocks = (static_cast<int64_t>(n) + THREADS - 1) / THREADS;
    return launch(read_all, dim3(static_cast<unsigned>(blocks < BLOCKS ? blocks : BLOCKS)),
                  dim3(THREADS), 0, s, p, static_cast<int64_t>(n), sink);
}
