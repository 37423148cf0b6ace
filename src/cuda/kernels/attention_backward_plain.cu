// SPDX-License-Identifier: MIT
// The backward passes of attention for whatever the tiled kernel does not take: float32, odd alignment, gradients of another storage,
// long heads. The formulas of attention_backward.cuh, all in float32 arithmetic, p and ds too. Simple rather than fast.
//
// A warp owns ROWS rows x and y, in shared memory. It takes 32 walked rows at a time: each lane forms the scores of one of them, whose
// columns the block brings to shared memory in pieces of 32; then, the p and ds of all being in shared memory, the gradients of the
// columns lane, lane + 32, ...
#include "attention_backward.cuh"
#include "storage.cuh"

using namespace attention;

namespace
{

constexpr int WARPS = 4, THREADS = WARPS * WARP,
              PIECE = WARP + 1; // + 1: lanes read a column of rows

// A row of a head of a sample, in elements from the view's data.
DEV int64_t place(const k_view &v, int b, int64_t row, int head)
{
    return b * v.stride[0] + row * v.stride[1] + head * v.stride[2];
}

// 32 columns of 32 rows, zeros where there are none.
DEV void load_piece(float *piece, const k_view &v, int64_t at, int left, int columns)
{
    const int row = static_cast<int>(threadIdx.x) / WARP, c = static_cast<int>(threadIdx.x) % WARP;
    for (int i = row; i < WARP; i += WARPS)
        piece[i * PIECE + c] =
            i < left && c < columns ? load_as(v.data, v.dtype, at + i * v.stride[1] + c) : 0.0f;
}

// s[r] += x[r] . row, over one piece
template <int ROWS, int D> DEV void add_dots(float (&s)[ROWS], const float *x, const float *row)
{
    for (int c = 0; c < WARP; c++)
#pragma unroll
        for (int r = 0; r < ROWS; r++) s[r] = fmaf(x[r * D + c], row[c], s[r]);
}

template <int ROWS, int COLUMNS>
DEV void store(const float (&sum)[ROWS][COLUMNS], float factor, const k_grad &to, int n,
               int head_dim, int b, int head, int row0)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP;
    if (!to.view.data) return;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) {
            if (row0 + r >= n || c * WARP + lane >= head_dim) continue;
            int64_t at = place(to.view, b, row0 + r, head) + c * WARP + lane;
            float old = to.add ? load_as(to.view.data, to.view.dtype, at) : 0.0f;
            store_as(to.view.data, to.view.dtype, at, fmaf(sum[r][c], factor, old));
        }
}

// COLUMNS of a lane; ROWS of a warp, the last columns of whose rows may be zeros.
template <int COLUMNS, int ROWS, bool KEYS>
__global__ void __launch_bounds__(THREADS, 1) plain_backward(const __grid_constant__ pass a)
{
    constexpr int D = COLUMNS * WARP, BM = WARPS * ROWS;
    SMEM_ARRAY(float, all_x, BM *D);
    SMEM_ARRAY(float, all_y, BM *D);
    SMEM_ARRAY(float2, all_p, BM * WARP);
    SMEM_ARRAY(float, piece_w, WARP *PIECE);
    SMEM_ARRAY(float, piece_z, WARP *PIECE);
    const int warp = static_cast<int>(threadIdx.x) / WARP,
              lane = static_cast<int>(threadIdx.x) % WARP;
    const int head = static_cast<int>(blockIdx.y), b = static_cast<int>(blockIdx.z);
    const block at = block_of<BM>(a.n_own[0]);
    const int row0 = at.first + warp * ROWS, n = a.n_own[at.stream];
    const k_view &vx = a.x[at.stream], &vy = a.y[at.stream];
    float *x = all_x + warp * ROWS * D, *y = all_y + warp * ROWS * D;
    float2 *p = all_p + warp * ROWS * WARP; // (p, ds)
    for (int r = 0; r < ROWS; r++)
        for (int c = lane; c < D; c += WARP) {
            bool there = row0 + r < n && c < a.head_dim;
            x[r * D + c] =
                there ? load_as(vx.data, vx.dtype, place(vx, b, row0 + r, head) + c) : 0.0f;
            y[r * D + c] =
                there ? load_as(vy.data, vy.dtype, place(vy, b, row0 + r, head) + c) : 0.0f;
        }

    const float scale = a.scale * LOG2_E;
    float dx[ROWS][COLUMNS] = {}, dy[ROWS][COLUMNS] = {};
    for (int i = 0; i < 2; i++) {
        const k_view &vw = a.w[i], &vz = a.z[i];
        const float2 *sums = KEYS ? a.n_walk[i] ? sums_at(a, i, b, head) : nullptr
                                  : sums_at(a, at.stream, b, head) + row0;
        for (int first = 0; first < a.n_walk[i]; first += WARP) {
            const int left = a.n_walk[i] - first;
            const int64_t w = place(vw, b, first, head), z = place(vz, b, first, head);
            float s[ROWS] = {}, g[ROWS] = {};
            for (int c = 0; c < a.head_dim; c += WARP) {
                __syncthreads(); // all warps have left the last piece
                load_piece(piece_w, vw, w + c, left, a.head_dim - c);
                load_piece(piece_z, vz, z + c, left, a.head_dim - c);
                __syncthreads();
                add_dots<ROWS, D>(s, x + c, piece_w + lane * PIECE);
                add_dots<ROWS, D>(g, y + c, piece_z + lane * PIECE);
            }
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                float2 q = KEYS ? sums[first + lane] : sums[r];
                float e = exp2_fast(fmaf(s[r], scale, -q.x));
                p[r * WARP + lane] = make_float2(e, e * (g[r] - q.y));
            }
            __syncwarp();
            for (int j = 0; j < min(WARP, left); j++)
#pragma unroll
                for (int c = 0; c < COLUMNS; c++) {
                    int column = c * WARP + lane;
                    if (column >= a.head_dim) continue;
                    float vw_j = load_as(vw.data, vw.dtype, w + j * vw.stride[1] + column);
                    float vz_j =
                        KEYS ? load_as(vz.data, vz.dtype, z + j * vz.stride[1] + column) : 0.0f;
#pragma unroll
                    for (int r = 0; r < ROWS; r++) {
                        float2 e = p[r * WARP + j];
                        dx[r][c] = fmaf(e.y, vw_j, dx[r][c]);
                        if (KEYS) dy[r][c] = fmaf(e.x, vz_j, dy[r][c]);
                    }
                }
        }
    }
    store(dx, a.scale, a.dx[at.stream], n, a.head_dim, b, head, row0);
    if (KEYS) store(dy, 1.0f, a.dy[at.stream], n, a.head_dim, b, head, row0);
}

template <int COLUMNS, int ROWS> cudaError_t run(const pass &a, bool keys, cudaStream_t stream)
{
    dim3 grid = grid_of(a, WARPS * ROWS), block(THREADS);
    return keys ? launch((plain_backward<COLUMNS, ROWS, true>), grid, block, 0, stream, a)
                : launch((plain_backward<COLUMNS, ROWS, false>), grid, block, 0, stream, a);
}

} // namespace

cudaError_t attention::launch_plain_backward(const pass &a, bool keys, cudaStream_t stream)
{
    if (a.head_dim <= 64) return run<2, 4>(a, keys, stream);
    if (a.head_dim <= 128) return run<4, 4>(a, keys, stream);
    if (a.head_dim <= 256) return run<8, 2>(a, keys, stream);
    return run<16, 1>(a, keys, stream);
}
