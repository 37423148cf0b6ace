// SPDX-License-Identifier: MIT
// Convolutions of the backend, on kernels/conv.cu: weights packed on the device when they are made.
#include "backend_cuda.h"
#include "vendor/conv.h"
#include <stdlib.h>

enum {
    KERNEL_MAX = 64,
    FILTERS_MAX = 65536, // samples of a change of layout
    SIDE_MAX = 1 << 24
}; // kh, kw; h, w, batch and channels: sums of them are int

struct swd_conv {
    struct swd_conv_facts facts;
    k_conv_shape shape;
    k_dtype packed_dtype;
    void *packed;
    float *bias;  // NULL: none
    void *filter; // for cuDNN: [out, kh, kw, in], where it may want the work
    size_t bytes;
};

static void conv_destroy(swd_backend *b, swd_conv **w)
{
    if (!*w) return;
    cuda_of(b)->weight_bytes -= (*w)->bytes;
    b->release(b, (*w)->packed);
    b->release(b, (*w)->bias);
    b->release(b, (*w)->filter);
    free(*w);
    *w = NULL;
}

static swd_status take(void **out, swd_backend *b, size_t bytes, swd_err *err)
{
    *out = b->alloc(b, bytes);
    if (*out) return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_MEMORY, "no device memory for a convolution of %zu bytes", bytes);
}

// Packs the weight by way of a copy as it is.
static swd_status pack(swd_conv *w, swd_backend *b, swd_tensor weight, swd_err *err)
{
    cudaStream_t stream = cuda_stream(b, NULL);
    swd_tensor raw = weight;
    if (cuda_planning(b)) return SWD_OK;
    SWD_CUDA(cudaMallocAsync(&raw.data, tensor_bytes(weight), stream), err);
    swd_status s = b->upload(b, raw, weight.data, NULL, err);
    if (s == SWD_OK)
        s = cuda_status(
            k_conv_pack(w->packed, raw.data, cuda_dtype(weight.dtype), &w->shape, stream),
            "k_conv_pack", err);
    if (s == SWD_OK && w->filter) {
        const k_dtype to = cuda_dtype(w->facts.compute), from = cuda_dtype(weight.dtype);
        s = cuda_status(k_nchw_to_nhwc((k_view){w->filter, to, {0}}, (k_view){raw.data, from, {0}},
                                       1, 0, w->facts.out, w->facts.in, w->facts.kh * w->facts.kw,
                                       stream),
                        "k_nchw_to_nhwc", err);
    }
    (void)cudaFreeAsync(raw.data, stream);
    return s;
}

static swd_status fill(swd_conv *w, swd_backend *b, swd_tensor weight, swd_tensor bias,
                       swd_err *err)
{
    k_dtype dtype = cuda_dtype(weight.dtype);
    size_t packed = k_conv_packed_bytes(&w->shape, dtype);
    w->packed_dtype = k_conv_packed_dtype(&w->shape, dtype);
    SWD_TRY(take(&w->packed, b, packed, err), err);
    if (tensor_present(bias)) {
        void *p;
        SWD_TRY(take(&p, b, tensor_bytes(bias), err), err);
        w->bias = p;
        swd_tensor to = tensor1(p, SWD_F32, bias.shape[0]);
        SWD_TRY(b->upload(b, to, bias.data, NULL, err), err);
    }
    size_t filter = 0;
    if (weight.shape[0] < FILTERS_MAX && vendor_conv_wants(&w->shape, b)) {
        filter = (size_t)tensor_numel(weight) * dtype_size(w->facts.compute);
        SWD_TRY(take(&w->filter, b, filter, err), err);
    }
    SWD_TRY(pack(w, b, weight, err), err);
    w->bytes = packed + filter + (w->bias ? tensor_bytes(bias) : 0);
    cuda_of(b)->weight_bytes += w->bytes;
    return SWD_OK;
}

static swd_status check(swd_tensor weight, swd_tensor bias, int stride, int pad_before,
                        int pad_after, swd_dtype compute, swd_err *err)
{
    const int64_t *d = weight.shape;
    if (weight.ndim != 4 || !tensor_contiguous(weight) ||
        (weight.dtype != SWD_F32 && weight.dtype != SWD_BF16) || stride < 1 || pad_before < 0 ||
        pad_after < 0 || d[0] < 1 || d[1] < 1 || d[2] < 1 || d[3] < 1 || d[0] > SIDE_MAX ||
        d[1] > SIDE_MAX || d[2] > KERNEL_MAX || d[3] > KERNEL_MAX)
        return SWD_FAIL(
            err, SWD_ERR_ARGUMENT,
            "a convolution's weight is F32 or BF16 [O, I, kh, kw], its stride positive");
    if (tensor_present(bias) && (bias.dtype != SWD_F32 || bias.ndim != 1 || bias.shape[0] != d[0]))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "the bias of a convolution to %lld channels is F32 [O]", (long long)d[0]);
    if (compute != SWD_F32 && compute != SWD_BF16 && compute != SWD_F16)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "convolutions compute in F32, BF16 or F16, not %s",
                        dtype_name(compute));
    return SWD_OK;
}

