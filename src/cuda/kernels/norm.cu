// SPDX-License-Identifier: MIT
// Norms over rows of x [B, n, D], and what the models do to a row after them in the same pass.
//
//     h = (x - mean) / sqrt(var + eps)             or x / sqrt(mean(x^2) + eps)
//     y = h * scale + shift      y2 = h * scale2 + shift2
//
// and, over heads: q, k [B, N, H, d] <- h * weight, then pairs rotated by the position's angles.
//
// Memory-bound: a row is read once, into registers, in accesses of 16 bytes, and written once. A warp holds a row of up to
// 1536 elements (no barrier, all loads under way at once), a block of 128 threads up to 4096, of 256 up to 8192; longer rows
// and rows off the 16-byte grid loop over memory. Statistics take two exact passes over the registers.
//
// What comes before a norm, x += gate * branch, stays in the product that makes the branch (gemm.cu): bytes an element, x float32 and
// the rest bf16, are 4 + 4 there and 4 + 2 here. Joined to the norm they would be the same 14 (the branch, 2, written and read again;
// x, 4, read and written; y, 2) and the branch would be rounded once more.
//
// hot: norm_rows, qk_norm_rows
#include "rows.cuh"

namespace
{
struct norm_params { // of the views: base, and strides of a sample and of a row
    const void *x;
    void *y, *y2;
    int64_t x_b, x_r, y_b, y_r, y2_b, y2_r;
    k_view scale, shift, scale2, shift2;
    uint32_t rows, per_sample;
    int dim;
    float one, eps; // scale stands for one + scale
    bool rms;
};

// How many of n things dealt out in turn to `threads` threads went to this warp.
DEV int warp_share(int n, int threads)
{
    int warp = (int)threadIdx.x % threads / WARP, rest = n % threads - warp * WARP;
    return n / threads * WARP + (rest < 0 ? 0 : rest < WARP ? rest : WARP);
}

// Mean of D values of which this warp has `count`, with sum `s` of their distances from `pivot`, one of them: what is summed is as
// small as the spread, and a constant row has its mean exactly. Warps without values have count = 0; warp 0 has some.
template <int THREADS> DEV float row_mean(float s, float pivot, int count, int dim)
{
    const float total = warp_sum(s);
    float mean = count ? pivot + total / (float)count : 0.0f;
    if constexpr (THREADS > WARP) {
        constexpr int WARPS = THREADS / WARP;
        SMEM_ARRAY(float2, part, WARPS);
        if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = make_float2(mean, (float)count);
        __syncthreads();
        pivot = part[0].x;
        s = 0.0f;
#pragma unroll
        for (int w = 1; w < WARPS; w++) s += (part[w].x - pivot) * part[w].y;
        mean = pivot + s / (float)dim;
    }
    return mean;
}

DEV float inverse_root(float sum, const norm_params &p)
{
    return 1.0f / sqrtf(sum / (float)p.dim + p.eps);
}

// h * (one + scale) + shift for 8 elements from column c.
DEV void affine8(float (&v)[8], const k_view &scale, const k_view &shift, float one, int64_t b,
                 int64_t c)
{
    float t[8];
    if (scale.data) {
        load8_as(t, scale.data, scale.dtype, b * scale.stride[0] + c);
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] *= one + t[j];
    }
    if (shift.data) {
        load8_as(t, shift.data, shift.dtype, b * shift.stride[0] + c);
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] += t[j];
    }
}

DEV float affine(float v, const k_view &scale, const k_view &shift, float one, int64_t b, int64_t c)
{
    if (scale.data) v *= one + load_as(scale.data, scale.dtype, b * scale.stride[0] + c);
    if (shift.data) v += load_as(shift.data, shift.dtype, b * shift.stride[0] + c);
    return v;
}

// The row of this thread: sample, row within it, and offset in x. There are fewer than 2^31 rows.
struct place {
    int64_t b, i, x;
};

DEV place place_of(uint32_t row, const norm_params &p)
{
    place at;
    at.b = row / p.per_sample;
    at.i = row % p.per_sample;
    at.x = at.b * p.x_b + at.i * p.x_r;
    return at;
}

// Up to ITEMS vectors of x for each of THREADS threads.
template <typename TX, int THREADS, int ITEMS>
DEV void load_row(float (&v)[ITEMS][8], const norm_params &p, const place &at, int lane, bool live)
{
    const TX *x = static_cast<const TX *>(p.x) + at.x;
    raw8 raw[ITEMS];
#pragma unroll
    for (int k = 0; k < ITEMS; k++) {
        int c = (k * THREADS + lane) * 8;
        raw[k] = raw8();
        if (live && c < p.dim) raw[k] = fetch8(x, dtype_of<TX>::value, c);
    }
#pragma unroll
    for (int k = 0; k < ITEMS; k++) widen8(v[k], raw[k], dtype_of<TX>::value);
}

