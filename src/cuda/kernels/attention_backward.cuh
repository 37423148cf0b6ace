// SPDX-License-Identifier: MIT
// What the backward kernels of attention share: a pass in which rows own gradients and walk other rows, and the sums of the queries.
#ifndef SWD_CUDA_KERNELS_ATTENTION_BACKWARD_CUH
#define SWD_CUDA_KERNELS_ATTENTION_BACKWARD_CUH
#include "attention.cuh"
#include "training.h"

namespace attention
{

// Rows of x and y own dx and dy and see all rows of w and z:
//     p = exp(scale x w^T - lse)    ds = p (y z^T - delta)    dx = scale ds w    dy = p z
// Keys own dk and dv: x, y = k, v and w, z = q, do. Queries own dq: x, y = q, do and w, z = k, v. lse and delta belong to the queries.
struct pass {
    k_view x[2], y[2], w[2], z[2]; // [B, n, H, d] of each stream
    k_grad dx[2], dy[2];
    int n_own[2], n_walk[2]; // rows of a sample; 0: the stream owns, or gives, nothing
    float2 *sums[2];         // of the queries of each stream, see sums_at
    int padded[2];
    int batch, heads, head_dim;
    float scale;
};

// (log2(e) lse, delta) of a head's queries, up to the next multiple of SUMS_STEP: (inf, 0) past the last, so that p and ds are 0.
constexpr int SUMS_STEP = 64;

DEV const float2 *sums_at(const pass &a, int stream, int b, int head)
{
    return a.sums[stream] + (static_cast<int64_t>(b) * a.heads + head) * a.padded[stream];
}

inline dim3 grid_of(const pass &a, int rows)
{
    int blocks = (a.n_own[0] + rows - 1) / rows + (a.n_own[1] + rows - 1) / rows;
    return dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(a.heads),
                static_cast<unsigned>(a.batch));
}

// Of a file of its own: anything. keys: whether it is the pass of the keys.
cudaError_t launch_plain_backward(const pass &a, bool keys, cudaStream_t stream);

} // namespace attention
#endif
