// SPDX-License-Identifier: MIT
// Gradients of o = softmax(scale q k^T) v, FlashAttention-2 style, from the log-sum-exp of each query that the forward pass saved:
//     p_ij = exp(scale q_i.k_j - lse_i)       delta_i = do_i.o_i        ds_ij = p_ij (do_i.v_j - delta_i)
//     dq_i = scale sum_j ds_ij k_j            dk_j = scale sum_i ds_ij q_i                dv_j = sum_i p_ij do_i
// over [B, N, H, d] views of one or two streams. One kernel forms the sums of each query, (lse, delta); then two passes of one kernel:
// blocks that own keys walk the queries, blocks that own queries walk the keys, the operands' roles swapped (attention_backward.cuh).
//
// Two passes compute s and dp twice: 7 products where one pass needs 5. That pass would add to dq from every block of keys, by
// atomics, whose order changes the sums from run to run, or into a float32 copy of dq for each block of keys, written and read again.
// Per head, blocks of 128 keys and N tokens that is N^2 d / 16 bytes beside 4 N^2 d FLOP for the two products. By the peaks of docs/kernels.md
// the bytes take 2.5 times as long as the FLOP on an RTX 4090, 4.6 times on an H100, and the copies want a gigabyte at 4,429 tokens
// of 24 heads. Recomputing wants 8 bytes a query.
//
// A warp owns 16 or 32 rows x and y, whose fragments and sums stay in registers, and takes SUB walked rows at a time: s^T = x w^T
// leaves the accumulators as the A fragments of the second product, so that neither p nor ds sees shared memory.
#include "attention_backward.cuh"
#include "device.cuh"
#include "storage.cuh"

using namespace attention;

namespace
{

// ---- the sums of the queries ----

struct sums_args {
    k_view o[2], d_o[2];
    const float *lse[2]; // [B, H, n]
    float2 *sums[2];
    int n[2], padded[2];
    int heads, head_dim;
};

constexpr int SUMS_THREADS = 256, LANES = 8, SUMS_ROWS = SUMS_THREADS / LANES;
static_assert(SUMS_STEP % SUMS_ROWS == 0, "a block's rows are of one stream");

// Eight lanes a row: a head of 64 channels is one access of each.
template <bool VECTORS>
__global__ void __launch_bounds__(SUMS_THREADS) query_sums(const __grid_constant__ sums_args a)
{
    const int head = static_cast<int>(blockIdx.y), b = static_cast<int>(blockIdx.z);
    const block at = block_of<SUMS_ROWS>(a.padded[0]);
    const int row = at.first + static_cast<int>(threadIdx.x) / LANES,
              lane = static_cast<int>(threadIdx.x) % LANES;
    const k_view &o = a.o[at.stream], &g = a.d_o[at.stream];
    const bool there = row < a.n[at.stream];
    const int64_t po = b * o.stride[0] + row * o.stride[1] + head * o.stride[2],
                  pg = b * g.stride[0] + row * g.stride[1] + head * g.stride[2];
    float sum = 0.0f;
    if (VECTORS) {
        for (int c = lane * 8; there && c < a.head_dim; c += LANES * 8) {
            float x[8], y[8];
            load8_as(x, o.data, o.dtype, po + c);
            load8_as(y, g.data, g.dtype, pg + c);
#pragma unroll
            for (int i = 0; i < 8; i++) sum = fmaf(x[i], y[i], sum);
        }
    } else {
        for (int c = lane; there && c < a.head_dim; c += LANES)
            sum = fmaf(load_as(o.data, o.dtype, po + c), load_as(g.data, g.dtype, pg + c), sum);
    }
#pragma unroll
    for (int i = 1; i < LANES; i *= 2) sum += __shfl_xor_sync(FULL_MASK, sum, i);
    if (lane) return;
    const int64_t r = static_cast<int64_t>(b) * a.heads + head;
    a.sums[at.stream][r * a.padded[at.stream] + row] =
        there ? make_float2(a.lse[at.stream][r * a.n[at.stream] + row] * LOG2_E, sum)
              : make_float2(INFINITY, 0.0f);
}

// ---- a pass ----

template <typename T_, int D_, int MT_, int SUB_, bool KEYS_> struct config {
    using T = T_;
    static constexpr int D = D_, MT = MT_, SUB = SUB_; // MT: blocks of 16 rows a warp owns
    static constexpr bool KEYS = KEYS_;
    static constexpr int WARPS = 4, THREADS = WARPS * WARP, BM = WARPS * MT * 16, KS = D / 16;
    static constexpr int BW = D <= 64 ? 64 : 32, STAGES = 2; // BW: walked rows of a stage
    static constexpr int TILE = BW * D, STAGE = 2 * TILE;    // elements: of w or z, of both
    static constexpr size_t STAGES_BYTES = STAGES * STAGE * sizeof(T);
    // Of KS fragments of y, those kept in shared memory: two gradients of 32 x 64 or 16 x 128 a warp leave little room.
    static constexpr int SAVED = !KEYS || MT * D < 128 ? 0 : MT == 2 ? 3 : 1;
    static constexpr size_t SAVED_BYTES = SAVED * MT * THREADS * sizeof(uint4);
    static constexpr size_t SMEM =
        STAGES_BYTES + SAVED_BYTES + (KEYS ? STAGES * BW * sizeof(float2) : 0);
    static_assert(SMEM <= 48 * 1024, "two blocks of an SM with 100 KiB");
    static_assert(BM * D <= STAGES * STAGE, "gradients pass through the stages");
    static_assert(SUMS_STEP % BW == 0 && BW % SUB == 0, "whole tiles of sums");
};

// Fragments first .. first + KS - 1 of a warp's rows, zeros where there are none. Once a block: straight from memory, while the first
// tile is on its way.
template <typename T, int MT, int KS>
DEV void load_fragments(uint32_t (&a)[MT][KS][4], const rows<const T> &src, int row0, int first,
                        int d)
{
    const int lane = static_cast<int>(threadIdx.x) % WARP, g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int row = row0 + i * 16 + g + (j & 1) * 8, column = first * 16 + t * 2 + (j >> 1) * 8;
            const T *p = src.p + row * src.stride + column;
#pragma unroll
            for (int k = 0; k < KS; k++)
                a[i][k][j] = row < src.n && column + k * 16 < d
                                 ? *reinterpret_cast<const uint32_t *>(p + k * 16)
                                 : 0;
        }
}

