// SPDX-License-Identifier: MIT
// Backward of what stands between products, attention and norms. (+)= writes, or adds.
//
//     row sums      out (+)= d * gate, sums (+)= sum over rows of d * y: gates, biases, means over tokens
//     activation    dx (+)= dy act'(x)
//     patches       the way back of patchify and unpatchify
//     resize        dx (+)= (1 - sigma') R^T dy, dv (+)= -sigma (1 - sigma') R^T dy, R the bicubic resize (backend/resize_taps.h)
//
// Row sums pass once over d in accesses of 16 bytes: a block goes down a slab of rows, every thread its own 8 columns; add_slabs()
// adds the slabs up. The transposed resize is gathered: an element of the small image looks for the outputs that saw it.
//
// hot: row_sums, activation_backward
#include "act.cuh"
#include "backend/resize_taps.h"
#include "sums.cuh"

namespace
{
constexpr int THREADS = 256;

// ---- rows and their sums ----

struct row_params {
    walk w;
    k_grad out;
    k_view d, y, gate;
    slabs s;
    uint32_t tiles; // of columns
    float *part;    // [groups, slabs, dim]; absent: no sums
    float scale;    // of out
};

// blockIdx: (slab, columns). SUM_COLUMNS threads of V columns by SUM_LANES rows.
template <int V>
__global__ void __launch_bounds__(SUM_COLUMNS *SUM_LANES)
    row_sums(const __grid_constant__ row_params p)
{
    constexpr int COLUMNS = SUM_COLUMNS * V;
    SMEM_ARRAY(float, lanes, SUM_LANES *COLUMNS);
    const int lane = (int)threadIdx.x / SUM_COLUMNS;
    const uint32_t slab = blockIdx.x / p.tiles, tile = blockIdx.x % p.tiles;
    const int64_t c = (int64_t)tile * COLUMNS + threadIdx.x % SUM_COLUMNS * V;
    const row_range rows = rows_of_slab(p.s, slab);
    const bool inside = c < p.w.cols;
    float gate[V], sum[V] = {};
#pragma unroll
    for (int j = 0; j < V; j++) gate[j] = 1.0f;
    if (p.gate.data && inside)
        load_vec(gate, p.gate.data, p.gate.dtype, rows.group * p.gate.stride[0] + c);
#pragma unroll
    for (int j = 0; j < V; j++) gate[j] *= p.scale;
    for (uint32_t row = rows.first + (uint32_t)lane; row < rows.end && inside; row += SUM_LANES) {
        spot at = spot_of_row(p.w, row);
        at.col = c;
        float d[V], y[V];
#pragma unroll
        for (int j = 0; j < V; j++) d[j] = y[j] = 1.0f;
        if (p.d.data) load_vec(d, p.d.data, p.d.dtype, at.in(p.d));
        if (p.y.data) load_vec(y, p.y.data, p.y.dtype, at.in(p.y));
#pragma unroll
        for (int j = 0; j < V; j++) {
            sum[j] = fmaf(d[j], y[j], sum[j]);
            d[j] *= gate[j];
        }
        if (p.out.view.data) store_grad(p.out, at.in(p.out.view), d);
    }
    if (!p.part) return; // the same for all threads
#pragma unroll
    for (int j = 0; j < V; j++) lanes[lane * COLUMNS + threadIdx.x % SUM_COLUMNS * V + j] = sum[j];
    __syncthreads();
    const int mine = (int)threadIdx.x;
    if (mine >= COLUMNS || (int64_t)tile * COLUMNS + mine >= p.w.cols) return;
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < SUM_LANES; i++) total += lanes[i * COLUMNS + mine];
    p.part[slab * p.w.cols + (int64_t)tile * COLUMNS + mine] = total;
}

int64_t groups_of(const int64_t shape[4], bool per_sample)
{
    return per_sample ? shape[0] : 1;
}

// Partial sums are as many whatever V the launch can take.
slabs row_slabs(const int64_t shape[4], bool per_sample, bool sums)
{
    const int64_t groups = groups_of(shape, per_sample), tiles = div_up(shape[3], SUM_COLUMNS * 8),
                  rows = shape[0] * shape[1] * shape[2];
    return sums ? slabs_of(groups, rows / groups, 1024 / tiles, 4 * SUM_LANES)
                : slabs_of(groups, rows / groups, rows, 4 * SUM_LANES);
}

template <int V> cudaError_t run_row_sums(row_params &p, int64_t groups, cudaStream_t stream)
{
    p.tiles = (uint32_t)div_up(p.w.cols, SUM_COLUMNS * V);
    return launch(row_sums<V>, dim3((unsigned)(groups * p.s.n) * p.tiles),
                  dim3(SUM_COLUMNS * SUM_LANES), 0, stream, p);
}

// ---- activations ----

// What a steep sigmoid is made of, without cancellation: s = sigmoid(x), bump = s (1 - s).
struct sigmoid {
    float s, bump;
};

