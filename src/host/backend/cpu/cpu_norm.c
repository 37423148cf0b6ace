// SPDX-License-Identifier: MIT
// Row norms: layer norm (plain, modulated), RMS norm, RMS norm of q and k with RoPE; group norm over NHWC maps.
#include "backend/cpu/cpu.h"
#include "backend/cpu/simd.h"
#include <math.h>

// Rows live on the stack while they are normalised.
static swd_status too_long(int64_t d, swd_err *err)
{
    if (d <= CPU_ROW_MAX) return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "a norm over %lld elements; the CPU takes up to %d",
                    (long long)d, (int)CPU_ROW_MAX);
}

static swd_status layernorm(swd_backend *b, const norm_args *a, swd_stream *s, swd_err *err)
{
    (void)b, (void)s;
    SWD_TRY(too_long(a->x.shape[a->x.ndim - 1], err), err);
    int64_t d = a->x.shape[a->x.ndim - 1], rows = cpu_rows(a->x);
    const float *w = a->weight.data, *bias = a->bias.data;
    const simd_table *simd = simd_pick();
#pragma omp parallel for if (cpu_worth(rows * d))
    for (int64_t r = 0; r < rows; r++) {
        float tx[CPU_ROW_MAX];
        double mean, var;
        const float *x = cpu_row_load(tx, a->x.data, a->x.dtype, cpu_row_offset(a->x, r), d);
        simd->moments(x, d, &mean, &var);
        float k = (float)(1.0 / sqrt(var + (double)a->eps));
        simd->normalise(tx, x, d, (float)mean, k, 0, w, bias);
        cpu_row_store(a->y.data, a->y.dtype, cpu_row_offset(a->y, r), tx, d);
    }
    return SWD_OK;
}

static swd_status layernorm_modulate(swd_backend *b, const modulate_args *a, swd_stream *s,
                                     swd_err *err)
{
    (void)b, (void)s;
    SWD_TRY(too_long(a->x.shape[2], err), err);
    int64_t d = a->x.shape[2], n = a->x.shape[1], rows = cpu_rows(a->x);
    const simd_table *simd = simd_pick();
#pragma omp parallel for if (cpu_worth(rows * d))
    for (int64_t r = 0; r < rows; r++) {
        float tx[CPU_ROW_MAX], ty[CPU_ROW_MAX], ts[CPU_ROW_MAX], th[CPU_ROW_MAX];
        double mean, var;
        const float *x = cpu_row_load(tx, a->x.data, a->x.dtype, cpu_row_offset(a->x, r), d);
        simd->moments(x, d, &mean, &var);
        float k = (float)(1.0 / sqrt(var + (double)a->eps));
        for (int i = 1; i >= 0; i--) { // y[0] may be x: last
            swd_tensor y = a->y[i], sc = a->scale[i], sh = a->shift[i];
            if (!tensor_present(y)) continue;
            const float *scale = cpu_row_load(ts, sc.data, sc.dtype, r / n * sc.stride[0], d);
            const float *shift = cpu_row_load(th, sh.data, sh.dtype, r / n * sh.stride[0], d);
            simd->normalise(ty, x, d, (float)mean, k, 1, scale, shift);
            cpu_row_store(y.data, y.dtype, cpu_row_offset(y, r), ty, d);
        }
    }
    return SWD_OK;
}

static float rms_scale(const float *x, int64_t d, float eps)
{
    return (float)(1.0 / sqrt(simd_pick()->sum_squares(x, d) / (double)d + (double)eps));
}

