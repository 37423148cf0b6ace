// SPDX-License-Identifier: MIT
// Between two scales, for requests that each have their own seed, sizes, sigmas and step:
//
//     y = (1 - sigma') bicubic(x - sigma v) + sigma' eps             [C, h, w] -> [C, h', w']
//
// Sizes and places come with the launch; seeds, draws and sigmas lie in device memory, where a graph's next replay finds other ones.
// One kernel: the velocity of scale k and its latents go in, the noisy latents of scale k + 1 come out, float32 throughout. Noise
// is Philox made in registers, a block of 4 neighbouring elements a thread (base/philox.h), or comes from memory. Every sample is
// computed by the code that the CPU runs (backend/resize_taps.h), in its order: the results are equal to the bit.
//
// An upscale to a width that is a multiple of 4 goes by tiles: x0 of the tile's window is made once, in shared memory, and a
// thread filters 4 neighbours of a row. Anything else (equal sizes, odd widths, downscales) goes by blocks of 4 elements of the
// flat image, reading through the cache.
//
// hot: resize_renoise
#include "backend/resize_taps.h"
#include "rows.cuh"

namespace
{
constexpr int TILE_H = 16, TILE_W = 32, THREADS = TILE_H * TILE_W / 4;
// An upscale's window has at most one row more than the tile, and a tap before and two behind. Quads of 4 rows meet all banks.
constexpr int WINDOW_H = TILE_H + 4, WINDOW_W = TILE_W + 4, PITCH = WINDOW_W + 1;

typedef k_resize_job job;
typedef k_resize_step step;

DEV float x0_of(const job &j, const step &s, int64_t at)
{
    return j.v ? resize_x0(j.x[at], j.v[at], s.sigma) : j.x[at];
}

// at(row, column) is x0 there.
template <typename F> DEV float bicubic(const resize_taps &ty, const resize_taps &tx, F at)
{
    float value = 0.0f;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float row = 0.0f;
#pragma unroll
        for (int k = 0; k < 4; k++) row = resize_tap(row, tx.w[k], at(ty.at[i], tx.at[k]));
        value = resize_tap(value, ty.w[i], row);
    }
    return value;
}

DEV bool aligned(const void *p)
{
    return (reinterpret_cast<uintptr_t>(p) & 15) == 0;
}

// Noises elements 4 quad .. of the image and stores those of them that exist.
DEV void finish(const job &j, const step &s, float (&v)[4], int64_t quad, int64_t n)
{
    const int64_t first = quad * 4;
    const bool whole = first + 4 <= n;
    if (s.sigma_next > 0.0f || !j.x) {
        float eps[4] = {};
        if (!j.eps) {
            philox_normal4(eps, s.seed, (uint64_t)quad, s.draw);
        } else if (whole && aligned(j.eps)) {
            load4(eps, j.eps + first);
        } else {
#pragma unroll
            for (int k = 0; k < 4; k++)
                if (first + k < n) eps[k] = j.eps[first + k];
        }
#pragma unroll
        for (int k = 0; k < 4; k++)
            v[k] = j.x ? resize_renoised(v[k], eps[k], s.sigma_next) : eps[k];
    }
    if (whole && aligned(j.y)) {
        store4(j.y + first, v);
    } else {
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (first + k < n) j.y[first + k] = v[k];
    }
}

// Blocks of 4 elements, in flat order, for any sizes.
DEV void by_quads(const job &j, const step &s)
{
    const int64_t pixels = (int64_t)j.out_h * j.out_w, n = j.c * pixels;
    const bool same = j.h == j.out_h && j.w == j.out_w;
    for (int64_t q = (int64_t)blockIdx.x * THREADS + threadIdx.x; q * 4 < n;
         q += (int64_t)gridDim.x * THREADS) {
        float v[4] = {};
#pragma unroll
        for (int k = 0; k < 4; k++) {
            if (!j.x || q * 4 + k >= n) continue;
            if (same) {
                v[k] = x0_of(j, s, q * 4 + k);
                continue;
            }
            int64_t plane, at, row, col;
            split(q * 4 + k, pixels, plane, at);
            split(at, j.out_w, row, col);
            const int64_t from = plane * j.h * j.w;
            v[k] = bicubic(resize_taps_of((int)row, j.h, j.out_h),
                           resize_taps_of((int)col, j.w, j.out_w),
                           [&](int r, int c) { return x0_of(j, s, from + (int64_t)r * j.w + c); });
        }
        finish(j, s, v, q, n);
    }
}