DEV sigmoid sigmoid_of(float x)
{
    const float e = expf(-fabsf(x)), t = rcp_fast(1.0f + e);
    return {x < 0.0f ? e * t : t, e * t * t};
}

// Of x sigmoid(u), du = u'. Far out the bump is 0, whatever it is multiplied with.
DEV float swish_slope(float x, float u, float du)
{
    const sigmoid g = sigmoid_of(u);
    return g.bump > 0.0f ? fmaf(x * du, g.bump, g.s) : g.s;
}

DEV float act_slope(float x, k_act act)
{
    switch (act) {
    case K_ACT_SILU:
        return swish_slope(x, x, 1.0f);
    case K_ACT_GELU_TANH:
        return swish_slope(x, 1.5957691216f * fmaf(0.044715f * x * x, x, x),
                           1.5957691216f * fmaf(0.134145f * x, x, 1.0f));
    case K_ACT_GELU_ERF:
        return fmaf(x, 0.39894228040f * expf(-0.5f * x * x), 0.5f * erfcf(x * -0.70710678118f));
    case K_ACT_QUICK_GELU:
        return swish_slope(x, 1.702f * x, 1.702f);
    case K_ACT_RELU:
        return x > 0.0f ? 1.0f : 0.0f;
    case K_ACT_TANH: // 1 - tanh^2 x is four bumps of 2 x
        return 4.0f * sigmoid_of(2.0f * x).bump;
    default:
        return 1.0f;
    }
}

struct activation_params {
    walk w;
    k_grad dx;
    k_view x, dy;
    k_act act;
};

template <int V>
__global__ void __launch_bounds__(THREADS)
    activation_backward(const __grid_constant__ activation_params p)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= p.w.items) return;
    const spot at = spot_of<V>(p.w, i);
    float x[V], d[V];
    load_vec(d, p.dy.data, p.dy.dtype, at.in(p.dy));
    if (p.act != K_ACT_NONE) {
        load_vec(x, p.x.data, p.x.dtype, at.in(p.x));
#pragma unroll
        for (int j = 0; j < V; j++) d[j] *= act_slope(x[j], p.act);
    }
    store_grad(p.dx, at.in(p.dx.view), d);
}

// ---- patches ----

struct patch_params {
    k_grad tokens;  // [B, n, patch * patch * C]
    float *latents; // [B, C, h, w]
    bool add;
    int64_t items, n, grid_w, c, h, w;
    int patch;
};

// An element of the result a thread.
template <bool TO_LATENTS>
__global__ void __launch_bounds__(THREADS) patches_backward(const __grid_constant__ patch_params p)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= p.items) return;
    const k_view &tokens = p.tokens.view;
    int64_t b, ch, y, x, row, col, py, px, rest;
    if (TO_LATENTS) {
        split(i, p.w, rest, x);
        split(rest, p.h, rest, y);
        split(rest, p.c, b, ch);
        split(y, p.patch, row, py);
        split(x, p.patch, col, px);
        const int64_t from = b * tokens.stride[0] + (row * p.grid_w + col) * tokens.stride[1] +
                             (ch * p.patch + py) * p.patch + px;
        const float v = load_as(tokens.data, tokens.dtype, from);
        p.latents[i] = p.add ? p.latents[i] + v : v;
    } else {
        int64_t t, e;
        split(i, (int64_t)p.patch * p.patch * p.c, rest, e);
        split(rest, p.n, b, t);
        split(t, p.grid_w, row, col);
        const int64_t to = b * tokens.stride[0] + t * tokens.stride[1] + e;
        split(e, p.c, rest, ch);
        split(rest, p.patch, py, px);
        float v[1] = {
            p.latents[((b * p.c + ch) * p.h + row * p.patch + py) * p.w + col * p.patch + px]};
        store_grad(p.tokens, to, v);
    }
}

patch_params patches(k_grad tokens, float *latents, bool add, int patch, int64_t batch, int64_t c,
                     int64_t h, int64_t w)
{
    return {tokens, latents, add,  batch * c * h * w, h / patch * (w / patch), w / patch, c,
            h,      w,       patch};
}

// ---- resize ----

struct reach {
    int first, last;
};

// Outputs that may see element i: those whose place in the source is in [i - 2, i + 2), and one more on both sides.
DEV reach reach_of(int i, int in, int out)
{
    const float s = (float)out / (float)in;
    const int first = (int)floorf(((float)i - 1.5f) * s - 0.5f) - 1,
              last = (int)ceilf(((float)i + 2.5f) * s - 0.5f) + 1;
    return {first < 0 ? 0 : first, last >= out ? out - 1 : last};
}

// How much of element i output `dst` sees; at the borders more than one tap may be clamped to it.
DEV float weight_of(int i, int dst, int in, int out)
{
    const resize_taps t = resize_taps_of(dst, in, out);
    float w = 0.0f;
#pragma unroll
    for (int k = 0; k < 4; k++) w += t.at[k] == i ? t.w[k] : 0.0f;
    return w;
}