static swd_status rms_norm(swd_backend *b, const norm_args *a, swd_stream *s, swd_err *err)
{
    (void)b, (void)s;
    SWD_TRY(too_long(a->x.shape[a->x.ndim - 1], err), err);
    int64_t d = a->x.shape[a->x.ndim - 1], rows = cpu_rows(a->x);
    const float *w = a->weight.data;
    const simd_table *simd = simd_pick();
#pragma omp parallel for if (cpu_worth(rows * d))
    for (int64_t r = 0; r < rows; r++) {
        float tx[CPU_ROW_MAX];
        const float *x = cpu_row_load(tx, a->x.data, a->x.dtype, cpu_row_offset(a->x, r), d);
        float k = rms_scale(x, d, a->eps);
        simd->normalise(tx, x, d, 0, k, 0, w, NULL);
        cpu_row_store(a->y.data, a->y.dtype, cpu_row_offset(a->y, r), tx, d);
    }
    return SWD_OK;
}

// Pairs (x0, x1) of a row become (x0 c - x1 s, x1 c + x0 s).
static void rotate(float *x, int64_t d, const float *c, const float *s)
{
    for (int64_t i = 0; i < d / 2; i++) {
        float x0 = x[2 * i], x1 = x[2 * i + 1];
        x[2 * i] = x0 * c[i] - x1 * s[i];
        x[2 * i + 1] = x1 * c[i] + x0 * s[i];
    }
}

static swd_status qk_norm_rope(swd_backend *b, const qk_norm_args *a, swd_stream *s, swd_err *err)
{
    (void)b, (void)s;
    SWD_TRY(too_long(a->q.shape[3], err), err);
    int64_t d = a->q.shape[3], heads = a->q.shape[2], n = a->q.shape[1], rows = cpu_rows(a->q);
    const simd_table *simd = simd_pick();
#pragma omp parallel for if (cpu_worth(2 * rows * d))
    for (int64_t i = 0; i < 2 * rows; i++) {
        float tx[CPU_ROW_MAX];
        int64_t r = i % rows;
        swd_tensor t = i < rows ? a->q : a->k;
        int64_t offset = cpu_row_offset(t, r);
        const float *w = i < rows ? a->weight_q.data : a->weight_k.data;
        const float *x = cpu_row_load(tx, t.data, t.dtype, offset, d);
        float scale = w ? rms_scale(x, d, a->eps) : 1.0f;
        simd->normalise(tx, x, d, 0, scale, 0, w, NULL);
        if (tensor_present(a->cos)) {
            int64_t row = r / heads % n * (d / 2);
            rotate(tx, d, (const float *)a->cos.data + row, (const float *)a->sin.data + row);
        }
        cpu_row_store(t.data, t.dtype, offset, tx, d);
    }
    return SWD_OK;
}

// Per image and chunk of pixels: sums of every channel; then scale and shift of every channel.
enum { GN_CHUNKS = 64 };

// Pixels handled at once: a few kilobytes.
static int64_t span_rows(int64_t c)
{
    return c < CPU_SPAN ? CPU_SPAN / c : 1;
}

static size_t group_norm_workspace(swd_backend *b, const group_norm_args *a)
{
    (void)b;
    return (size_t)(a->x.shape[0] * a->x.shape[3]) *
           (GN_CHUNKS * 2 * sizeof(double) + 2 * sizeof(float));
}

// sum[b][chunk][2][C]: sums and sums of squares of x - pivot (the channel's first pixel: no cancellation).
static void group_norm_sums(const group_norm_args *a, double *sum)
{
    int64_t batch = a->x.shape[0], c = a->x.shape[3], pixels = a->x.shape[1] * a->x.shape[2];
    const simd_table *simd = simd_pick();
    int64_t span = span_rows(c);
#pragma omp parallel for if (cpu_worth(batch * pixels * c))
    for (int64_t t = 0; t < batch * GN_CHUNKS; t++) {
        float tp[CPU_ROW_MAX], tx[CPU_ROW_MAX];
        int64_t img = t / GN_CHUNKS, chunk = t % GN_CHUNKS, end = pixels * (chunk + 1) / GN_CHUNKS;
        double *s = sum + t * 2 * c, *q = s + c;
        const float *pivot = cpu_row_load(tp, a->x.data, a->x.dtype, img * pixels * c, c);
        for (int64_t i = 0; i < 2 * c; i++) s[i] = 0;
        for (int64_t p = pixels * chunk / GN_CHUNKS, m; p < end; p += m) {
            m = end - p < span ? end - p : span;
            const float *x = cpu_row_load(tx, a->x.data, a->x.dtype, (img * pixels + p) * c, m * c);
            simd->channel_sums(s, q, x, pivot, c, m);
        }
    }
}