static swd_status conv_create(swd_backend *b, swd_conv **out, swd_tensor weight, swd_tensor bias,
                              int stride, int pad_before, int pad_after, bool upsample2x,
                              swd_dtype compute, swd_err *err)
{
    *out = NULL;
    SWD_TRY(check(weight, bias, stride, pad_before, pad_after, compute, err), err);
    const int64_t *d = weight.shape;
    swd_conv *w = calloc(1, sizeof *w);
    if (!w) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a convolution");
    w->facts = (struct swd_conv_facts){
        d[0],   d[1], d[2], d[3], stride, pad_before, pad_after, upsample2x, tensor_present(bias),
        compute};
    w->shape = (k_conv_shape){.out = (int)d[0],
                              .in = (int)d[1],
                              .kh = (int)d[2],
                              .kw = (int)d[3],
                              .stride = stride,
                              .pad = pad_before,
                              .upsample2x = upsample2x,
                              .compute = cuda_dtype(compute)};
    swd_status s = fill(w, b, weight, bias, err);
    if (s != SWD_OK) conv_destroy(b, &w);
    SWD_TRY(s, err);
    *out = w;
    return SWD_OK;
}

static k_conv_args args_of(const conv_args *a)
{
    const bool rgb = a->y.dtype == SWD_U8, add = tensor_present(a->residual);
    return (k_conv_args){.shape = a->w->shape,
                         .y = rgb ? NULL : a->y.data,
                         .x = a->x.data,
                         .residual = add ? a->residual.data : NULL,
                         .packed = a->w->packed,
                         .bias = a->w->bias,
                         .y_dtype = rgb ? K_F32 : cuda_dtype(a->y.dtype),
                         .x_dtype = cuda_dtype(a->x.dtype),
                         .residual_dtype = add ? cuda_dtype(a->residual.dtype) : K_F32,
                         .packed_dtype = a->w->packed_dtype,
                         .batch = (int)a->x.shape[0],
                         .h = (int)a->x.shape[1],
                         .w = (int)a->x.shape[2],
                         .ho = (int)a->y.shape[1],
                         .wo = (int)a->y.shape[2],
                         .act = (k_act)a->act};
}

static vendor_conv vendor_args(const conv_args *a)
{
    return (vendor_conv){args_of(a), a->w->filter, tensor_present(a->residual)};
}

static size_t conv_workspace(swd_backend *b, const conv_args *a)
{
    const vendor_conv c = vendor_args(a);
    if (a->y.dtype == SWD_U8) return k_conv_rgb8_workspace(&c.args);
    if (cuda_planning(b)) return vendor_conv_planned(&c, b);
    const graph_choice *o = vendor_conv_choice(&c, b);
    return o ? graph_choice_workspace(o) : 0;
}

static swd_status conv(swd_backend *b, const conv_args *a, void *ws, swd_stream *s, swd_err *err)
{
    for (int i = 0; i < 3; i++)
        if (a->x.shape[i] > SIDE_MAX || a->y.shape[i] > SIDE_MAX)
            return SWD_FAIL(
                err, SWD_ERR_UNSUPPORTED, "a map of a side of %lld is too large",
                (long long)(a->x.shape[i] > a->y.shape[i] ? a->x.shape[i] : a->y.shape[i]));
    const vendor_conv c = vendor_args(a);
    if (a->y.dtype == SWD_U8) {
        SWD_CUDA(k_conv_rgb8(a->y.data, &c.args, a->scale, a->shift, ws, cuda_stream(b, s)), err);
        return SWD_OK;
    }
    const graph_choice *o = vendor_conv_choice(&c, b);
    SWD_TRY(vendor_told(b, err), err);
    if (o && vendor_conv_takes(&c)) return vendor_conv_run(o, &c, ws, cuda_stream(b, s), err);
    SWD_CUDA(k_conv(&c.args, cuda_stream(b, s)), err);
    return SWD_OK;
}

void cuda_conv_slots(swd_backend *b)
{
    b->conv_create = conv_create;
    b->conv_destroy = conv_destroy;
    b->ops.conv_workspace = conv_workspace;
    b->ops.conv = conv;
}
