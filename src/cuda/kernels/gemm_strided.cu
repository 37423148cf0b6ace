// SPDX-License-Identifier: MIT
// c (+)= a b (+ bias), the products of training: a [m, k] and b [k, n] lie along k or across it (gemm_strided.cuh), so NN, NT, TN and
// TT are one kernel.
//
//   dx = dz W    dW += dz^T x    low = x A^T    dA += dlow^T x    dB += dz^T low
//
// Here: bf16 on tensor cores, the choice of tiles and splits, and the sum of split results. A block makes BM x BN sums in steps of 32
// of k, each warp WM x 32 of them; cp.async keeps STAGES - 1 steps on their way and there is one barrier a step. An operand along k
// lies in shared memory in rows of 64 bytes (chunk c of row r at c ^ (r / 2 % 4), as in gemm.cu) and is read by ldmatrix; one across
// k in lines of the tile's width (chunk c of line r at c ^ (r % 8)), read by ldmatrix.trans. In both the eight rows that ldmatrix
// reads at one chunk touch each bank once, as do the chunks that eight lanes of cp.async write. Before it leaves, a quad of lanes
// exchanges its sums such that each lane has 8 neighbouring columns: 16-byte pieces, whatever the layout of b.
//
// hot: gemm_strided_tiles
#include "gemm_strided.cuh"
#include "device.cuh"

namespace gemm_strided
{
namespace
{
typedef __nv_bfloat16 bf16;
constexpr int BK = 32, WN = 32;

template <int BM_, int BN_, int WM_, int STAGES_> struct tile {
    static constexpr int BM = BM_, BN = BN_, WM = WM_, STAGES = STAGES_;
    static constexpr int WARPS_N = BN / WN, WARPS = BM / WM * WARPS_N, THREADS = WARPS * WARP;
    static constexpr int STAGE = (BM + BN) * BK; // elements: a, then b
    static constexpr size_t SMEM = static_cast<size_t>(STAGES) * STAGE * 2;
    static_assert(SMEM <= SMEM_FREE, "two blocks fit an SM of 100 KiB");
};

using large = tile<128, 128, 64, 3>;
using small = tile<64, 64, 32, 4>;

// An operand's part of a stage: EXTENT rows of BK elements along k, or BK lines of EXTENT across it.
template <bool ALONG_K, int EXTENT, int THREADS> struct slice {
    static constexpr int WIDTH = ALONG_K ? BK : EXTENT, CHUNKS = WIDTH / 8;
    static constexpr int STEP = THREADS / CHUNKS; // rows or lines that the threads fetch at a time
    static constexpr int PASSES = (ALONG_K ? EXTENT : BK) / STEP;
    static_assert(STEP % 8 == 0 && PASSES >= 1, "the swizzle repeats");

    // Where chunk c of row or line r lies, in elements.
    static DEV int at(int r, int c)
    {
        return r * WIDTH + (ALONG_K ? c ^ (r >> 1 & 3) : c ^ (r & 7)) * 8;
    }

    // Where this lane's row of the four matrices at (first of m or n, chunk half) begins: a wants them in the order of its mma
    // operand, rows first, b with k first.
    template <bool K_FIRST> static DEV int fragment(int first, int lane)
    {
        const int e = K_FIRST ? lane / 16 : lane / 8 % 2, k = K_FIRST ? lane / 8 % 2 : lane / 16;
        return ALONG_K ? at(first + lane % 8 + e * 8, k) : at(lane % 8 + k * 8, first / 8 + e);
    }

    // That place i 16-wide pieces further on across k and h halves of a step along it: above the bits that the swizzle and the
    // lane have set, so xor adds.
    static DEV int piece(int from, int i, int h)
    {
        return ALONG_K ? (from ^ h << 4) + i * 16 * BK : (from ^ i << 4) + h * 16 * WIDTH;
    }

    static DEV void load(uint32_t (&r)[4], const bf16 *from)
    {
        if constexpr (ALONG_K)
            ldsm_x4(r, from);
        else
            ldsm_x4_t(r, from);
    }
};

// What a thread fetches of each step: the same chunk of rows or lines STEP apart. What is past the end becomes zeros.
template <class S, bool ALONG_K, bool WIDE> struct fetcher {
    const bf16 *base, *p;
    int64_t apart, ahead; // between its chunks of a step; from step to step
    int to, across, k;    // place in the stage; elements left across k and along it
    bool wide;

    DEV fetcher(const operand &o, int first, int k0, int part)
    {
        const int r = static_cast<int>(threadIdx.x) / S::CHUNKS,
                  c = static_cast<int>(threadIdx.x) % S::CHUNKS * 8;
        const int e = ALONG_K ? first + r : first + c, in_k = ALONG_K ? c : r;
        base = static_cast<const bf16 *>(o.data);
        p = base + (ALONG_K ? e * o.stride + k0 + in_k : (k0 + in_k) * o.stride + e);
        apart = S::STEP * o.stride;
        ahead = ALONG_K ? BK : BK * o.stride;
        to = S::at(r, c / 8);
        across = o.extent - e;
        k = part - in_k;
        wide = o.wide;
    }

    DEV void operator()(bf16 *stage)
    {
#pragma unroll
        for (int i = 0; i < S::PASSES; i++) {
            const bool inside =
                ALONG_K ? i * S::STEP < across && k > 0 : i * S::STEP < k && across > 0;
            const bf16 *from = p + i * apart;
            bf16 *const chunk = stage + to + i * S::STEP * S::WIDTH;
            if (WIDE || wide)
                cp_async16(chunk, inside ? from : base, inside);
            else
                single(chunk, from, inside ? (ALONG_K ? k : across) : 0);
        }
        p += ahead;
        k -= BK;
    }

    // Up to 8 elements of any alignment; there is a barrier between this store and who reads it.
    static DEV void single(bf16 *to, const bf16 *from, int n)
    {
        float v[8];
#pragma unroll
        for (int e = 0; e < 8; e++) v[e] = e < n ? to_f(from[e]) : 0.0f;
        store8(to, v);
    }
};

// Element (lane, j) of a quad becomes (j, lane), each a pair of neighbouring columns: by blocks of 1, then of 2.
DEV void exchange(float (&v)[8])
{
    const int lane = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int bit = 1; bit <= 2; bit <<= 1) {
        const bool upper = (lane & bit) != 0;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (j & bit) continue;
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float &low = v[2 * j + e], &high = v[2 * (j | bit) + e];
                const float got = __shfl_xor_sync(FULL_MASK, upper ? low : high, bit);
                low = upper ? got : low;
                high = upper ? high : got;
            }
        }
    }
}

