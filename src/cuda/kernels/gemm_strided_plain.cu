// SPDX-License-Identifier: MIT
// The products of training in float32 arithmetic (no TF32), operands of any alignment.
//
// A block of 256 threads makes TILE x TILE sums in steps of BK of k, a thread TILE / 16 rows by as many columns: groups of 4 that lie 64
// apart, so that shared memory is read in 16-byte pieces without conflicts. Slices lie k by k in shared memory, twice: while one is
// multiplied the next one is on its way through registers.
//
// hot: gemm_strided_plain
#include "gemm_strided.cuh"

namespace gemm_strided
{
namespace
{
constexpr int THREADS = 256;

// 4 neighbouring elements a thread of a slice of BK x TILE.
template <bool ALONG_K, int TILE, int BK> struct fetcher {
    static constexpr int PITCH = TILE + 4, PER = (ALONG_K ? BK : TILE) / 4;
    static_assert(TILE * BK == 4 * THREADS, "each thread has 4");
    const float *p;
    int64_t ahead;
    int to, across, k; // elements left across k and along it, from the thread's first
    bool wide;
    float v[4];

    DEV fetcher(const operand &o, int first, int k0, int part)
    {
        const int r = static_cast<int>(threadIdx.x) / PER,
                  c = static_cast<int>(threadIdx.x) % PER * 4;
        const int e = ALONG_K ? r : c, in_k = ALONG_K ? c : r;
        p = static_cast<const float *>(o.data) +
            (ALONG_K ? (first + e) * o.stride + k0 + in_k : (k0 + in_k) * o.stride + first + e);
        ahead = ALONG_K ? BK : BK * o.stride;
        to = in_k * PITCH + e;
        across = o.extent - first - e;
        k = part - in_k;
        wide = o.wide;
    }

    DEV void fetch()
    {
        const int n = ALONG_K ? (across > 0 ? k : 0) : (k > 0 ? across : 0);
        if (wide && n > 0) { // then there are 4
            load4(v, p);
        } else {
#pragma unroll
            for (int e = 0; e < 4; e++) v[e] = e < n ? p[e] : 0.0f;
        }
        p += ahead;
        k -= BK;
    }

    DEV void put(float *slice) const
    {
        if constexpr (ALONG_K) {
#pragma unroll
            for (int e = 0; e < 4; e++) slice[to + e * PITCH] = v[e];
        } else {
            store4(slice + to, v);
        }
    }
};

template <int TILE, int BK, bool A_K, bool B_K>
__global__ void __launch_bounds__(THREADS) gemm_strided_plain(const __grid_constant__ job j)
{
    constexpr int PITCH = TILE + 4, GROUPS = TILE / 64, SLICE = BK * PITCH;
    SMEM_ARRAY(float, as, 2 * SLICE);
    SMEM_ARRAY(float, bs, 2 * SLICE);
    const int tx = static_cast<int>(threadIdx.x) % 16, ty = static_cast<int>(threadIdx.x) / 16;
    const tile_at tile = tile_of_block<TILE, TILE>(j);
    const int k0 = static_cast<int>(blockIdx.y) * j.part, part = min(j.part, j.k - k0);
    fetcher<A_K, TILE, BK> a(j.a, tile.m, k0, part);
    fetcher<B_K, TILE, BK> b(j.b, tile.n, k0, part);
    float acc[GROUPS * 4][GROUPS * 4] = {};
    a.fetch();
    b.fetch();
    const int steps = (part + BK - 1) / BK;
    for (int step = 0; step < steps; step++) {
        float *const at = as + step % 2 * SLICE, *const bt = bs + step % 2 * SLICE;
        a.put(at);
        b.put(bt);
        __syncthreads(); // the slice is there, and all have left the other one
        a.fetch();
        b.fetch();
#pragma unroll
        for (int k = 0; k < BK; k++) {
            float av[GROUPS][4], bv[GROUPS][4];
#pragma unroll
            for (int g = 0; g < GROUPS; g++) {
                load4(av[g], at + k * PITCH + g * 64 + ty * 4);
                load4(bv[g], bt + k * PITCH + g * 64 + tx * 4);
            }
#pragma unroll
            for (int r = 0; r < GROUPS * 4; r++)
#pragma unroll
                for (int c = 0; c < GROUPS * 4; c++)
                    acc[r][c] = fmaf(av[r / 4][r % 4], bv[c / 4][c % 4], acc[r][c]);
        }
    }
#pragma unroll 1 // one copy of the end; acc is registers: no index but constants
    for (int r = 0; r < GROUPS * 4; r++) {
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            float v[4] = {};
#pragma unroll
            for (int i = 0; i < GROUPS * 4; i++)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    if (i == r) v[e] = acc[i][g * 4 + e];
            deliver(j, tile.m + r / 4 * 64 + ty * 4 + r % 4, tile.n + g * 64 + tx * 4, v);
        }
    }
}

template <int TILE, int BK> cudaError_t run(const job &j, int splits, cudaStream_t stream)
{
    const dim3 grid(static_cast<unsigned>(div_up(j.m, TILE) * div_up(j.n, TILE)),
                    static_cast<unsigned>(splits)),
        block(THREADS);
    if (j.a.along_k && j.b.along_k)
        return launch((gemm_strided_plain<TILE, BK, true, true>), grid, block, 0, stream, j);
    if (j.a.along_k)
        return launch((gemm_strided_plain<TILE, BK, true, false>), grid, block, 0, stream, j);
    if (j.b.along_k)
        return launch((gemm_strided_plain<TILE, BK, false, true>), grid, block, 0, stream, j);
    return launch((gemm_strided_plain<TILE, BK, false, false>), grid, block, 0, stream, j);
}
} // namespace

cudaError_t launch_plain(const job &j, k_gemm_tile tile, int splits, cudaStream_t stream)
{
    return tile == K_TILE_128 ? run<128, 8>(j, splits, stream) : run<64, 16>(j, splits, stream);
}
} // namespace gemm_strided
