// SPDX-License-Identifier: MIT
// AdamW over one long array, and the square of a gradient's norm.
//
//     g = g_scale g        m = b1 m + c1 g        v = b2 v + c2 g^2        p = p decay - size m / (sqrt(v) root + eps)
//
// One pass: four arrays read, three written, 16 bytes an access. The sum of squares is made in double, by blocks whose sums one
// more block adds up: its order depends on n alone.
//
// hot: adamw, squares
#include "rows.cuh"
#include "training.h"

namespace
{
constexpr int THREADS = 256;

DEV void adamw_step(float &p, float &m, float &v, float g, const k_adamw_args &a)
{
    g *= a.g_scale;
    m = fmaf(a.b1, m, a.c1 * g);
    v = fmaf(a.b2, v, a.c2 * g * g);
    p = p * a.decay - a.size * m / (sqrtf(v) * a.root + a.eps);
}

// V elements a thread; with V = 4 the last n % 4 have a thread each.
template <int V>
__global__ void __launch_bounds__(THREADS) adamw(const __grid_constant__ k_adamw_args a)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if constexpr (V == 4) {
        if (i < a.n / 4) {
            float p[4], m[4], v[4], g[4];
            load4(p, a.p + i * 4);
            load4(m, a.m + i * 4);
            load4(v, a.v + i * 4);
            load4(g, a.g + i * 4);
#pragma unroll
            for (int j = 0; j < 4; j++) adamw_step(p[j], m[j], v[j], g[j], a);
            store4(a.m + i * 4, m);
            store4(a.v + i * 4, v);
            store4(a.p + i * 4, p);
            return;
        }
        i += a.n / 4 * 3;
    }
    if (i < a.n) adamw_step(a.p[i], a.m[i], a.v[i], a.g[i], a);
}

// The sum over the block, in thread 0.
DEV double block_total(double v)
{
    SMEM_ARRAY(double, part, THREADS / WARP);
#pragma unroll
    for (int o = WARP / 2; o > 0; o >>= 1) v += __shfl_xor_sync(FULL_MASK, v, o);
    if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = v;
    __syncthreads();
    v = 0;
    for (int w = 0; w < THREADS / WARP; w++) v += part[w];
    return v;
}

DEV double square(float x)
{
    return (double)x * (double)x;
}

template <int V>
__global__ void __launch_bounds__(THREADS) squares(double *part, const float *x, int64_t n)
{
    const int64_t first = (int64_t)blockIdx.x * THREADS + threadIdx.x,
                  step = (int64_t)gridDim.x * THREADS;
    double sum = 0;
    int64_t done = 0;
    if constexpr (V == 4) {
        for (int64_t i = first; i < n / 4; i += step) {
            float v[4];
            load4(v, x + i * 4);
            sum += (square(v[0]) + square(v[1])) + (square(v[2]) + square(v[3]));
        }
        done = n / 4 * 4;
    }
    for (int64_t i = done + first; i < n; i += step) sum += square(x[i]);
    sum = block_total(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS) add_parts(double *out, const double *part, int n)
{
    double sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += THREADS) sum += part[i];
    sum = block_total(sum);
    if (threadIdx.x == 0) *out = sum;
}
} // namespace

extern "C" cudaError_t k_adamw(const k_adamw_args *a, cudaStream_t stream)
{
    if (aligned16(a->p) && aligned16(a->m) && aligned16(a->v) && aligned16(a->g))
        return launch(adamw<4>, dim3((unsigned)div_up(a->n / 4 + a->n % 4, THREADS)), dim3(THREADS),
                      0, stream, *a);
    return launch(adamw<1>, dim3((unsigned)div_up(a->n, THREADS)), dim3(THREADS), 0, stream, *a);
}

extern "C" cudaError_t k_sum_squares(double *out, const float *x, int64_t n, cudaStream_t stream)
{
    const int64_t most = K_SUM_SQUARES - 1, wanted = div_up(n, THREADS * 16);
    const int blocks = (int)(wanted < most ? wanted : most);
    const dim3 grid((unsigned)blocks);
    const cudaError_t e = aligned16(x)
                              ? launch(squares<4>, grid, dim3(THREADS), 0, stream, out + 1, x, n)
                              : launch(squares<1>, grid, dim3(THREADS), 0, stream, out + 1, x, n);
    if (e != cudaSuccess) return e;
    return launch(add_parts, dim3(1), dim3(THREADS), 0, stream, out,
                  static_cast<const double *>(out + 1), blocks);
}