// THREADS threads a row, ROWS rows a block.
template <typename TX, typename TY, int THREADS, int ROWS, int ITEMS>
__global__ void __launch_bounds__(THREADS *ROWS) norm_rows(const __grid_constant__ norm_params p)
{
    const int lane = (int)threadIdx.x % THREADS;
    const uint32_t row = blockIdx.x * ROWS + threadIdx.x / THREADS;
    const bool live = row < p.rows;
    const place at = place_of(live ? row : 0, p);
    float v[ITEMS][8];
    load_row<TX, THREADS, ITEMS>(v, p, at, lane, live);

    float mean = 0.0f, q = 0.0f;
    if (!p.rms) {
        float pivot = __shfl_sync(FULL_MASK, v[0][0], 0), s = 0.0f;
#pragma unroll
        for (int k = 0; k < ITEMS; k++)
            if ((k * THREADS + lane) * 8 < p.dim)
#pragma unroll
                for (int j = 0; j < 8; j++) s += v[k][j] - pivot;
        mean = row_mean<THREADS>(s, pivot, warp_share(p.dim / 8, THREADS) * 8, p.dim);
    }
#pragma unroll
    for (int k = 0; k < ITEMS; k++)
        if ((k * THREADS + lane) * 8 < p.dim)
#pragma unroll
            for (int j = 0; j < 8; j++) {
                v[k][j] -= mean;
                q = fmaf(v[k][j], v[k][j], q);
            }
    const float inv = inverse_root(block_sum<THREADS>(q), p);

    TY *y = static_cast<TY *>(p.y) + at.b * p.y_b + at.i * p.y_r;
    TY *y2 = p.y2 ? static_cast<TY *>(p.y2) + at.b * p.y2_b + at.i * p.y2_r : nullptr;
#pragma unroll
    for (int k = 0; k < ITEMS; k++) {
        int c = (k * THREADS + lane) * 8;
        if (!live || c >= p.dim) continue;
        float out[8];
        if (y2) {
#pragma unroll
            for (int j = 0; j < 8; j++) out[j] = v[k][j] * inv;
            affine8(out, p.scale2, p.shift2, p.one, at.b, c);
            store8(y2 + c, out);
        }
#pragma unroll
        for (int j = 0; j < 8; j++) out[j] = v[k][j] * inv;
        affine8(out, p.scale, p.shift, p.one, at.b, c);
        store8(y + c, out);
    }
}

// Any row: a block walks it three times, every thread its own columns.
template <typename TX, typename TY, int THREADS>
__global__ void __launch_bounds__(THREADS) norm_long_rows(const __grid_constant__ norm_params p)
{
    const place at = place_of(blockIdx.x, p);
    const TX *x = static_cast<const TX *>(p.x) + at.x;
    float mean = 0.0f, q = 0.0f;
    if (!p.rms) {
        float first = (int)threadIdx.x < p.dim ? to_f(x[threadIdx.x]) : 0.0f;
        float pivot = __shfl_sync(FULL_MASK, first, 0), s = 0.0f;
        for (int c = (int)threadIdx.x; c < p.dim; c += THREADS) s += to_f(x[c]) - pivot;
        mean = row_mean<THREADS>(s, pivot, warp_share(p.dim, THREADS), p.dim);
    }
    for (int c = (int)threadIdx.x; c < p.dim; c += THREADS) {
        float d = to_f(x[c]) - mean;
        q = fmaf(d, d, q);
    }
    const float inv = inverse_root(block_sum<THREADS>(q), p);
    TY *y = static_cast<TY *>(p.y) + at.b * p.y_b + at.i * p.y_r;
    TY *y2 = p.y2 ? static_cast<TY *>(p.y2) + at.b * p.y2_b + at.i * p.y2_r : nullptr;
    for (int c = (int)threadIdx.x; c < p.dim; c += THREADS) {
        float h = (to_f(x[c]) - mean) * inv;
        if (y2) y2[c] = from_f<TY>(affine(h, p.scale2, p.shift2, p.one, at.b, c));
        y[c] = from_f<TY>(affine(h, p.scale, p.shift, p.one, at.b, c));
    }
}

