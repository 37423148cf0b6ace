// SPDX-License-Identifier: MIT
// NHWC convolution by oneDNN. Whole maps where nothing has to be converted; else strips of output rows through scratch, exact
// because a strip carries its halo: neither a nearest 2x upsampling nor the floats of a picture exist as a whole map in memory.
#include "backend/cpu/cpu.h"
#include "backend/cpu/dnn.h"
#include <stdlib.h>
#include <string.h>

struct swd_conv {
    struct swd_conv_facts facts;
    dnn_weight *packed;
    float *bias;
    size_t bytes;
};

enum { STRIP_BYTES = 8 << 20, TYPICAL_SIDE = 64 };

static void conv_destroy(swd_backend *b, swd_conv **w)
{
    if (!*w) return;
    cpu_of(b)->weight_bytes -= (*w)->bytes;
    dnn_weight_destroy(&(*w)->packed);
    free((*w)->bias);
    free(*w);
    *w = NULL;
}

static swd_status conv_create(swd_backend *b, swd_conv **out, swd_tensor weight, swd_tensor bias,
                              int stride, int pad_before, int pad_after, bool upsample2x,
                              swd_dtype compute, swd_err *err)
{
    *out = NULL;
    if (weight.ndim != 4 || !tensor_contiguous(weight) ||
        (weight.dtype != SWD_F32 && weight.dtype != SWD_BF16) || stride < 1 || pad_before < 0 ||
        pad_after < 0 || weight.shape[0] < 1 || weight.shape[1] < 1 || weight.shape[2] < 1 ||
        weight.shape[3] < 1 || weight.shape[2] > TYPICAL_SIDE || weight.shape[3] > TYPICAL_SIDE)
        return SWD_FAIL(
            err, SWD_ERR_ARGUMENT,
            "a convolution's weight is F32 or BF16 [O, I, kh, kw], its stride positive");
    const int64_t *d = weight.shape;
    if (tensor_present(bias) && (bias.dtype != SWD_F32 || bias.ndim != 1 || bias.shape[0] != d[0]))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "the bias of a convolution to %lld channels is F32 [O]", (long long)d[0]);
    if (compute == SWD_BF16 && dnn_isa() < DNN_ISA_AVX512) compute = SWD_F32;
    swd_status s = SWD_OK;
    swd_conv *w = calloc(1, sizeof *w);
    if (!w) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a convolution");
    w->facts = (struct swd_conv_facts){
        d[0],   d[1], d[2], d[3], stride, pad_before, pad_after, upsample2x, tensor_present(bias),
        compute};
    w->bias = calloc((size_t)d[0], sizeof *w->bias);
    if (!w->bias) {
        s = SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a bias of %lld", (long long)d[0]);
        goto fail;
    }
    if (tensor_present(bias)) memcpy(w->bias, bias.data, (size_t)d[0] * 4);
    dnn_conv_shape c = {.batch = 1,
                        .in = d[1],
                        .h = TYPICAL_SIDE,
                        .w = TYPICAL_SIDE,
                        .out = d[0],
                        .kh = d[2],
                        .kw = d[3],
                        .stride = stride,
                        .pad_top = pad_before,
                        .pad_left = pad_before,
                        .pad_bottom = pad_after,
                        .pad_right = pad_after};
    c.ho = (c.h + pad_before + pad_after - c.kh) / stride + 1;
    c.wo = (c.w + pad_before + pad_after - c.kw) / stride + 1;
    SWD_TRY_GOTO(
        s, dnn_conv_create(&w->packed, cpu_of(b)->dnn, &c, weight.data, weight.dtype, compute, err),
        err, fail);
    w->bytes = dnn_weight_bytes(w->packed) + (size_t)d[0] * 4;
    cpu_of(b)->weight_bytes += w->bytes;
    *out = w;
    return SWD_OK;
fail:
    conv_destroy(b, &w);
    return s;
}

typedef struct conv_plan {
    bool stage_x, stage_y;
    int64_t h, w, ho, wo,
        rows; // of the map that is convolved (after upsampling); rows: output rows of a strip
    size_t x_bytes, y_bytes;
} conv_plan;

static conv_plan plan_of(const conv_args *a)
{
    const struct swd_conv_facts *f = &a->w->facts;
    int up = f->upsample2x ? 2 : 1;
    conv_plan p = {
        .h = a->x.shape[1] * up, .w = a->x.shape[2] * up, .ho = a->y.shape[1], .wo = a->y.shape[2]};
    p.stage_x = f->upsample2x || a->x.dtype != f->compute;
    p.stage_y = tensor_present(a->residual) || (a->y.dtype != SWD_F32 && a->y.dtype != f->compute);
    int64_t x_row = p.w * f->in * (int64_t)dtype_size(f->compute), y_row = p.wo * f->out * 4;
    int64_t per_row = (p.stage_x ? x_row * f->stride : 0) + (p.stage_y ? y_row : 0);
    p.rows = per_row ? STRIP_BYTES / per_row : p.ho;
    if (p.rows < 8) p.rows = 8;
    if (p.rows > p.ho) p.rows = p.ho;
    int64_t in_rows = (p.rows - 1) * f->stride + f->kh;
    if (p.stage_x) p.x_bytes = ((size_t)((in_rows < p.h ? in_rows : p.h) * x_row) + 63) / 64 * 64;
    if (p.stage_y) p.y_bytes = ((size_t)(p.rows * y_row) + 63) / 64 * 64;
    return p;
}

