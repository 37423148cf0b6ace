// SPDX-License-Identifier: MIT
// k_norm_backward: every way a row is held, at the borders between them, with sums over rows and without; layouts and storages; two
// results; gradients that are absent, written, added to, in the place of another.
#include "gradient_support.h"
#include "row_moments.h"

typedef struct norm_case {
    int64_t shape[4];
    k_dtype x, dy, dx, factor;
    layout l_x, l_dy, l_dx, l_factor;
    bool rms, per_sample, two, add, in_place;
    bool no_factor;
    unsigned wanted; // bits: dx, then dshift and dfactor of the first result, then of the second
} norm_case;

enum { DX = 1, SHIFT = 2, FACTOR = 4, ALL = 31 };

// The gradients in double, and how far float32 may be from each.
typedef struct reference {
    double *dx, *dx_error;
    double *sum[4], *sum_error[4]; // [groups, dim]: dshift and dfactor of both
} reference;

typedef struct operands {
    grid x, dy[2], factor[2], dx, sum[4];
} operands;

static void row_reference(reference *ref, const norm_case *k, const operands *o, double eps,
                          int64_t row)
{
    const int64_t d = k->shape[3], group = k->per_sample ? row / (k->shape[1] * k->shape[2]) : 0;
    const double depth = 16 + (double)d / 32, chain = 24; // of columns, of rows
    const float *x = grid_at(&o->x, row);
    const moments m = moments_of(x, d, eps, k->rms, depth);
    double *g = zeros(d), *g_error = zeros(d), *h = zeros(d), *h_error = zeros(d);
    double sums[2] = {0}, errors[2] = {0}, sizes[2] = {0}; // of g, of g h
    for (int64_t c = 0; c < d; c++) {
        h[c] = ((double)x[c] - m.mean) * m.inverse;
        h_error[c] = m.off * m.inverse + fabs(h[c]) * (m.relative + 2 * U);
        for (int i = 0; i < 1 + k->two; i++) {
            const double dy = (double)grid_at(&o->dy[i], row)[c],
                         f = k->no_factor ? 1
                                          : (k->per_sample ? 1 : 0) +
                                                (double)grid_at(&o->factor[i], group)[c];
            g[c] += dy * f;
            g_error[c] += 3 * U * fabs(dy * f);
            const int64_t at = group * d + c;
            ref->sum[2 * i][at] += dy;
            ref->sum_error[2 * i][at] += chain * U * fabs(dy);
            ref->sum[2 * i + 1][at] += dy * h[c];
            ref->sum_error[2 * i + 1][at] += fabs(dy) * h_error[c] + chain * U * fabs(dy * h[c]);
        }
        sums[0] += g[c], errors[0] += g_error[c], sizes[0] += fabs(g[c]);
        sums[1] += g[c] * h[c], sizes[1] += fabs(g[c] * h[c]);
        errors[1] += g_error[c] * fabs(h[c]) + fabs(g[c]) * h_error[c];
    }
    double mean[2], error[2];
    for (int i = 0; i < 2; i++) {
        mean[i] = sums[i] / (double)d;
        error[i] = (errors[i] + depth * U * sizes[i]) / (double)d + U * fabs(mean[i]);
    }
    if (k->rms) mean[0] = error[0] = 0;
    for (int64_t c = 0; c < d; c++) {
        const int64_t at = row * d + c;
        const double want = m.inverse * (g[c] - mean[0] - h[c] * mean[1]);
        ref->dx[at] = want;
        ref->dx_error[at] =
            m.inverse *
                (g_error[c] + error[0] + h_error[c] * fabs(mean[1]) + fabs(h[c]) * error[1] +
                 4 * U * (fabs(g[c]) + fabs(mean[0]) + fabs(h[c] * mean[1]))) +
            fabs(want) * (m.relative + U);
    }
    free(g), free(g_error), free(h), free(h_error);
}

