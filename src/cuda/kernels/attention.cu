// SPDX-License-Identifier: MIT
// o = softmax(scale q k^T + bias) v, FlashAttention-2 style: [B, n, H, d] views of bf16 or fp16, one or two streams of keys.
//
// A CTA owns BM queries of one head, 16 or 32 a warp, in registers, and walks tiles of BN keys and values that cp.async brings
// in, two tiles ahead. Of each tile it forms s = q k^T, and with c = scale log2(e), m the row's maximum so far,
//     p = 2^(c s - c m),  l = 2^(c m_old - c m) l + sum p,  o = 2^(c m_old - c m) o + p v,
// and o / l at the end: one fma and one ex2 a score. p goes from the accumulators of the first product straight to the A
// fragments of the second (the two layouts agree). Masks exist in the last tile of each stream only; bias, the causal mask and
// scale <= 0 have a variant of their own, GENERAL, which scales s before the maximum.
//
// hot: flash
#include "attention.cuh"
#include "device.cuh"

using namespace attention;

namespace
{

constexpr int BIAS_DIM =
    128; // longest head whose variant has a bias; none of the models has longer ones

template <typename T_, int D_, int BN_, int WARPS_, int MT_, bool GENERAL_> struct config {
    using T = T_;
    static constexpr int D = D_, BN = BN_, WARPS = WARPS_,
                         MT = MT_; // MT: blocks of 16 queries a warp
    static constexpr bool GENERAL = GENERAL_;
    static constexpr int THREADS = WARPS * WARP, BM = WARPS * MT * 16, KS = D / 16;
    static constexpr int SAVED =
        D > 128 ? 4 : 0; // of KS fragments of q, those kept in shared memory
    static constexpr int STAGES = SAVED ? 2 : 3;
    static constexpr int TILE = BN * D, STAGE = 2 * TILE; // elements: of keys or values, of both
    static constexpr size_t STAGES_BYTES = STAGES * STAGE * sizeof(T);
    static constexpr size_t SMEM = STAGES_BYTES + SAVED * MT * THREADS * sizeof(uint4);
    static constexpr int BLOCKS = SMEM <= SMEM_FREE ? 2 : 1; // of an SM with 100 KiB
    static_assert(BM * D <= STAGE, "queries and outputs pass through one stage");
    static_assert(SMEM <= 96 * 1024, "every device of sm_80 and up has this much");
};

// s = q k^T for a tile of keys
template <class C>
DEV void scores(float (&s)[C::MT][C::BN / 8][4], const uint32_t (&q)[C::MT][C::KS - C::SAVED][4],
                const uint4 *saved, const typename C::T *keys)
{
#pragma unroll
    for (int i = 0; i < C::MT; i++)
#pragma unroll
        for (int n = 0; n < C::BN / 8; n++) s[i][n][0] = s[i][n][1] = s[i][n][2] = s[i][n][3] = 0;
#pragma unroll
    for (int k = 0; k < C::KS; k++) {
        uint32_t a[C::MT][4];
#pragma unroll
        for (int i = 0; i < C::MT; i++)
            if (k < C::KS - C::SAVED)
                memcpy(a[i], q[i][k], sizeof a[i]);
            else
                restore_fragment(a[i],
                                 saved + (i * C::SAVED + k - (C::KS - C::SAVED)) * C::THREADS);
#pragma unroll
        for (int n = 0; n < C::BN / 8; n += 2) {
            uint32_t b[4];
            load_keys<typename C::T, C::D>(b, keys, n * 8, k);
#pragma unroll
            for (int i = 0; i < C::MT; i++) {
                mma_16816<typename C::T>(s[i][n], a[i], b[0], b[1]);
                mma_16816<typename C::T>(s[i][n + 1], a[i], b[2], b[3]);
            }
        }
    }
}

// Two rows of 16 queries: s becomes p, m and l go on, o is scaled to the new maximum.
template <class C>
DEV void online_softmax(float (&s)[C::BN / 8][4], float (&m)[2], float (&l)[2],
                        float (&o)[C::D / 8][4], float c)
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = m[h];
#pragma unroll
        for (int n = 0; n < C::BN / 8; n++) top = fmaxf(top, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
        top = quad_max(top);
        // only a mask can leave a row without any key so far; then all its p are 2^-inf = 0
        float base = C::GENERAL ? (top == -INFINITY ? 0.0f : top) : top * c;
        float factor = exp2_fast(C::GENERAL ? m[h] - base : fmaf(m[h], c, -base)), sum = 0.0f;
        m[h] = top;
#pragma unroll
        for (int n = 0; n < C::BN / 8; n++)
#pragma unroll
            for (int e = 2 * h; e < 2 * h + 2; e++) {
                s[n][e] = exp2_fast(C::GENERAL ? s[n][e] - base : fmaf(s[n][e], c, -base));
                sum += s[n][e];
            }
        l[h] = fmaf(l[h], factor, sum);
#pragma unroll
        for (int n = 0; n < C::D / 8; n++) {
            o[n][2 * h] *= factor;
            o[n][2 * h + 1] *= factor;
        }
    }
}