// s = x w^T for SUB rows of a tile; what is left out of x lies in `saved`.
template <class C, int KS>
DEV void dots(float (&s)[C::MT][C::SUB / 8][4], const uint32_t (&x)[C::MT][KS][4],
              const uint4 *saved, const typename C::T *w)
{
#pragma unroll
    for (int i = 0; i < C::MT; i++)
#pragma unroll
        for (int n = 0; n < C::SUB / 8; n++) s[i][n][0] = s[i][n][1] = s[i][n][2] = s[i][n][3] = 0;
#pragma unroll
    for (int k = 0; k < C::KS; k++) {
        uint32_t a[C::MT][4];
#pragma unroll
        for (int i = 0; i < C::MT; i++)
            if (k < KS)
                memcpy(a[i], x[i][k], sizeof a[i]);
            else
                restore_fragment(a[i], saved + (i * C::SAVED + k - KS) * C::THREADS);
#pragma unroll
        for (int n = 0; n < C::SUB / 8; n += 2) {
            uint32_t b[4];
            load_keys<typename C::T, C::D>(b, w, n * 8, k);
#pragma unroll
            for (int i = 0; i < C::MT; i++) {
                mma_16816<typename C::T>(s[i][n], a[i], b[0], b[1]);
                mma_16816<typename C::T>(s[i][n + 1], a[i], b[2], b[3]);
            }
        }
    }
}

// s becomes p, g = y z^T becomes ds. The queries are columns, whose sums lie in shared memory, or rows, with sums of this thread's own;
// then the first `left` keys are there.
template <class C>
DEV void weigh(float (&s)[C::MT][C::SUB / 8][4], float (&g)[C::MT][C::SUB / 8][4],
               const float2 *column_sums, const float2 (&row_sums)[C::MT][2], float c, int left)
{
    const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int n = 0; n < C::SUB / 8; n++) {
        float4 two = {};
        if (C::KEYS) two = *reinterpret_cast<const float4 *>(column_sums + n * 8 + column);
#pragma unroll
        for (int i = 0; i < C::MT; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                float2 q = C::KEYS ? e % 2 ? make_float2(two.z, two.w) : make_float2(two.x, two.y)
                                   : row_sums[i][e / 2];
                s[i][n][e] = exp2_fast(fmaf(s[i][n][e], c, -q.x));
                g[i][n][e] = s[i][n][e] * (g[i][n][e] - q.y);
            }
    }
    if constexpr (!C::KEYS) {
        if (left >= C::SUB) return;
#pragma unroll
        for (int n = 0; n < C::SUB / 8; n++)
#pragma unroll
            for (int i = 0; i < C::MT; i++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    if (column + n * 8 + e % 2 >= left) g[i][n][e] = 0.0f;
    }
}

