// SPDX-License-Identifier: MIT
// Backward passes that are products, rows or sums of rows; the optimizer. Sums over rows: a task owns some columns and walks all
// rows in order, in double, so that the number of threads changes nothing.
#include "backend/cpu/cpu_backward.h"
#include "backend/cpu/dnn.h"
#include "backend/cpu/simd.h"
#include "backend/resize_taps.h"
#include <math.h>
#include <string.h>

void cpu_grad_store(swd_grad g, int64_t offset, float *src, int64_t n)
{
    if (g.add) {
        float tmp[CPU_SPAN];
        for (int64_t i = 0; i < n; i += CPU_SPAN) {
            int64_t m = n - i < CPU_SPAN ? n - i : CPU_SPAN;
            const float *old = cpu_row_load(tmp, g.t.data, g.t.dtype, offset + i, m);
            for (int64_t j = 0; j < m; j++) src[i + j] += old[j];
        }
    }
    cpu_row_store(g.t.data, g.t.dtype, offset, src, n);
}

static size_t gemm_workspace(swd_backend *b, const gemm_args *a)
{
    (void)b, (void)a;
    return 0;
}

static swd_status gemm(swd_backend *b, const gemm_args *a, void *ws, swd_stream *s, swd_err *err)
{
    (void)ws, (void)s;
    dnn_gemm_shape shape = {.m = a->c.shape[0],
                            .n = a->c.shape[1],
                            .k = a->a.shape[1],
                            .a_stride = {a->a.stride[0], a->a.stride[1]},
                            .b_stride = {a->b.stride[0], a->b.stride[1]},
                            .c_stride = a->c.shape[0] == 1 ? a->c.shape[1] : a->c.stride[0],
                            .dtype = a->a.dtype,
                            .c_dtype = a->c.dtype,
                            .bias = tensor_present(a->bias),
                            .add = a->add};
    return dnn_gemm(cpu_of(b)->dnn, &shape, a->c.data, a->a.data, a->b.data, a->bias.data, err);
}

// Pieces of rows, in parallel.
#define FOR_SPANS(t)                                                                               \
    const int64_t row_ = (t).shape[(t).ndim - 1], per_ = (row_ + CPU_SPAN - 1) / CPU_SPAN,         \
                  all_ = cpu_rows(t) * per_;                                                       \
    const bool worth_ = cpu_worth(cpu_rows(t) * row_);                                             \
    (void)worth_;                                                                                  \
    _Pragma("omp parallel for if (worth_)") for (int64_t span_ = 0; span_ < all_; span_++)
#define SPAN_AT(r, c, n)                                                                           \
    const int64_t r = span_ / per_, c = span_ % per_ * CPU_SPAN,                                   \
                  n = row_ - c < CPU_SPAN ? row_ - c : CPU_SPAN

static const float *load(float *tmp, swd_tensor t, int64_t r, int64_t c, int64_t n)
{
    return cpu_row_load(tmp, t.data, t.dtype, cpu_row_offset(t, r) + c, n);
}

static swd_status activation(swd_backend *b, swd_grad dx, swd_tensor x, swd_tensor dy, swd_act act,
                             swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    const simd_table *simd = simd_pick();
    FOR_SPANS(x)
    {
        SPAN_AT(r, c, n);
        float out[CPU_SPAN], tx[CPU_SPAN], td[CPU_SPAN];
        simd->activate_backward(out, load(tx, x, r, c, n), load(td, dy, r, c, n), n, act);
        cpu_grad_store(dx, cpu_row_offset(dx.t, r) + c, out, n);
    }
    return SWD_OK;
}

