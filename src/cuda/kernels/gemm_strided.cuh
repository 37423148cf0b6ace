// SPDX-License-Identifier: MIT
// What the products of training share: a block's share of c (+)= a b (+ bias), and where its sums go.
//
// An operand lies "along k" where its elements of neighbouring k are neighbours in memory, else across: then lines of m (or n) follow
// each other. Where c has few tiles and k is long, as gradients of LoRA factors do, `splits` blocks take equal parts of k each; their
// float32 sums go to the workspace, [splits, m, pitch], and are added in order by a kernel of their own: the result is the same
// whichever block ends first.
#ifndef SWD_CUDA_KERNELS_GEMM_STRIDED_CUH
#define SWD_CUDA_KERNELS_GEMM_STRIDED_CUH
#include "rows.cuh"
#include "training.h"

namespace gemm_strided
{
// One operand: [extent, k] (a) or [k, extent] (b); stride: between its rows along k, or between its lines across.
struct operand {
    const void *data;
    int64_t stride;
    int extent;
    bool along_k;
    bool wide; // 16-byte pieces may be read: address, stride, and the length of rows or lines
};

struct job {
    operand a, b;
    k_view c;
    const float *bias;
    float *partial; // NULL: this block's sums are the result
    int64_t pitch;  // of partial's rows
    int m, n, k;
    int part;       // elements of k a block has, a multiple of its steps
    bool add, wide; // wide: 16-byte pieces of c and bias
};

// Of its own file: float32 arithmetic. tile as in the arguments, never auto.
cudaError_t launch_plain(const job &j, k_gemm_tile tile, int splits, cudaStream_t stream);

struct tile_at {
    int m, n;
};

// Blocks go down a band of 8 tiles before they go on to the next columns: what they share stays in the L2 cache.
template <int BM, int BN> DEV tile_at tile_of_block(const job &j)
{
    const int tiles_m = (j.m + BM - 1) / BM, tiles_n = (j.n + BN - 1) / BN;
    const int at = static_cast<int>(blockIdx.x), band = at / (8 * tiles_n),
              in_band = at % (8 * tiles_n), height = min(8, tiles_m - band * 8);
    return {(band * 8 + in_band % height) * BM, in_band / height * BN};
}

// V finished sums (4 or 8) of row r from column n on, which is a multiple of V and inside.
template <int V> DEV void finish(const job &j, int r, int n, float (&v)[V])
{
    const int64_t at = r * j.c.stride[0] + n;
    if (j.wide && n + V <= j.n) {
        float x[V];
        if (j.bias) {
            if constexpr (V == 8)
                load8(x, j.bias + n);
            else
                load4(x, j.bias + n);
#pragma unroll
            for (int e = 0; e < V; e++) v[e] += x[e];
        }
        if constexpr (V == 8) {
            if (j.add) {
                load8_as(x, j.c.data, j.c.dtype, at);
#pragma unroll
                for (int e = 0; e < V; e++) v[e] += x[e];
            }
            store8_as(j.c.data, j.c.dtype, at, v);
        } else { // float32 arithmetic has float32 results
            float *c = static_cast<float *>(j.c.data) + at;
            if (j.add) {
                load4(x, c);
#pragma unroll
                for (int e = 0; e < V; e++) v[e] += x[e];
            }
            store4(c, v);
        }
        return;
    }
#pragma unroll 1
    for (int e = 0; e < V; e++) {
        float x = 0.0f;
#pragma unroll
        for (int i = 0; i < V; i++)
            x = i == e ? v[i] : x; // v is registers: no index but a constant
        if (n + e >= j.n) continue;
        if (j.bias) x += j.bias[n + e];
        if (j.add) x += load_as(j.c.data, j.c.dtype, at + e);
        store_as(j.c.data, j.c.dtype, at + e, x);
    }
}

// V sums of this block's part of k: the result, or a part of it.
template <int V> DEV void deliver(const job &j, int r, int n, float (&v)[V])
{
    if (r >= j.m || n >= j.n) return;
    if (!j.partial) {
        finish(j, r, n, v);
        return;
    }
    float *to = j.partial + (static_cast<int64_t>(blockIdx.y) * j.m + r) * j.pitch + n;
    if constexpr (V == 8)
        store8(to, v);
    else
        store4(to, v);
}
} // namespace gemm_strided
#endif