static void check(const norm_case *k, float constant)
{
    static const char *names[] = {"dshift", "dfactor", "dshift of the second",
                                  "dfactor of the second"};
    const float eps = 1e-3f;
    const int64_t d = k->shape[3], n_factors = k->per_sample ? k->shape[0] : 1;
    const int64_t vector[4] = {n_factors, 1, 1, d};
    const double scale = k->add ? 1 : 0; // of what is there before
    operands o = {.x = grid_make(k->x, k->shape, k->l_x, 3)};
    if (constant != 0) {
        for (int64_t i = 0; i < o.x.a.n; i++) o.x.a.v[i] = constant;
        array_send(&o.x.a);
    }
    k_norm_backward_args a = {.x = o.x.v, .rms = k->rms, .per_sample = k->per_sample, .eps = eps};
    memcpy(a.shape, k->shape, sizeof a.shape);
    int n_sums = 0;
    for (int i = 0; i < 1 + k->two; i++) {
        o.dy[i] = grid_make(k->dy, k->shape, i ? DENSE : k->l_dy, 2);
        a.dy[i] = o.dy[i].v;
        o.factor[i] = grid_make(k->factor, vector, k->l_factor, 2);
        if (!k->no_factor) a.factor[i] = o.factor[i].v;
        for (int j = 0; j < 2; j++) {
            if (!(k->wanted & 2u << (2 * i + j))) continue;
            grid *g = &o.sum[2 * i + j];
            *g = grid_make(j == i ? K_F32 : k->factor, vector, k->l_factor, scale);
            (j ? a.dfactor : a.dshift)[i] = grad_of(g, k->add);
            n_sums++;
        }
    }
    if (k->in_place)
        a.dx = grad_of(&o.dy[0], false);
    else if (k->wanted & DX)
        o.dx = grid_make(k->dx, k->shape, k->l_dx, scale), a.dx = grad_of(&o.dx, k->add);

    reference ref = {zeros(o.x.rows * d), zeros(o.x.rows * d), {0}, {0}};
    for (int s = 0; s < 4; s++)
        ref.sum[s] = zeros(n_factors * d), ref.sum_error[s] = zeros(n_factors * d);
    for (int64_t row = 0; row < o.x.rows; row++) row_reference(&ref, k, &o, (double)eps, row);

    array ws = array_make(
        K_F32, (int64_t)k_norm_backward_workspace(k->shape, k->per_sample, n_sums) / 4 + 1, 0);
    CUDA_OK(k_norm_backward(&a, array_at(&ws, 0), 0));
    array_fetch(&ws);
    if (k->in_place) grad_check(&o.dy[0], false, ref.dx, ref.dx_error, "dx in the place of dy");
    if (o.dx.old) grad_check(&o.dx, k->add, ref.dx, ref.dx_error, "dx");
    for (int s = 0; s < 4; s++) {
        if (o.sum[s].old) grad_check(&o.sum[s], k->add, ref.sum[s], ref.sum_error[s], names[s]);
        free(ref.sum[s]), free(ref.sum_error[s]);
        grid_free(&o.sum[s]);
    }
    free(ref.dx), free(ref.dx_error);
    array_free(&ws), grid_free(&o.x), grid_free(&o.dx);
    for (int i = 0; i < 2; i++) grid_free(&o.dy[i]), grid_free(&o.factor[i]);
}

// With sums: 8, 16, 32 lanes a row, 32 of two vectors, 128 and 256 threads; without: 32 of six; else a warp over memory.
static const int dims[] = {1,   8,   19,  64,  72,   99,   128,  136,  256,  264,
                           333, 512, 520, 800, 1536, 1544, 2048, 2056, 4096, 4104};
enum { N_DIMS = sizeof dims / sizeof *dims };

static void test_every_row_length(void)
{
    for (int i = 0; i < N_DIMS; i++)
        for (int v = 0; v < 4; v++) {
            const bool short_row = dims[i] <= 128;
            if (dims[i] > 1024 && (v == 0 || v == 3) != i % 2) continue; // two of the four
            norm_case k = {.shape = {2, short_row ? 3 : 1, short_row ? 7 : 1, dims[i]},
                           .x = (k_dtype)((i + v) % 2),
                           .dy = (k_dtype)((i / 2 + v) % 2),
                           .dx = (k_dtype)((i + v / 2) % 2),
                           .l_x = (layout)((i + v) % ODD),
                           .l_dy = (layout)((i + 2 * v) % ODD),
                           .l_dx = (layout)((i + 3 * v) % ODD),
                           .rms = v % 2,
                           .per_sample = v / 2,
                           .two = (i + v) % 3 == 0,
                           .add = i % 2,
                           .wanted = ALL};
            check(&k, 0);
            k.wanted = DX, k.add = !k.add;
            check(&k, 0);
        }
}