// A warp's rows of a gradient, through `stage` where they are written, straight from the registers where they are added to.
template <class C>
DEV void store(float (&sum)[C::MT][C::D / 8][4], float factor, const k_grad &to, int n, int d,
               int b, int head, int row0, typename C::T *stage)
{
    using T = typename C::T;
    if (!to.view.data) return;
    const rows<T> out = rows_of<T>(to.view, nullptr, n, b, head);
    const int lane = static_cast<int>(threadIdx.x) % WARP, column = lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < C::MT; i++) {
#pragma unroll
        for (int k = 0; k < C::D / 8; k++)
#pragma unroll
            for (int e = 0; e < 4; e++) sum[i][k][e] *= factor;
        if (!to.add) {
            store_tile<T, C::D>(sum[i], out, row0 + i * 16, 0, d, stage + i * 16 * C::D);
            continue;
        }
#pragma unroll
        for (int h = 0; h < 2; h++)
#pragma unroll
            for (int k = 0; k < C::D / 8; k++) {
                int row = row0 + i * 16 + lane / 4 + h * 8;
                if (row >= n || k * 8 >= d) continue;
                uint32_t *p =
                    reinterpret_cast<uint32_t *>(out.p + row * out.stride + k * 8 + column);
                float lo, hi;
                unpack2<T>(*p, lo, hi);
                *p = pack2<T>(lo + sum[i][k][2 * h], hi + sum[i][k][2 * h + 1]);
            }
    }
    __syncwarp(); // the stage may be written again
}

