// SPDX-License-Identifier: MIT
// k_gemm_strided against double-precision products: both layouts of both operands, float32 and bf16, both sizes of tiles, parts of k, tails
// of all three dimensions, views with gaps and off every alignment, results written and added to.
#include "launch_support.h"
#include "kernels/training.h"

typedef enum layout {
    DENSE,
    GAPS,      // rows lie apart, aligned all the same
    UNALIGNED, // one element past the alignment of 16 bytes, odd strides
} layout;

typedef struct product_case {
    int m, n, k, splits;
    layout a, b, c;
    bool add, bias;
} product_case;

// What a case is run as.
typedef struct way {
    k_dtype in, out;
    bool a_across, b_across; // transposed in memory: neighbours are not along k
    k_gemm_tile tile;
} way;

// A [rows, columns] matrix at any two strides, one of which is 1.
typedef struct matrix {
    array a;
    int64_t rows, columns, stride[2];
} matrix;

static int64_t place(const matrix *x, int64_t r, int64_t c)
{
    return r * x->stride[0] + c * x->stride[1];
}

// between: NaN where no element lies.
static matrix new_matrix(k_dtype dtype, int64_t rows, int64_t columns, bool transposed, layout l)
{
    int64_t length = transposed ? rows : columns, lines = transposed ? columns : rows;
    int64_t pitch = l == GAPS ? (length + 15) / 8 * 8 : l == UNALIGNED ? length + 3 : length;
    matrix x = {.a = array_make(dtype, lines * pitch, l == UNALIGNED),
                .rows = rows,
                .columns = columns,
                .stride = {transposed ? 1 : pitch, transposed ? pitch : 1}};
    for (int64_t i = 0; i < x.a.n; i++) x.a.v[i] = NAN;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) x.a.v[place(&x, r, c)] = (float)random_normal();
    array_send(&x.a);
    return x;
}

// One result. A float32 sum of k products errs by a walk of roundings, each of a part of the products' sizes; splitting them makes the
// walk shorter. Then there is a rounding for the bias or the old value, and one for the store.
static void check_result(const matrix *a, const matrix *b, int r, int c, double start, k_dtype out,
                         float got, const char *name)
{
    double sum = 0, size = 0;
    for (int64_t k = 0; k < a->columns; k++) {
        double p = (double)a->a.v[place(a, r, k)] * b->a.v[place(b, k, c)];
        sum += p;
        size += fabs(p);
    }
    double ref = sum + start,
           bound = ldexp(size, -24) * (4 + 2 * sqrt((double)a->columns)) +
                   (ldexp(1, -23) + 1.01 * roundoff(out)) * (fabs(ref) + fabs(start));
    CHECK(fabs(got - ref) <= bound, "[%d, %d] is %g, not %g +- %g: %s", r, c, got, ref, bound,
          name);
}

static void check_case(const product_case *t, const way *w)
{
    char name[160];
    snprintf(name, sizeof name, "%d x %d x %d, %d parts, %s a%s b%s, tile %d", t->m, t->n, t->k,
             t->splits, w->in == K_F32 ? "f32" : "bf16", w->a_across ? "^T" : "",
             w->b_across ? "" : "^T", w->tile);
    matrix a = new_matrix(w->in, t->m, t->k, w->a_across, t->a),
           b = new_matrix(w->in, t->k, t->n, !w->b_across, t->b),
           c = new_matrix(w->out, t->m, t->n, false, t->c);
    array bias = array_make(K_F32, t->n, t->c == UNALIGNED);
    array_fill(&bias, random_normal, 1);
    k_gemm_strided_args args = {
        .c = {array_at(&c.a, 0), w->out, {c.stride[0]}},
        .a = array_at(&a.a, 0),
        .b = array_at(&b.a, 0),
        .dtype = w->in,
        .a_stride = {a.stride[0], a.stride[1]},
        .b_stride = {b.stride[0], b.stride[1]},
        .bias = t->bias ? array_at(&bias, 0) : NULL,
        .add = t->add,
        .m = t->m,
        .n = t->n,
        .k = t->k,
        .tile = w->tile,
        .splits = t->splits,
    };
    size_t bytes = k_gemm_strided_workspace(&args);
    array ws = array_make(K_F32, (int64_t)(bytes / sizeof(float)) + 1, 0);
    float *before = malloc((size_t)c.a.n * sizeof *before);
    memcpy(before, c.a.v, (size_t)c.a.n * sizeof *before);
    CHECK(t->splits <= 1 || bytes > 0, "no workspace: %s", name);
    CUDA_OK(k_gemm_strided(&args, array_at(&ws, 0), NULL));
    CUDA_OK(cudaDeviceSynchronize());
    array_fetch(&c.a);
    array_fetch(&ws);
    CHECK(isnan(ws.v[ws.n - 1]), "written past the workspace: %s", name);
    for (int r = 0; r < t->m; r++)
        for (int i = 0; i < t->n; i++) {
            double start = (t->add ? before[place(&c, r, i)] : 0) + (t->bias ? bias.v[i] : 0);
            check_result(&a, &b, r, i, start, w->out, c.a.v[place(&c, r, i)], name);
            c.a.v[place(&c, r, i)] = NAN;
        }
    for (int64_t i = 0; i < c.a.n; i++) CHECK(isnan(c.a.v[i]), "written between rows: %s", name);
    free(before);
    array_free(&a.a), array_free(&b.a), array_free(&c.a), array_free(&bias), array_free(&ws);
}