// WIDE: both operands are.
template <class C, bool A_K, bool B_K, bool WIDE>
__global__ void __launch_bounds__(C::THREADS, 65536 / 128 / C::THREADS)
    gemm_strided_tiles(const __grid_constant__ job j)
{
    using SA = slice<A_K, C::BM, C::THREADS>;
    using SB = slice<B_K, C::BN, C::THREADS>;
    constexpr int MT = C::WM / 16, NT = WN / 8;
    DYN_SMEM(smem);
    bf16 *const stages = reinterpret_cast<bf16 *>(smem);
    const int lane = static_cast<int>(threadIdx.x) % WARP,
              warp = static_cast<int>(threadIdx.x) / WARP;
    const tile_at tile = tile_of_block<C::BM, C::BN>(j);
    const int k0 = static_cast<int>(blockIdx.y) * j.part, part = min(j.part, j.k - k0);
    fetcher<SA, A_K, WIDE> fetch_a(j.a, tile.m, k0, part);
    fetcher<SB, B_K, WIDE> fetch_b(j.b, tile.n, k0, part);
    auto fetch = [&](int stage) {
        bf16 *const to = stages + stage * C::STAGE;
        fetch_a(to);
        fetch_b(to + C::BM * BK);
        cp_async_commit();
    };

    const int warp_m = warp / C::WARPS_N * C::WM, warp_n = warp % C::WARPS_N * WN;
    const int a_at = SA::template fragment<false>(warp_m, lane),
              b_at = C::BM * BK + SB::template fragment<true>(warp_n, lane);
    const int steps = (part + BK - 1) / BK;
    float acc[MT][NT][4] = {};
#pragma unroll
    for (int i = 0; i < C::STAGES - 1; i++) fetch(i); // past the end: zeros, a group all the same
    for (int step = 0, stage = 0; step < steps; step++) {
        cp_async_wait<C::STAGES - 2>();
        __syncthreads(); // the step is there for all warps, and all have left the stage that is fetched next
        fetch(stage == 0 ? C::STAGES - 1 : stage - 1);
        const bf16 *const from = stages + stage * C::STAGE;
#pragma unroll
        for (int h = 0; h < BK / 16; h++) {
            uint32_t af[MT][4], bf[NT / 2][4];
#pragma unroll
            for (int i = 0; i < MT; i++) SA::load(af[i], from + SA::piece(a_at, i, h));
#pragma unroll
            for (int i = 0; i < NT / 2; i++) SB::load(bf[i], from + SB::piece(b_at, i, h));
#pragma unroll
            for (int i = 0; i < MT; i++)
#pragma unroll
                for (int n = 0; n < NT; n++)
                    mma_16816<bf16>(acc[i][n], af[i], bf[n / 2][n % 2 * 2],
                                    bf[n / 2][n % 2 * 2 + 1]);
        }
        stage = stage == C::STAGES - 1 ? 0 : stage + 1;
    }
    cp_async_wait<0>();

    const int n = tile.n + warp_n + lane % 4 * 8;
#pragma unroll 1 // the end of a product is long: one copy of it, and the registers are chosen
    for (int half = 0; half < 2 * MT; half++) {
        float v[8] = {};
#pragma unroll
        for (int i = 0; i < 2 * MT; i++)
#pragma unroll
            for (int e = 0; e < 8; e++)
                if (i == half) v[e] = acc[i / 2][e / 2][i % 2 * 2 + e % 2];
        exchange(v);
        deliver(j, tile.m + warp_m + half / 2 * 16 + half % 2 * 8 + lane / 4, n, v);
    }
}

