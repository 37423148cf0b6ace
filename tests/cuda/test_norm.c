// SPDX-License-Identifier: MIT
// k_norm and k_qk_norm_rope: every way a row is held, at the borders between them; all storages; strided and unaligned rows; the fused
// forms against the launches they stand for, bit for bit; q and k of a packed projection in one launch.
#include "row_moments.h"

// Rows [b, n, d] with a gap behind each, so that strides are no shape; odd: no row is aligned to more than an element.
typedef struct rows {
    array a;
    k_view view;
    int64_t b, n, d;
} rows;

static rows rows_make(k_dtype t, int64_t b, int64_t n, int64_t d, bool odd)
{
    rows r = {.b = b, .n = n, .d = d};
    int64_t row = odd ? (d + 3) / 2 * 2 + 1 : (d + 15) / 8 * 8, sample = n * row + (odd ? 3 : 8);
    r.a = array_make(t, b * sample, odd);
    r.view = (k_view){array_at(&r.a, 0), t, {sample, row}};
    return r;
}

static float *row_of(const rows *r, int64_t b, int64_t i)
{
    return r->a.v + b * r->view.stride[0] + i * r->view.stride[1];
}

static rows rows_random(k_dtype t, int64_t b, int64_t n, int64_t d, bool odd, double scale)
{
    rows r = rows_make(t, b, n, d, odd);
    array_fill(&r.a, random_unit, scale);
    return r;
}

// [b, d]; the view's row stride is the sample's.
static rows vectors_random(k_dtype t, int64_t b, int64_t d, bool odd)
{
    return rows_random(t, b, 1, d, odd, 1);
}

static void same(const rows *a, const rows *b, const char *what)
{
    for (int64_t i = 0; i < a->a.n; i++)
        CHECK(memcmp(&a->a.v[i], &b->a.v[i], sizeof(float)) == 0,
              "%s: element %lld of rows of %lld is %.9g, not %.9g", what, (long long)i,
              (long long)a->d, (double)a->a.v[i], (double)b->a.v[i]);
}

enum { DEPTH = 4 }; // of sums: row_moments.h

static void check_rows(const rows *y, const rows *x, const rows *scale, const rows *shift, bool one,
                       double eps, bool rms)
{
    for (int64_t r = 0; r < x->b * x->n; r++) {
        int64_t b = r / x->n, i = r % x->n;
        const float *in = row_of(x, b, i), *out = row_of(y, b, i);
        const moments m = moments_of(in, x->d, eps, rms, DEPTH);
        for (int64_t c = 0; c < x->d; c++) {
            double h = ((double)in[c] - m.mean) * m.inverse;
            double s =
                scale ? (one ? 1 : 0) + (double)row_of(scale, scale->b == 1 ? 0 : b, 0)[c] : 1;
            double t = shift ? (double)row_of(shift, shift->b == 1 ? 0 : b, 0)[c] : 0;
            double want = h * s + t, error = fabs(s) * (m.off * m.inverse + fabs(h) * m.relative) +
                                             ldexp(3 * (fabs(h * s) + fabs(t)), -24);
            error += roundoff(y->a.dtype) * (fabs(want) + error) + ldexp(1, -25);
            CHECK(fabs((double)out[c] - want) <= error,
                  "row %lld, column %lld of %lld: %.9g, not %.9g (+- %.3g)", (long long)r,
                  (long long)c, (long long)x->d, (double)out[c], want, error);
        }
    }
}

static k_view shared(const rows *r)
{
    k_view v = r->view;
    if (r->b == 1) v.stride[0] = 0;
    return v;
}

enum { N_PAIRS = 9 };
static const k_dtype pairs[N_PAIRS][2] = {{K_F32, K_F32},   {K_F32, K_BF16}, {K_F32, K_F16},
                                          {K_BF16, K_BF16}, {K_BF16, K_F32}, {K_F16, K_F16},
                                          {K_F16, K_F32},   {K_BF16, K_F16}, {K_F16, K_BF16}};
// A warp holds up to 1536, 128 threads up to 4096, 256 up to 8192; beyond, and what is no multiple of 8, is looped over.
static const int dims[] = {1,    3,    8,    12,   19,   99,   111,  248,  256,  264, 333,
                           1528, 1536, 1540, 1544, 2432, 4096, 4104, 8192, 8200, 8197};