// Columns [c, c + n) of sums over rows [first, first + rows) of d, or of d * y.
static void sum_rows(swd_grad sums, int64_t to, swd_tensor d, swd_tensor y, int64_t first,
                     int64_t rows, int64_t c, int64_t n)
{
    double acc[SUM_COLUMNS] = {0};
    float td[SUM_COLUMNS], ty[SUM_COLUMNS];
    for (int64_t r = first; r < first + rows; r++) {
        const float *pd = load(td, d, r, c, n);
        if (tensor_present(y)) {
            const float *py = load(ty, y, r, c, n);
            for (int64_t i = 0; i < n; i++) acc[i] += (double)pd[i] * (double)py[i];
        } else {
            for (int64_t i = 0; i < n; i++) acc[i] += (double)pd[i];
        }
    }
    for (int64_t i = 0; i < n; i++) td[i] = (float)acc[i];
    cpu_grad_store(sums, to + c, td, n);
}

static size_t sums_workspace(swd_backend *b, swd_tensor d, bool per_sample)
{
    (void)b, (void)d, (void)per_sample;
    return 0;
}

static swd_status column_sums(swd_backend *b, swd_grad sums, swd_tensor d, void *ws, swd_stream *s,
                              swd_err *err)
{
    (void)b, (void)ws, (void)s, (void)err;
    int64_t width = d.shape[d.ndim - 1], rows = cpu_rows(d);
#pragma omp parallel for if (cpu_worth(rows * width))
    for (int64_t c = 0; c < width; c += SUM_COLUMNS)
        sum_rows(sums, 0, d, tensor_none(), 0, rows, c,
                 width - c < SUM_COLUMNS ? width - c : SUM_COLUMNS);
    return SWD_OK;
}

static swd_status gate(swd_backend *b, swd_grad dy, swd_grad dgate, swd_tensor d, swd_tensor y,
                       swd_tensor g, void *ws, swd_stream *s, swd_err *err)
{
    (void)b, (void)ws, (void)s, (void)err;
    int64_t width = d.shape[d.ndim - 1], rows = d.ndim == 3 ? d.shape[1] : 1,
            per = (width + SUM_COLUMNS - 1) / SUM_COLUMNS;
    if (tensor_present(dgate.t)) {
#pragma omp parallel for
        for (int64_t i = 0; i < d.shape[0] * per; i++) {
            int64_t sample = i / per, c = i % per * SUM_COLUMNS;
            sum_rows(dgate, sample * dgate.t.stride[0], d, y, sample * rows, rows, c,
                     width - c < SUM_COLUMNS ? width - c : SUM_COLUMNS);
        }
    }
    if (!tensor_present(dy.t)) return SWD_OK;
    FOR_SPANS(d)
    {
        SPAN_AT(r, c, n);
        float out[CPU_SPAN], tg[CPU_SPAN];
        const float *pd = load(out, d, r, c, n);
        if (tensor_present(g)) {
            const float *pg = load(tg, g, r / rows, c, n);
            for (int64_t i = 0; i < n; i++) out[i] = pd[i] * pg[i];
        } else if (pd != out) {
            memcpy(out, pd, (size_t)n * sizeof *out);
        }
        cpu_grad_store(dy, cpu_row_offset(dy.t, r) + c, out, n);
    }
    return SWD_OK;
}

// tokens [B, h/p * w/p, ...] <-> latents: where element i of token t lies, in the order (c, p, q), or (p, q, c) where channels are inner
static int64_t latent_of(swd_tensor latents, int patch, bool inner_channel, int64_t img, int64_t t,
                         int64_t i)
{
    int64_t c = latents.shape[1], h = latents.shape[2], w = latents.shape[3], grid_w = w / patch;
    int64_t ch = inner_channel ? i % c : i / patch / patch, q = (inner_channel ? i / c : i) % patch,
            p = (inner_channel ? i / c : i) / patch % patch;
    return ((img * c + ch) * h + t / grid_w * patch + p) * w + t % grid_w * patch + q;
}