// c (+)= the parts' sums (+ bias), 8 columns a thread.
__global__ void __launch_bounds__(256) sum_parts(const __grid_constant__ job j, int splits)
{
    const int64_t pieces = j.pitch / 8,
                  piece = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
    if (piece >= j.m * pieces) return;
    int64_t r, c;
    split(piece, pieces, r, c);
    const float *from = j.partial + r * j.pitch + c * 8;
    const int64_t apart = j.m * j.pitch;
    float sum[8] = {};
#pragma unroll 4
    for (int i = 0; i < splits; i++) {
        float v[8];
        load8(v, from + i * apart);
#pragma unroll
        for (int e = 0; e < 8; e++) sum[e] += v[e];
    }
    finish(j, static_cast<int>(r), static_cast<int>(c) * 8, sum);
}

// ---- host ----

template <class C, bool A_K, bool B_K>
cudaError_t run(const job &j, int splits, cudaStream_t stream)
{
    const int64_t tiles = div_up(j.m, C::BM) * div_up(j.n, C::BN);
    const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(splits));
    if (j.a.wide && j.b.wide)
        return launch((gemm_strided_tiles<C, A_K, B_K, true>), grid, dim3(C::THREADS), C::SMEM,
                      stream, j);
    if constexpr (C::BM == small::BM) // odd sizes are no model's: one size of tiles does
        return launch((gemm_strided_tiles<C, A_K, B_K, false>), grid, dim3(C::THREADS), C::SMEM,
                      stream, j);
    else
        return run<small, A_K, B_K>(j, splits, stream);
}

template <class C> cudaError_t launch_tiles(const job &j, int splits, cudaStream_t stream)
{
    if (j.a.along_k)
        return j.b.along_k ? run<C, true, true>(j, splits, stream)
                           : run<C, true, false>(j, splits, stream);
    return j.b.along_k ? run<C, false, true>(j, splits, stream)
                       : run<C, false, false>(j, splits, stream);
}