// Past the last key of a stream.
template <class C> DEV void mask_tail(float (&s)[C::BN / 8][4], int left)
{
    int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int n = 0; n < C::BN / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (column + n * 8 + e % 2 >= left) s[n][e] = -INFINITY;
}

template <class C>
__global__ void __launch_bounds__(C::THREADS, C::BLOCKS)
    flash(const __grid_constant__ k_attention_args a)
{
    using T = typename C::T;
    DYN_SMEM(smem);
    T *stages = reinterpret_cast<T *>(smem);
    const int warp = static_cast<int>(threadIdx.x) / WARP,
              lane = static_cast<int>(threadIdx.x) % WARP;
    const int head = static_cast<int>(blockIdx.y), b = static_cast<int>(blockIdx.z);
    const block at = block_of<C::BM>(a);
    const rows<const T> query =
        rows_of<const T>(a.q[at.stream], a.cu[at.stream], a.n_q[at.stream], b, head);
    if (at.first >= query.n) return; // the whole block: a sample shorter than the longest
    const tile_walk<C::BN> walk = key_walk<C::BN>(a, b, at.first + C::BM);
    const int chunks = a.head_dim / 8, row0 = warp * C::MT * 16;

    auto load_stage = [&](int tile, int stage) {
        if (tile < walk.tiles) {
            int i = walk.stream(tile), first = walk.first(tile);
            T *to = stages + stage * C::STAGE;
            load_tile<T, C::D, C::BN, C::THREADS>(
                to, rows_of<const T>(a.k[i], a.cu[i], a.n_k[i], b, head), first, chunks);
            load_tile<T, C::D, C::BN, C::THREADS>(
                to + C::TILE, rows_of<const T>(a.v[i], a.cu[i], a.n_k[i], b, head), first, chunks);
        }
        cp_async_commit(); // an empty group past the end keeps the count
    };

    // The queries come through the last stage, which is free until the loop's first load.
    T *queries = stages + (C::STAGES - 1) * C::STAGE;
    load_tile<T, C::D, C::BM, C::THREADS>(queries, query, at.first, chunks);
    cp_async_commit();
#pragma unroll
    for (int i = 0; i < C::STAGES - 1; i++) load_stage(i, i);
    cp_async_wait<C::STAGES - 1>();
    __syncthreads();
    uint32_t q[C::MT][C::KS - C::SAVED][4];
    uint4 *saved = reinterpret_cast<uint4 *>(smem + C::STAGES_BYTES) + threadIdx.x;
#pragma unroll
    for (int i = 0; i < C::MT; i++)
#pragma unroll
        for (int k = 0; k < C::KS; k++) {
            uint32_t a[4];
            load_a<T, C::D>(a, queries, row0 + i * 16, k);
            if (k < C::KS - C::SAVED)
                memcpy(q[i][k], a, sizeof a);
            else
                save_fragment(saved + (i * C::SAVED + k - (C::KS - C::SAVED)) * C::THREADS, a);
        }

    float o[C::MT][C::D / 8][4] = {}, m[C::MT][2], l[C::MT][2];
#pragma unroll
    for (int i = 0; i < C::MT; i++) m[i][0] = m[i][1] = -INFINITY, l[i][0] = l[i][1] = 0.0f;
    const float c = a.scale * LOG2_E;

    for (int tile = 0, stage = 0; tile < walk.tiles; tile++) {
        cp_async_wait<C::STAGES - 2>();
        __syncthreads(); // the tile is there for all warps, and all have left the stage that is loaded next
        load_stage(tile + C::STAGES - 1, stage == 0 ? C::STAGES - 1 : stage - 1);
        const T *keys = stages + stage * C::STAGE;
        float s[C::MT][C::BN / 8][4];
        scores<C>(s, q, saved, keys);
        const int left = walk.left(tile);
#pragma unroll
        for (int i = 0; i < C::MT; i++) {
            if (C::GENERAL)
                scale_and_mask<C::BN / 8, C::D <= BIAS_DIM>(
                    s[i], a, head, at.first + row0 + i * 16 + lane / 4, walk.first(tile), left);
            else if (left < C::BN)
                mask_tail<C>(s[i], left);
            online_softmax<C>(s[i], m[i], l[i], o[i], c);
        }
        add_products<T, C::D, C::MT, C::BN>(o, s, keys + C::TILE);
        stage = stage == C::STAGES - 1 ? 0 : stage + 1;
    }
    cp_async_wait<0>();
    __syncthreads(); // the stages are free: outputs pass through them
#pragma unroll
    for (int i = 0; i < C::MT; i++) {
        int row = row0 + i * 16;
        finish_rows<C::D>(o[i], l[i]);
        if (a.lse[at.stream])
            store_lse(a, at.stream, b, head, at.first + row, m[i], l[i], C::GENERAL ? 1.0f : c);
        store_rows<T, C::D>(o[i], a, at.stream, b, head, at.first + row, 0, stages + row * C::D);
    }
}

