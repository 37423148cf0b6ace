// SPDX-License-Identifier: MIT
// Between latents (NCHW), tokens, feature maps (NHWC) and RGB8.
//
//     patchify       y[b, (i, j), (c, p, q)] = x[b, c, i P + p, j P + q]       unpatchify reads (p, q, c)
//     add_position   x[b, (i, j)] += table[(top + i) max + left + j],  top = (max - grid_h) / 2, left likewise
//     nchw_to_nhwc, nhwc_to_nchw      y = x * scale + shift in the other layout
//     to_rgb8        y = round(clamp(x * scale + shift, 0, 1) * 255), half to even, NaN is 0
//     from_rgb8      y = x / 255 * scale + shift
//
// Scale and shift are a product and a sum, each rounded, as on the CPU: the bytes of a picture are the same.
#include "rows.cuh"

namespace
{
constexpr int THREADS = 256;

DEV float scaled(float x, float scale, float shift)
{
    return __fadd_rn(__fmul_rn(x, scale), shift);
}

// ---- patches ----

struct patch_params {
    k_view tokens;  // [B, grid_h * grid_w, patch * patch * C]
    float *latents; // [B, C, h, w]
    int64_t items;  // runs of `patch` latents: B * tokens * C * patch
    int64_t n, grid_w, c, h, w;
    int patch;
};

// A thread copies a run of latents, which are `patch` neighbours in a row of a channel. Threads go over (c, p), then over tokens:
// a warp writes whole stretches of tokens, and the block reads all of each sector that it touches.
template <typename T>
__global__ void __launch_bounds__(THREADS) patchify(const __grid_constant__ patch_params p)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= p.items) return;
    int64_t token, run, b, t, row, col, ch, py;
    split(i, p.c * p.patch, token, run);
    split(token, p.n, b, t);
    split(t, p.grid_w, row, col);
    split(run, p.patch, ch, py);
    const float *x = p.latents + ((b * p.c + ch) * p.h + row * p.patch + py) * p.w + col * p.patch;
    T *y = static_cast<T *>(p.tokens.data) + b * p.tokens.stride[0] + t * p.tokens.stride[1] +
           run * p.patch;
    for (int q = 0; q < p.patch; q++) y[q] = from_f<T>(x[q]);
}

// The same runs, tokens innermost: a warp writes a stretch of a row of latents.
template <typename T>
__global__ void __launch_bounds__(THREADS) unpatchify(const __grid_constant__ patch_params p)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= p.items) return;
    int64_t line, col, plane, y, b, ch, row, py;
    split(i, p.grid_w, line, col);
    split(line, p.h, plane, y);
    split(plane, p.c, b, ch);
    split(y, p.patch, row, py);
    const T *from = static_cast<const T *>(p.tokens.data) + b * p.tokens.stride[0] +
                    (row * p.grid_w + col) * p.tokens.stride[1] + py * p.patch * p.c + ch;
    float *to = p.latents + i * p.patch;
    for (int q = 0; q < p.patch; q++) to[q] = to_f(from[q * p.c]);
}

// ---- position table ----

struct position_params {
    k_view x; // [B, grid_h * grid_w, D]
    const float *table;
    int64_t items, per_row, n, grid_w, max, top, left, dim;
};

template <typename T, int V>
__global__ void __launch_bounds__(THREADS) add_position(const __grid_constant__ position_params p)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= p.items) return;
    int64_t r, col, b, t, gy, gx;
    split(i, p.per_row, r, col);
    split(r, p.n, b, t);
    split(t, p.grid_w, gy, gx);
    col *= V;
    T *x = static_cast<T *>(p.x.data) + b * p.x.stride[0] + t * p.x.stride[1] + col;
    const float *pos = p.table + ((p.top + gy) * p.max + p.left + gx) * p.dim + col;
    if constexpr (V == 8) {
        float v[8], w[8];
        load8(v, x);
        load8(w, pos);
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] += w[j];
        store8(x, v);
    } else {
        *x = from_f<T>(to_f(*x) + *pos);
    }
}

// ---- channels first <-> last ----

struct relayout_params {
    void *y;
    const void *x;
    int64_t pixels, c;
    float scale, shift;
};

