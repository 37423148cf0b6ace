// SPDX-License-Identifier: MIT
// The work of fake_vendor.h: one element of the result a thread, sums in double.
#include "dev.cuh"
#include "fake_vendor.h"

namespace
{
constexpr int THREADS = 64;

DEV double load(const void *p, int dtype, int64_t at)
{
    if (dtype == DNN_BF16)
        return static_cast<double>(to_f(static_cast<const __nv_bfloat16 *>(p)[at]));
    if (dtype == DNN_HALF) return static_cast<double>(to_f(static_cast<const __half *>(p)[at]));
    return static_cast<double>(static_cast<const float *>(p)[at]);
}

DEV void store(void *p, int dtype, int64_t at, double v)
{
    if (dtype == DNN_BF16)
        static_cast<__nv_bfloat16 *>(p)[at] = from_f<__nv_bfloat16>(static_cast<float>(v));
    else if (dtype == DNN_HALF)
        static_cast<__half *>(p)[at] = from_f<__half>(static_cast<float>(v));
    else
        static_cast<float *>(p)[at] = static_cast<float>(v);
}

DEV int64_t this_thread()
{
    return static_cast<int64_t>(blockIdx.x) * THREADS + static_cast<int64_t>(threadIdx.x);
}

dim3 blocks(int64_t n)
{
    return dim3(static_cast<unsigned>((n + THREADS - 1) / THREADS));
}

DEV int dtype_of(int type)
{
    return type == CUDA_R_16BF ? DNN_BF16 : type == CUDA_R_16F ? DNN_HALF : DNN_FLOAT;
}

__global__ void fake_product(const __grid_constant__ fake_gemm g)
{
    const int64_t id = this_thread();
    if (id >= g.m * g.n) return;
    const int64_t i = id % g.m, j = id / g.m;
    const int in = dtype_of(g.operand), out = dtype_of(g.result);
    double sum = i == 3 ? static_cast<double>(g.wrong) : 0.0;
    for (int64_t k = 0; k < g.k; k++)
        sum += load(g.a, in, g.transpose[0] ? k + i * g.lda : i + k * g.lda) *
               load(g.b, in, g.transpose[1] ? j + k * g.ldb : k + j * g.ldb);
    if (g.beta != 0.0f) sum += load(g.c, out, i + j * g.ldd);
    if (g.epilogue & LT_EPILOGUE_BIAS) sum += load(g.bias, out, i);
    if (g.epilogue & LT_EPILOGUE_RELU) sum = sum > 0 ? sum : 0;
    if (g.epilogue & LT_EPILOGUE_GELU)
        sum = 0.5 * sum * (1 + tanh(0.79788456080286536 * (sum + 0.044715 * sum * sum * sum)));
    store(g.d, out, i + j * g.ldd, sum);
}

__global__ void fake_scribble(unsigned char *workspace, int64_t n)
{
    const int64_t id = this_thread();
    if (id < n) workspace[id] = 0xa5;
}

struct place {
    int64_t at[4];
};

DEV int64_t elements(const fake_map &m)
{
    return m.dim[0] * m.dim[1] * m.dim[2] * m.dim[3];
}

DEV place place_of(const fake_map &m, int64_t id)
{
    place p;
    for (int d = 3; d >= 0; d--) {
        p.at[d] = id % m.dim[d];
        id /= m.dim[d];
    }
    return p;
}

// A dimension of 1 repeats.
DEV int64_t offset(const fake_map &m, const place &p)
{
    int64_t at = 0;
    for (int d = 0; d < 4; d++) at += m.dim[d] == 1 ? 0 : p.at[d] * m.stride[d];
    return at;
}

constexpr int HEAD_DIM_MAX = 512;

// A row of a head a thread, first the largest score, then the sums.
__global__ void fake_attention(const __grid_constant__ fake_map o,
                               const __grid_constant__ fake_map q,
                               const __grid_constant__ fake_map k,
                               const __grid_constant__ fake_map v, float scale)
{
    const int64_t id = this_thread(), d = o.dim[3];
    if (id >= o.dim[1] * o.dim[2]) return;
    const int64_t head = id / o.dim[2], row = id % o.dim[2];
    double total[HEAD_DIM_MAX];
    double most = -1e300, sum = 0;
    for (int64_t c = 0; c < d; c++) total[c] = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = 0; j < k.dim[2]; j++) {
            double s = 0;
            for (int64_t c = 0; c < d; c++)
                s += load(q.data, q.dtype, head * q.stride[1] + row * q.stride[2] + c) *
                     load(k.data, k.dtype, head * k.stride[1] + j * k.stride[2] + c);
            s *= static_cast<double>(scale);
            if (pass == 0) most = s > most ? s : most;
            if (pass == 0) continue;
            const double e = exp(s - most);
            sum += e;
            for (int64_t c = 0; c < d; c++)
                total[c] += e * load(v.data, v.dtype, head * v.stride[1] + j * v.stride[2] + c);
        }
    for (int64_t c = 0; c < d; c++)
        store(o.data, o.dtype, head * o.stride[1] + row * o.stride[2] + c, total[c] / sum);
}

