// SPDX-License-Identifier: MIT
// Attention for heads of 257 .. 512 channels (the autoencoder's middle block: one head of 512 over up to 16384 tokens).
//
// 64 queries x 512 channels of outputs are 128 KiB of float32, half of an SM's registers, so eight warps share them: warp
// (r, h) owns queries 16 r .. 16 r + 15 and the channels of half h, of q as well as of v and o. A half's product of q and k is
// only a part of the scores; the two warps of a row block exchange their parts through shared memory and add them, both the same two
// numbers, so that both go on with the same scores and no p has to be exchanged. Keys and values have a buffer of 32 rows each:
// values arrive while the scores are formed, the next keys while the outputs are.
//
// hot: wide
#include "attention.cuh"

using namespace attention;

namespace
{

constexpr int D = 512, HALF = D / 2, BM = 64, BN = 32, WARPS = 8, THREADS = WARPS * WARP;
constexpr int TILE = BN * D, KS = HALF / 16,
              SAVED = 4; // of a warp's KS fragments of q, those kept in shared memory
constexpr size_t PARTS = sizeof(float) * WARPS * 16 *
                         BN, // bytes: of the scores' parts, of the kept fragments
    FRAGMENTS = sizeof(uint4) * SAVED * THREADS;
static_assert(BM * D == 2 * TILE, "queries and outputs pass through the two buffers");

// s = q k^T over the warp's half of the channels
template <typename T>
DEV void part_of_scores(float (&s)[BN / 8][4], const uint32_t (&q)[KS - SAVED][4],
                        const uint4 *saved, const T *keys)
{
#pragma unroll
    for (int n = 0; n < BN / 8; n++) s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
#pragma unroll
    for (int k = 0; k < KS; k++) {
        uint32_t a[4];
        if (k < KS - SAVED)
            memcpy(a, q[k], sizeof a);
        else
            restore_fragment(a, saved + (k - (KS - SAVED)) * THREADS);
#pragma unroll
        for (int n = 0; n < BN / 8; n += 2) {
            uint32_t b[4];
            load_keys<T, D>(b, keys, n * 8, k);
            mma_16816<T>(s[n], a, b[0], b[1]);
            mma_16816<T>(s[n + 1], a, b[2], b[3]);
        }
    }
}

DEV void softmax_step(float (&s)[BN / 8][4], float (&m)[2], float (&l)[2], float (&o)[HALF / 8][4])
{
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = m[h];
#pragma unroll
        for (int n = 0; n < BN / 8; n++) top = fmaxf(top, fmaxf(s[n][2 * h], s[n][2 * h + 1]));
        top = quad_max(top);
        float base = top == -INFINITY ? 0.0f : top, factor = exp2_fast(m[h] - base), sum = 0.0f;
        m[h] = top;
#pragma unroll
        for (int n = 0; n < BN / 8; n++)
#pragma unroll
            for (int e = 2 * h; e < 2 * h + 2; e++) sum += s[n][e] = exp2_fast(s[n][e] - base);
        l[h] = fmaf(l[h], factor, sum);
#pragma unroll
        for (int n = 0; n < HALF / 8; n++) {
            o[n][2 * h] *= factor;
            o[n][2 * h + 1] *= factor;
        }
    }
}