template <class C> cudaError_t run(const k_attention_args &a, cudaStream_t stream)
{
    return launch(flash<C>, grid_of(a, C::BM), dim3(C::THREADS), C::SMEM, stream, a);
}

// The larger block halves the traffic of keys and values; the smaller one fills the device when there are few queries.
// Where results depend on it the batch has no say: a sample's result is the same in every one.
bool large_blocks(const k_attention_args &args)
{
    if (args.block_rows) return args.block_rows == 128;
    k_attention_args a = args;
    if (a.head_dim > 64) a.batch = 1;
    dim3 grid = grid_of(a, 128);
    return static_cast<int64_t>(grid.x) * grid.y * grid.z >= 2 * multiprocessors();
}

template <typename T> cudaError_t run_flash(const k_attention_args &a, cudaStream_t stream)
{
    bool general = a.bias || a.causal || !(a.scale > 0), large = !general && large_blocks(a);
    if (a.head_dim <= 64)
        return general ? run<config<T, 64, 64, 4, 1, true>>(a, stream)
               : large ? run<config<T, 64, 64, 4, 2, false>>(a, stream)
                       : run<config<T, 64, 64, 4, 1, false>>(a, stream);
    if (a.head_dim <= 96 && !general) return run<config<T, 96, 64, 4, 1, false>>(a, stream);
    if (a.head_dim <= 128)
        return general ? run<config<T, 128, 32, 4, 1, true>>(a, stream)
               : large ? run<config<T, 128, 64, 8, 1, false>>(a, stream)
                       : run<config<T, 128, 32, 4, 1, false>>(a, stream);
    if (a.head_dim <= 256) return run<config<T, 256, 32, 4, 1, true>>(a, stream);
    return launch_wide(a, stream);
}

bool fits_tiles(const k_attention_args &a)
{
    k_dtype dtype = a.k[0].dtype;
    if (dtype == K_F32 || a.head_dim % 8) return false;
    for (int i = 0; i < a.n_streams; i++) {
        if (!aligned(a.k[i], a.heads) || !aligned(a.v[i], a.heads)) return false;
        if (!a.q[i].data) continue;
        if (!aligned(a.q[i], a.heads) || !aligned(a.o[i], a.heads)) return false;
        if (a.o[i].dtype != dtype && a.o[i].dtype != K_F32) return false;
    }
    return !(a.bias && a.head_dim > BIAS_DIM);
}

} // namespace

extern "C" cudaError_t k_attention(const k_attention_args *args, cudaStream_t stream)
{
    const k_attention_args &a = *args;
    if (grid_of(a, 1).x == 0 || a.heads == 0 || a.batch == 0) return cudaSuccess;
    if (!fits_tiles(a)) return launch_plain(a, stream);
    return a.k[0].dtype == K_BF16 ? run_flash<__nv_bfloat16>(a, stream)
                                  : run_flash<__half>(a, stream);
}
