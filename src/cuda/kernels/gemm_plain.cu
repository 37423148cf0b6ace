// SPDX-License-Identifier: MIT
// Linear layers in float32 arithmetic: x and w of any storage and alignment, widened on their way to shared memory.
//
// A block of 256 threads makes 64 x 64 results in steps of 16 of K; a thread has 4 neighbouring rows by 4 columns that lie 16 apart, so
// that shared memory is read without conflicts and rows of y are written in runs.
#include "gemm.cuh"

namespace gemm
{
namespace
{
constexpr int TILE = 64, BK = 16, THREADS = 256, PITCH = TILE + 4;

// BK elements of TILE rows, transposed: 4 neighbouring ones a thread. Rows and elements past the end become zeros.
DEV void load_slice(float *to, const void *p, k_dtype dtype, int64_t row_at, bool inside, int k0,
                    int k)
{
    const int row = static_cast<int>(threadIdx.x) / 4, c = static_cast<int>(threadIdx.x) % 4 * 4;
#pragma unroll
    for (int e = 0; e < 4; e++)
        to[(c + e) * PITCH + row] =
            inside && k0 + c + e < k ? load_as(p, dtype, row_at + k0 + c + e) : 0.0f;
}

__global__ void __launch_bounds__(THREADS) gemm_plain(const __grid_constant__ k_gemm_args a)
{
    SMEM_ARRAY(float, xs, BK *PITCH);
    SMEM_ARRAY(float, ws, BK *PITCH);
    const int tid = static_cast<int>(threadIdx.x), tx = tid % 16, ty = tid / 16;
    const int tiles_n = (a.n + TILE - 1) / TILE, n0 = static_cast<int>(blockIdx.x) % tiles_n * TILE;
    const int64_t m = a.batch * a.rows, m0 = static_cast<int64_t>(blockIdx.x) / tiles_n * TILE;
    const int64_t x_row = m0 + tid / 4;
    const int w_row = n0 + tid / 4;
    const int64_t x_at = x_row < m ? offset_of(a.x, row_of(a, x_row)) : 0;
    float acc[4][4] = {};
    for (int k0 = 0; k0 < a.k; k0 += BK) {
        load_slice(xs, a.x.data, a.x.dtype, x_at, x_row < m, k0, a.k);
        load_slice(ws, a.w, a.w_dtype, w_row * a.w_stride, w_row < a.n, k0, a.k);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < BK; k++) {
            float x[4];
            load4(x, xs + k * PITCH + ty * 4);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float w = ws[k * PITCH + tx + j * 16];
#pragma unroll
                for (int i = 0; i < 4; i++) acc[i][j] = fmaf(x[i], w, acc[i][j]);
            }
        }
        __syncthreads(); // the slices are loaded again
    }
#pragma unroll 1
    for (int i = 0; i < 4; i++) {
        const int64_t r = m0 + ty * 4 + i;
        if (r >= m) break;
        const row_place at = row_of(a, r);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float v = 0.0f;
#pragma unroll
            for (int e = 0; e < 4; e++) v = e == i ? acc[e][j] : v;
            const int n = n0 + tx + j * 16;
            if (n < a.n) finish(a, at, n, v);
        }
    }
}
} // namespace

cudaError_t launch_plain(const k_gemm_args &a, cudaStream_t stream)
{
    const int64_t blocks = (a.batch * a.rows + TILE - 1) / TILE * ((a.n + TILE - 1) / TILE);
    return launch(gemm_plain, dim3(static_cast<unsigned>(blocks)), dim3(THREADS), 0, stream, a);
}
} // namespace gemm