// What a warp keeps of its rows. `saved`: this thread's fragments in shared memory.
template <class C> struct owned_rows {
    uint32_t x[C::MT][C::KS][4], y[C::MT][C::KS - C::SAVED][4];
    uint4 *saved;
    float2 sums[C::MT][2]; // of queries

    DEV owned_rows(const pass &a, int stream, int b, int head, int row0, uint4 *place)
        : saved(place), sums{}
    {
        using T = typename C::T;
        const int n = a.n_own[stream];
        const rows<const T> from_x = rows_of<const T>(a.x[stream], nullptr, n, b, head),
                            from_y = rows_of<const T>(a.y[stream], nullptr, n, b, head);
        load_fragments<T>(x, from_x, row0, 0, a.head_dim);
        load_fragments<T>(y, from_y, row0, 0, a.head_dim);
        if constexpr (C::SAVED > 0) {
            uint32_t last[C::MT][C::SAVED][4];
            load_fragments<T>(last, from_y, row0, C::KS - C::SAVED, a.head_dim);
#pragma unroll
            for (int i = 0; i < C::MT * C::SAVED; i++)
                save_fragment(saved + i * C::THREADS, last[i / C::SAVED][i % C::SAVED]);
        }
        if (C::KEYS) return;
        const int row = row0 + static_cast<int>(threadIdx.x) % WARP / 4;
        const float2 *p = sums_at(a, stream, b, head) + row;
#pragma unroll
        for (int i = 0; i < C::MT; i++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                if (row + i * 16 + h * 8 < n) sums[i][h] = p[i * 16 + h * 8];
    }
};

// A tile of the walk, w before z, and behind all stages the sums of its queries.
template <class C>
DEV void load_stage(typename C::T *to, float2 *sums, const pass &a, const tile_walk<C::BW> &walk,
                    int tile, int b, int head)
{
    using T = typename C::T;
    if (tile < walk.tiles) {
        const int i = walk.stream(tile), first = walk.first(tile), n = a.n_walk[i];
        load_tile<T, C::D, C::BW, C::THREADS>(to, rows_of<const T>(a.w[i], nullptr, n, b, head),
                                              first, a.head_dim / 8);
        load_tile<T, C::D, C::BW, C::THREADS>(
            to + C::TILE, rows_of<const T>(a.z[i], nullptr, n, b, head), first, a.head_dim / 8);
        int two = static_cast<int>(threadIdx.x) * 2;
        if (C::KEYS && two < C::BW)
            cp_async16(sums + two, sums_at(a, i, b, head) + first + two, true);
    }
    cp_async_commit(); // an empty group past the end keeps the count
}

template <class C>
__global__ void __launch_bounds__(C::THREADS, 2) flash_backward(const __grid_constant__ pass a)
{
    using T = typename C::T;
    DYN_SMEM(smem);
    T *stages = reinterpret_cast<T *>(smem);
    float2 *stage_sums = reinterpret_cast<float2 *>(smem + C::STAGES_BYTES + C::SAVED_BYTES);
    const int warp = static_cast<int>(threadIdx.x) / WARP;
    const int head = static_cast<int>(blockIdx.y), b = static_cast<int>(blockIdx.z);
    const block at = block_of<C::BM>(a.n_own[0]);
    const int row0 = at.first + warp * C::MT * 16;
    const tile_walk<C::BW> walk(a.n_walk[0], a.n_walk[1]);

#pragma unroll
    for (int i = 0; i < C::STAGES - 1; i++)
        load_stage<C>(stages + i * C::STAGE, stage_sums + i * C::BW, a, walk, i, b, head);
    const owned_rows<C> own(a, at.stream, b, head, row0,
                            reinterpret_cast<uint4 *>(smem + C::STAGES_BYTES) + threadIdx.x);
    float dx[C::MT][C::D / 8][4] = {}, dy[C::MT][C::KEYS ? C::D / 8 : 1][4] = {};
    const float c = a.scale * LOG2_E;
    for (int tile = 0, stage = 0; tile < walk.tiles; tile++) {
        cp_async_wait<C::STAGES - 2>();
        __syncthreads(); // the tile is there for all warps, and all have left the stage that is loaded next
        const int next = stage == 0 ? C::STAGES - 1 : stage - 1, left = walk.left(tile);
        load_stage<C>(stages + next * C::STAGE, stage_sums + next * C::BW, a, walk,
                      tile + C::STAGES - 1, b, head);
#pragma unroll 1
        for (int j = 0; j < min(left, C::BW); j += C::SUB) {
            const T *w = stages + stage * C::STAGE + j * C::D, *z = w + C::TILE;
            float s[C::MT][C::SUB / 8][4], g[C::MT][C::SUB / 8][4];
            dots<C>(s, own.x, own.saved, w);
            dots<C>(g, own.y, own.saved, z);
            weigh<C>(s, g, stage_sums + stage * C::BW + j, own.sums, c, left - j);
            if constexpr (C::KEYS) add_products<T, C::D, C::MT, C::SUB>(dy, s, z);
            add_products<T, C::D, C::MT, C::SUB>(dx, g, w);
        }
        stage = stage == C::STAGES - 1 ? 0 : stage + 1;
    }
    cp_async_wait<0>();
    __syncthreads(); // the stages are free: gradients pass through them
    T *through = stages + warp * C::MT * 16 * C::D;
    const int n = a.n_own[at.stream];
    store<C>(dx, a.scale, a.dx[at.stream], n, a.head_dim, b, head, row0, through);
    if constexpr (C::KEYS)
        store<C>(dy, 1.0f, a.dy[at.stream], n, a.head_dim, b, head, row0, through);
}

template <class C> cudaError_t run(const pass &a, cudaStream_t stream)
{
    return launch(flash_backward<C>, grid_of(a, C::BM), dim3(C::THREADS), C::SMEM, stream, a);
}

// The larger block halves the traffic of walked rows, and fragments of them feed twice the products; the smaller one fills the device when
// there are few rows. A row's result is the same in both.
bool large_blocks(const pass &a, int asked)
{
    if (asked) return asked == 128;
    dim3 grid = grid_of(a, 128);
    return static_cast<int64_t>(grid.x) * grid.y * grid.z >= 2 * multiprocessors();
}

template <typename T, bool KEYS>
cudaError_t run_flash(const pass &a, int block_rows, cudaStream_t stream)
{
    if (a.head_dim > 64) return run<config<T, 128, 1, 16, KEYS>>(a, stream);
    return large_blocks(a, block_rows) ? run<config<T, 64, 2, 16, KEYS>>(a, stream)
                                       : run<config<T, 64, 1, 32, KEYS>>(a, stream);
}

// ---- host ----

bool bf16(const k_view &v, int heads)
{
    return !v.data || (v.dtype == K_BF16 && aligned(v, heads));
}

bool fits_tiles(const pass &a)
{
    if (a.head_dim % 8 || a.head_dim > 128) return false;
    for (int i = 0; i < 2; i++)
        if (!bf16(a.x[i], a.heads) || !bf16(a.y[i], a.heads) || !bf16(a.w[i], a.heads) ||
            !bf16(a.z[i], a.heads) || !bf16(a.dx[i].view, a.heads) || !bf16(a.dy[i].view, a.heads))
            return false;
    return true;
}

template <bool KEYS> cudaError_t run_pass(const pass &a, int block_rows, cudaStream_t stream)
{
    if (grid_of(a, 1).x == 0) return cudaSuccess;
    return fits_tiles(a) ? run_flash<__nv_bfloat16, KEYS>(a, block_rows, stream)
                         : launch_plain_backward(a, KEYS, stream);
}

int queries(const k_attention_args &f, int stream)
{
    return stream < f.n_streams && f.q[stream].data ? f.n_q[stream] : 0;
}

int padded(int queries)
{
    return (queries + SUMS_STEP - 1) / SUMS_STEP * SUMS_STEP;
}

cudaError_t run_sums(const k_attention_backward_args &args, const pass &p, cudaStream_t stream)
{
    const k_attention_args &f = args.forward;
    sums_args a = {{}, {}, {}, {}, {}, {}, f.heads, f.head_dim};
    bool vectors = f.head_dim % 8 == 0;
    for (int i = 0; i < 2; i++) {
        if (!p.padded[i]) continue;
        a.o[i] = f.o[i], a.d_o[i] = args.d_o[i], a.lse[i] = f.lse[i];
        a.sums[i] = p.sums[i], a.n[i] = f.n_q[i], a.padded[i] = p.padded[i];
        vectors = vectors && aligned(a.o[i], f.heads) && aligned(a.d_o[i], f.heads);
    }
    dim3 grid(static_cast<unsigned>((a.padded[0] + a.padded[1]) / SUMS_ROWS),
              static_cast<unsigned>(f.heads), static_cast<unsigned>(f.batch));
    if (grid.x == 0) return cudaSuccess;
    return vectors ? launch(query_sums<true>, grid, dim3(SUMS_THREADS), 0, stream, a)
                   : launch(query_sums<false>, grid, dim3(SUMS_THREADS), 0, stream, a);
}

} // namespace

