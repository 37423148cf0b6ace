// SPDX-License-Identifier: MIT
// What the attention kernels share: where a sample's rows lie, the walk over the keys of both streams, tiles in shared memory,
// fragments, masks, and the store of a block of outputs.
#ifndef SWD_CUDA_KERNELS_ATTENTION_CUH
#define SWD_CUDA_KERNELS_ATTENTION_CUH
#include "dev.cuh"
#include "kernels.h"

namespace attention
{

constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

// Of files of their own; arguments as k_attention's, which has chosen the kernel.
cudaError_t launch_wide(const k_attention_args &a, cudaStream_t stream);  // 256 < d <= 512
cudaError_t launch_plain(const k_attention_args &a, cudaStream_t stream); // anything

DEV int length_of(const int32_t *cu, int n, int b)
{
    return cu ? cu[b + 1] - cu[b] : n;
}

// One head of one sample of a stream: n rows of head_dim elements.
template <typename T> struct rows {
    T *p;
    int64_t stride;
    int n;
};

// A sample is a slice of [B, n, H, d] or, with cu, the rows cu[b] .. cu[b + 1] of [total, H, d].
template <typename T>
DEV rows<T> rows_of(const k_view &v, const int32_t *cu, int n, int b, int head)
{
    int64_t first = cu ? cu[b] * v.stride[1] : b * v.stride[0];
    return {static_cast<T *>(v.data) + first + head * v.stride[2], v.stride[1],
            length_of(cu, n, b)};
}

// The block of queries of a CTA: blockIdx is (block of rows, head, sample); the blocks of stream 0 come first.
struct block {
    int stream, first;
};

template <int ROWS> DEV block block_of(int rows0)
{
    int x = static_cast<int>(blockIdx.x), blocks0 = (rows0 + ROWS - 1) / ROWS;
    return x < blocks0 ? block{0, x * ROWS} : block{1, (x - blocks0) * ROWS};
}

template <int ROWS> DEV block block_of(const k_attention_args &a)
{
    return block_of<ROWS>(a.q[0].data ? a.n_q[0] : 0);
}

inline dim3 grid_of(const k_attention_args &a, int rows)
{
    int blocks = 0;
    for (int i = 0; i < a.n_streams; i++)
        if (a.q[i].data) blocks += (a.n_q[i] + rows - 1) / rows;
    return dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(a.heads),
                static_cast<unsigned>(a.batch));
}

// The rows of both streams in tiles of BN rows. A tile holds rows of one stream only, so that each stream's last tile may be
// short and no tile needs a pointer per row. Where its rows lie is worked out for each tile anew: registers are dearer.
template <int BN> struct tile_walk {
    int n[2]; // rows of each stream
    int tiles0, tiles;

    DEV tile_walk(int n0, int n1)
        : n{n0, n1}, tiles0((n0 + BN - 1) / BN), tiles(tiles0 + (n1 + BN - 1) / BN)
    {
    }
    DEV int stream(int tile) const { return tile >= tiles0; }
    DEV int first(int tile) const { return (tile >= tiles0 ? tile - tiles0 : tile) * BN; }
    DEV int left(int tile) const { return (tile >= tiles0 ? n[1] : n[0]) - first(tile); }
};

// The keys, as far as a causal mask lets the block of queries see.
template <int BN> DEV tile_walk<BN> key_walk(const k_attention_args &a, int b, int causal_end)
{
    int n0 = length_of(a.cu[0], a.n_k[0], b);
    return tile_walk<BN>(a.causal ? min(n0, causal_end) : n0,
                         a.n_streams > 1 ? length_of(a.cu[1], a.n_k[1], b) : 0);
}