static void check_all(const product_case *cases, int n, k_dtype in, k_dtype out)
{
    for (int i = 0; i < n; i++)
        for (int l = 0; l < 8; l++)
            check_case(&cases[i], &(way){in, out, l & 1, l & 2, l & 4 ? K_TILE_128 : K_TILE_64});
}

// Around the tiles, the steps of k (8, 16, 32), the pieces of 4 and 8, the parts.
static const product_case shapes[] = {
    {.m = 1, .n = 1, .k = 1, .c = DENSE},
    {.m = 1, .n = 9, .k = 7, .add = true},
    {.m = 72, .n = 8, .k = 40, .bias = true},
    {.m = 16, .n = 136, .k = 64, .a = GAPS, .b = GAPS, .c = GAPS, .add = true},
    {.m = 136, .n = 40, .k = 96, .splits = 2, .bias = true},
    {.m = 64, .n = 64, .k = 128, .splits = 4, .add = true},
    {.m = 24, .n = 24, .k = 72, .splits = 3, .c = UNALIGNED, .bias = true},
    {.m = 67, .n = 19, .k = 99, .splits = 2, .add = true},
    {.m = 19, .n = 67, .k = 33, .a = UNALIGNED, .b = GAPS, .bias = true},
    {.m = 33, .n = 40, .k = 31, .a = GAPS, .b = UNALIGNED, .c = UNALIGNED, .add = true},
    {.m = 8, .n = 16, .k = 17, .b = UNALIGNED, .c = GAPS},
};

static void test_float32(void)
{
    check_all(shapes, sizeof shapes / sizeof *shapes, K_F32, K_F32);
}

static void test_bf16_to_float32(void)
{
    check_all(shapes, sizeof shapes / sizeof *shapes, K_BF16, K_F32);
}

static void test_bf16(void)
{
    check_all(shapes + 1, sizeof shapes / sizeof *shapes - 1, K_BF16, K_BF16);
}

// Gradients of LoRA factors: [N, 64] and [64, K] over all rows of a batch, cut by the launcher itself.
static void test_long(void)
{
    const product_case cases[] = {{.m = 96, .n = 16, .k = 1037, .add = true},
                                  {.m = 16, .n = 72, .k = 600}};
    for (int i = 0; i < 2; i++)
        for (int in = K_F32; in <= K_BF16; in++) {
            check_case(&cases[i], &(way){(k_dtype)in, K_F32, true, true, K_TILE_AUTO});
            check_case(&cases[i], &(way){(k_dtype)in, K_F32, false, false, K_TILE_AUTO});
        }
}

// More rows than a band of 8 tiles, of either size, by several columns of tiles.
static void test_bands(void)
{
    const product_case c = {.m = 1032, .n = 136, .k = 8};
    for (int in = K_F32; in <= K_BF16; in++)
        for (int tile = K_TILE_64; tile <= K_TILE_128; tile++)
            check_case(&c, &(way){(k_dtype)in, K_F32, false, true, (k_gemm_tile)tile});
}

// A product cut into parts has the same bits whenever it is made; the workspace is the same for any pointers.
static void test_same_bits(void)
{
    enum { M = 40, N = 24, K = 777 };
    matrix a = new_matrix(K_BF16, M, K, true, DENSE), b = new_matrix(K_BF16, K, N, false, DENSE);
    matrix c[2];
    for (int i = 0; i < 2; i++) {
        c[i] = new_matrix(K_F32, M, N, false, DENSE);
        k_gemm_strided_args args = {.c = {array_at(&c[i].a, 0), K_F32, {N}},
                                    .a = array_at(&a.a, 0),
                                    .b = array_at(&b.a, 0),
                                    .dtype = K_BF16,
                                    .a_stride = {1, M},
                                    .b_stride = {N, 1},
                                    .m = M,
                                    .n = N,
                                    .k = K};
        size_t bytes = k_gemm_strided_workspace(&args);
        k_gemm_strided_args nowhere = args;
        nowhere.c.data = NULL, nowhere.a = nowhere.b = NULL;
        CHECK(bytes == 3 * M * N * sizeof(float) && k_gemm_strided_workspace(&nowhere) == bytes,
              "a workspace of %zu bytes", bytes);
        array ws = array_make(K_F32, (int64_t)(bytes / sizeof(float)), 0);
        CUDA_OK(k_gemm_strided(&args, array_at(&ws, 0), NULL));
        CUDA_OK(cudaDeviceSynchronize());
        array_fetch(&c[i].a);
        array_free(&ws);
    }
    CHECK(!memcmp(c[0].a.v, c[1].a.v, M * N * sizeof(float)), "other bits");
    array_free(&a.a), array_free(&b.a), array_free(&c[0].a), array_free(&c[1].a);
}

static void test_too_large(void)
{
    const int64_t big = (int64_t)1 << 31;
    for (int i = 0; i < 3; i++) {
        k_gemm_strided_args a = {
            .m = i == 0 ? big : 1, .n = i == 1 ? big : 1, .k = i == 2 ? big : 1};
        CHECK(k_gemm_strided(&a, NULL, NULL) == cudaErrorInvalidValue, "a side of 2^31");
    }
}

int main(int argc, char **argv)
{
    static const launch_test tests[] = {
        {"float32", test_float32},     {"bf16_to_float32", test_bf16_to_float32},
        {"bf16", test_bf16},           {"long", test_long},
        {"bands", test_bands},         {"same_bits", test_same_bits},
        {"too_large", test_too_large},
    };
    return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
