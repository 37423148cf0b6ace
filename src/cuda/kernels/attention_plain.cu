// SPDX-License-Identifier: MIT
// Attention for whatever the tiled kernels do not take: float32, odd alignment, head_dim no multiple of 8, long heads with a bias.
// The formula of attention.cu, all in float32 arithmetic, p too. Simple rather than fast.
//
// A warp owns ROWS queries. It takes 32 keys at a time: each lane forms the scores of one key, then, the p of all 32 being in
// shared memory, the outputs of the columns lane, lane + 32, ...
#include "attention.cuh"
#include "storage.cuh"

using namespace attention;

namespace
{

constexpr int WARPS = 4, ROWS = 4, BM = WARPS * ROWS;

// Scores of this lane's key in the log2 domain, -inf where a query does not see it.
template <typename T>
DEV void lane_scores(float (&s)[ROWS], const k_attention_args &a, const float *q, int q_stride,
                     const rows<const T> &k, int head, int row0, int key)
{
#pragma unroll
    for (int r = 0; r < ROWS; r++) s[r] = 0.0f;
    if (key < k.n) {
        const T *p = k.p + key * k.stride;
        for (int c = 0; c < a.head_dim; c++) {
            float x = to_f(p[c]);
#pragma unroll
            for (int r = 0; r < ROWS; r++) s[r] = fmaf(q[r * q_stride + c], x, s[r]);
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        int row = row0 + r;
        bool seen = key < k.n && !(a.causal && key > row);
        float bias = 0.0f;
        if (a.bias && seen && row < a.n_q[0])
            bias = a.bias[(static_cast<int64_t>(head) * a.n_q[0] + row) * a.n_k[0] + key];
        s[r] = seen ? (s[r] * a.scale + bias) * LOG2_E : -INFINITY;
    }
}

template <typename T, int COLUMNS> // of a lane
__global__ void __launch_bounds__(WARPS *WARP, 1) plain(const __grid_constant__ k_attention_args a)
{
    constexpr int D = COLUMNS * WARP;
    SMEM_ARRAY(float, all_q, BM *D);
    SMEM_ARRAY(float, all_p, BM *WARP);
    const int warp = static_cast<int>(threadIdx.x) / WARP,
              lane = static_cast<int>(threadIdx.x) % WARP;
    const int head = static_cast<int>(blockIdx.y), b = static_cast<int>(blockIdx.z);
    const block at = block_of<BM>(a);
    const rows<const T> query =
        rows_of<const T>(a.q[at.stream], a.cu[at.stream], a.n_q[at.stream], b, head);
    const int row0 = at.first + warp * ROWS;
    float *q = all_q + warp * ROWS * D, *p = all_p + warp * ROWS * WARP;
    for (int r = 0; r < ROWS; r++)
        for (int c = lane; c < a.head_dim; c += WARP)
            q[r * D + c] = row0 + r < query.n ? to_f(query.p[(row0 + r) * query.stride + c]) : 0.0f;
    __syncwarp();

    float o[ROWS][COLUMNS] = {}, m[ROWS], l[ROWS]; // l: of this lane's keys
#pragma unroll
    for (int r = 0; r < ROWS; r++) m[r] = -INFINITY, l[r] = 0.0f;
    for (int i = 0; i < a.n_streams; i++) {
        const rows<const T> k = rows_of<const T>(a.k[i], a.cu[i], a.n_k[i], b, head),
                            v = rows_of<const T>(a.v[i], a.cu[i], a.n_k[i], b, head);
        const int end = a.causal ? min(k.n, row0 + ROWS) : k.n;
        for (int first = 0; first < end; first += WARP) {
            float s[ROWS];
            lane_scores(s, a, q, D, k, head, row0, first + lane);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                float top = fmaxf(m[r], warp_max(s[r])), base = top == -INFINITY ? 0.0f : top;
                float factor = exp2_fast(m[r] - base), e = exp2_fast(s[r] - base);
                m[r] = top;
                l[r] = fmaf(l[r], factor, e);
                p[r * WARP + lane] = e;
#pragma unroll
                for (int c = 0; c < COLUMNS; c++) o[r][c] *= factor;
            }
            __syncwarp();
            for (int j = 0; j < min(WARP, end - first); j++)
#pragma unroll
                for (int c = 0; c < COLUMNS; c++) {
                    int column = c * WARP + lane;
                    if (column >= a.head_dim) continue;
                    float x = to_f(v.p[(first + j) * v.stride + column]);
#pragma unroll
                    for (int r = 0; r < ROWS; r++) o[r][c] = fmaf(p[r * WARP + j], x, o[r][c]);
                }
            __syncwarp(); // p is written again
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        int row = row0 + r;
        float sum = warp_sum(l[r]), factor = sum > 0.0f ? 1.0f / sum : 0.0f;
        if (row >= query.n) continue;
        if (a.lse[at.stream] && lane == 0)
            *lse_at(a, at.stream, b, head, row) =
                sum > 0.0f ? (m[r] + log2f(sum)) * LN_2 : -INFINITY;
        const k_view &out = a.o[at.stream];
        const int32_t *cu = a.cu[at.stream];
        int64_t place = (cu ? cu[b] * out.stride[1] : b * out.stride[0]) + row * out.stride[1] +
                        head * out.stride[2];
#pragma unroll
        for (int c = 0; c < COLUMNS; c++)
            if (c * WARP + lane < a.head_dim)
                store_as(out.data, out.dtype, place + c * WARP + lane, o[r][c] * factor);
    }
}

template <typename T> cudaError_t run(const k_attention_args &a, cudaStream_t stream)
{
    dim3 grid = grid_of(a, BM), block(WARPS * WARP);
    if (a.head_dim <= 64) return launch((plain<T, 2>), grid, block, 0, stream, a);
    if (a.head_dim <= 128) return launch((plain<T, 4>), grid, block, 0, stream, a);
    if (a.head_dim <= 256) return launch((plain<T, 8>), grid, block, 0, stream, a);
    return launch((plain<T, 16>), grid, block, 0, stream, a);
}

} // namespace

cudaError_t attention::launch_plain(const k_attention_args &a, cudaStream_t stream)
{
    switch (a.k[0].dtype) {
    case K_BF16:
        return run<__nv_bfloat16>(a, stream);
    case K_F16:
        return run<__half>(a, stream);
    case K_F32:
        return run<float>(a, stream);
    }
    return cudaErrorInvalidValue;
}