enum { N_DIMS = sizeof dims / sizeof *dims };

static void test_every_row_length(void)
{
    for (int i = 0; i < N_DIMS; i++)
        for (int variant = 0; variant < 4; variant++) {
            const k_dtype tx = pairs[(i + variant) % N_PAIRS][0],
                          ty = pairs[(i + variant) % N_PAIRS][1];
            const bool rms = variant & 1, odd = variant & 2;
            const int d = dims[i];
            rows x = rows_random(tx, 2, 3, d, odd, 2), y = rows_make(ty, 2, 3, d, odd);
            rows w = vectors_random(K_F32, 1, d, odd), bias = vectors_random(K_F32, 1, d, odd);
            k_norm_args a = {.y = y.view,
                             .x = x.view,
                             .scale = shared(&w),
                             .shift = shared(&bias),
                             .rms = rms,
                             .eps = 1e-5f,
                             .batch = 2,
                             .rows = 3,
                             .dim = d};
            CUDA_OK(k_norm(&a, 0));
            array_fetch(&y.a), array_fetch(&x.a);
            check_rows(&y, &x, &w, &bias, false, (double)1e-5f, rms);
            array_free(&x.a), array_free(&y.a), array_free(&w.a), array_free(&bias.a);
        }
}

// Each operand in turn is the one off the 16-byte grid.
static void test_one_unaligned(void)
{
    for (int which = 0; which < 7; which++) {
        const int d = 64;
        k_view v[7];
        rows r[7];
        for (int i = 0; i < 7; i++) {
            r[i] = rows_random(K_BF16, 2, i > 2 ? 1 : 3, d, i == which, 2);
            v[i] = r[i].view;
        }
        k_norm_args a = {.y = v[0],
                         .y2 = v[1],
                         .x = v[2],
                         .scale = v[3],
                         .shift = v[4],
                         .scale2 = v[5],
                         .shift2 = v[6],
                         .eps = 1e-5f,
                         .batch = 2,
                         .rows = 3,
                         .dim = d};
        CUDA_OK(k_norm(&a, 0));
        for (int i = 0; i < 3; i++) array_fetch(&r[i].a);
        check_rows(&r[0], &r[2], &r[3], &r[4], false, (double)1e-5f, false);
        check_rows(&r[1], &r[2], &r[5], &r[6], false, (double)1e-5f, false);
        for (int i = 0; i < 7; i++) array_free(&r[i].a);
    }
}

static void test_every_pair_of_storages(void)
{
    for (int i = 0; i < N_PAIRS; i++)
        for (int d = 333; d <= 344; d += 11) {
            rows x = rows_random(pairs[i][0], 3, 5, d, false, 30),
                 y = rows_make(pairs[i][1], 3, 5, d, false);
            rows scale = vectors_random((k_dtype)(i % 3), 3, d, false),
                 shift = vectors_random((k_dtype)((i + 1) % 3), 3, d, false);
            k_norm_args a = {.y = y.view,
                             .x = x.view,
                             .scale = scale.view,
                             .shift = shift.view,
                             .plus_one = true,
                             .eps = 1e-6f,
                             .batch = 3,
                             .rows = 5,
                             .dim = d};
            CUDA_OK(k_norm(&a, 0));
            array_fetch(&y.a), array_fetch(&x.a);
            check_rows(&y, &x, &scale, &shift, true, (double)1e-6f, false);
            array_free(&x.a), array_free(&y.a), array_free(&scale.a), array_free(&shift.a);
        }
}

// A constant row has no spread at all, whatever its size: what is left is the shift.
static void test_constant_rows(void)
{
    static const float constants[] = {0, 1e-40f, 1, 1000.3f, -123456.7f, 1e15f};
    for (int d = 1536; d <= 9000; d += 2488)
        for (int k = 0; k < 6; k++) {
            rows x = rows_make(K_F32, 1, 2, d, k % 2), y = rows_make(K_F32, 1, 2, d, k % 2);
            rows bias = vectors_random(K_F32, 1, d, false);
            for (int64_t i = 0; i < x.a.n; i++) x.a.v[i] = constants[k];
            array_send(&x.a);
            k_norm_args a = {.y = y.view,
                             .x = x.view,
                             .shift = shared(&bias),
                             .eps = 1e-6f,
                             .batch = 1,
                             .rows = 2,
                             .dim = d};
            CUDA_OK(k_norm(&a, 0));
            array_fetch(&y.a);
            for (int64_t i = 0; i < 2 * d; i++)
                CHECK(row_of(&y, 0, i / d)[i % d] == bias.a.v[i % d], "rows of %g: %g is left",
                      (double)constants[k],
                      (double)(row_of(&y, 0, i / d)[i % d] - bias.a.v[i % d]));
            array_free(&x.a), array_free(&y.a), array_free(&bias.a);
        }
}

