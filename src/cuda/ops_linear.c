// SPDX-License-Identifier: MIT
// Linear layers of the backend. A weight is kept in the type of its arithmetic, in rows of whole 16-byte pieces; where the
// arithmetic is float32 it stays as it came and is widened on the way.
#include "backend_cuda.h"
#include "vendor/linear.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct swd_linear {
    struct swd_linear_facts facts;
    void *w;
    k_dtype w_dtype;
    int64_t w_stride;
    float *bias;       // NULL: none
    void *narrow_bias; // for cuBLASLt: in the type of the arithmetic
    bool bias_fits;    // no bit of it is lost there
    size_t bytes;
    vendor_linear *
        *choices; // a list, in memory of its own: who holds the weight as const may add to it
};

static void linear_destroy(swd_backend *b, swd_linear **w)
{
    if (!*w) return;
    cuda_of(b)->weight_bytes -= (*w)->bytes;
    b->release(b, (*w)->w);
    b->release(b, (*w)->bias);
    b->release(b, (*w)->narrow_bias);
    if ((*w)->choices) vendor_linear_free((*w)->choices);
    free((*w)->choices);
    free(*w);
    *w = NULL;
}

static swd_status take(void **out, swd_backend *b, size_t bytes, swd_err *err)
{
    *out = b->alloc(b, bytes);
    if (*out) return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_MEMORY, "no device memory for a linear layer of %zu bytes", bytes);
}

// The weight in another type or with longer rows: some of them at a time come as they are to where the device reads them.
static swd_status pack(const swd_linear *w, swd_backend *b, swd_tensor weight, swd_err *err)
{
    const k_dtype from = cuda_dtype(weight.dtype);
    const size_t row = (size_t)w->facts.k * dtype_size(weight.dtype),
                 packed = (size_t)k_gemm_pitch(w->facts.k) * dtype_size(w->facts.compute);
    const int64_t most = (int64_t)(CUDA_STAGE_BYTES / row);
    if (cuda_planning(b)) return SWD_OK;
    if (most < 1)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "rows of %zu bytes are too long for a weight",
                        row);
    for (int64_t at = 0; at < w->facts.n; at += most) {
        const int64_t n = w->facts.n - at < most ? w->facts.n - at : most;
        swd_tensor raw = tensor2(cuda_of(b)->raw, weight.dtype, n, w->facts.k);
        SWD_TRY(b->upload(b, raw, (const char *)weight.data + row * (size_t)at, NULL, err), err);
        SWD_CUDA(k_gemm_pack((char *)w->w + packed * (size_t)at, w->w_dtype,
                             (k_view){raw.data, from, {0, w->facts.k, 0}}, 1, n, (int)w->facts.k,
                             cuda_stream(b, NULL)),
                 err);
    }
    return SWD_OK;
}

// Whether no bit is lost.
static bool fits(swd_tensor bias, swd_dtype dtype)
{
    const float *x = bias.data;
    for (int64_t i = 0; i < bias.shape[0]; i++) {
        float y = dtype == SWD_BF16 ? bf16_to_f32(f32_to_bf16(x[i])) : f16_to_f32(f32_to_f16(x[i]));
        if (memcmp(&x[i], &y, sizeof y) != 0) return false;
    }
    return true;
}

// cuBLASLt adds a bias of the result's type: where that is exact it may. Published models have such biases. There is room for it in any
// case: how much memory a network takes must not depend on its numbers.
static swd_status narrow(swd_linear *w, swd_backend *b, swd_err *err)
{
    const k_view from = {w->bias, K_F32, {0}};
    const int64_t shape[4] = {1, 1, 1, w->facts.n};
    const size_t bytes = (size_t)w->facts.n * dtype_size(w->facts.compute);
    SWD_TRY(take(&w->narrow_bias, b, bytes, err), err);
    w->bytes += bytes;
    if (cuda_planning(b)) return SWD_OK;
    const k_view to = {w->narrow_bias, cuda_dtype(w->facts.compute), {0}};
    SWD_CUDA(k_copy(to, from, shape, cuda_stream(b, NULL)), err);
    return SWD_OK;
}