// Each operand in turn is the one off the 16-byte grid.
static void test_one_unaligned(void)
{
    for (int which = 0; which < 4; which++)
        for (unsigned wanted = DX; wanted <= ALL; wanted += ALL - DX) {
            norm_case k = {.shape = {2, 1, 5, 64},
                           .x = K_BF16,
                           .dx = K_BF16,
                           .factor = K_BF16,
                           .l_x = which == 0 ? ODD : DENSE,
                           .l_dy = which == 1 ? ODD : DENSE,
                           .l_dx = which == 2 ? ODD : DENSE,
                           .l_factor = which == 3 ? ODD : DENSE,
                           .per_sample = true,
                           .two = true,
                           .wanted = wanted};
            check(&k, 0);
        }
}

static void test_every_storage(void)
{
    for (int i = 0; i < 27; i++) {
        norm_case k = {.shape = {3, 1, 4, i % 2 ? 144 : 37},
                       .x = (k_dtype)(i % 3),
                       .dy = (k_dtype)(i / 3 % 3),
                       .dx = (k_dtype)(i / 9),
                       .factor = (k_dtype)(i / 2 % 3),
                       .per_sample = true,
                       .add = i % 2,
                       .wanted = ALL};
        check(&k, 0);
    }
}

static void test_absent_gradients(void)
{
    for (unsigned wanted = 0; wanted <= ALL; wanted++) {
        norm_case k = {.shape = {2, 1, 9, wanted % 3 ? 136 : 21},
                       .two = wanted >= 8,
                       .add = wanted % 2,
                       .no_factor = wanted % 5 == 0,
                       .wanted = wanted};
        check(&k, 0);
    }
}

// Heads of a packed projection: many short rows, in several slabs whose last is not full; dx over dy where nothing else is wanted.
static void test_heads(void)
{
    for (int i = 0; i < 6; i++) {
        norm_case k = {.shape = {2, i < 2 ? 37 : 5, 7, (int[]){64, 64, 24, 40, 128, 72}[i]},
                       .x = K_BF16,
                       .dy = K_BF16,
                       .dx = K_BF16,
                       .l_dy = PACKED,
                       .l_dx = PACKED,
                       .rms = true,
                       .add = true,
                       .wanted = DX | FACTOR};
        check(&k, 0);
        k.wanted = 0, k.in_place = true, k.add = false;
        check(&k, 0);
        k.l_x = k.l_dy = ODD;
        check(&k, 0);
    }
}

// Several slabs of a sample's rows, of long rows.
static void test_slabs(void)
{
    static const int64_t shapes[][4] = {
        {3, 1, 13, 520}, {1, 1, 21, 2056}, {5, 1, 17, 264}, {2, 1, 70, 48}, {2, 1, 37, 13}};
    for (int i = 0; i < 5; i++)
        for (int per_sample = 0; per_sample < 2; per_sample++) {
            norm_case k = {.shape = {0},
                           .dy = K_BF16,
                           .l_dy = GAPS,
                           .two = true,
                           .per_sample = per_sample,
                           .add = i % 2,
                           .wanted = ALL};
            memcpy(k.shape, shapes[i], sizeof k.shape);
            check(&k, 0);
        }
}

// A constant row has no spread at all, whatever its size: xhat is 0.
static void test_constant_rows(void)
{
    static const float constants[] = {1e-30f, 1, 1000.3f, -123456.7f};
    for (int i = 0; i < 4; i++)
        for (int d = 64; d < 3000; d += 1232) {
            norm_case k = {.shape = {1, 1, 3, d + i % 2 * 3}, .wanted = ALL};
            check(&k, constants[i]);
        }
}

int main(int argc, char **argv)
{
    static const launch_test tests[] = {
        {"every_row_length", test_every_row_length},
        {"one_unaligned", test_one_unaligned},
        {"every_storage", test_every_storage},
        {"absent_gradients", test_absent_gradients},
        {"heads", test_heads},
        {"slabs", test_slabs},
        {"constant_rows", test_constant_rows},
    };
    return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
