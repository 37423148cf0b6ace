// SPDX-License-Identifier: MIT
// Element-wise kernels over [n0, n1, n2, cols] of any strides, and softmax over short rows.
//
//     activation     y = act(x + bias)             copy            y = x in another storage or order
//     axpby          y = a x + b z                 guidance        y = z + a (x - z)
//     gated_gelu     y = gelu_tanh(x) z            gate_residual   x = x + gate[n0] z
//     sinusoid       y = cos, sin of t 10000^(-i / half)           softmax   y = e^(s x - max) / sum
//
// Memory-bound: a thread moves 8 elements, 16 bytes of a 2-byte type, and all of its loads are under way before it computes.
// Shapes are collapsed on the host, so that contiguous tensors are one long row and cost no division.
#include "act.cuh"
#include "walk.cuh"

namespace
{
constexpr int THREADS = 256;

// V elements a thread.
template <int V> DEV auto fetch(const void *p, k_dtype type, int64_t at)
{
    if constexpr (V == 8)
        return fetch8(p, type, at);
    else
        return load_as(p, type, at);
}

DEV void widen(float (&v)[8], const raw8 &r, k_dtype type)
{
    widen8(v, r, type);
}

DEV void widen(float (&v)[1], float r, k_dtype)
{
    v[0] = r;
}

template <typename T> DEV void store(T *p, const float (&v)[8])
{
    store8(p, v);
}

template <typename T> DEV void store(T *p, const float (&v)[1])
{
    *p = from_f<T>(v[0]);
}

struct unary_params {
    walk w;
    k_view y, x, bias;
    k_act act;
};

template <typename TX, typename TY, int V>
__global__ void __launch_bounds__(THREADS) unary(const __grid_constant__ unary_params p)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= p.w.items) return;
    const spot at = spot_of<V>(p.w, i);
    float v[V];
    widen(v, fetch<V>(p.x.data, dtype_of<TX>::value, at.in(p.x)), dtype_of<TX>::value);
    if (p.bias.data) {
        float bias[V];
        widen(bias, fetch<V>(p.bias.data, p.bias.dtype, at.col), p.bias.dtype);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] += bias[j];
    }
    activate(v, p.act);
    store(static_cast<TY *>(p.y.data) + at.in(p.y), v);
}

enum binary_kind { AXPBY, GUIDANCE, GATED_GELU, GATE_RESIDUAL };

struct binary_params {
    walk w;
    k_view y, x, z, gate; // gate [n0, cols]
    binary_kind kind;
    float a, b;
};

template <int V>
DEV void combine(float (&v)[V], const float (&z)[V], const float (&gate)[V], const binary_params &p)
{
    switch (p.kind) {
    case AXPBY:
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = fmaf(p.a, v[j], p.b * z[j]);
        break;
    case GUIDANCE:
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = fmaf(p.a, v[j] - z[j], z[j]);
        break;
    case GATED_GELU:
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = gelu_tanh(v[j]) * z[j];
        break;
    case GATE_RESIDUAL:
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = fmaf(gate[j], z[j], v[j]);
        break;
    }
}

template <typename TX, typename TY, int V>
__global__ void __launch_bounds__(THREADS) binary(const __grid_constant__ binary_params p)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= p.w.items) return;
    const spot at = spot_of<V>(p.w, i);
    auto rx = fetch<V>(p.x.data, dtype_of<TX>::value, at.in(p.x));
    decltype(rx) rz = {};
    if (p.z.data) rz = fetch<V>(p.z.data, p.z.dtype, at.in(p.z));
    float v[V], z[V], gate[V];
#pragma unroll
    for (int j = 0; j < V; j++) gate[j] = 1.0f;
    if (p.gate.data)
        widen(gate, fetch<V>(p.gate.data, p.gate.dtype, at.n0 * p.gate.stride[0] + at.col),
              p.gate.dtype);
    widen(v, rx, dtype_of<TX>::value);
    widen(z, rz, p.z.dtype);
    combine(v, z, gate, p);
    store(static_cast<TY *>(p.y.data) + at.in(p.y), v);
}

// Bits, unchanged: U is an element, or 16 bytes of them.
struct copy_params {
    walk w;
    k_view y, x; // x absent: value is written
    uint32_t value;
};

DEV uint4 pattern(uint4, uint32_t v)
{
    return make_uint4(v, v, v, v);
}
template <typename U> DEV U pattern(U, uint32_t v)
{
    return (U)v;
}

template <typename U>
__global__ void __launch_bounds__(THREADS) copy_bits(const __grid_constant__ copy_params p)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= p.w.items) return;
    const spot at = spot_of<1>(p.w, i);
    static_cast<U *>(p.y.data)[at.in(p.y)] =
        p.x.data ? static_cast<const U *>(p.x.data)[at.in(p.x)] : pattern(U(), p.value);
}

