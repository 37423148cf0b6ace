// SPDX-License-Identifier: MIT
// 3x3 convolution of stride 1 on tensor cores, the map optionally enlarged 2x (nearest) on the way:
//   y[b, oy, ox, :] = act(sum over ky, kx, c of x[b, (oy + ky - pad) >> up, (ox + kx - pad) >> up, c] w[:, ky, kx, c] + bias) + residual
//
// A block makes ROWS x 16 pixels by BN outputs. For a slab of 32 channels it fetches the pixels with their halo once and reads
// them nine times, shifted, out of shared memory: the map costs (ROWS + 2) * 18 / (9 * ROWS * 16) of what an implicit GEMM
// fetches, and an enlarged one, (ROWS / 2 + 2) * 10 pixels, never exists anywhere. A fetch past the border gives zeros, on the
// small map too: (-1) >> 1 = -1 and (2 H) >> 1 = H.
//
// Rows of the halo are HALO_W pixels of 64 bytes, an even number: with the swizzle by the pixel's column alone, the address of
// a tap is a constant of the lane and kx plus a constant of ky. Sixteen pixels of a row of results are the M of one mma, and
// any 8 consecutive pixels of the halo are conflict-free for ldmatrix; of an enlarged map two lanes name the same row.
//
// Pipeline: one step a tap. Weights of a step are fetched two steps ahead (three buffers), the next slab's halo in the first
// steps of this one (two buffers), so that there is one barrier a step. With three taps in the unrolled loop the number of the
// weights' buffer is kx. Accumulation is in the order of conv_gemm.cu: results are the same to the bit.
// hot: conv_halo
#include "conv.cuh"