template <typename TX, typename TY> cudaError_t run_rows(const norm_params &p, cudaStream_t stream)
{
    constexpr int WARP_ROWS = 2, WARP_ITEMS = 6, ITEMS = 4;
    if (p.dim <= WARP * WARP_ITEMS * 8)
        return launch((norm_rows<TX, TY, WARP, WARP_ROWS, WARP_ITEMS>),
                      dim3((unsigned)div_up(p.rows, WARP_ROWS)), dim3(WARP * WARP_ROWS), 0, stream,
                      p);
    if (p.dim <= 128 * ITEMS * 8)
        return launch((norm_rows<TX, TY, 128, 1, ITEMS>), dim3(p.rows), dim3(128), 0, stream, p);
    return launch((norm_rows<TX, TY, 256, 1, ITEMS>), dim3(p.rows), dim3(256), 0, stream, p);
}

// ---- q and k ----

struct qk_params {
    void *data[2]; // q, k
    int64_t stride[2][3];
    const float *weight[2]; // absent: no norm
    const float *cos, *sin; // [N, d / 2] or absent
    unsigned rows, heads;   // of one sample and tensor: N * H
    int d;
    float eps;
};

// The elements of row (token, head) of the tensor and sample that blockIdx names.
template <typename T> DEV T *qk_row(const qk_params &p, unsigned token, unsigned head)
{
    const int64_t *stride = p.stride[blockIdx.z];
    return static_cast<T *>(p.data[blockIdx.z]) + blockIdx.y * stride[0] + token * stride[1] +
           head * stride[2];
}

// Sum over the LANES neighbouring lanes that share a row.
template <int LANES> DEV float lanes_sum(float v)
{
#pragma unroll
    for (int o = LANES / 2; o > 0; o >>= 1) v += __shfl_xor_sync(FULL_MASK, v, o);
    return v;
}

// A row lies in LANES lanes, 8 elements each: four rows of d = 64 a warp.
template <typename T, int LANES, int THREADS>
__global__ void __launch_bounds__(THREADS) qk_norm_rows(const __grid_constant__ qk_params p)
{
    const unsigned row = blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
    const int c = (int)(threadIdx.x % LANES) * 8;
    const bool live = row < p.rows && c < p.d;
    const unsigned token = live ? row / p.heads : 0, head = live ? row % p.heads : 0;
    T *x = qk_row<T>(p, token, head) + (live ? c : 0);
    const float *weight = p.weight[blockIdx.z];
    float v[8] = {};
    if (live) load8(v, x);
    if (weight) {
        float q = 0.0f;
#pragma unroll
        for (int j = 0; j < 8; j++) q = fmaf(v[j], v[j], q);
        q = lanes_sum<LANES>(q);
        if (live) {
            float w[8], inv = 1.0f / sqrtf(q / (float)p.d + p.eps);
            load8(w, weight + c);
#pragma unroll
            for (int j = 0; j < 8; j++) v[j] *= inv * w[j];
        }
    }
    if (!live) return;
    if (p.cos) {
        float cs[4], sn[4];
        const int64_t at = (int64_t)token * (p.d / 2) + c / 2;
        load4(cs, p.cos + at);
        load4(sn, p.sin + at);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float x0 = v[2 * j], x1 = v[2 * j + 1];
            v[2 * j] = x0 * cs[j] - x1 * sn[j];
            v[2 * j + 1] = x1 * cs[j] + x0 * sn[j];
        }
    }
    store8(x, v);
}

// Any d, any alignment: a warp a row, every lane its own pairs.
template <typename T, int THREADS>
__global__ void __launch_bounds__(THREADS) qk_norm_any(const __grid_constant__ qk_params p)
{
    const unsigned row = blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
    const int lane = (int)threadIdx.x % WARP, d = row < p.rows ? p.d : 0;
    const unsigned token = d ? row / p.heads : 0, head = d ? row % p.heads : 0;
    T *x = qk_row<T>(p, token, head);
    const float *weight = p.weight[blockIdx.z];
    float inv = 1.0f;
    if (weight) {
        float q = 0.0f;
        for (int c = 2 * lane; c < d; c += 2 * WARP)
            for (int j = c; j < c + 2 && j < d; j++) {
                float v = to_f(x[j]);
                q = fmaf(v, v, q);
            }
        inv = 1.0f / sqrtf(warp_sum(q) / (float)p.d + p.eps);
    }
    for (int c = 2 * lane; c < d; c += 2 * WARP) {
        const bool pair = c + 1 < d;
        float x0 = to_f(x[c]) * inv, x1 = pair ? to_f(x[c + 1]) * inv : 0.0f;
        if (weight) x0 *= weight[c], x1 *= pair ? weight[c + 1] : 0.0f;
        if (p.cos) {
            const int64_t at = (int64_t)token * (d / 2) + c / 2;
            float cs = p.cos[at], sn = p.sin[at], first = x0;
            x0 = first * cs - x1 * sn;
            x1 = x1 * cs + first * sn;
        }
        x[c] = from_f<T>(x0);
        if (pair) x[c + 1] = from_f<T>(x1);
    }
}