// Row b: cos in the first half, sin in the second. freq is torch's float32 value: expf there is within 0.51 ulp of exact.
__global__ void __launch_bounds__(THREADS)
    sinusoid(k_view y, const float *t, int64_t batch, int half)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= batch * half) return;
    int64_t b, k;
    split(i, half, b, k);
    const float exponent = __fdiv_rn(__fmul_rn(-9.21034037f, (float)k), (float)half); // -ln 10000
    const float angle = __fmul_rn(t[b], (float)exp((double)exponent));
    store_as(y.data, y.dtype, b * y.stride[0] + k, cosf(angle));
    store_as(y.data, y.dtype, b * y.stride[0] + half + k, sinf(angle));
}

struct softmax_params {
    k_view y, x; // rows stride[0] apart
    int64_t rows;
    int n;
    float scale_log2;
};

constexpr int SOFTMAX_ITEMS = 32; // of a lane, in registers

// A warp a row. All lanes of a warp leave together.
template <typename TX, typename TY, bool SHORT>
__global__ void __launch_bounds__(THREADS) softmax(const __grid_constant__ softmax_params p)
{
    const int64_t row = (int64_t)blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
    const bool live = row < p.rows;
    const int lane = (int)threadIdx.x % WARP, n = live ? p.n : 0;
    const TX *x = static_cast<const TX *>(p.x.data) + (live ? row : 0) * p.x.stride[0];
    TY *y = static_cast<TY *>(p.y.data) + (live ? row : 0) * p.y.stride[0];
    float top = -INFINITY, sum = 0.0f;
    if constexpr (SHORT) {
        float v[SOFTMAX_ITEMS];
#pragma unroll
        for (int k = 0; k < SOFTMAX_ITEMS; k++) {
            int c = k * WARP + lane;
            v[k] = c < n ? to_f(x[c]) * p.scale_log2 : -INFINITY;
            top = fmaxf(top, v[k]);
        }
        top = warp_max(top);
#pragma unroll
        for (int k = 0; k < SOFTMAX_ITEMS; k++) {
            int c = k * WARP + lane;
            v[k] = c < n ? exp2_fast(v[k] - top) : 0.0f;
            sum += v[k];
        }
        sum = warp_sum(sum);
#pragma unroll
        for (int k = 0; k < SOFTMAX_ITEMS; k++) {
            int c = k * WARP + lane;
            if (c < n) y[c] = from_f<TY>(v[k] / sum);
        }
    } else {
        for (int c = lane; c < n; c += WARP) top = fmaxf(top, to_f(x[c]) * p.scale_log2);
        top = warp_max(top);
        for (int c = lane; c < n; c += WARP) sum += exp2_fast(to_f(x[c]) * p.scale_log2 - top);
        sum = warp_sum(sum);
        for (int c = lane; c < n; c += WARP)
            y[c] = from_f<TY>(exp2_fast(to_f(x[c]) * p.scale_log2 - top) / sum);
    }
}

template <typename P> dim3 grid_of(const P &p)
{
    return dim3((unsigned)div_up(p.w.items, THREADS));
}

template <typename TX, typename TY> cudaError_t run_unary(unary_params &p, bool vec, cudaStream_t s)
{
    p.w = counted(p.w, vec ? 8 : 1);
    if (vec) return launch((unary<TX, TY, 8>), grid_of(p), dim3(THREADS), 0, s, p);
    return launch((unary<TX, TY, 1>), grid_of(p), dim3(THREADS), 0, s, p);
}

cudaError_t run_binary(binary_params &p, const int64_t shape[4], cudaStream_t s)
{
    p.w = p.gate.data ? plain(shape) : collapse(shape, {&p.y, &p.x, &p.z});
    const bool mixed = p.x.dtype != p.y.dtype && p.x.dtype != K_F32 && p.y.dtype != K_F32;
    const bool vec = !mixed && p.w.cols % 8 == 0 && vectors(p.y, 3) && vectors(p.x, 3) &&
                     vectors(p.z, 3) && vectors(p.gate, 1);
    p.w = counted(p.w, vec ? 8 : 1);
    return with_storage(p.x.dtype, p.y.dtype, [&](auto tx, auto ty) {
        using TX = typename decltype(tx)::type;
        using TY = typename decltype(ty)::type;
        if constexpr (!mixed_halves<TX, TY>)
            if (vec) return launch((binary<TX, TY, 8>), grid_of(p), dim3(THREADS), 0, s, p);
        return launch((binary<TX, TY, 1>), grid_of(p), dim3(THREADS), 0, s, p);
    });
}