// A tile of PIXELS x CHANNELS of one image passes through shared memory, so that both sides are read and written in stretches.
// Along pixels a warp meets every bank once; along channels it covers 32 / CHANNELS pixels of each, by which the pitch is longer.
template <typename TX, typename TY, int PIXELS, int CHANNELS, bool TO_NHWC>
__global__ void __launch_bounds__(THREADS) relayout(const __grid_constant__ relayout_params p)
{
    static_assert(PIXELS % WARP == 0 && WARP % CHANNELS == 0, "");
    constexpr int PITCH = PIXELS + WARP / CHANNELS, TILE = PIXELS * CHANNELS;
    SMEM_ARRAY(float, tile, CHANNELS *PITCH);
    const int64_t p0 = (int64_t)blockIdx.x * PIXELS, c0 = (int64_t)blockIdx.y * CHANNELS,
                  image = (int64_t)blockIdx.z * p.c * p.pixels;
    const TX *x = static_cast<const TX *>(p.x) + image;
    TY *y = static_cast<TY *>(p.y) + image;
#pragma unroll
    for (int i = (int)threadIdx.x; i < TILE; i += THREADS) {
        const int ch = TO_NHWC ? i / PIXELS : i % CHANNELS,
                  px = TO_NHWC ? i % PIXELS : i / CHANNELS;
        const int64_t c = c0 + ch, at = p0 + px;
        if (c < p.c && at < p.pixels)
            tile[ch * PITCH + px] =
                scaled(to_f(x[TO_NHWC ? c * p.pixels + at : at * p.c + c]), p.scale, p.shift);
    }
    __syncthreads();
#pragma unroll
    for (int i = (int)threadIdx.x; i < TILE; i += THREADS) {
        const int ch = TO_NHWC ? i % CHANNELS : i / PIXELS,
                  px = TO_NHWC ? i / CHANNELS : i % PIXELS;
        const int64_t c = c0 + ch, at = p0 + px;
        if (c < p.c && at < p.pixels)
            y[TO_NHWC ? at * p.c + c : c * p.pixels + at] = from_f<TY>(tile[ch * PITCH + px]);
    }
}

template <bool TO_NHWC>
cudaError_t run_relayout(k_view y, k_view x, float scale, float shift, int64_t batch, int64_t c,
                         int64_t pixels, cudaStream_t stream)
{
    if (batch > 65535 || c > 32 * 65535) return cudaErrorInvalidValue;
    relayout_params p = {y.data, x.data, pixels, c, scale, shift};
    return with_storage(x.dtype, y.dtype, [&](auto tx, auto ty) {
        using TX = typename decltype(tx)::type;
        using TY = typename decltype(ty)::type;
        if constexpr (!mixed_halves<TX, TY>)
            if (c <= 4) // pictures
                return launch((relayout<TX, TY, 512, 4, TO_NHWC>),
                              dim3((unsigned)div_up(pixels, 512), 1, (unsigned)batch),
                              dim3(THREADS), 0, stream, p);
        return launch((relayout<TX, TY, 64, 32, TO_NHWC>),
                      dim3((unsigned)div_up(pixels, 64), (unsigned)div_up(c, 32), (unsigned)batch),
                      dim3(THREADS), 0, stream, p);
    });
}

// ---- RGB8 ----

struct rgb_params {
    uint8_t *rgb;
    void *map;
    int64_t n;
    float scale, shift;
};

DEV uint32_t byte_of(float x, const rgb_params &p)
{
    float v = scaled(x, p.scale, p.shift);
    v = v > 0.0f ? v < 1.0f ? v : 1.0f : 0.0f;
    return (uint32_t)__float2int_rn(__fmul_rn(v, 255.0f));
}

DEV float value_of(uint32_t byte, const rgb_params &p)
{
    return scaled(__fdiv_rn((float)byte, 255.0f), p.scale, p.shift);
}

DEV uint32_t four_bytes(const float *v, const rgb_params &p)
{
    return byte_of(v[0], p) | byte_of(v[1], p) << 8 | byte_of(v[2], p) << 16 |
           byte_of(v[3], p) << 24;
}

// 8 elements a thread where both sides are aligned, one elsewhere and at the end.
template <typename T, bool TO_RGB>
__global__ void __launch_bounds__(THREADS) rgb8(const __grid_constant__ rgb_params p, bool vec)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, end = i + 1;
    T *map = static_cast<T *>(p.map);
    if (vec) {
        i *= 8;
        end = i + 8;
        if (end <= p.n) {
            float v[8];
            uint2 u;
            if (TO_RGB) {
                load8(v, map + i);
                u = make_uint2(four_bytes(v, p), four_bytes(v + 4, p));
                *reinterpret_cast<uint2 *>(p.rgb + i) = u;
            } else {
                u = *reinterpret_cast<const uint2 *>(p.rgb + i);
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    v[j] = value_of(u.x >> (8 * j) & 255, p);
                    v[4 + j] = value_of(u.y >> (8 * j) & 255, p);
                }
                store8(map + i, v);
            }
            return;
        }
    }
    for (; i < end && i < p.n; i++) {
        if (TO_RGB)
            p.rgb[i] = (uint8_t)byte_of(to_f(map[i]), p);
        else
            map[i] = from_f<T>(value_of(p.rgb[i], p));
    }
}