static swd_status fill(swd_linear *w, swd_backend *b, swd_tensor weight, swd_tensor bias,
                       swd_err *err)
{
    const bool plain = w->facts.compute == SWD_F32;
    w->w_dtype = cuda_dtype(plain ? weight.dtype : w->facts.compute);
    w->w_stride = plain ? w->facts.k : k_gemm_pitch(w->facts.k);
    swd_dtype stored = plain ? weight.dtype : w->facts.compute;
    size_t bytes = (size_t)(w->facts.n * w->w_stride) * dtype_size(stored);
    SWD_TRY(take(&w->w, b, bytes, err), err);
    if (stored == weight.dtype && w->w_stride == w->facts.k) {
        swd_tensor to = weight;
        to.data = w->w;
        SWD_TRY(b->upload(b, to, weight.data, NULL, err), err);
    } else {
        SWD_TRY(pack(w, b, weight, err), err);
    }
    if (w->facts.has_bias) {
        void *p;
        SWD_TRY(take(&p, b, tensor_bytes(bias), err), err);
        w->bias = p;
        SWD_TRY(b->upload(b, tensor1(p, SWD_F32, w->facts.n), bias.data, NULL, err), err);
        bytes += tensor_bytes(bias);
    }
    w->bytes = bytes;
    swd_status s = SWD_OK;
    if (w->bias && !plain && vendor_cublaslt(b)) {
        w->bias_fits = !cuda_planning(b) && fits(bias, w->facts.compute);
        s = narrow(w, b, err);
    }
    cuda_of(b)->weight_bytes += w->bytes;
    return s;
}

static swd_status check(swd_tensor weight, swd_tensor bias, swd_dtype compute, swd_err *err)
{
    if (weight.ndim != 2 || !tensor_contiguous(weight) ||
        (weight.dtype != SWD_F32 && weight.dtype != SWD_BF16 &&
         (weight.dtype != SWD_F16 || compute == SWD_F32)) ||
        weight.shape[0] < 1 || weight.shape[1] < 1 || weight.shape[0] > INT_MAX / 2 ||
        weight.shape[1] > INT_MAX / 2)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a linear weight is F32 or BF16 [N, K]");
    if (tensor_present(bias) &&
        (bias.dtype != SWD_F32 || bias.ndim != 1 || bias.shape[0] != weight.shape[0]))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "the bias of a linear layer [%lld, %lld] is F32 [N]",
                        (long long)weight.shape[0], (long long)weight.shape[1]);
    if (compute != SWD_F32 && compute != SWD_BF16 && compute != SWD_F16)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "linear layers compute in F32, BF16 or F16, not %s",
                        dtype_name(compute));
    return SWD_OK;
}

static swd_status linear_create(swd_backend *b, swd_linear **out, swd_tensor weight,
                                swd_tensor bias, swd_dtype compute, swd_err *err)
{
    *out = NULL;
    SWD_TRY(check(weight, bias, compute, err), err);
    swd_linear *w = calloc(1, sizeof *w);
    if (!w) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a linear layer");
    w->facts =
        (struct swd_linear_facts){weight.shape[0], weight.shape[1], tensor_present(bias), compute};
    w->choices = calloc(1, sizeof *w->choices);
    swd_status s = w->choices ? fill(w, b, weight, bias, err)
                              : SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a linear layer");
    if (s != SWD_OK) linear_destroy(b, &w);
    SWD_TRY(s, err);
    *out = w;
    return SWD_OK;
}

// Rows of 1, 2 or 3 dimensions as [batch, rows, ..].
static k_view rows_of(swd_tensor t)
{
    k_view v = cuda_view(t);
    if (t.ndim == 2) v.stride[1] = v.stride[0];
    if (t.ndim < 3) v.stride[0] = 0;
    if (t.ndim < 2) v.stride[1] = 0;
    return v;
}