__global__ void __launch_bounds__(THREADS)
    resize_backward(const __grid_constant__ k_resize_backward_args a)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    int64_t plane, y, x, b, ch;
    split(i, a.w, plane, x);
    split(plane, a.h, plane, y);
    split(plane, a.c, b, ch);
    if (b >= a.batch) return;
    const float *dy = a.dy + plane * a.out_h * a.out_w;
    float g = 0.0f;
    if (a.h == a.out_h && a.w == a.out_w) {
        g = dy[y * a.w + x];
    } else {
        const reach rows = reach_of((int)y, a.h, a.out_h), cols = reach_of((int)x, a.w, a.out_w);
        for (int r = rows.first; r <= rows.last; r++) {
            const float wr = weight_of((int)y, r, a.h, a.out_h);
            if (wr == 0.0f) continue;
            float line = 0.0f;
            for (int c = cols.first; c <= cols.last; c++)
                line = fmaf(weight_of((int)x, c, a.w, a.out_w), dy[(int64_t)r * a.out_w + c], line);
            g = fmaf(wr, line, g);
        }
    }
    const k_resize_step step = a.steps[b];
    g *= 1.0f - step.sigma_next;
    if (a.dx) a.dx[i] = a.add_x ? a.dx[i] + g : g;
    g *= -step.sigma;
    if (a.dv) a.dv[i] = a.add_v ? a.dv[i] + g : g;
}

dim3 grid_of(int64_t items)
{
    return dim3((unsigned)div_up(items, THREADS));
}
} // namespace

extern "C" size_t k_row_sums_workspace(const int64_t shape[4], bool per_sample)
{
    const int64_t n = groups_of(shape, per_sample) * row_slabs(shape, per_sample, true).n;
    return sizeof(float) * (size_t)(n * shape[3]);
}

extern "C" cudaError_t k_row_sums(const k_row_sums_args *a, void *workspace, cudaStream_t stream)
{
    const bool sums = a->sums.view.data;
    const int64_t groups = groups_of(a->shape, a->per_sample);
    if (a->shape[0] * a->shape[1] * a->shape[2] > INT32_MAX || groups > 65535)
        return cudaErrorInvalidValue;
    row_params p = {};
    p.out = a->out, p.d = a->d, p.y = sums ? a->y : k_view(), p.gate = a->gate;
    p.scale = a->out_scale;
    if (!a->per_sample) p.gate.stride[0] = 0;
    p.w = rows_of(a->shape, a->per_sample, {&p.out.view, &p.d, &p.y});
    p.s = row_slabs(a->shape, a->per_sample, sums);
    if (sums) p.part = static_cast<float *>(workspace);
    const bool vec = p.w.cols % 8 == 0 && vectors(p.out.view, 3) && vectors(p.d, 3) &&
                     vectors(p.y, 3) && vectors(p.gate, 1);
    const cudaError_t e =
        vec ? run_row_sums<8>(p, groups, stream) : run_row_sums<1>(p, groups, stream);
    if (e != cudaSuccess || !sums) return e;
    sum_params s = {{a->sums}, p.part, p.s.n, p.w.cols, 1, a->sums_scale};
    if (!a->per_sample) s.sums[0].view.stride[0] = 0;
    return launch_add_slabs(s, groups, stream);
}

extern "C" cudaError_t k_activation_backward(k_grad dx, k_view x, k_view dy, k_act act,
                                             const int64_t shape[4], cudaStream_t stream)
{
    activation_params p = {{}, dx, act == K_ACT_NONE ? k_view() : x, dy, act};
    p.w = collapse(shape, {&p.dx.view, &p.x, &p.dy});
    const bool vec =
        p.w.cols % 8 == 0 && vectors(p.dx.view, 3) && vectors(p.x, 3) && vectors(p.dy, 3);
    p.w = counted(p.w, vec ? 8 : 1);
    if (vec) return launch(activation_backward<8>, grid_of(p.w.items), dim3(THREADS), 0, stream, p);
    return launch(activation_backward<1>, grid_of(p.w.items), dim3(THREADS), 0, stream, p);
}

extern "C" cudaError_t k_patchify_backward(float *dx, bool add, k_view dy, int patch, int64_t batch,
                                           int64_t c, int64_t h, int64_t w, cudaStream_t stream)
{
    const patch_params p = patches({dy, false}, dx, add, patch, batch, c, h, w);
    return launch(patches_backward<true>, grid_of(p.items), dim3(THREADS), 0, stream, p);
}

extern "C" cudaError_t k_unpatchify_backward(k_grad dy, const float *dx, int patch, int64_t batch,
                                             int64_t c, int64_t h, int64_t w, cudaStream_t stream)
{
    const patch_params p = patches(dy, const_cast<float *>(dx), false, patch, batch, c, h, w);
    return launch(patches_backward<false>, grid_of(p.items), dim3(THREADS), 0, stream, p);
}

extern "C" cudaError_t k_resize_backward(const k_resize_backward_args *a, cudaStream_t stream)
{
    return launch(resize_backward, grid_of(a->batch * a->c * a->h * a->w), dim3(THREADS), 0, stream,
                  *a);
}
