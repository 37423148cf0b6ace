// SPDX-License-Identifier: MIT
// Convolution in float32, as an implicit GEMM of fused multiply-adds: for runs that compare with float32 references, and the
// simple version beside the tensor-core kernels.
//   y[m, n] = act(sum over k = (ky, kx, c) of x[pixel(m, ky, kx), c] w[k, n] + bias[n]) + residual[m, n]
//
// A block makes 64 pixels x 64 outputs in steps of 16 k, a thread 4 x 4 of them; the next step's operands wait in registers
// while this one's are read from shared memory. Storage of x and w is any: a weight that came as bf16 is widened as it is read.
// hot: conv_plain
#include "conv.cuh"

namespace conv
{
namespace
{
constexpr int BM = 64, BN = 64, BK = 16, THREADS = 256, TM = 4, TN = 4;
constexpr int ROUNDS = BM * BK / THREADS; // elements of each operand that a thread fetches
constexpr int PITCH = BM + 4;             // of a k, in floats

struct plain_grid {
    int64_t pixels;
    int tiles_n;
};

// k = (ky, kx, c), kept as a thread goes on in strides of BK.
struct place {
    int k, ky, kx, c;
    DEV void settle(const k_conv_shape &s)
    {
        while (c >= s.in) {
            c -= s.in;
            if (++kx == s.kw) kx = 0, ky++;
        }
    }
};

__global__ void __launch_bounds__(THREADS) conv_plain(k_conv_args a, plain_grid g)
{
    SMEM_ARRAY(float, sa, 2 * BK * PITCH);
    SMEM_ARRAY(float, sb, 2 * BK * BN);
    const int tid = static_cast<int>(threadIdx.x), up = a.shape.upsample2x;
    const int n0 = static_cast<int>(blockIdx.x % static_cast<unsigned>(g.tiles_n)) * BN;
    const int64_t m0 = static_cast<int64_t>(blockIdx.x / static_cast<unsigned>(g.tiles_n)) * BM;
    const int total = a.shape.kh * a.shape.kw * a.shape.in, steps = (total + BK - 1) / BK;

    int y0[ROUNDS], x0[ROUNDS]; // of this thread's pixels, tap 0
    int64_t image[ROUNDS];
#pragma unroll
    for (int i = 0; i < ROUNDS; i++) {
        const int64_t m = m0 + tid / BK + i * (THREADS / BK), row = m / a.wo;
        y0[i] =
            m < g.pixels ? static_cast<int>(row % a.ho) * a.shape.stride - a.shape.pad : -(1 << 30);
        x0[i] = static_cast<int>(m % a.wo) * a.shape.stride - a.shape.pad;
        image[i] = row / a.ho * a.h;
    }
    place p = {tid % BK, 0, 0, tid % BK};
    p.settle(a.shape);

    float ra[ROUNDS], rb[ROUNDS];
    auto fetch = [&](int step) {
#pragma unroll
        for (int i = 0; i < ROUNDS; i++) {
            const int y = y0[i] + p.ky, x = x0[i] + p.kx;
            const bool inside = p.k < total && y >= 0 && y < a.h << up && x >= 0 && x < a.w << up;
            const int64_t at = ((image[i] + (y >> up)) * a.w + (x >> up)) * a.shape.in + p.c;
            ra[i] = inside ? load_as(a.x, a.x_dtype, at) : 0.0f;
            const int k = step * BK + tid / BN + i * (THREADS / BN), n = n0 + tid % BN;
            rb[i] =
                k < total && n < a.shape.out
                    ? load_as(a.packed, a.packed_dtype, static_cast<int64_t>(k) * a.shape.out + n)
                    : 0.0f;
        }
        p.k += BK;
        p.c += BK;
        p.settle(a.shape);
    };
    auto put = [&](int buffer) {
#pragma unroll
        for (int i = 0; i < ROUNDS; i++) {
            sa[(buffer * BK + tid % BK) * PITCH + tid / BK + i * (THREADS / BK)] = ra[i];
            sb[(buffer * BK + tid / BN + i * (THREADS / BN)) * BN + tid % BN] = rb[i];
        }
    };

    const int m = tid / (BN / TN) * TM, n = tid % (BN / TN) * TN;
    float acc[TM][TN] = {};
    fetch(0);
    put(0);
    __syncthreads();
    for (int step = 0; step < steps; step++) {
        if (step + 1 < steps) fetch(step + 1);
#pragma unroll
        for (int k = 0; k < BK; k++) {
            float va[TM], vb[TN];
            load4(va, sa + (step % 2 * BK + k) * PITCH + m);
            load4(vb, sb + (step % 2 * BK + k) * BN + n);
#pragma unroll
            for (int i = 0; i < TM; i++)
#pragma unroll
                for (int j = 0; j < TN; j++) acc[i][j] = fmaf(va[i], vb[j], acc[i][j]);
        }
        if (step + 1 < steps) put((step + 1) % 2); // last read before the previous barrier
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < TM; i++) {
        float v[TN];
#pragma unroll
        for (int j = 0; j < TN; j++)
            v[j] = acc[i][j] + (a.bias && n0 + n + j < a.shape.out ? a.bias[n0 + n + j] : 0.0f);
        activate(v, a.act);
#pragma unroll
        for (int j = 0; j < TN; j++) {
            if (m0 + m + i >= g.pixels || n0 + n + j >= a.shape.out) continue;
            const int64_t at = (m0 + m + i) * a.shape.out + n0 + n + j;
            if (a.residual) v[j] += load_as(a.residual, a.residual_dtype, at);
            store_as(a.y, a.y_dtype, at, v[j]);
        }
    }
}
} // namespace

cudaError_t launch_plain(const k_conv_args &a, cudaStream_t stream)
{
    const plain_grid g = {static_cast<int64_t>(a.batch) * a.ho * a.wo, (a.shape.out + BN - 1) / BN};
    return launch(conv_plain, dim3(static_cast<unsigned>((g.pixels + BM - 1) / BM * g.tiles_n)),
                  dim3(THREADS), 0, stream, a, g);
}
} // namespace conv