// y = x, or the value where x is absent.
cudaError_t run_copy(copy_params &p, const int64_t shape[4], cudaStream_t s)
{
    const int size = (int)bytes_of(p.y.dtype), per = 16 / size;
    p.w = collapse(shape, {&p.y, &p.x});
    if (p.w.cols % per == 0 && vectors(p.y, 3) && vectors(p.x, 3)) { // in units of 16 bytes
        p.w.cols /= per;
        for (int i = 0; i < 3; i++) p.y.stride[i] /= per, p.x.stride[i] /= per;
        if (size == 2) p.value |= p.value << 16;
        p.w = counted(p.w, 1);
        return launch(copy_bits<uint4>, grid_of(p), dim3(THREADS), 0, s, p);
    }
    p.w = counted(p.w, 1);
    if (size == 4) return launch(copy_bits<uint32_t>, grid_of(p), dim3(THREADS), 0, s, p);
    return launch(copy_bits<uint16_t>, grid_of(p), dim3(THREADS), 0, s, p);
}

template <typename T> uint32_t bits_of(T v)
{
    uint32_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    return bits;
}
} // namespace

extern "C" cudaError_t k_activation(k_view y, k_view x, k_view bias, k_act act,
                                    const int64_t shape[4], cudaStream_t stream)
{
    if (act == K_ACT_NONE && !bias.data && x.dtype == y.dtype) {
        copy_params c = {{}, y, x, 0};
        return run_copy(c, shape, stream);
    }
    unary_params p = {{}, y, x, bias, act};
    p.w = collapse(shape, {&p.y, &p.x}, bias.data != nullptr);
    const bool vec = p.w.cols % 8 == 0 && vectors(p.y, 3) && vectors(p.x, 3) && vectors(bias, 0);
    return with_storage(x.dtype, y.dtype, [&](auto tx, auto ty) {
        return run_unary<typename decltype(tx)::type, typename decltype(ty)::type>(p, vec, stream);
    });
}

extern "C" cudaError_t k_copy(k_view y, k_view x, const int64_t shape[4], cudaStream_t stream)
{
    return k_activation(y, x, k_view(), K_ACT_NONE, shape, stream);
}

extern "C" cudaError_t k_fill(k_view y, float value, const int64_t shape[4], cudaStream_t stream)
{
    copy_params p = {{}, y, {}, 0};
    p.value = y.dtype == K_F32    ? bits_of(value)
              : y.dtype == K_BF16 ? bits_of(__float2bfloat16(value))
                                  : bits_of(__float2half(value));
    return run_copy(p, shape, stream);
}

extern "C" cudaError_t k_axpby(k_view y, float a, k_view x, float b, k_view z,
                               const int64_t shape[4], cudaStream_t stream)
{
    // without z it counts as 0, whatever b: -0 * 0 added keeps the sign of a zero
    binary_params p = {{}, y, x, z, {}, AXPBY, a, z.data ? b : -0.0f};
    return run_binary(p, shape, stream);
}

extern "C" cudaError_t k_guidance(k_view y, k_view cond, k_view uncond, float guidance,
                                  const int64_t shape[4], cudaStream_t stream)
{
    binary_params p = {{}, y, cond, uncond, {}, GUIDANCE, guidance, 0};
    return run_binary(p, shape, stream);
}

extern "C" cudaError_t k_gated_gelu(k_view y, k_view a, k_view b, const int64_t shape[4],
                                    cudaStream_t stream)
{
    binary_params p = {{}, y, a, b, {}, GATED_GELU, 0, 0};
    return run_binary(p, shape, stream);
}

extern "C" cudaError_t k_gate_residual(k_view x, k_view y, k_view gate, int64_t batch, int64_t rows,
                                       int64_t dim, cudaStream_t stream)
{
    const int64_t shape[4] = {batch, 1, rows, dim};
    for (k_view *v : {&x, &y}) {
        v->stride[2] = v->stride[1];
        v->stride[1] = 0;
        if (batch == 1) v->stride[0] = 0;
    }
    binary_params p = {{}, x, x, y, gate, GATE_RESIDUAL, 0, 0};
    return run_binary(p, shape, stream);
}

extern "C" cudaError_t k_sinusoid(k_view y, const float *t, int64_t batch, int dim,
                                  cudaStream_t stream)
{
    return launch(sinusoid, dim3((unsigned)div_up(batch * (dim / 2), THREADS)), dim3(THREADS), 0,
                  stream, y, t, batch, dim / 2);
}

extern "C" cudaError_t k_softmax(k_view y, k_view x, float scale, int64_t rows, int n,
                                 cudaStream_t stream)
{
    softmax_params p = {y, x, rows, n, scale * 1.44269504f}; // log2 e
    const dim3 grid((unsigned)div_up(rows, THREADS / WARP));
    return with_storage(x.dtype, y.dtype, [&](auto tx, auto ty) {
        using TX = typename decltype(tx)::type;
        using TY = typename decltype(ty)::type;
        if constexpr (!mixed_halves<TX, TY>)
            if (n <= WARP * SOFTMAX_ITEMS)
                return launch((softmax<TX, TY, true>), grid, dim3(THREADS), 0, stream, p);
        return launch((softmax<TX, TY, false>), grid, dim3(THREADS), 0, stream, p);
    });
}