// Tiles lie in shared memory row by row in chunks of 16 bytes, the chunks of a row swizzled: the eight rows that a phase of
// ldmatrix reads at one chunk fall into eight different groups of four banks. With D / 8 a multiple of 8 all rows start at
// bank 0 and c ^ r % 8 differs in eight rows; with D / 8 = 4 (mod 8) odd rows start at bank 16 and c ^ r / 2 % 4 differs in the
// four rows of each parity. cp.async writes rows in order and so whole lines of 128 bytes.
template <int D> DEV int chunk_at(int row, int chunk)
{
    static_assert(D % 32 == 0, "the swizzle moves chunks within groups of four or eight");
    int x = D % 64 == 0 ? chunk ^ (row & 7) : chunk ^ (row >> 1 & 3);
    return row * D + x * 8;
}

// ROWS rows of the source from `first` on; zeros past its end and past `chunks` chunks of a row (d < D). A thread keeps its row
// modulo 8 and its chunk modulo WIDTH, so that its places in the tile differ by constants.
template <typename T, int D, int ROWS, int THREADS>
DEV void load_tile(T *tile, const rows<const T> &src, int first, int chunks)
{
    constexpr int CHUNKS = D / 8, POWER_OF_2 = CHUNKS & -CHUNKS;
    constexpr int WIDTH = POWER_OF_2 < THREADS / 8 ? POWER_OF_2 : THREADS / 8;
    constexpr int STEP = THREADS / WIDTH; // rows at a time
    static_assert(STEP % 8 == 0 && ROWS % STEP == 0 && WIDTH % 4 == 0, "");
    const int row = static_cast<int>(threadIdx.x) / WIDTH,
              c = static_cast<int>(threadIdx.x) % WIDTH;
    const T *p = src.p + static_cast<int64_t>(first + row) * src.stride + c * 8;
#pragma unroll
    for (int i = 0; i < ROWS / STEP; i++, p += STEP * src.stride)
#pragma unroll
        for (int j = 0; j < CHUNKS / WIDTH; j++) {
            bool ok = first + row + i * STEP < src.n && c + j * WIDTH < chunks;
            cp_async16(tile + chunk_at<D>(row, c) + i * STEP * D + j * WIDTH * 8,
                       ok ? p + j * WIDTH * 8 : src.p, ok);
        }
}

// Where a lane of ldmatrix reads: row `row` + lane_row (row a multiple of 8), half lane_half of columns 16 k .. 16 k + 15. It is
// chunk_at() of that place, written so that the unrolled k leaves few different terms to keep in registers.
template <int D> DEV int fragment_at(int row, int k, int lane_row, int lane_half)
{
    constexpr int GROUP =
        D % 64 == 0 ? 4 : 2; // values of k whose chunks are swizzled among each other
    int x = lane_half ^ (D % 64 == 0 ? lane_row & 7 : lane_row >> 1 & 3);
    return (row + lane_row) * D + k / GROUP * GROUP * 16 + (x ^ k % GROUP * 2) * 8;
}

// A fragment: rows row .. row + 15, columns 16 k .. 16 k + 15 of a tile.
template <typename T, int D> DEV void load_a(uint32_t (&a)[4], const T *tile, int row, int k)
{
    int lane = static_cast<int>(threadIdx.x) % WARP;
    ldsm_x4(a, tile + fragment_at<D>(row, k, lane & 15, lane >> 4));
}

// B fragments of the same part of a tile. Keys are columns of B: {b[0], b[1]} belong to the first eight keys, {b[2], b[3]} to the
// others. Values are rows of B: {b[0], b[2]} belong to the first eight columns, {b[1], b[3]} to the others. The lanes name
// the same addresses for both, so that both share the registers that hold them.
template <typename T, int D> DEV void load_keys(uint32_t (&b)[4], const T *tile, int row, int k)
{
    int lane = static_cast<int>(threadIdx.x) % WARP;
    ldsm_x4(b, tile + fragment_at<D>(row, k, (lane & 7) + (lane >> 4) * 8, lane >> 3 & 1));
}

template <typename T, int D> DEV void load_values(uint32_t (&b)[4], const T *tile, int row, int k)
{
    int lane = static_cast<int>(threadIdx.x) % WARP;
    ldsm_x4_t(b, tile + fragment_at<D>(row, k, (lane & 7) + (lane >> 4) * 8, lane >> 3 & 1));
}

