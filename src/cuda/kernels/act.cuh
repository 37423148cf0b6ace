// SPDX-License-Identifier: MIT
// Activations, as every kernel that fuses one computes them.
//
//   silu x sigmoid(x)      gelu_tanh x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)), which is x/2 (1 + tanh ...)
//   gelu_erf x/2 erfc(-x / sqrt 2)      quick_gelu x sigmoid(1.702 x)
//
// Written so that nothing cancels: far negative arguments keep their relative accuracy, about 8 roundings of float32, down to
// results of 1e-36, which may become 0. expf and tanhf are the accurate ones.
#ifndef SWD_CUDA_KERNELS_ACT_CUH
#define SWD_CUDA_KERNELS_ACT_CUH
#include "dev.cuh"
#include "kernels.h"

// x sigmoid(s): for s -> -inf the exponential is inf and its reciprocal 0.
DEV float times_sigmoid(float x, float s)
{
    return x * rcp_fast(1.0f + expf(-s));
}

DEV float silu(float x)
{
    return times_sigmoid(x, x);
}

DEV float gelu_tanh(float x)
{
    return times_sigmoid(x, 1.5957691216f * fmaf(0.044715f * x * x, x, x));
}

DEV float gelu_erf(float x)
{
    return 0.5f * x * erfcf(x * -0.70710678118f);
}

// act is the same for the whole launch: one branch for all N values, and none that diverges.
template <int N> DEV void activate(float (&v)[N], k_act act)
{
    switch (act) {
    case K_ACT_NONE:
        return;
    case K_ACT_SILU:
#pragma unroll
        for (int i = 0; i < N; i++) v[i] = silu(v[i]);
        return;
    case K_ACT_GELU_TANH:
#pragma unroll
        for (int i = 0; i < N; i++) v[i] = gelu_tanh(v[i]);
        return;
    case K_ACT_GELU_ERF:
#pragma unroll
        for (int i = 0; i < N; i++) v[i] = gelu_erf(v[i]);
        return;
    case K_ACT_QUICK_GELU:
#pragma unroll
        for (int i = 0; i < N; i++) v[i] = times_sigmoid(v[i], 1.702f * v[i]);
        return;
    case K_ACT_RELU:
#pragma unroll
        for (int i = 0; i < N; i++) v[i] = v[i] > 0.0f || v[i] != v[i] ? v[i] : 0.0f; // NaN stays
        return;
    case K_ACT_TANH:
#pragma unroll
        for (int i = 0; i < N; i++) v[i] = tanhf(v[i]);
        return;
    }
}

DEV float activate(float x, k_act act)
{
    float v[1] = {x};
    activate(v, act);
    return v[0];
}
#endif
