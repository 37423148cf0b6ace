// SPDX-License-Identifier: MIT
// Backward of row norms, y_i = xhat (one + factor_i) + shift_i with xhat = (x - mean) r:
//
//     g = sum over i of dy_i (one + factor_i)      dx = r (g - mean(g) - xhat mean(g xhat)), an RMS norm without mean(g)
//     dfactor_i = sum over rows of dy_i xhat       dshift_i = sum over rows of dy_i
//
// First the rows, which leave mean and r of each in the workspace, then the sums over rows.
#include "backend/cpu/cpu_backward.h"
#include "backend/cpu/simd.h"
#include <math.h>

enum { ROWS_TOGETHER = 32 }; // of one task at most

size_t cpu_norm_backward_workspace(swd_backend *b, const norm_backward_args *a)
{
    (void)b;
    return (size_t)cpu_rows(a->x) * 2 * sizeof(float);
}

static const float *load(float *tmp, swd_tensor t, int64_t r, int64_t c, int64_t n)
{
    return cpu_row_load(tmp, t.data, t.dtype, cpu_row_offset(t, r) + c, n);
}

// The row's own row of [B, D], or the one of [D].
static const float *factor_of(float *tmp, const norm_backward_args *a, int i, int64_t r)
{
    swd_tensor t = a->factor[i];
    int64_t at = a->per_sample ? r / a->x.shape[1] * t.stride[0] : 0;
    return cpu_row_load(tmp, t.data, t.dtype, at, a->x.shape[a->x.ndim - 1]);
}

typedef struct places {
    int64_t x, dx, dy[2]; // offsets of a row
} places;

static void row_backward(const norm_backward_args *a, int64_t r, places at, float *stat)
{
    float tx[CPU_ROW_MAX], g[CPU_ROW_MAX], td[CPU_ROW_MAX], tf[CPU_ROW_MAX];
    const simd_table *simd = simd_pick();
    int64_t d = a->x.shape[a->x.ndim - 1];
    const float *x = cpu_row_load(tx, a->x.data, a->x.dtype, at.x, d);
    double mean = 0, var;
    if (a->rms)
        var = simd->sum_squares(x, d) / (double)d;
    else
        simd->moments(x, d, &mean, &var);
    stat[0] = (float)mean;
    stat[1] = (float)(1.0 / sqrt(var + (double)a->eps));
    if (!tensor_present(a->dx.t)) return;
    float one = a->per_sample ? 1.0f : 0.0f;
    for (int i = 0; i < 2 && tensor_present(a->dy[i]); i++) {
        const float *dy = cpu_row_load(td, a->dy[i].data, a->dy[i].dtype, at.dy[i], d),
                    *f = tensor_present(a->factor[i]) ? factor_of(tf, a, i, r) : NULL;
        for (int64_t k = 0; k < d; k++) {
            float v = f ? dy[k] * (one + f[k]) : dy[k];
            g[k] = i ? g[k] + v : v;
        }
    }
    simd->norm_backward(td, x, g, d, stat[0], stat[1], !a->rms);
    cpu_grad_store(a->dx, at.dx, td, d);
}

// Rows one after the other of the last dimension but one: heads of a token are short, where they lie is found once.
static void rows_backward(const norm_backward_args *a, int64_t first, int64_t n, float *stat)
{
    int dim = a->x.ndim - 2;
    places at = {.x = cpu_row_offset(a->x, first)};
    if (tensor_present(a->dx.t)) at.dx = cpu_row_offset(a->dx.t, first);
    for (int i = 0; i < 2; i++)
        if (tensor_present(a->dy[i])) at.dy[i] = cpu_row_offset(a->dy[i], first);
    for (int64_t k = 0; k < n; k++) {
        row_backward(a, first + k, at, stat + 2 * (first + k));
        if (dim < 0) continue;
        at.x += a->x.stride[dim];
        at.dx += a->dx.t.stride[dim];
        for (int i = 0; i < 2; i++) at.dy[i] += a->dy[i].stride[dim];
    }
}

// Columns [c, c + n) of dfactor and dshift of result i, over the rows from first on.
static void sums_backward(const norm_backward_args *a, int i, int64_t first, int64_t rows,
                          int64_t to_factor, int64_t to_shift, int64_t c, int64_t n,
                          const float *stat)
{
    double shift[SUM_COLUMNS] = {0}, factor[SUM_COLUMNS] = {0};
    float tx[SUM_COLUMNS], td[SUM_COLUMNS];
    for (int64_t r = first; r < first + rows; r++) {
        const float *x = load(tx, a->x, r, c, n), *dy = load(td, a->dy[i], r, c, n);
        float mean = stat[2 * r], k = stat[2 * r + 1];
        for (int64_t j = 0; j < n; j++) {
            shift[j] += (double)dy[j];
            factor[j] += (double)(dy[j] * (x[j] - mean) * k);
        }
    }
    for (int64_t j = 0; j < n; j++) tx[j] = (float)factor[j], td[j] = (float)shift[j];
    if (tensor_present(a->dfactor[i].t)) cpu_grad_store(a->dfactor[i], to_factor + c, tx, n);
    if (tensor_present(a->dshift[i].t)) cpu_grad_store(a->dshift[i], to_shift + c, td, n);
}

swd_status cpu_norm_backward(swd_backend *b, const norm_backward_args *a, void *ws, swd_stream *s,
                             swd_err *err)
{
    (void)b, (void)s;
    int64_t d = a->x.shape[a->x.ndim - 1], rows = cpu_rows(a->x);
    if (d > CPU_ROW_MAX)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "a norm over %lld elements; the CPU takes up to %d", (long long)d,
                        (int)CPU_ROW_MAX);
    float *stat = ws;
    int64_t inner = a->x.ndim >= 2 ? a->x.shape[a->x.ndim - 2] : 1,
            together = inner < ROWS_TOGETHER ? inner : ROWS_TOGETHER,
            per_inner = (inner + together - 1) / together;
#pragma omp parallel for if (cpu_worth(rows * d))
    for (int64_t t = 0; t < rows / inner * per_inner; t++) {
        int64_t first = t % per_inner * together;
        rows_backward(a, t / per_inner * inner + first,
                      inner - first < together ? inner - first : together, stat);
    }
    int64_t groups = a->per_sample ? a->x.shape[0] : 1, in_group = rows / groups,
            per = (d + SUM_COLUMNS - 1) / SUM_COLUMNS;
    for (int i = 0; i < 2; i++) {
        swd_tensor f = a->dfactor[i].t, h = a->dshift[i].t;
        if (!tensor_present(a->dy[i]) || (!tensor_present(f) && !tensor_present(h))) continue;
#pragma omp parallel for if (cpu_worth(rows * d))
        for (int64_t t = 0; t < groups * per; t++) {
            int64_t g = t / per, c = t % per * SUM_COLUMNS;
            sums_backward(a, i, g * in_group, in_group, a->per_sample ? g * f.stride[0] : 0,
                          a->per_sample ? g * h.stride[0] : 0, c,
                          d - c < SUM_COLUMNS ? d - c : SUM_COLUMNS, stat);
        }
    }
    return SWD_OK;
}
