// SPDX-License-Identifier: MIT
// 3x3 convolution of stride 1 and padding 1 to at most 3 outputs: an autoencoder's last layer, as floats or as RGB8,
//   u8 = round(clamp(act(conv(x) + bias) * scale + shift, 0, 1) * 255), half to even, NaN as 0.
//
// So few outputs are worth one reading of the map and nothing more. The taps become columns: a block multiplies a square of
// 16 x 16 pixels by all 9 * outputs <= 32 columns at once, P[tap, o, pixel] = x[pixel, :] . w[o, tap, :], keeps the products in
// shared memory and adds for each of the 14 x 14 pixels inside the nine that concern it. Every pixel is fetched (16 / 14)^2 =
// 1.3 times, mostly from the L2 cache, and read out of shared memory once instead of nine times.
// Planes of P are PLANE floats apart: 4 banks, so that the fragments' eight rows by four columns hit 32 different banks.
// hot: conv_columns
#include "conv.cuh"

namespace conv
{
namespace
{
constexpr int SIDE = 16, INNER = SIDE - 2, PIXELS = SIDE * SIDE;
constexpr int WARPS = 4, THREADS = WARPS * WARP, MT = PIXELS / WARPS / 16, NT = COLUMNS / 8;
constexpr int BYTES = (PIXELS + COLUMNS) * ROW_BYTES, PLANE = PIXELS + 4;
constexpr int PRODUCTS = 27 * PLANE * 4, SMEM = 2 * BYTES > PRODUCTS ? 2 * BYTES : PRODUCTS;
static_assert(SMEM <= static_cast<int>(SMEM_FREE), "as many blocks as registers allow");

struct columns_grid {
    int tiles_x, tiles_y, slabs;
};

// P of the warp's fragments, the planes that no tap has left out.
DEV void store_products(float *products, const float (&acc)[MT][NT][4], int planes, int warp,
                        int lane)
{
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < NT; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int plane = j * 8 + lane % 4 * 2 + e % 2;
                if (plane < planes)
                    products[plane * PLANE + (warp * MT + i) * 16 + lane / 4 + e / 2 * 8] =
                        acc[i][j][e];
            }
}

DEV void store_pixel(const k_conv_args &a, const rgb8 &rgb, int64_t at, float v)
{
    if (rgb.y) {
        v = __fadd_rn(__fmul_rn(v, rgb.scale), rgb.shift); // the bytes that op_to_rgb8 makes of v
        v = v > 0.0f ? v < 1.0f ? v : 1.0f : 0.0f;
        rgb.y[at] = static_cast<uint8_t>(__float2int_rn(v * 255.0f));
        return;
    }
    if (a.residual) v += load_as(a.residual, a.residual_dtype, at);
    store_as(a.y, a.y_dtype, at, v);
}

template <typename T, bool DIRECT>
__global__ void __launch_bounds__(THREADS, 3) conv_columns(k_conv_args a, rgb8 rgb, columns_grid g)
{
    DYN_SMEM(smem);
    const int tid = static_cast<int>(threadIdx.x), lane = tid % WARP, warp = tid / WARP;
    int block = static_cast<int>(blockIdx.x);
    const int x0 = block % g.tiles_x * INNER;
    block /= g.tiles_x;
    const int y0 = block % g.tiles_y * INNER, image = block / g.tiles_y;

    auto fetch = [&](int slab) {
        unsigned char *const to = smem + slab % 2 * BYTES;
#pragma unroll DIRECT ? 8 : 1
        for (int i = 0; i < PIXELS * CHUNKS / THREADS; i++) {
            const int id = i * THREADS + tid, pixel = id / CHUNKS, chunk = id % CHUNKS;
            const int y = y0 - 1 + pixel / SIDE, x = x0 - 1 + pixel % SIDE;
            const bool inside = y >= 0 && y < a.h && x >= 0 && x < a.w;
            const int64_t at = ((static_cast<int64_t>(image) * a.h + y) * a.w + x) * a.shape.in;
            fetch_chunk<T, DIRECT>(to + tile_at(pixel, chunk), a, at, slab * SLAB + chunk * 8,
                                   inside);
        }
        fetch_weight<T, COLUMNS, THREADS>(to + PIXELS * ROW_BYTES, a, slab, COLUMNS, 0);
        cp_async_commit();
    };

    const int a_at = a_lane(warp * MT * 16, lane), b_at = b_lane(0, lane);
    float acc[MT][NT][4] = {};
    fetch(0);
    for (int slab = 0; slab < g.slabs; slab++) {
        cp_async_wait<0>();
        __syncthreads();
        if (slab + 1 < g.slabs) fetch(slab + 1);
        const unsigned char *const sa = smem + slab % 2 * BYTES;
        multiply<T, MT, NT>(
            acc, sa, a_at, [](int i) { return i * 16 * ROW_BYTES; }, sa + PIXELS * ROW_BYTES, b_at);
    }
    __syncthreads();
    float *const products = reinterpret_cast<float *>(smem);
    store_products(products, acc, 9 * a.shape.out, warp, lane);
    __syncthreads();
    const int out = a.shape.out;
    for (int id = tid; id < INNER * INNER; id += THREADS) {
        const int row = id / INNER, column = id % INNER, y = y0 + row, x = x0 + column;
        if (y >= a.ho || x >= a.wo) continue;
        const int64_t pixel = (static_cast<int64_t>(image) * a.ho + y) * a.wo + x;
        for (int o = 0; o < out; o++) {
            float v = a.bias ? a.bias[o] : 0.0f;
#pragma unroll
            for (int tap = 0; tap < 9; tap++)
                v += products[(tap * out + o) * PLANE + (row + tap / 3) * SIDE + column + tap % 3];
            store_pixel(a, rgb, pixel * out + o, activate(v, a.act));
        }
    }
}

template <typename T> cudaError_t run(const k_conv_args &a, const rgb8 &rgb, cudaStream_t stream)
{
    const columns_grid g = {(a.wo + INNER - 1) / INNER, (a.ho + INNER - 1) / INNER,
                            slabs_of(a.shape.in)};
    const dim3 blocks(static_cast<unsigned>(a.batch) * static_cast<unsigned>(g.tiles_x) *
                      static_cast<unsigned>(g.tiles_y));
    if (direct(a))
        return launch((conv_columns<T, true>), blocks, dim3(THREADS), SMEM, stream, a, rgb, g);
    return launch((conv_columns<T, false>), blocks, dim3(THREADS), SMEM, stream, a, rgb, g);
}
} // namespace

cudaError_t launch_columns(const k_conv_args &a, const rgb8 &rgb, cudaStream_t stream)
{
    return a.shape.compute == K_BF16 ? run<__nv_bfloat16>(a, rgb, stream)
                                     : run<__half>(a, rgb, stream);
}
} // namespace conv