static size_t conv_workspace(swd_backend *b, const conv_args *a)
{
    (void)b;
    conv_plan p = plan_of(a);
    return p.x_bytes + p.y_bytes;
}

// Rows [first, first + rows) of the (upsampled) map of image img, in the compute dtype.
static void stage_rows(void *to, const conv_args *a, const conv_plan *p, int64_t img, int64_t first,
                       int64_t rows)
{
    const struct swd_conv_facts *f = &a->w->facts;
    int64_t c = f->in, w = a->x.shape[2];
#pragma omp parallel for
    for (int64_t r = 0; r < rows; r++) {
        int64_t source = f->upsample2x ? (first + r) / 2 : first + r,
                at = (img * a->x.shape[1] + source) * w * c;
        if (!f->upsample2x) {
            cpu_convert(to, f->compute, r * p->w * c, a->x.data, a->x.dtype, at, w * c);
            continue;
        }
        for (int64_t i = 0; i < w; i++) {
            int64_t o = (r * p->w + 2 * i) * c;
            cpu_convert(to, f->compute, o, a->x.data, a->x.dtype, at + i * c, c);
            cpu_convert(to, f->compute, o + c, to, f->compute, o, c);
        }
    }
}

static void finish_rows(const conv_args *a, const float *t, int64_t offset, int64_t rows, int64_t n)
{
#pragma omp parallel for
    for (int64_t r = 0; r < rows; r++) {
        float tr[CPU_SPAN], ty[CPU_SPAN];
        for (int64_t i = 0; i < n; i += CPU_SPAN) {
            int64_t m = n - i < CPU_SPAN ? n - i : CPU_SPAN, at = offset + r * n + i;
            const float *v = t + r * n + i;
            if (tensor_present(a->residual)) {
                const float *res = cpu_row_load(tr, a->residual.data, a->residual.dtype, at, m);
                for (int64_t j = 0; j < m; j++) ty[j] = v[j] + res[j];
                v = ty;
            }
            if (a->y.dtype == SWD_U8)
                cpu_rgb8((uint8_t *)a->y.data + at, v, m, a->scale, a->shift);
            else
                cpu_row_store(a->y.data, a->y.dtype, at, v, m);
        }
    }
}

static swd_status conv(swd_backend *b, const conv_args *a, void *ws, swd_stream *stream,
                       swd_err *err)
{
    (void)b, (void)stream;
    const struct swd_conv_facts *f = &a->w->facts;
    conv_plan p = plan_of(a);
    dnn_conv_shape s = {.batch = a->x.shape[0],
                        .in = f->in,
                        .h = p.h,
                        .w = p.w,
                        .out = f->out,
                        .ho = p.ho,
                        .wo = p.wo,
                        .kh = f->kh,
                        .kw = f->kw,
                        .stride = f->stride,
                        .pad_top = f->pad_before,
                        .pad_left = f->pad_before,
                        .pad_bottom = f->pad_after,
                        .pad_right = f->pad_after};
    if (!p.stage_x && !p.stage_y) {
        SWD_TRY(dnn_convolve(a->w->packed, &s, a->y.data, a->y.dtype, a->x.data, a->w->bias, a->act,
                             err),
                err);
        return SWD_OK;
    }
    s.batch = 1;
    unsigned char *xs = ws, *ys = xs + p.x_bytes;
    for (int64_t img = 0; img < a->x.shape[0]; img++)
        for (int64_t o = 0; o < p.ho; o += p.rows) {
            int64_t rows = p.ho - o < p.rows ? p.ho - o : p.rows;
            int64_t top = o * f->stride - f->pad_before,
                    bottom = (o + rows - 1) * f->stride - f->pad_before + f->kh;
            int64_t first = top < 0 ? 0 : top, last = bottom > p.h ? p.h : bottom;
            s.ho = rows;
            s.h = last - first;
            s.pad_top = first - top;
            s.pad_bottom = bottom - last;
            const void *x = xs;
            if (p.stage_x)
                stage_rows(xs, a, &p, img, first, s.h);
            else
                x = (const char *)a->x.data +
                    (size_t)((img * p.h + first) * p.w * f->in) * dtype_size(f->compute);
            int64_t n = p.wo * f->out, at = (img * p.ho + o) * n;
            void *y = p.stage_y ? (void *)ys
                                : (void *)((char *)a->y.data + (size_t)at * dtype_size(a->y.dtype));
            SWD_TRY(dnn_convolve(a->w->packed, &s, y, p.stage_y ? SWD_F32 : a->y.dtype, x,
                                 a->w->bias, a->act, err),
                    err);
            if (p.stage_y) finish_rows(a, (const float *)(void *)ys, at, rows, n);
        }
    return SWD_OK;
}

void cpu_conv_slots(swd_backend *b)
{
    b->conv_create = conv_create;
    b->conv_destroy = conv_destroy;
    b->ops.conv_workspace = conv_workspace;
    b->ops.conv = conv;
}