DEV void by_tiles(const job &j, const step &s)
{
    SMEM_ARRAY(float, window, WINDOW_H *PITCH);
    const int tiles_x = (j.out_w + TILE_W - 1) / TILE_W, tiles_y = (j.out_h + TILE_H - 1) / TILE_H;
    const int64_t pixels = (int64_t)j.out_h * j.out_w;
    const int r = (int)threadIdx.x / (TILE_W / 4), c = (int)threadIdx.x % (TILE_W / 4) * 4;
    for (int64_t t = blockIdx.x; t < (int64_t)j.c * tiles_x * tiles_y; t += gridDim.x) {
        int64_t plane, tile, tile_y, tile_x;
        split(t, (int64_t)tiles_x * tiles_y, plane, tile);
        split(tile, tiles_x, tile_y, tile_x);
        const int row0 = (int)tile_y * TILE_H, col0 = (int)tile_x * TILE_W;
        const int row1 = min(row0 + TILE_H, j.out_h), col1 = min(col0 + TILE_W, j.out_w);
        const int top = resize_taps_of(row0, j.h, j.out_h).at[0],
                  left = resize_taps_of(col0, j.w, j.out_w).at[0],
                  rows = resize_taps_of(row1 - 1, j.h, j.out_h).at[3] - top + 1,
                  cols = resize_taps_of(col1 - 1, j.w, j.out_w).at[3] - left + 1;
        const int64_t from = (plane * j.h + top) * j.w + left;
        for (int i = (int)threadIdx.x; i < WINDOW_H * WINDOW_W; i += THREADS) {
            const int y = i / WINDOW_W, x = i % WINDOW_W;
            if (y < rows && x < cols)
                window[y * PITCH + x] = x0_of(j, s, from + (int64_t)y * j.w + x);
        }
        __syncthreads();
        if (row0 + r < row1 && col0 + c < col1) {
            const resize_taps ty = resize_taps_of(row0 + r, j.h, j.out_h);
            float v[4];
#pragma unroll
            for (int k = 0; k < 4; k++)
                v[k] = bicubic(ty, resize_taps_of(col0 + c + k, j.w, j.out_w),
                               [&](int y, int x) { return window[(y - top) * PITCH + x - left]; });
            finish(j, s, v, (plane * pixels + (int64_t)(row0 + r) * j.out_w + col0 + c) / 4,
                   j.c * pixels);
        }
        __syncthreads(); // the window is made anew
    }
}

constexpr int LIST = 32;
struct job_list {
    job jobs[LIST];
};

__global__ void __launch_bounds__(THREADS)
    resize_renoise(const __grid_constant__ job_list list, const step *steps)
{
    const job &j = list.jobs[blockIdx.y];
    const step s = steps[blockIdx.y];
    if (j.x0)
        for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < (int64_t)j.c * j.h * j.w;
             i += (int64_t)gridDim.x * THREADS)
            j.x0[i] = x0_of(j, s, i);
    const bool grows = j.out_h >= j.h && j.out_w >= j.w && (j.out_h > j.h || j.out_w > j.w);
    if (j.x && grows && j.out_w % 4 == 0)
        by_tiles(j, s);
    else
        by_quads(j, s);
}

// Blocks for the most elements that a job writes; fewer would only loop.
unsigned blocks_of(int64_t elements)
{
    const int64_t blocks = div_up(elements, THREADS * 4);
    return (unsigned)(blocks < 1 ? 1 : blocks > 1 << 20 ? 1 << 20 : blocks);
}
} // namespace

extern "C" cudaError_t k_resize_renoise(const k_resize_job *jobs, const k_resize_step *steps, int n,
                                        cudaStream_t stream)
{
    for (int done = 0; done < n; done += LIST) {
        const int here = n - done < LIST ? n - done : LIST;
        job_list list = {};
        int64_t most = 0;
        for (int i = 0; i < here; i++) {
            const job &j = list.jobs[i] = jobs[done + i];
            const int64_t size = (int64_t)j.c * j.out_h * j.out_w;
            most = size > most ? size : most;
        }
        cudaError_t e = launch(resize_renoise, dim3(blocks_of(most), (unsigned)here), dim3(THREADS),
                               0, stream, list, steps + done);
        if (e != cudaSuccess) return e;
    }
    return cudaSuccess;
}
