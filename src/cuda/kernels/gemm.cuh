// SPDX-License-Identifier: MIT
// What the matrix products share: rows of [B, n, ..] under one index, and the end of a product,
//   y = residual + gate * act(sum + bias).
#ifndef SWD_CUDA_KERNELS_GEMM_CUH
#define SWD_CUDA_KERNELS_GEMM_CUH
#include "act.cuh"
#include "dev.cuh"
#include "kernels.h"
#include "storage.cuh"

namespace gemm
{
constexpr int FEW_ROWS = 16; // up to here a product streams the weight past its rows, 16 at a time
constexpr int FEW_COLUMNS = 8 * 65535; // the grid's limit

// Of files of their own.
cudaError_t launch_few(const k_gemm_args &a,
                       cudaStream_t stream); // a few rows, 2-byte arithmetic
cudaError_t launch_plain(const k_gemm_args &a, cudaStream_t stream); // float32 arithmetic

// Row r of all samples' rows: sample b, row i of it.
struct row_place {
    int64_t b, i;
};

DEV row_place row_of(const k_gemm_args &a, int64_t r)
{
    return {r / a.rows, r % a.rows};
}

DEV int64_t offset_of(const k_view &v, const row_place &at)
{
    return at.b * v.stride[0] + at.i * v.stride[1];
}

inline bool aligned(const k_view &v)
{
    int64_t unit = 16 / bytes_of(v.dtype);
    return aligned16(v.data) && v.stride[0] % unit == 0 && v.stride[1] % unit == 0;
}

// Whether runs of 8 columns of all that the end of a product touches can be moved in 16-byte accesses.
inline bool wide_columns(const k_gemm_args &a)
{
    return aligned(a.y) && aligned16(a.bias) && aligned(a.residual) && aligned16(a.gate.data) &&
           a.gate.stride[0] % (16 / bytes_of(a.gate.dtype)) == 0;
}

// One result.
DEV void finish(const k_gemm_args &a, const row_place &at, int n, float v)
{
    if (a.bias) v += a.bias[n];
    v = activate(v, a.act);
    if (a.gate.data) v *= load_as(a.gate.data, a.gate.dtype, at.b * a.gate.stride[0] + n);
    if (a.residual.data)
        v += load_as(a.residual.data, a.residual.dtype, offset_of(a.residual, at) + n);
    store_as(a.y.data, a.y.dtype, offset_of(a.y, at) + n, v);
}

// 8 results from column n on, which is a multiple of 8; wide: wide_columns().
DEV void finish8(const k_gemm_args &a, const row_place &at, int n, float (&v)[8], bool wide)
{
    if (!wide || n + 8 > a.n) {
#pragma unroll 1
        for (int e = 0; e < 8; e++) {
            float x = 0.0f;
#pragma unroll
            for (int i = 0; i < 8; i++)
                x = i == e ? v[i] : x; // v is registers: no index but a constant
            if (n + e < a.n) finish(a, at, n + e, x);
        }
        return;
    }
    float x[8];
    if (a.bias) {
        load8(x, a.bias + n);
#pragma unroll
        for (int e = 0; e < 8; e++) v[e] += x[e];
    }
    activate(v, a.act);
    if (a.gate.data) {
        load8_as(x, a.gate.data, a.gate.dtype, at.b * a.gate.stride[0] + n);
#pragma unroll
        for (int e = 0; e < 8; e++) v[e] *= x[e];
    }
    if (a.residual.data) {
        load8_as(x, a.residual.data, a.residual.dtype, offset_of(a.residual, at) + n);
#pragma unroll
        for (int e = 0; e < 8; e++) v[e] += x[e];
    }
    store8_as(a.y.data, a.y.dtype, offset_of(a.y, at) + n, v);
}
} // namespace gemm
#endif