template <typename T>
cudaError_t run_qk(const qk_params &p, bool vec, unsigned batch, cudaStream_t stream)
{
    constexpr int THREADS = 256;
    auto grid = [&](int lanes) {
        return dim3((unsigned)div_up(p.rows, THREADS / lanes), batch, 2);
    };
    if (!vec || p.d > 256)
        return launch((qk_norm_any<T, THREADS>), grid(WARP), dim3(THREADS), 0, stream, p);
    if (p.d <= 32)
        return launch((qk_norm_rows<T, 4, THREADS>), grid(4), dim3(THREADS), 0, stream, p);
    if (p.d <= 64)
        return launch((qk_norm_rows<T, 8, THREADS>), grid(8), dim3(THREADS), 0, stream, p);
    if (p.d <= 128)
        return launch((qk_norm_rows<T, 16, THREADS>), grid(16), dim3(THREADS), 0, stream, p);
    return launch((qk_norm_rows<T, 32, THREADS>), grid(32), dim3(THREADS), 0, stream, p);
}
} // namespace

extern "C" cudaError_t k_norm(const k_norm_args *a, cudaStream_t stream)
{
    norm_params p = {};
    p.x = a->x.data, p.x_b = a->x.stride[0], p.x_r = a->x.stride[1];
    p.y = a->y.data, p.y_b = a->y.stride[0], p.y_r = a->y.stride[1];
    p.y2 = a->y2.data, p.y2_b = a->y2.stride[0], p.y2_r = a->y2.stride[1];
    p.scale = a->scale, p.shift = a->shift, p.scale2 = a->scale2, p.shift2 = a->shift2;
    p.rows = (uint32_t)(a->batch * a->rows), p.per_sample = (uint32_t)a->rows;
    p.dim = a->dim, p.eps = a->eps, p.rms = a->rms, p.one = a->plus_one ? 1.0f : 0.0f;
    if (a->batch * a->rows > INT32_MAX || (a->y2.data && a->y2.dtype != a->y.dtype))
        return cudaErrorInvalidValue;
    const bool in_registers = a->dim % 8 == 0 && a->dim <= 8192 && vectors(a->x, 2) &&
                              vectors(a->y, 2) && vectors(a->y2, 2) && vectors(a->scale, 1) &&
                              vectors(a->shift, 1) && vectors(a->scale2, 1) &&
                              vectors(a->shift2, 1);
    return with_storage(a->x.dtype, a->y.dtype, [&](auto tx, auto ty) {
        using TX = typename decltype(tx)::type;
        using TY = typename decltype(ty)::type;
        constexpr int THREADS = 256;
        if constexpr (!mixed_halves<TX, TY>)
            if (in_registers) return run_rows<TX, TY>(p, stream);
        return launch((norm_long_rows<TX, TY, THREADS>), dim3(p.rows), dim3(THREADS), 0, stream, p);
    });
}

extern "C" cudaError_t k_qk_norm_rope(const k_qk_norm_args *a, cudaStream_t stream)
{
    const int64_t rows = a->tokens * a->heads;
    if (rows > INT32_MAX || a->batch > 65535) return cudaErrorInvalidValue;
    if (a->k.dtype != a->q.dtype) return cudaErrorInvalidValue;
    qk_params p = {};
    const k_view *t[2] = {&a->q, &a->k};
    for (int i = 0; i < 2; i++) {
        p.data[i] = t[i]->data;
        for (int j = 0; j < 3; j++) p.stride[i][j] = t[i]->stride[j];
    }
    p.weight[0] = a->weight_q, p.weight[1] = a->weight_k;
    p.cos = a->cos, p.sin = a->sin;
    p.rows = (unsigned)rows, p.heads = (unsigned)a->heads;
    p.d = a->d, p.eps = a->eps;
    const bool vec = a->d % 8 == 0 && vectors(a->q, 3) && vectors(a->k, 3) &&
                     aligned16(a->weight_q) && aligned16(a->weight_k) && aligned16(a->cos) &&
                     aligned16(a->sin);
    const unsigned batch = (unsigned)a->batch;
    return with_type(a->q.dtype, [&](auto tag) {
        return run_qk<typename decltype(tag)::type>(p, vec, batch, stream);
    });
}