template <typename T>
DEV void accumulate(float (&o)[HALF / 8][4], const float (&p)[BN / 8][4], const T *values)
{
#pragma unroll
    for (int k = 0; k < BN / 16; k++) {
        uint32_t a[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
            a[j] = pack2<T>(p[2 * k + j / 2][j % 2 * 2], p[2 * k + j / 2][j % 2 * 2 + 1]);
#pragma unroll
        for (int n = 0; n < HALF / 8; n += 2) {
            uint32_t b[4];
            load_values<T, D>(b, values, k * 16, n / 2);
            mma_16816<T>(o[n], a, b[0], b[2]);
            mma_16816<T>(o[n + 1], a, b[1], b[3]);
        }
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS, 1) wide(const __grid_constant__ k_attention_args a)
{
    DYN_SMEM(smem);
    T *keys = reinterpret_cast<T *>(smem), *values = keys + TILE;
    const int warp = static_cast<int>(threadIdx.x) / WARP,
              lane = static_cast<int>(threadIdx.x) % WARP;
    const int half = warp / (BM / 16), row0 = warp % (BM / 16) * 16;
    float4 *parts = reinterpret_cast<float4 *>(smem + 2 * TILE * sizeof(T)) + lane;
    float4 *mine = parts + warp * (BN / 8) * WARP,
           *others = parts + (warp ^ (WARPS / 2)) * (BN / 8) * WARP;
    const int head = static_cast<int>(blockIdx.y), b = static_cast<int>(blockIdx.z);
    const block at = block_of<BM>(a);
    const rows<const T> query =
        rows_of<const T>(a.q[at.stream], a.cu[at.stream], a.n_q[at.stream], b, head);
    if (at.first >= query.n) return;
    const tile_walk<BN> walk = key_walk<BN>(a, b, at.first + BM);
    const int chunks = a.head_dim / 8;
    auto load_next = [&](const k_view(&kv)[2], T *to, int tile) {
        if (tile < walk.tiles) {
            int i = walk.stream(tile);
            load_tile<T, D, BN, THREADS>(to, rows_of<const T>(kv[i], a.cu[i], a.n_k[i], b, head),
                                         walk.first(tile), chunks);
        }
        cp_async_commit();
    };

    load_tile<T, D, BM, THREADS>(keys, query, at.first, chunks);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    uint32_t q[KS - SAVED][4];
    uint4 *saved = reinterpret_cast<uint4 *>(smem + 2 * TILE * sizeof(T) + PARTS) + threadIdx.x;
#pragma unroll
    for (int k = 0; k < KS; k++) {
        uint32_t f[4];
        load_a<T, D>(f, keys + half * HALF, row0, k);
        if (k < KS - SAVED)
            memcpy(q[k], f, sizeof f);
        else
            save_fragment(saved + (k - (KS - SAVED)) * THREADS, f);
    }
    __syncthreads();
    load_next(a.k, keys, 0);

    float o[HALF / 8][4] = {}, m[2] = {-INFINITY, -INFINITY}, l[2] = {0.0f, 0.0f};
    for (int tile = 0; tile < walk.tiles; tile++) {
        cp_async_wait<0>();
        __syncthreads(); // the keys are there; all warps have left the values and the parts of the last tile
        load_next(a.v, values, tile);
        float s[BN / 8][4];
        part_of_scores<T>(s, q, saved, keys + half * HALF);
#pragma unroll
        for (int n = 0; n < BN / 8; n++)
            mine[n * WARP] = make_float4(s[n][0], s[n][1], s[n][2], s[n][3]);
        cp_async_wait<0>();
        __syncthreads(); // the values and all parts are there; all warps have left the keys
        load_next(a.k, keys, tile + 1);
#pragma unroll
        for (int n = 0; n < BN / 8; n++) {
            float4 x = others[n * WARP];
            s[n][0] += x.x, s[n][1] += x.y, s[n][2] += x.z, s[n][3] += x.w;
        }
        scale_and_mask<BN / 8, false>(s, a, head, at.first + row0 + lane / 4, walk.first(tile),
                                      walk.left(tile));
        softmax_step(s, m, l, o);
        accumulate<T>(o, s, values + half * HALF);
    }
    cp_async_wait<0>();
    __syncthreads();
    finish_rows<HALF>(o, l);
    if (a.lse[at.stream] && half == 0)
        store_lse(a, at.stream, b, head, at.first + row0, m, l, 1.0f);
    store_rows<T, HALF>(o, a, at.stream, b, head, at.first + row0, half * HALF,
                        keys + warp * 16 * HALF);
}

template <typename T> cudaError_t run(const k_attention_args &a, cudaStream_t stream)
{
    return launch(wide<T>, grid_of(a, BM), dim3(THREADS), 2 * TILE * sizeof(T) + PARTS + FRAGMENTS,
                  stream, a);
}

} // namespace

cudaError_t attention::launch_wide(const k_attention_args &a, cudaStream_t stream)
{
    return a.k[0].dtype == K_BF16 ? run<__nv_bfloat16>(a, stream) : run<__half>(a, stream);
}
