/* SPDX-License-Identifier: MIT */
/* What the tests of backward launchers share: tensors of four dimensions in several layouts, and gradients that are written or added to,
 * held against what a reference in double wants. */
#ifndef SWD_TESTS_CUDA_GRADIENT_SUPPORT_H
#define SWD_TESTS_CUDA_GRADIENT_SUPPORT_H
#include "launch_support.h"
#include "kernels/training.h"

#define U 0x1p-24 /* of float32 arithmetic */

typedef enum layout {
    DENSE,
    GAPS,    /* behind rows, all on 16 bytes */
    PACKED,  /* [n0, n1, 3, n2, cols]: q of a packed projection */
    SWAPPED, /* [n2, n1, n0, cols] */
    ODD,     /* rows on their element's alignment only */
    N_LAYOUTS
} layout;

typedef struct grid {
    array a;
    k_view v;
    int64_t shape[4], rows;
    float *old; /* all elements as they were before the launch */
} grid;

static inline int64_t grid_row(const grid *g, int64_t row)
{
    int64_t n1 = g->shape[1], n2 = g->shape[2];
    return row / (n1 * n2) * g->v.stride[0] + row / n2 % n1 * g->v.stride[1] +
           row % n2 * g->v.stride[2];
}

static inline float *grid_at(const grid *g, int64_t row)
{
    return g->a.v + grid_row(g, row);
}

/* Random, or UNWRITTEN where scale is 0. */
static inline grid grid_make(k_dtype t, const int64_t shape[4], layout l, double scale)
{
    grid g = {.rows = shape[0] * shape[1] * shape[2]};
    memcpy(g.shape, shape, sizeof g.shape);
    int64_t cols = shape[3], pitch = l == DENSE || l == PACKED ? cols
                                     : l == ODD                ? cols + 3 - cols % 2
                                                               : (cols + 15) / 8 * 8;
    int64_t n0 = shape[0], n1 = shape[1], n2 = shape[2], n = n0 * n1 * n2 * pitch;
    int64_t s0 = n1 * n2 * pitch, s1 = n2 * pitch, s2 = pitch;
    if (l == PACKED) n *= 3, s0 *= 3, s1 *= 3;
    if (l == SWAPPED) s0 = pitch, s1 = n0 * pitch, s2 = n0 * n1 * pitch;
    g.a = array_make(t, n, l == ODD);
    g.v = (k_view){array_at(&g.a, 0), t, {s0, s1, s2}};
    if (scale != 0)
        array_fill(&g.a, random_unit, scale);
    else
        array_fetch(&g.a);
    g.old = malloc((size_t)n * sizeof *g.old);
    memcpy(g.old, g.a.v, (size_t)n * sizeof *g.old);
    return g;
}

static inline void grid_free(grid *g)
{
    if (g->old) array_free(&g->a);
    free(g->old);
    memset(g, 0, sizeof *g);
}

static inline k_grad grad_of(const grid *g, bool add)
{
    return (k_grad){g->v, add};
}

/* Fetches g; its elements must be want [rows, cols], to which what was there is added, within error and the roundings of the sum and of
 * the store; the others what they were. */
static inline void grad_check(grid *g, bool add, const double *want, const double *error,
                              const char *what)
{
    const int64_t cols = g->shape[3];
    unsigned char *seen = calloc((size_t)g->a.n, 1);
    array_fetch(&g->a);
    for (int64_t r = 0; r < g->rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            const int64_t at = grid_row(g, r) + c;
            const double old = add ? (double)g->old[at] : 0, w = want[r * cols + c] + old;
            double e = error[r * cols + c] + U * fabs(w);
            e += roundoff(g->a.dtype) * (fabs(w) + e) + (g->a.dtype == K_F16 ? 0x1p-25 : 1e-37);
            seen[at] = 1;
            CHECK(fabs((double)g->a.v[at] - w) <= e,
                  "%s, row %lld, column %lld of %lld: %.9g, not %.9g (+- %.3g)", what, (long long)r,
                  (long long)c, (long long)cols, (double)g->a.v[at], w, e);
        }
    for (int64_t i = 0; i < g->a.n; i++)
        CHECK(seen[i] || memcmp(&g->a.v[i], &g->old[i], sizeof(float)) == 0,
              "%s: element %lld is no part of it and was written", what, (long long)i);
    free(seen);
}
#endif
