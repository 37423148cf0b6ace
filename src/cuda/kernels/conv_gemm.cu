// SPDX-License-Identifier: MIT
// Convolution of any kernel, stride and padding on tensor cores, as an implicit GEMM: M = the pixels of the result, N = outputs,
// K = channels x taps, no matrix of patches in memory.
//   y[m, n] = act(sum over slab, tap, c of x[pixel(m, tap), c] w[slab, tap, n, c] + bias[n]) + residual[m, n]
//   pixel(m, tap) = ((oy stride + ky - pad) >> up, (ox stride + kx - pad) >> up), zeros outside of the (enlarged) map
//
// For 1x1, stride 2 and the rare rest; 3x3 of stride 1 has conv_halo.cu. A block makes BM x BN results in steps of one tap of
// one slab, three buffers, one barrier a step. Threads keep the origin of their pixels and look the taps up anew.
// hot: conv_gemm
#include "conv.cuh"

namespace conv
{
namespace
{
constexpr int BUFFERS = 3;

struct gemm_grid {
    int64_t pixels; // of all results
    int tiles_n, slabs, padded;
    bool wide;
};

template <int BM, int BN, int WM, int WN> struct gemm_tile {
    static constexpr int WARPS_N = BN / WN, WARPS = BM / WM * WARPS_N, THREADS = WARPS * WARP;
    static constexpr int ROUNDS = BM * CHUNKS / THREADS; // pixels of a thread
    static constexpr int BYTES = (BM + BN) * ROW_BYTES, SMEM = BUFFERS * BYTES;
    static_assert(BM * CHUNKS % THREADS == 0, "whole rounds");
    static_assert(WARPS * STAGE_FLOATS<WN / 8> * 4 <= SMEM, "results go through the same memory");
};

struct origin {
    int y, x;      // of tap 0 in the (enlarged) map
    int64_t image; // its first row
};

DEV origin origin_of(const k_conv_args &a, int64_t pixel, int64_t pixels)
{
    if (pixel >= pixels) return {-(1 << 30), 0, 0}; // outside with every tap
    const int64_t row = pixel / a.wo;
    return {static_cast<int>(row % a.ho) * a.shape.stride - a.shape.pad,
            static_cast<int>(pixel % a.wo) * a.shape.stride - a.shape.pad, row / a.ho * a.h};
}

template <typename T, int BM, int BN, int WM, int WN, bool DIRECT>
__global__ void __launch_bounds__(gemm_tile<BM, BN, WM, WN>::THREADS)
    conv_gemm(k_conv_args a, gemm_grid g)
{
    using tile = gemm_tile<BM, BN, WM, WN>;
    constexpr int MT = WM / 16, NT = WN / 8;
    DYN_SMEM(smem);
    const int tid = static_cast<int>(threadIdx.x), lane = tid % WARP, warp = tid / WARP;
    const int warp_m = warp / tile::WARPS_N, warp_n = warp % tile::WARPS_N;
    const int n0 = static_cast<int>(blockIdx.x % static_cast<unsigned>(g.tiles_n)) * BN;
    const int64_t m0 = static_cast<int64_t>(blockIdx.x / static_cast<unsigned>(g.tiles_n)) * BM;
    const int taps = a.shape.kh * a.shape.kw, up = a.shape.upsample2x, steps = taps * g.slabs;

    origin from[tile::ROUNDS];
#pragma unroll
    for (int i = 0; i < tile::ROUNDS; i++)
        from[i] = origin_of(a, m0 + (i * tile::THREADS + tid) / CHUNKS, g.pixels);

    int slab = 0, ky = 0, kx = 0; // of the next step to be fetched
    auto fetch = [&](int step) {
        unsigned char *const to = smem + step % BUFFERS * tile::BYTES;
        const int chunk = tid % CHUNKS;
#pragma unroll
        for (int i = 0; i < tile::ROUNDS; i++) {
            const int y = from[i].y + ky, x = from[i].x + kx;
            const bool inside = y >= 0 && y < a.h << up && x >= 0 && x < a.w << up;
            const int64_t at = ((from[i].image + (y >> up)) * a.w + (x >> up)) * a.shape.in;
            fetch_chunk<T, DIRECT>(to + tile_at((i * tile::THREADS + tid) / CHUNKS, chunk), a, at,
                                   slab * SLAB + chunk * 8, inside);
        }
        fetch_weight<T, BN, tile::THREADS>(to + BM * ROW_BYTES, a, step, g.padded, n0);
        if (++kx == a.shape.kw) kx = 0, ky++;
        if (ky == a.shape.kh) ky = 0, slab++;
    };

    const int a_at = a_lane(warp_m * WM, lane), b_at = b_lane(warp_n * WN, lane);
    float acc[MT][NT][4] = {};
    fetch(0);
    cp_async_commit();
    if (steps > 1) fetch(1);
    cp_async_commit();
    for (int step = 0; step < steps; step++) {
        cp_async_wait<1>();
        __syncthreads();
        if (step + 2 < steps) fetch(step + 2);
        cp_async_commit();
        const unsigned char *const sa = smem + step % BUFFERS * tile::BYTES;
        multiply<T, MT, NT>(
            acc, sa, a_at, [](int i) { return i * 16 * ROW_BYTES; }, sa + BM * ROW_BYTES, b_at);
    }
    __syncthreads();
    float *const stage = reinterpret_cast<float *>(smem) + warp * STAGE_FLOATS<NT>;
    auto where = [&](int i) {
        const int64_t first = m0 + warp_m * WM + i * 16, left = g.pixels - first;
        return pixels{first, static_cast<int>(left < 16 ? left : 16)};
    };
    store_results<MT, NT>(a, g.wide, stage, acc, where, n0 + warp_n * WN);
}

template <int BM, int BN> int64_t blocks_of(const k_conv_args &a)
{
    const int64_t pixels = static_cast<int64_t>(a.batch) * a.ho * a.wo;
    return (pixels + BM - 1) / BM * ((a.shape.out + BN - 1) / BN);
}

template <typename T, int BM, int BN, int WM, int WN, bool DIRECT>
cudaError_t run(const k_conv_args &a, cudaStream_t stream)
{
    using tile = gemm_tile<BM, BN, WM, WN>;
    const gemm_grid g = {static_cast<int64_t>(a.batch) * a.ho * a.wo, (a.shape.out + BN - 1) / BN,
                         slabs_of(a.shape.in), padded_out(a.shape.out), wide_rows(a)};
    return launch((conv_gemm<T, BM, BN, WM, WN, DIRECT>),
                  dim3(static_cast<unsigned>(blocks_of<BM, BN>(a))), dim3(tile::THREADS),
                  tile::SMEM, stream, a, g);
}

template <typename T> cudaError_t run(const k_conv_args &a, cudaStream_t stream)
{
    if (!direct(a)) return run<T, 64, 64, 32, 32, false>(a, stream);
    switch (a.kernel) {
    case K_CONV_GEMM_128x128:
        return run<T, 128, 128, 64, 64, true>(a, stream);
    case K_CONV_GEMM_128x32:
        return run<T, 128, 32, 32, 32, true>(a, stream);
    default:
        return run<T, 64, 64, 32, 32, true>(a, stream);
    }
}

k_conv_kernel choose(const k_conv_args &a)
{
    constexpr int64_t ENOUGH = 192;
    if (a.shape.out <= 32) return K_CONV_GEMM_128x32;
    if (a.shape.out > 64 && blocks_of<128, 128>(a) >= ENOUGH) return K_CONV_GEMM_128x128;
    return K_CONV_GEMM_64x64;
}
} // namespace

cudaError_t launch_gemm(const k_conv_args &args, cudaStream_t stream)
{
    k_conv_args a = args;
    if (a.kernel == K_CONV_AUTO) a.kernel = choose(a);
    return a.shape.compute == K_BF16 ? run<__nv_bfloat16>(a, stream) : run<__half>(a, stream);
}
} // namespace conv