extern "C" size_t k_attention_backward_workspace(int batch, int heads, const int n_q[2])
{
    return static_cast<size_t>(batch) * static_cast<size_t>(heads) *
           static_cast<size_t>(padded(n_q[0]) + padded(n_q[1])) * sizeof(float2);
}

extern "C" cudaError_t k_attention_backward(const k_attention_backward_args *args, void *workspace,
                                            cudaStream_t stream)
{
    const k_attention_args &f = args->forward;
    pass keys = {};
    keys.batch = f.batch, keys.heads = f.heads, keys.head_dim = f.head_dim, keys.scale = f.scale;
    if (f.batch == 0 || f.heads == 0) return cudaSuccess;
    for (int i = 0; i < 2; i++) keys.padded[i] = padded(queries(f, i));
    keys.sums[0] = static_cast<float2 *>(workspace);
    keys.sums[1] = keys.sums[0] + static_cast<int64_t>(f.batch) * f.heads * keys.padded[0];
    pass own = keys;
    for (int i = 0; i < f.n_streams; i++) {
        keys.x[i] = own.w[i] = f.k[i];
        keys.y[i] = own.z[i] = f.v[i];
        own.n_walk[i] = f.n_k[i];
        keys.dx[i] = args->dk[i], keys.dy[i] = args->dv[i];
        if (args->dk[i].view.data || args->dv[i].view.data) keys.n_own[i] = f.n_k[i];
        if (!queries(f, i)) continue;
        keys.w[i] = own.x[i] = f.q[i];
        keys.z[i] = own.y[i] = args->d_o[i];
        keys.n_walk[i] = f.n_q[i];
        own.dx[i] = args->dq[i];
        if (args->dq[i].view.data) own.n_own[i] = f.n_q[i];
    }
    cudaError_t e = run_sums(*args, keys, stream);
    if (e == cudaSuccess) e = run_pass<true>(keys, f.block_rows, stream);
    return e == cudaSuccess ? run_pass<false>(own, f.block_rows, stream) : e;
}