static swd_status patchify(swd_backend *b, swd_grad dx, swd_tensor dy, int patch, swd_stream *s,
                           swd_err *err)
{
    (void)b, (void)s, (void)err;
    float *out = dx.t.data, tmp;
#pragma omp parallel for private(tmp) if (cpu_worth(tensor_numel(dx.t)))
    for (int64_t r = 0; r < dy.shape[0] * dy.shape[1]; r++)
        for (int64_t i = 0; i < dy.shape[2]; i++) {
            int64_t at = latent_of(dx.t, patch, false, r / dy.shape[1], r % dy.shape[1], i);
            float v = *load(&tmp, dy, r, i, 1);
            out[at] = dx.add ? out[at] + v : v;
        }
    return SWD_OK;
}

static swd_status unpatchify(swd_backend *b, swd_grad dy, swd_tensor dx, int patch, swd_stream *s,
                             swd_err *err)
{
    (void)b, (void)s, (void)err;
    const float *in = dx.data;
#pragma omp parallel for if (cpu_worth(tensor_numel(dx)))
    for (int64_t r = 0; r < dy.t.shape[0] * dy.t.shape[1]; r++)
        for (int64_t i = 0; i < dy.t.shape[2]; i++) {
            float v = in[latent_of(dx, patch, true, r / dy.t.shape[1], r % dy.t.shape[1], i)];
            cpu_grad_store(dy, cpu_row_offset(dy.t, r) + i, &v, 1);
        }
    return SWD_OK;
}

static swd_status mean_tokens(swd_backend *b, swd_tensor y, swd_tensor x, void *ws, swd_stream *s,
                              swd_err *err)
{
    (void)b, (void)ws, (void)s, (void)err;
    int64_t n = x.shape[1], d = x.shape[2], per = (d + SUM_COLUMNS - 1) / SUM_COLUMNS;
#pragma omp parallel for if (cpu_worth(tensor_numel(x)))
    for (int64_t i = 0; i < x.shape[0] * per; i++) {
        int64_t sample = i / per, c = i % per * SUM_COLUMNS,
                m = d - c < SUM_COLUMNS ? d - c : SUM_COLUMNS;
        double acc[SUM_COLUMNS] = {0};
        float tx[SUM_COLUMNS];
        for (int64_t r = 0; r < n; r++) {
            const float *px = load(tx, x, sample * n + r, c, m);
            for (int64_t k = 0; k < m; k++) acc[k] += (double)px[k];
        }
        for (int64_t k = 0; k < m; k++) tx[k] = (float)(acc[k] / (double)n);
        cpu_row_store(y.data, y.dtype, sample * y.stride[0] + c, tx, m);
    }
    return SWD_OK;
}

static swd_status mean_tokens_backward(swd_backend *b, swd_grad dx, swd_tensor dy, swd_stream *s,
                                       swd_err *err)
{
    (void)b, (void)s, (void)err;
    int64_t tokens = dx.t.shape[1];
    FOR_SPANS(dx.t)
    {
        SPAN_AT(r, c, n);
        float out[CPU_SPAN];
        const float *pd = cpu_row_load(out, dy.data, dy.dtype, r / tokens * dy.stride[0] + c, n);
        for (int64_t i = 0; i < n; i++) out[i] = pd[i] / (float)tokens;
        cpu_grad_store(dx, cpu_row_offset(dx.t, r) + c, out, n);
    }
    return SWD_OK;
}

// One plane: g[h][w] (+)= k times the transpose of the resize, of dy[oh][ow].
static void resize_plane(float *g, bool add, int64_t h, int64_t w, const float *dy, int64_t oh,
                         int64_t ow, float k)
{
    if (!add) memset(g, 0, (size_t)(h * w) * sizeof *g);
    for (int64_t r = 0; r < oh; r++) {
        resize_taps ty = resize_taps_of((int)r, (int)h, (int)oh);
        for (int64_t c = 0; c < ow; c++) {
            float d = k * dy[r * ow + c];
            if (oh == h && ow == w) {
                g[r * w + c] += d;
                continue;
            }
            resize_taps tx = resize_taps_of((int)c, (int)w, (int)ow);
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) g[ty.at[i] * w + tx.at[j]] += ty.w[i] * tx.w[j] * d;
        }
    }
}