// Two modulated norms of one x: one launch, or two.
static void check_two(int i, int d, bool odd)
{
    const k_dtype tx = pairs[i % N_PAIRS][0], ty = pairs[i % N_PAIRS][1];
    rows x = rows_random(tx, 2, 3, d, odd, 3), part[4], y[4];
    for (int k = 0; k < 4; k++) part[k] = vectors_random((k_dtype)((i + k) % 3), 2, d, odd);
    for (int k = 0; k < 4; k++) y[k] = rows_make(ty, 2, 3, d, odd);
    k_norm_args a = {.y = y[0].view,
                     .y2 = y[1].view,
                     .x = x.view,
                     .scale = part[0].view,
                     .shift = part[1].view,
                     .scale2 = part[2].view,
                     .shift2 = part[3].view,
                     .plus_one = true,
                     .eps = 1e-6f,
                     .batch = 2,
                     .rows = 3,
                     .dim = d};
    CUDA_OK(k_norm(&a, 0));
    a.y = y[2].view, a.y2 = (k_view){0};
    CUDA_OK(k_norm(&a, 0));
    a.y = y[3].view, a.scale = part[2].view, a.shift = part[3].view;
    CUDA_OK(k_norm(&a, 0));
    for (int k = 0; k < 4; k++) array_fetch(&y[k].a);
    array_fetch(&x.a);
    same(&y[0], &y[2], "y");
    same(&y[1], &y[3], "y2");
    check_rows(&y[0], &x, &part[0], &part[1], true, (double)1e-6f, false);
    check_rows(&y[1], &x, &part[2], &part[3], true, (double)1e-6f, false);
    array_free(&x.a);
    for (int k = 0; k < 4; k++) array_free(&part[k].a), array_free(&y[k].a);
}

static void test_two_results(void)
{
    static const int two_dims[] = {8, 19, 64, 333, 1536, 1544, 2432, 4096, 4104, 8200};
    for (int i = 0; i < 10; i++) check_two(i, two_dims[i], i % 4 == 3);
    for (int i = 0; i < N_PAIRS; i++) check_two(i, 136, false);
}

// ---- q and k ----

static void rotate_reference(double *v, int d, const float *c, const float *s)
{
    for (int i = 0; i < d / 2; i++) {
        double x0 = v[2 * i], x1 = v[2 * i + 1];
        v[2 * i] = x0 * (double)c[i] - x1 * (double)s[i];
        v[2 * i + 1] = x1 * (double)c[i] + x0 * (double)s[i];
    }
}

typedef struct qk_case {
    k_dtype t;
    int b, n, h, d;
    bool norm_q, norm_k, rope, odd;
    int odd_table; // weight_q, weight_k, cos or sin: 1 to 4
} qk_case;