// The tiles and how many parts of k have blocks of their own. By the shape alone: the workspace must not depend on pointers.
struct choice {
    k_gemm_tile tile;
    int splits, part;
};

// Large tiles where they fill the multiprocessors, but not where half of each would be zeros: LoRA's 64 columns. With small ones two
// blocks for each multiprocessor; a part is 256 of k at least, where reading its operands (64 KiB of bf16 for a small tile) still
// outweighs writing and reading its sums (32 KiB).
choice choose(const k_gemm_strided_args &a)
{
    constexpr int PART_MIN = 256, SPLITS_MAX = 64;
    const int wanted = multiprocessors();
    choice c = {a.tile, a.splits, 0};
    if (c.tile == K_TILE_AUTO)
        c.tile = a.m > 64 && a.n > 64 && div_up(a.m, 128) * div_up(a.n, 128) >= wanted ? K_TILE_128
                                                                                       : K_TILE_64;
    if (c.splits == 0 && c.tile == K_TILE_64) {
        const int64_t tiles = div_up(a.m, 64) * div_up(a.n, 64), most = a.k / PART_MIN,
                      enough = div_up(2 * wanted, tiles);
        c.splits = static_cast<int>(enough < most ? enough : most);
        if (c.splits > SPLITS_MAX) c.splits = SPLITS_MAX;
    }
    if (c.splits < 1) c.splits = 1;
    c.part = static_cast<int>(div_up(div_up(a.k, c.splits), BK) * BK);
    c.splits = static_cast<int>(div_up(a.k, c.part)); // none is empty
    return c;
}

operand operand_of(const void *data, k_dtype dtype, int64_t stride_across, int64_t stride_k,
                   int64_t extent, int64_t k)
{
    const bool along_k = stride_k == 1;
    const int64_t stride = along_k ? stride_across : stride_k, length = along_k ? k : extent,
                  unit = 16 / bytes_of(dtype);
    return {data, stride, static_cast<int>(extent), along_k,
            aligned16(data) && stride % unit == 0 && length % unit == 0};
}
} // namespace
} // namespace gemm_strided

using namespace gemm_strided;

extern "C" size_t k_gemm_strided_workspace(const k_gemm_strided_args *a)
{
    const choice c = choose(*a);
    return c.splits == 1 ? 0 : sizeof(float) * c.splits * a->m * (div_up(a->n, 8) * 8);
}

extern "C" cudaError_t k_gemm_strided(const k_gemm_strided_args *a, void *workspace,
                                      cudaStream_t stream)
{
    if (a->m > INT32_MAX || a->n > INT32_MAX || a->k > INT32_MAX) return cudaErrorInvalidValue;
    const choice c = choose(*a);
    job j = {};
    j.a = operand_of(a->a, a->dtype, a->a_stride[0], a->a_stride[1], a->m, a->k);
    j.b = operand_of(a->b, a->dtype, a->b_stride[1], a->b_stride[0], a->n, a->k);
    j.c = a->c;
    j.bias = a->bias;
    j.partial = c.splits == 1 ? nullptr : static_cast<float *>(workspace);
    j.pitch = div_up(a->n, 8) * 8;
    j.m = static_cast<int>(a->m), j.n = static_cast<int>(a->n), j.k = static_cast<int>(a->k);
    j.part = c.part;
    j.add = a->add;
    j.wide = vectors(a->c, 1) && aligned16(a->bias);
    cudaError_t e = a->dtype == K_F32      ? launch_plain(j, c.tile, c.splits, stream)
                    : c.tile == K_TILE_128 ? launch_tiles<large>(j, c.splits, stream)
                                           : launch_tiles<small>(j, c.splits, stream);
    if (e != cudaSuccess || c.splits == 1) return e;
    const int64_t pieces = j.m * (j.pitch / 8);
    return launch(sum_parts, dim3(static_cast<unsigned>(div_up(pieces, 256))), dim3(256), 0, stream,
                  j, c.splits);
}