// scale[b][2][C] from the sums: y = x * scale + shift.
static void group_norm_factors(const group_norm_args *a, const double *sum, float *factors)
{
    int64_t batch = a->x.shape[0], c = a->x.shape[3], pixels = a->x.shape[1] * a->x.shape[2],
            per = c / a->groups;
    const float *gamma = a->gamma.data, *beta = a->beta.data;
    for (int64_t img = 0; img < batch; img++) {
        float tp[CPU_ROW_MAX];
        const float *pivot = cpu_row_load(tp, a->x.data, a->x.dtype, img * pixels * c, c);
        for (int g = 0; g < a->groups; g++) {
            double n = (double)pixels, total = 0, m2 = 0;
            double channel_mean[CPU_ROW_MAX];
            for (int64_t i = g * per; i < (g + 1) * per; i++) {
                double s = 0, q = 0;
                for (int k = 0; k < GN_CHUNKS; k++) {
                    const double *at = sum + (img * GN_CHUNKS + k) * 2 * c;
                    s += at[i];
                    q += at[c + i];
                }
                channel_mean[i - g * per] = pivot[i] + s / n;
                total += channel_mean[i - g * per];
                m2 += q - s * s / n;
            }
            double mean = total / (double)per;
            for (int64_t i = 0; i < per; i++)
                m2 += n * (channel_mean[i] - mean) * (channel_mean[i] - mean);
            double k = 1.0 / sqrt(m2 / (n * (double)per) + (double)a->eps);
            for (int64_t i = g * per; i < (g + 1) * per; i++) {
                factors[img * 2 * c + i] = (float)(k * gamma[i]);
                factors[img * 2 * c + c + i] = (float)(beta[i] - mean * k * gamma[i]);
            }
        }
    }
}

static swd_status group_norm(swd_backend *b, const group_norm_args *a, void *ws, swd_stream *s,
                             swd_err *err)
{
    (void)b, (void)s;
    SWD_TRY(too_long(a->x.shape[3], err), err);
    int64_t batch = a->x.shape[0], c = a->x.shape[3], pixels = a->x.shape[1] * a->x.shape[2];
    double *sum = ws;
    float *factors = (float *)(sum + batch * GN_CHUNKS * 2 * c);
    group_norm_sums(a, sum);
    group_norm_factors(a, sum, factors);
    const simd_table *simd = simd_pick();
    int64_t span = span_rows(c), per = (pixels + span - 1) / span; // spans of an image
#pragma omp parallel for if (cpu_worth(batch * pixels * c))
    for (int64_t t = 0; t < batch * per; t++) {
        float tx[CPU_ROW_MAX];
        int64_t img = t / per, first = t % per * span,
                m = pixels - first < span ? pixels - first : span, at = (img * pixels + first) * c;
        const float *x = cpu_row_load(tx, a->x.data, a->x.dtype, at, m * c),
                    *scale = factors + img * 2 * c;
        simd->affine(tx, x, scale, scale + c, c, m);
        if (a->silu) simd->activate(tx, m * c, SWD_ACT_SILU);
        cpu_row_store(a->y.data, a->y.dtype, at, tx, m * c);
    }
    return SWD_OK;
}

void cpu_norm_slots(swd_ops *ops)
{
    ops->layernorm = layernorm;
    ops->layernorm_modulate = layernorm_modulate;
    ops->rms_norm = rms_norm;
    ops->qk_norm_rope = qk_norm_rope;
    ops->group_norm_workspace = group_norm_workspace;
    ops->group_norm = group_norm;
}