template <bool TO_RGB> cudaError_t run_rgb8(rgb_params p, k_dtype dtype, cudaStream_t stream)
{
    const bool vec = aligned16(p.map) && reinterpret_cast<uintptr_t>(p.rgb) % 8 == 0;
    const dim3 grid((unsigned)div_up(p.n, vec ? THREADS * 8 : THREADS));
    return with_type(dtype, [&](auto t) {
        return launch((rgb8<typename decltype(t)::type, TO_RGB>), grid, dim3(THREADS), 0, stream, p,
                      vec);
    });
}

patch_params patches(k_view tokens, float *latents, int patch, int64_t batch, int64_t c, int64_t h,
                     int64_t w)
{
    patch_params p = {tokens, latents, 0, h / patch * (w / patch), w / patch, c, h, w, patch};
    p.items = batch * p.n * c * patch;
    return p;
}
} // namespace

extern "C" cudaError_t k_patchify(k_view y, const float *x, int patch, int64_t batch, int64_t c,
                                  int64_t h, int64_t w, cudaStream_t stream)
{
    const patch_params p = patches(y, const_cast<float *>(x), patch, batch, c, h, w);
    return with_type(y.dtype, [&](auto ty) {
        using T = typename decltype(ty)::type;
        return launch(patchify<T>, dim3((unsigned)div_up(p.items, THREADS)), dim3(THREADS), 0,
                      stream, p);
    });
}

extern "C" cudaError_t k_unpatchify(float *x, k_view y, int patch, int64_t batch, int64_t c,
                                    int64_t h, int64_t w, cudaStream_t stream)
{
    const patch_params p = patches(y, x, patch, batch, c, h, w);
    return with_type(y.dtype, [&](auto ty) {
        using T = typename decltype(ty)::type;
        return launch(unpatchify<T>, dim3((unsigned)div_up(p.items, THREADS)), dim3(THREADS), 0,
                      stream, p);
    });
}

extern "C" cudaError_t k_add_position(k_view x, const float *table, int64_t max, int64_t batch,
                                      int64_t grid_h, int64_t grid_w, int64_t dim,
                                      cudaStream_t stream)
{
    position_params p = {
        x,  table, 0, dim, grid_h * grid_w, grid_w, max, (max - grid_h) / 2, (max - grid_w) / 2,
        dim};
    if (batch == 1) x.stride[0] = 0;
    const bool vec = dim % 8 == 0 && vectors(x, 2) && aligned16(table);
    if (vec) p.per_row = dim / 8;
    p.items = batch * p.n * p.per_row;
    return with_type(x.dtype, [&](auto ty) {
        using T = typename decltype(ty)::type;
        const dim3 grid((unsigned)div_up(p.items, THREADS));
        if (vec) return launch((add_position<T, 8>), grid, dim3(THREADS), 0, stream, p);
        return launch((add_position<T, 1>), grid, dim3(THREADS), 0, stream, p);
    });
}

extern "C" cudaError_t k_nchw_to_nhwc(k_view y, k_view x, float scale, float shift, int64_t batch,
                                      int64_t c, int64_t pixels, cudaStream_t stream)
{
    return run_relayout<true>(y, x, scale, shift, batch, c, pixels, stream);
}

extern "C" cudaError_t k_nhwc_to_nchw(k_view y, k_view x, float scale, float shift, int64_t batch,
                                      int64_t c, int64_t pixels, cudaStream_t stream)
{
    return run_relayout<false>(y, x, scale, shift, batch, c, pixels, stream);
}

extern "C" cudaError_t k_to_rgb8(uint8_t *y, k_view x, float scale, float shift, int64_t n,
                                 cudaStream_t stream)
{
    return run_rgb8<true>({y, x.data, n, scale, shift}, x.dtype, stream);
}

extern "C" cudaError_t k_from_rgb8(k_view y, const uint8_t *x, float scale, float shift, int64_t n,
                                   cudaStream_t stream)
{
    return run_rgb8<false>({const_cast<uint8_t *>(x), y.data, n, scale, shift}, y.dtype, stream);
}