namespace conv
{
namespace
{
constexpr int TILE_W = 16, TAPS = 9, BUFFERS_B = 3;

struct halo_grid {
    int tiles_x, tiles_y, tiles_n, slabs, padded;
    bool wide;
};

template <int ROWS, int BN, int WN, bool UP> struct halo_tile {
    static constexpr int WARPS_M = ROWS / 4, WARPS_N = BN / WN, WARPS = WARPS_M * WARPS_N;
    static constexpr int THREADS = WARPS * WARP,
                         BLOCKS = BN == 128  ? 256 / THREADS
                                  : BN == 64 ? 3
                                             : 4; // of a multiprocessor, by registers
    static constexpr int HALO_H = UP ? ROWS / 2 + 2 : ROWS + 2, HALO_W = UP ? 10 : TILE_W + 2;
    static constexpr int HALO_CHUNKS = HALO_H * HALO_W * CHUNKS;
    static constexpr int ROUNDS = (HALO_CHUNKS + THREADS - 1) / THREADS;
    static constexpr int A_BYTES = HALO_H * HALO_W * ROW_BYTES, B_BYTES = BN * ROW_BYTES;
    static constexpr int SMEM = 2 * A_BYTES + BUFFERS_B * B_BYTES;
    static_assert(A_BYTES % 128 == 0 && HALO_W % 2 == 0, "the swizzle counts columns");
    static_assert(ROUNDS < TAPS, "the next halo must be there when the slab ends");
    static_assert(WARPS * STAGE_FLOATS<WN / 8> * 4 <= SMEM, "results go through the same memory");
};

// A chunk of the halo lies in the tile by its pixel's column.
DEV int halo_at(int column, int chunk)
{
    return column * ROW_BYTES + ((chunk ^ (column >> 1 & 3)) << 4);
}

template <typename T, int ROWS, int BN, int WN, bool UP, bool DIRECT>
__global__ void __launch_bounds__(halo_tile<ROWS, BN, WN, UP>::THREADS,
                                  halo_tile<ROWS, BN, WN, UP>::BLOCKS)
    conv_halo(k_conv_args a, halo_grid g)
{
    using tile = halo_tile<ROWS, BN, WN, UP>;
    constexpr int MT = 4, NT = WN / 8, PITCH = tile::HALO_W * ROW_BYTES;
    DYN_SMEM(smem);
    unsigned char *const sb = smem + 2 * tile::A_BYTES;
    const int tid = static_cast<int>(threadIdx.x), lane = tid % WARP, warp = tid / WARP;
    const int warp_m = warp / tile::WARPS_N, warp_n = warp % tile::WARPS_N;

    int block =
        static_cast<int>(blockIdx.x); // outputs fastest: neighbours share pixels in the L2 cache
    const int n0 = block % g.tiles_n * BN;
    block /= g.tiles_n;
    const int x0 = block % g.tiles_x * TILE_W;
    block /= g.tiles_x;
    const int y0 = block % g.tiles_y * ROWS, image = block / g.tiles_y;
    const int top = UP ? y0 / 2 - 1 : y0 - a.shape.pad, left = UP ? x0 / 2 - 1 : x0 - a.shape.pad;

    auto fetch_halo = [&](int round, int slab) {
        const int id = round * tile::THREADS + tid, pixel = id / CHUNKS, chunk = id % CHUNKS;
        if (id >= tile::HALO_CHUNKS) return;
        const int row = pixel / tile::HALO_W, column = pixel % tile::HALO_W;
        const int y = top + row, x = left + column;
        const bool inside = y >= 0 && y < a.h && x >= 0 && x < a.w;
        const int64_t at = ((static_cast<int64_t>(image) * a.h + y) * a.w + x) * a.shape.in;
        fetch_chunk<T, DIRECT>(smem + (slab & 1) * tile::A_BYTES + row * PITCH +
                                   halo_at(column, chunk),
                               a, at, slab * SLAB + chunk * 8, inside);
    };
    auto fetch_taps = [&](int step, int buffer) {
        fetch_weight<T, BN, tile::THREADS>(sb + buffer * tile::B_BYTES, a, step, g.padded, n0);
    };

    int a_at[3]; // by kx: this lane's pixel of the warp's first row, its first chunk
#pragma unroll
    for (int kx = 0; kx < 3; kx++)
        a_at[kx] = halo_at(UP ? (lane % 16 + kx + 1) >> 1 : lane % 16 + kx, lane / 16);
    const int first_row = warp_m * (UP ? 2 : 4) * PITCH, b_at = b_lane(warp_n * WN, lane);

    float acc[MT][NT][4] = {};
    for (int i = 0; i < tile::ROUNDS; i++) fetch_halo(i, 0);
    fetch_taps(0, 0);
    cp_async_commit();
    fetch_taps(1, 1);
    cp_async_commit();
    for (int slab = 0; slab < g.slabs; slab++) {
        const unsigned char *const sa = smem + (slab & 1) * tile::A_BYTES + first_row;
        const int steps_left = (g.slabs - slab) * TAPS;
#pragma unroll 1
        for (int ky = 0; ky < 3; ky++) {
            // Row i of results reads row i + ky of the halo; of an enlarged map (i + ky + 1) / 2.
            const int even = (UP ? (ky + 1) >> 1 : ky) * PITCH,
                      odd = (UP ? (ky + 2) >> 1 : ky + 1) * PITCH;
            auto halo_row = [even, odd](int i) {
                return (i & 1 ? odd : even) + (i >> 1) * (UP ? 1 : 2) * PITCH;
            };
#pragma unroll
            for (int kx = 0; kx < 3; kx++) {
                const int tap = ky * 3 + kx;
                cp_async_wait<1>(); // this step's group: only the one after it may be under way
                __syncthreads();    // and nobody still reads what is overwritten now
                if (tap + 2 < steps_left) fetch_taps(slab * TAPS + tap + 2, (kx + 2) % BUFFERS_B);
                if (kx == 0 && slab + 1 < g.slabs)
#pragma unroll 1 // one copy of it: the registers are taken by the results
                    for (int round = tap; round < min(tap + 3, tile::ROUNDS); round++)
                        fetch_halo(round, slab + 1);
                cp_async_commit();
                multiply<T, MT, NT>(acc, sa, a_at[kx], halo_row, sb + kx * tile::B_BYTES, b_at);
            }
        }
    }
    __syncthreads(); // no copy is under way: the last groups were empty
    float *const stage = reinterpret_cast<float *>(smem) + warp * STAGE_FLOATS<NT>;
    auto where = [&](int i) {
        const int y = y0 + warp_m * 4 + i;
        return pixels{(static_cast<int64_t>(image) * a.ho + y) * a.wo + x0,
                      y < a.ho ? a.wo - x0 : 0};
    };
    store_results<MT, NT>(a, g.wide, stage, acc, where, n0 + warp_n * WN);
}

template <int ROWS, int BN> halo_grid grid_of(const k_conv_args &a)
{
    return {(a.wo + TILE_W - 1) / TILE_W, (a.ho + ROWS - 1) / ROWS, (a.shape.out + BN - 1) / BN,
            slabs_of(a.shape.in),         padded_out(a.shape.out),  wide_rows(a)};
}

template <int ROWS, int BN> int64_t blocks_of(const k_conv_args &a)
{
    const halo_grid g = grid_of<ROWS, BN>(a);
    return static_cast<int64_t>(a.batch) * g.tiles_x * g.tiles_y * g.tiles_n;
}

template <typename T, int ROWS, int BN, int WN, bool UP, bool DIRECT>
cudaError_t run(const k_conv_args &a, cudaStream_t stream)
{
    using tile = halo_tile<ROWS, BN, WN, UP>;
    return launch((conv_halo<T, ROWS, BN, WN, UP, DIRECT>),
                  dim3(static_cast<unsigned>(blocks_of<ROWS, BN>(a))), dim3(tile::THREADS),
                  tile::SMEM, stream, a, grid_of<ROWS, BN>(a));
}

template <typename T, bool UP> cudaError_t run(const k_conv_args &a, cudaStream_t stream)
{
    switch (a.kernel) {
    case K_CONV_HALO_256x128:
        return run<T, 16, 128, 64, UP, true>(a, stream);
    case K_CONV_HALO_128x128:
        return run<T, 8, 128, 64, UP, true>(a, stream);
    case K_CONV_HALO_128x32:
        if constexpr (!UP) return run<T, 8, 32, 16, UP, true>(a, stream);
        return cudaErrorInvalidValue;
    default:
        return run<T, 8, 64, 32, UP, true>(a, stream);
    }
}

// The largest tile that still gives every multiprocessor of a large device something to do.
k_conv_kernel choose(const k_conv_args &a)
{
    constexpr int64_t ENOUGH = 192;
    if (a.shape.out <= 32 && !a.shape.upsample2x) return K_CONV_HALO_128x32;
    if (a.shape.out > 64 && blocks_of<16, 128>(a) >= ENOUGH) return K_CONV_HALO_256x128;
    if (a.shape.out > 64 && blocks_of<8, 128>(a) >= ENOUGH) return K_CONV_HALO_128x128;
    return K_CONV_HALO_128x64;
}

template <typename T> cudaError_t run(const k_conv_args &a, cudaStream_t stream)
{
    if (!direct(a)) return run<T, 8, 64, 32, false, false>(a, stream);
    return a.shape.upsample2x ? run<T, true>(a, stream) : run<T, false>(a, stream);
}
} // namespace

cudaError_t launch_halo(const k_conv_args &args, cudaStream_t stream)
{
    k_conv_args a = args;
    if (a.kernel == K_CONV_AUTO) a.kernel = choose(a);
    return a.shape.compute == K_BF16 ? run<__nv_bfloat16>(a, stream) : run<__half>(a, stream);
}
} // namespace conv