static swd_status resize(swd_backend *b, swd_grad dx, swd_grad dv, const resize_renoise_args *a,
                         swd_tensor dy, swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    int64_t c = a->x.shape[1], h = a->x.shape[2], w = a->x.shape[3], oh = dy.shape[2],
            ow = dy.shape[3];
    const renoise_step *steps = a->steps.data;
#pragma omp parallel for
    for (int64_t p = 0; p < a->x.shape[0] * c; p++) {
        const renoise_step *step = &steps[p / c];
        const float *d = (const float *)dy.data + p * oh * ow;
        float k = 1.0f - step->sigma_next;
        if (tensor_present(dx.t))
            resize_plane((float *)dx.t.data + p * h * w, dx.add, h, w, d, oh, ow, k);
        if (tensor_present(dv.t))
            resize_plane((float *)dv.t.data + p * h * w, dv.add, h, w, d, oh, ow, -step->sigma * k);
    }
    return SWD_OK;
}

// As torch.optim.AdamW: decay first, then the step; the moments' corrections in double.
static swd_status adamw(swd_backend *b, const adamw_args *a, swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    float *p = a->p.data, *m = a->m.data, *v = a->v.data;
    const float *grad = a->g.data;
    int64_t n = tensor_numel(a->p);
    float decay = (float)(1 - a->lr * a->weight_decay), b1 = (float)a->beta1, b2 = (float)a->beta2,
          c1 = (float)(1 - a->beta1), c2 = (float)(1 - a->beta2), k = (float)a->g_scale,
          size = (float)(a->lr / (1 - pow(a->beta1, (double)a->step))),
          root = (float)(1 / sqrt(1 - pow(a->beta2, (double)a->step))), eps = (float)a->eps;
#pragma omp parallel for if (cpu_worth(n))
    for (int64_t i = 0; i < n; i++) {
        float g = k * grad[i];
        m[i] = b1 * m[i] + c1 * g;
        v[i] = b2 * v[i] + c2 * g * g;
        p[i] = p[i] * decay - size * m[i] / (sqrtf(v[i]) * root + eps);
    }
    return SWD_OK;
}

static swd_status sum_squares(swd_backend *b, double *out, swd_tensor x, swd_stream *s,
                              swd_err *err)
{
    (void)b, (void)s, (void)err;
    enum { PARTS = 64 };
    double part[PARTS];
    int64_t n = tensor_numel(x);
    const simd_table *simd = simd_pick();
#pragma omp parallel for if (cpu_worth(n))
    for (int64_t i = 0; i < PARTS; i++) {
        int64_t first = n * i / PARTS, end = n * (i + 1) / PARTS;
        part[i] = simd->sum_squares((const float *)x.data + first, end - first);
    }
    *out = 0;
    for (int i = 0; i < PARTS; i++) *out += part[i];
    return SWD_OK;
}

static const swd_backward slots = {.gemm_workspace = gemm_workspace,
                                   .gemm = gemm,
                                   .attention_workspace = cpu_attention_backward_workspace,
                                   .attention = cpu_attention_backward,
                                   .norm_workspace = cpu_norm_backward_workspace,
                                   .norm = cpu_norm_backward,
                                   .activation = activation,
                                   .sums_workspace = sums_workspace,
                                   .gate = gate,
                                   .column_sums = column_sums,
                                   .patchify = patchify,
                                   .unpatchify = unpatchify,
                                   .mean_tokens = mean_tokens,
                                   .mean_tokens_backward = mean_tokens_backward,
                                   .resize = resize,
                                   .adamw = adamw,
                                   .sum_squares = sum_squares};

void cpu_backward_slots(swd_backend *b)
{
    b->backward = &slots;
}