static k_gemm_args args_of(const linear_args *a)
{
    const swd_linear *w = a->w;
    return (k_gemm_args){.y = rows_of(a->y),
                         .x = rows_of(a->x),
                         .w = w->w,
                         .w_dtype = w->w_dtype,
                         .w_stride = w->w_stride,
                         .bias = w->bias,
                         .act = (k_act)a->act,
                         .residual = rows_of(a->residual),
                         .gate = cuda_view(a->gate),
                         .batch = a->x.ndim == 3 ? a->x.shape[0] : 1,
                         .rows = a->x.ndim == 1 ? 1 : a->x.shape[a->x.ndim - 2],
                         .n = (int)w->facts.n,
                         .k = (int)w->facts.k,
                         .compute = cuda_dtype(w->facts.compute)};
}

// Rows of 2 dimensions may be samples: only our kernels give each the bytes that it would have alone.
static const vendor_linear *choice_of(swd_backend *b, const linear_args *a, const k_gemm_args *k)
{
    if (a->x.ndim != 3) return NULL;
    return vendor_linear_choice(a->w->choices, k, a->w->bias_fits ? a->w->narrow_bias : NULL, b);
}

static size_t linear_workspace(swd_backend *b, const linear_args *a)
{
    const k_gemm_args k = args_of(a);
    const vendor_linear *o = choice_of(b, a, &k);
    size_t ours = k_gemm_workspace(&k), theirs = o ? vendor_linear_workspace(o) : 0;
    if (cuda_planning(b) && a->x.ndim == 3) theirs = vendor_linear_planned(&k, b);
    return theirs > ours ? theirs : ours;
}

static swd_status linear(swd_backend *b, const linear_args *a, void *ws, swd_stream *stream,
                         swd_err *err)
{
    const k_gemm_args k = args_of(a);
    const vendor_linear *o = choice_of(b, a, &k);
    SWD_TRY(vendor_told(b, err), err);
    if (o && vendor_linear_takes(&k))
        return vendor_linear_run(o, &k, ws, cuda_stream(b, stream), err);
    SWD_CUDA(k_gemm(&k, ws, cuda_stream(b, stream)), err);
    return SWD_OK;
}

/* ---- for training ---- */

static bool linear_view(swd_backend *b, swd_tensor *out, const swd_linear *w)
{
    (void)b;
    if (w->w_dtype != cuda_dtype(w->facts.compute)) return false;
    *out = tensor2(w->w, w->facts.compute, w->facts.n, w->facts.k);
    out->stride[0] = w->w_stride;
    return true;
}

static swd_status linear_plain(swd_backend *b, swd_tensor out, const swd_linear *w, swd_err *err)
{
    const int64_t n = w->facts.n, k = w->facts.k, shape[4] = {1, 1, n, k};
    if (out.ndim != 2 || !tensor_contiguous(out) || out.dtype != w->facts.compute ||
        out.shape[0] != n || out.shape[1] != k)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a plain weight is [%lld, %lld] in %s", (long long)n,
                        (long long)k, dtype_name(w->facts.compute));
    if (cuda_planning(b)) return SWD_OK;
    const k_view to = {out.data, cuda_dtype(out.dtype), {0, 0, k}},
                 from = {w->w, w->w_dtype, {0, 0, w->w_stride}};
    SWD_CUDA(k_copy(to, from, shape, cuda_stream(b, NULL)), err);
    return SWD_OK;
}

void cuda_linear_slots(swd_backend *b)
{
    b->linear_plain = linear_plain;
    b->linear_view = linear_view;
    b->linear_create = linear_create;
    b->linear_destroy = linear_destroy;
    b->ops.linear_workspace = linear_workspace;
    b->ops.linear = linear;
}