__global__ void fake_pointwise(int mode, const __grid_constant__ fake_map y,
                               const __grid_constant__ fake_map x,
                               const __grid_constant__ fake_map b)
{
    const int64_t id = this_thread();
    if (id >= elements(y)) return;
    const place p = place_of(y, id);
    const double u = load(x.data, x.dtype, offset(x, p));
    const double r = mode == DNN_POINTWISE_ADD ? u + load(b.data, b.dtype, offset(b, p))
                     : u > 0                   ? u
                                               : 0;
    store(y.data, y.dtype, offset(y, p), r);
}

struct window {
    int64_t stride, pad[2];
};

__global__ void fake_conv(const __grid_constant__ fake_map y, const __grid_constant__ fake_map x,
                          const __grid_constant__ fake_map w, const __grid_constant__ window s)
{
    const int64_t id = this_thread();
    if (id >= elements(y)) return;
    const place p = place_of(y, id);
    double sum = 0;
    for (int64_t i = 0; i < w.dim[2]; i++)
        for (int64_t j = 0; j < w.dim[3]; j++) {
            const int64_t row = p.at[2] * s.stride + i - s.pad[0],
                          column = p.at[3] * s.stride + j - s.pad[1];
            if (row < 0 || row >= x.dim[2] || column < 0 || column >= x.dim[3]) continue;
            for (int64_t c = 0; c < w.dim[1]; c++)
                sum += load(x.data, x.dtype,
                            row * x.stride[2] + column * x.stride[3] + c * x.stride[1]) *
                       load(w.data, w.dtype,
                            p.at[1] * w.stride[0] + c * w.stride[1] + i * w.stride[2] +
                                j * w.stride[3]);
        }
    store(y.data, y.dtype, offset(y, p), sum);
}

int64_t count(const fake_map *m)
{
    return m->dim[0] * m->dim[1] * m->dim[2] * m->dim[3];
}
} // namespace

extern "C" cudaError_t fake_gemm_launch(const fake_gemm *g, cudaStream_t stream)
{
    return launch(fake_product, blocks(g->m * g->n), dim3(THREADS), 0, stream, *g);
}

extern "C" cudaError_t fake_scribble_launch(void *workspace, size_t bytes, cudaStream_t stream)
{
    if (!bytes) return cudaSuccess;
    const int64_t n = static_cast<int64_t>(bytes);
    return launch(fake_scribble, blocks(n), dim3(THREADS), 0, stream,
                  static_cast<unsigned char *>(workspace), n);
}

extern "C" cudaError_t fake_attention_launch(const fake_map *o, const fake_map *q,
                                             const fake_map *k, const fake_map *v, float scale,
                                             cudaStream_t stream)
{
    return launch(fake_attention, blocks(o->dim[1] * o->dim[2]), dim3(THREADS), 0, stream, *o, *q,
                  *k, *v, scale);
}

extern "C" cudaError_t fake_pointwise_launch(int mode, const fake_map *y, const fake_map *x,
                                             const fake_map *b, cudaStream_t stream)
{
    const fake_map none = {};
    return launch(fake_pointwise, blocks(count(y)), dim3(THREADS), 0, stream, mode, *y, *x,
                  b ? *b : none);
}

extern "C" cudaError_t fake_conv_launch(const fake_map *y, const fake_map *x, const fake_map *w,
                                        int64_t stride, const int64_t pad[2], cudaStream_t stream)
{
    const window s = {stride, {pad[0], pad[1]}};
    return launch(fake_conv, blocks(count(y)), dim3(THREADS), 0, stream, *y, *x, *w, s);
}