// o += p v for ROWS rows v of a tile, p being accumulators of an earlier product: their layout is that of A fragments.
template <typename T, int D, int MT, int ROWS>
DEV void add_products(float (&o)[MT][D / 8][4], const float (&p)[MT][ROWS / 8][4], const T *values)
{
#pragma unroll
    for (int k = 0; k < ROWS / 16; k++) {
        uint32_t a[MT][4];
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float(&x)[4] = p[i][2 * k + j / 2];
                a[i][j] = pack2<T>(x[j % 2 * 2], x[j % 2 * 2 + 1]);
            }
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
            uint32_t b[4];
            load_values<T, D>(b, values, k * 16, n / 2);
#pragma unroll
            for (int i = 0; i < MT; i++) {
                mma_16816<T>(o[i][n], a[i], b[0], b[2]);
                mma_16816<T>(o[i][n + 1], a[i], b[1], b[3]);
            }
        }
    }
}

// A fragments of q that registers have no room for: each lane keeps its own in shared memory, SAVED fragments a warp.
DEV void save_fragment(uint4 *saved, const uint32_t (&a)[4])
{
    *saved = make_uint4(a[0], a[1], a[2], a[3]);
}

DEV void restore_fragment(uint32_t (&a)[4], const uint4 *saved)
{
    uint4 u = *saved;
    a[0] = u.x, a[1] = u.y, a[2] = u.z, a[3] = u.w;
}

// Scores in the log2 domain, s = scale log2(e) q.k + log2(e) bias, -inf where key > query (causal) or past the `left` keys of the
// stream. Element (n, e) of a thread is query row + 8 (e / 2), key first + 8 n + 2 (lane % 4) + e % 2.
template <int NT, bool BIAS>
DEV void scale_and_mask(float (&s)[NT][4], const k_attention_args &a, int head, int row, int first,
                        int left)
{
    const float c = a.scale * LOG2_E;
    const int column = static_cast<int>(threadIdx.x) % 4 * 2;
    if (BIAS && a.bias) {
        const float *bias =
            a.bias + static_cast<int64_t>(head) * a.n_q[0] * a.n_k[0] + first + column;
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int query = min(row + e / 2 * 8, a.n_q[0] - 1); // rows past the end are not stored
            const float *p = bias + static_cast<int64_t>(query) * a.n_k[0] + e % 2;
#pragma unroll
            for (int n = 0; n < NT; n++) {
                float x = column + n * 8 + e % 2 < left ? p[n * 8] * LOG2_E : 0.0f;
                s[n][e] = fmaf(s[n][e], c, x);
            }
        }
    } else {
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) s[n][e] *= c;
    }
    if (left >= NT * 8 && !(a.causal && first + NT * 8 > row)) return;
#pragma unroll
    for (int e = 0; e < 4; e++) {
        int end = a.causal ? min(left, row + e / 2 * 8 + 1 - first) : left;
#pragma unroll
        for (int n = 0; n < NT; n++)
            if (column + n * 8 + e % 2 >= end) s[n][e] = -INFINITY;
    }
}

// The row's maximum and sum over the four lanes that share it.
DEV float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(FULL_MASK, x, 1));
    return fmaxf(x, __shfl_xor_sync(FULL_MASK, x, 2));
}

DEV float quad_sum(float x)
{
    x += __shfl_xor_sync(FULL_MASK, x, 1);
    return x + __shfl_xor_sync(FULL_MASK, x, 2);
}

// Sums of a row of 16 to their totals, outputs divided by them. A row without any key has a sum of 0 and stays 0.
template <int COLUMNS> DEV void finish_rows(float (&o)[COLUMNS / 8][4], float (&l)[2])
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        l[h] = quad_sum(l[h]);
        float factor = l[h] > 0.0f ? 1.0f / l[h] : 0.0f;