static void check_qk(const qk_case *c)
{
    const int64_t width = (int64_t)c->h * c->d, row = 3 * width + (c->odd ? 1 : 8),
                  numel = c->b * c->n * row;
    array x = array_make(c->t, numel, c->odd), before = array_make(K_F32, numel, 0);
    array w[2] = {array_make(K_F32, c->d, c->odd_table == 1),
                  array_make(K_F32, c->d, c->odd_table == 2)};
    array cs[2] = {array_make(K_F32, c->n * (c->d / 2) + 1, c->odd_table == 3),
                   array_make(K_F32, c->n * (c->d / 2) + 1, c->odd_table == 4)};
    array_fill(&x, random_unit, 4);
    memcpy(before.v, x.v, (size_t)numel * sizeof(float));
    for (int i = 0; i < 2; i++)
        array_fill(&w[i], random_unit, 2), array_fill(&cs[i], random_unit, 1);
    k_qk_norm_args a = {.q = {array_at(&x, 0), c->t, {c->n * row, row, c->d}},
                        .k = {array_at(&x, width), c->t, {c->n * row, row, c->d}},
                        .weight_q = c->norm_q ? array_at(&w[0], 0) : NULL,
                        .weight_k = c->norm_k ? array_at(&w[1], 0) : NULL,
                        .cos = c->rope ? array_at(&cs[0], 0) : NULL,
                        .sin = c->rope ? array_at(&cs[1], 0) : NULL,
                        .eps = 1e-6f,
                        .batch = c->b,
                        .tokens = c->n,
                        .heads = c->h,
                        .d = c->d};
    CUDA_OK(k_qk_norm_rope(&a, 0));
    array_fetch(&x);
    double *v = malloc((size_t)c->d * sizeof *v);
    for (int64_t r = 0; r < (int64_t)c->b * c->n * (row / c->d); r++) {
        int64_t token = r / (row / c->d), at = token * row + r % (row / c->d) * c->d;
        int part = (int)(r % (row / c->d) / c->h);
        bool touched = part < 2, norm = touched && (part ? c->norm_k : c->norm_q);
        double q = 0;
        for (int i = 0; i < c->d; i++) q += pow((double)before.v[at + i], 2) / c->d;
        double k = norm ? 1 / sqrt(q + (double)1e-6f) : 1;
        for (int i = 0; i < c->d; i++)
            v[i] = before.v[at + i] * k * (norm ? (double)w[part].v[i] : 1);
        if (touched && c->rope) {
            int64_t pos = token % c->n * (c->d / 2);
            rotate_reference(v, c->d, cs[0].v + pos, cs[1].v + pos);
        }
        for (int i = 0; i < c->d; i++) {
            double tolerance = touched ? ldexp(16 * (4 * k + fabs(v[i])), -24) +
                                             roundoff(c->t) * fabs(v[i]) + ldexp(1, -25)
                                       : 0;
            CHECK(fabs((double)x.v[at + i] - v[i]) <= tolerance,
                  "d %d, part %d, element %d: %.9g, not %.9g", c->d, part, i, (double)x.v[at + i],
                  v[i]);
        }
    }
    free(v);
    array_free(&x), array_free(&before);
    for (int i = 0; i < 2; i++) array_free(&w[i]), array_free(&cs[i]);
}

static void test_packed_projection(void)
{
    static const int heads_dims[] = {8, 32, 40, 64, 80, 96, 128, 200, 256, 264};
    for (int i = 0; i < 10; i++)
        for (int t = 0; t < 3; t++)
            check_qk(&(qk_case){.t = (k_dtype)t,
                                .b = 2,
                                .n = 5,
                                .h = 3,
                                .d = heads_dims[i],
                                .norm_q = true,
                                .norm_k = (i + t) % 3 != 0,
                                .rope = (i + t) % 2});
}

static void test_odd_and_unaligned(void)
{
    for (int i = 0; i < 5; i++)
        check_qk(&(qk_case){.t = K_BF16,
                            .b = 2,
                            .n = 3,
                            .h = 2,
                            .d = 64,
                            .norm_q = true,
                            .norm_k = true,
                            .rope = true,
                            .odd_table = i});
    static const int odd_dims[] = {1, 2, 3, 6, 19, 64, 66, 99, 128, 300};
    for (int i = 0; i < 10; i++)
        check_qk(&(qk_case){.t = (k_dtype)(i % 3),
                            .b = 1 + i % 2,
                            .n = 19,
                            .h = 1 + i % 3,
                            .d = odd_dims[i],
                            .norm_q = i % 5 != 4,
                            .norm_k = true,
                            .rope = odd_dims[i] % 2 == 0,
                            .odd = i % 2 == 0,
                            .odd_table = i % 5});
}

int main(int argc, char **argv)
{
    static const launch_test tests[] = {
        {"every_row_length", test_every_row_length},
        {"one_unaligned", test_one_unaligned},
        {"every_pair_of_storages", test_every_pair_of_storages},
        {"constant_rows", test_constant_rows},
        {"two_results", test_two_results},
        {"packed_projection", test_packed_projection},
        {"odd_and_unaligned", test_odd_and_unaligned},
    };
    return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