#pragma unroll
        for (int n = 0; n < COLUMNS / 8; n++) {
            o[n][2 * h] *= factor;
            o[n][2 * h + 1] *= factor;
        }
    }
}

// Where a query's log-sum-exp lies.
DEV float *lse_at(const k_attention_args &a, int stream, int b, int head, int row)
{
    return a.lse[stream] + (static_cast<int64_t>(b) * a.heads + head) * a.n_q[stream] + row;
}

// log(sum exp) = ln 2 (c m + log2 l) of a warp's 16 rows, c m being the maximum in the log2 domain.
DEV void store_lse(const k_attention_args &a, int stream, int b, int head, int row0,
                   const float (&m)[2], const float (&l)[2], float c)
{
    int lane = static_cast<int>(threadIdx.x) % WARP;
    int n = length_of(a.cu[stream], a.n_q[stream], b);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int row = row0 + lane / 4 + h * 8;
        if (lane % 4 == 0 && row < n)
            *lse_at(a, stream, b, head, row) =
                l[h] > 0.0f ? fmaf(m[h], c, log2f(l[h])) * LN_2 : -INFINITY;
    }
}

// Stores a warp's 16 rows x COLUMNS of a result, `row0` and `column0` being the first ones, of d columns. They pass through
// `stage`, 16 x COLUMNS elements of the warp's own, so that each row leaves in runs of 16-byte stores.
template <typename T, int COLUMNS>
DEV void store_tile(const float (&o)[COLUMNS / 8][4], const rows<T> &out, int row0, int column0,
                    int d, T *stage)
{
    int lane = static_cast<int>(threadIdx.x) % WARP, g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
        for (int n = 0; n < COLUMNS / 8; n++)
            *reinterpret_cast<uint32_t *>(stage + chunk_at<COLUMNS>(g + h * 8, n) + t * 2) =
                pack2<T>(o[n][2 * h], o[n][2 * h + 1]);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < COLUMNS / 16; i++) {
        int row = (lane + i * WARP) / (COLUMNS / 8), c = (lane + i * WARP) % (COLUMNS / 8);
        if (row0 + row < out.n && column0 + c * 8 < d)
            *reinterpret_cast<uint4 *>(out.p + (row0 + row) * out.stride + column0 + c * 8) =
                *reinterpret_cast<const uint4 *>(stage + chunk_at<COLUMNS>(row, c));
    }
}

// The same for outputs, which may also be float32: their rows leave from the registers in whole sectors of 32 bytes.
template <typename T, int COLUMNS>
DEV void store_rows(const float (&o)[COLUMNS / 8][4], const k_attention_args &a, int stream, int b,
                    int head, int row0, int column0, T *stage)
{
    int lane = static_cast<int>(threadIdx.x) % WARP, g = lane >> 2, t = lane & 3;
    if (a.o[stream].dtype == K_F32) {
        rows<float> out = rows_of<float>(a.o[stream], a.cu[stream], a.n_q[stream], b, head);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int row = row0 + g + h * 8;
            float *p = out.p + row * out.stride + column0 + t * 2;
#pragma unroll
            for (int n = 0; n < COLUMNS / 8; n++)
                if (row < out.n && column0 + n * 8 < a.head_dim)
                    *reinterpret_cast<float2 *>(p + n * 8) =
                        make_float2(o[n][2 * h], o[n][2 * h + 1]);
        }
        return;
    }
    store_tile<T, COLUMNS>(o, rows_of<T>(a.o[stream], a.cu[stream], a.n_q[stream], b, head), row0,
                           column0, a.head_dim, stage);
}

// ---- host ----

// 16-byte accesses need 16-byte pointers and strides.
inline bool aligned(const k_view &v, int heads)
{
    int64_t unit = v.dtype == K_F32 ? 4 : 8;
    return reinterpret_cast<uintptr_t>(v.data) % 16 == 0 && v.stride[0] % unit == 0 &&
           v.stride[1] % unit == 0 && (heads == 1 || v.stride[2] % unit == 0);
}

} // namespace attention
#endif
