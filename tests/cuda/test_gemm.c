// SPDX-License-Identifier: MIT
// k_gemm against double-precision products: every kernel, storage and end of a product, tails of all three dimensions, strides,
// operands that need packing, results over their residual.
#include "launch_support.h"

typedef enum layout {
    DENSE,
    GAPS,      // rows and samples lie apart, aligned all the same
    UNALIGNED, // one element past the alignment of 16 bytes, odd strides
} layout;

typedef enum values {
    NORMAL,
    LARGE,    // sums near 1e6
    DENORMAL, // operands below the normal range of fp16
    CONSTANT, // all operands alike
} values;

typedef struct gemm_case {
    int batch, rows, n, k;
    k_dtype x, w, y, compute;
    k_act act;
    k_gemm_kernel kernel;
    layout layout;
    values values;
    bool no_bias, residual, in_place, gate; // in_place: y is the residual
    k_dtype residual_dtype, gate_dtype;
} gemm_case;

static const k_dtype F = K_F32, H = K_BF16, S = K_F16;

// A [batch, rows, columns] view and its array.
typedef struct matrix {
    array a;
    k_view view;
} matrix;

static matrix new_matrix(const gemm_case *c, k_dtype dtype, int64_t rows, int64_t columns)
{
    int64_t row = c->layout == GAPS        ? (columns + 15) / 8 * 8
                  : c->layout == UNALIGNED ? columns + 3
                                           : columns;
    int64_t sample = row * rows + (c->layout == DENSE ? 0 : 8 + (c->layout == UNALIGNED));
    matrix m = {.a = array_make(dtype, c->batch * sample, c->layout == UNALIGNED)};
    m.view = (k_view){array_at(&m.a, 0), dtype, {sample, row, 0}};
    return m;
}

static int64_t place(const matrix *m, int64_t b, int64_t i)
{
    return b * m->view.stride[0] + i * m->view.stride[1];
}

static double value_of(values v)
{
    switch (v) {
    case LARGE:
        return random_normal() * 300;
    case DENORMAL:
        return random_normal() * 2e-5;
    case CONSTANT:
        return 0.75;
    default:
        return random_normal();
    }
}

static void fill(const gemm_case *c, matrix *m, int64_t rows, int64_t columns, values v)
{
    for (int64_t i = 0; i < m->a.n; i++)
        m->a.v[i] = NAN; // between the rows: nothing that may be read
    for (int b = 0; b < c->batch; b++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++) m->a.v[place(m, b, i) + j] = (float)value_of(v);
    array_send(&m->a);
}

typedef struct call {
    const gemm_case *c;
    k_gemm_args args;
    matrix y, x, residual, gate;
    array w, bias, ws; // w as it is sent, rows of args.w_stride
} call;

// The weight: as k_gemm_pack leaves it, but for float32 arithmetic, which takes any stride.
static void new_weight(call *t)
{
    const gemm_case *c = t->c;
    int64_t stride = c->compute == K_F32 ? c->k + (c->layout != DENSE) : k_gemm_pitch(c->k);
    t->w = array_make(c->w, c->n * stride, c->compute == K_F32 && c->layout == UNALIGNED);
    for (int64_t i = 0; i < c->n; i++)
        for (int64_t j = 0; j < c->k; j++) t->w.v[i * stride + j] = (float)value_of(c->values);
    array_send(&t->w);
    t->args.w = array_at(&t->w, 0);
    t->args.w_dtype = c->w;
    t->args.w_stride = stride;
}

static void open_call(call *t, const gemm_case *c)
{
    *t = (call){.c = c};
    t->args = (k_gemm_args){.act = c->act,
                            .batch = c->batch,
                            .rows = c->rows,
                            .n = c->n,
                            .k = c->k,
                            .compute = c->compute,
                            .kernel = c->kernel};
    t->x = new_matrix(c, c->x, c->rows, c->k);
    fill(c, &t->x, c->rows, c->k, c->values);
    t->args.x = t->x.view;
    new_weight(t);
    if (!c->no_bias) {
        t->bias = array_make(K_F32, c->n, c->layout == UNALIGNED);
        array_fill(&t->bias, random_normal, 1);
        t->args.bias = array_at(&t->bias, 0);
    }
    t->y = new_matrix(c, c->y, c->rows, c->n);
    t->args.y = t->y.view;
    if (c->residual) {
        t->residual = c->in_place ? t->y : new_matrix(c, c->residual_dtype, c->rows, c->n);
        fill(c, &t->residual, c->rows, c->n, NORMAL);
        t->args.residual = t->residual.view;
    }
    if (c->gate) {
        t->gate = new_matrix(c, c->gate_dtype, 1, c->n);
        fill(c, &t->gate, 1, c->n, NORMAL);
        t->args.gate = t->gate.view;
    }
    size_t bytes = k_gemm_workspace(&t->args);
    t->ws = array_make(K_F32, (int64_t)(bytes + 3) / 4 + 1, 0);
}

static void close_call(call *t)
{
    array_free(&t->x.a), array_free(&t->w), array_free(&t->y.a), array_free(&t->ws);
    if (t->args.bias) array_free(&t->bias);
    if (t->c->residual && !t->c->in_place) array_free(&t->residual.a);
    if (t->c->gate) array_free(&t->gate.a);
}

static double act_of(double x, k_act act)
{
    switch (act) {
    case K_ACT_SILU:
        return x / (1 + exp(-x));
    case K_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case K_ACT_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case K_ACT_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    case K_ACT_RELU:
        return x > 0 ? x : 0;
    case K_ACT_TANH:
        return tanh(x);
    default:
        return x;
    }
}

// One result. The bound: a float32 sum of k products, an activation of slope under 1.2 with some roundings of its own, one
// rounding each of the product with the gate, the sum with the residual and the store.
static void check_result(const call *t, int b, int i, int n, const float *before, const float *y)
{
    const gemm_case *c = t->c;
    const float *x = t->x.a.v + place(&t->x, b, i), *w = t->w.v + n * t->args.w_stride;
    double sum = t->args.bias ? t->bias.v[n] : 0, size = fabs(sum);
    for (int k = 0; k < c->k; k++) {
        double p = (double)rounded(c->compute, x[k]) * w[k];
        sum += p;
        size += fabs(p);
    }
    double gate = c->gate ? t->gate.a.v[place(&t->gate, b, 0) + n] : 1,
           ref = act_of(sum, c->act) * gate;
    double bound =
        (1.2 * ldexp(size, -24) * (4 + 2 * sqrt(c->k)) + (c->act ? ldexp(fabs(sum), -20) : 0)) *
            fabs(gate) +
        ldexp(fabs(ref), -23);
    if (c->residual)
        ref += before[(t->c->in_place ? place(&t->y, b, i) : place(&t->residual, b, i)) + n];
    bound += (1.01 * roundoff(c->y) + ldexp(1, -23)) * fabs(ref) +
             (c->y == K_F16 ? ldexp(1, -25) : 1e-37);
    float got = y[place(&t->y, b, i) + n];
    CHECK(fabs(got - ref) <= bound,
          "sample %d row %d column %d is %g, not %g +- %g (%d x %d x %d x %d, kernel %d)", b, i, n,
          got, ref, bound, c->batch, c->rows, c->n, c->k, c->kernel);
}

static void check_case(const gemm_case *c)
{
    call t;
    open_call(&t, c);
    const array *old = c->in_place ? &t.y.a : &t.residual.a;
    float *before = calloc((size_t)old->n + 1, sizeof *before);
    if (c->residual) memcpy(before, old->v, (size_t)old->n * sizeof *before);
    CUDA_OK(k_gemm(&t.args, array_at(&t.ws, 0), NULL));
    CUDA_OK(cudaDeviceSynchronize());
    array_fetch(&t.y.a);
    array_fetch(&t.ws);
    CHECK(isnan(t.ws.v[t.ws.n - 1]), "written past the workspace");
    for (int b = 0; b < c->batch; b++)
        for (int i = 0; i < c->rows; i++)
            for (int n = 0; n < c->n; n++) {
                check_result(&t, b, i, n, before, t.y.a.v);
                t.y.a.v[place(&t.y, b, i) + n] = NAN;
            }
    for (int64_t i = 0; i < t.y.a.n; i++) CHECK(isnan(t.y.a.v[i]), "written between the rows");
    free(before);
    close_call(&t);
}

#define CHECK_ALL(cases)                                                                           \
    for (size_t i_ = 0; i_ < sizeof(cases) / sizeof *(cases); i_++) check_case(&(cases)[i_])

static void test_sizes(void)
{
    const int sizes[] = {1, 3, 19, 99, 111, 333};
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++) {
            gemm_case c = {1, sizes[i], sizes[j], sizes[(i + j) % 6],    S,
                           S, F,        S,        .kernel = K_GEMM_SMALL};
            check_case(&c);
            if ((i + j) % 2) continue;
            c.kernel = K_GEMM_LARGE;
            check_case(&c);
            c.kernel = K_GEMM_PLAIN, c.compute = c.x = c.w = F;
            if (i + j < 8) check_case(&c);
            if (c.rows > 99) continue;
            c.kernel = K_GEMM_FEW, c.compute = c.x = c.w = S;
            check_case(&c);
        }
}

// k around the pieces of 8, the blocks of 32 and the loops over them; rows and columns around the tiles.
static void test_borders(void)
{
    const int k[] = {7, 8, 9, 24, 31, 32, 33, 64, 72, 127, 128, 129, 512, 520};
    for (int i = 0; i < 14; i++) {
        const gemm_case cases[] = {
            {1, 17, 9, k[i], S, S, F, S, .kernel = K_GEMM_SMALL},
            {1, 17, 33, k[i], S, S, F, S, .kernel = K_GEMM_LARGE},
            {1, 5, 9, k[i], S, S, F, S, .kernel = K_GEMM_FEW},
            {1, 9, 9, k[i], F, F, F, F, .act = K_ACT_NONE},
        };
        CHECK_ALL(cases);
    }
    const int size[] = {31, 32, 33, 63, 64, 65, 127, 128, 129, 8, 16};
    for (int i = 0; i < 11; i++) {
        const gemm_case cases[] = {
            {1, size[i], size[10 - i], 40, S, S, S, S, .kernel = K_GEMM_SMALL},
            {1, size[i], size[10 - i], 40, S, S, S, S, .kernel = K_GEMM_LARGE},
            {1, 16 - i % 3, size[i], 40, H, H, H, H, .kernel = K_GEMM_FEW},
        };
        CHECK_ALL(cases);
    }
    for (int n = 65; n <= 72; n++) { // whole and broken runs of 8 columns
        gemm_case c = {
            1, 17, n, 40, S, S, F, S, .kernel = K_GEMM_SMALL, .layout = GAPS, .no_bias = true};
        check_case(&c);
        c.y = S, c.rows = 4, c.kernel = K_GEMM_FEW;
        check_case(&c);
    }
    const gemm_case bands[] = {
        {1, 1100, 24, 16, S, S, F, S, .kernel = K_GEMM_LARGE},
        {1, 600, 136, 16, S, S, F, S, .kernel = K_GEMM_SMALL},
    };
    CHECK_ALL(bands);
}

static void test_storages(void)
{
    const k_dtype types[] = {K_F32, K_BF16, K_F16};
    for (int x = 0; x < 3; x++)
        for (int y = 0; y < 3; y++)
            for (int l = DENSE; l <= UNALIGNED; l++) {
                const gemm_case cases[] = {
                    {2, 19, 40, 48, types[x], S, types[y], S, .layout = (layout)l},
                    {2, 19, 40, 41, types[x], H, types[y], H, .layout = (layout)l, .residual = true,
                     .residual_dtype = types[(x + y) % 3]},
                    {3, 3, 40, 48, types[x], H, types[y], H, .layout = (layout)l},
                    {3, 5, 17, 41, types[x], S, types[y], S, .layout = (layout)l, .residual = true,
                     .residual_dtype = types[(x + y) % 3]},
                    {2, 19, 40, 41, types[x], types[(x + l) % 3], types[y], F, .layout = (layout)l},
                };
                CHECK_ALL(cases);
            }
}

static void test_ends(void)
{
    for (int act = K_ACT_NONE; act <= K_ACT_TANH; act++) {
        const gemm_case cases[] = {
            {2, 33, 72, 40, H, H, F, H, .act = (k_act)act},
            {3, 11, 20, 40, S, S, S, S, .act = (k_act)act, .no_bias = true, .residual = true,
             .residual_dtype = F},
            {2, 4, 20, 40, S, S, F, S, .act = (k_act)act, .residual = true, .residual_dtype = S,
             .gate = true, .gate_dtype = F},
            {2, 5, 70, 40, F, F, F, F, .act = (k_act)act, .gate = true, .gate_dtype = H,
             .residual = true},
        };
        CHECK_ALL(cases);
    }
    for (int l = DENSE; l <= UNALIGNED; l++) {
        const gemm_case cases[] = {
            // samples end within tiles
            {3, 50, 72, 40, H, H, F, H, .layout = (layout)l, .residual = true, .in_place = true,
             .gate = true, .gate_dtype = F},
            {5, 30, 72, 40, H, H, H, H, .kernel = K_GEMM_LARGE, .layout = (layout)l,
             .residual = true, .in_place = true, .gate = true, .gate_dtype = H},
            {4, 3, 72, 40, S, S, S, S, .layout = (layout)l, .residual = true, .in_place = true,
             .gate = true, .gate_dtype = S},
            {3, 23, 72, 40, F, H, H, F, .layout = (layout)l, .residual = true, .in_place = true,
             .gate = true, .gate_dtype = F},
        };
        CHECK_ALL(cases);
    }
}

// The models' shapes, scaled down.
static void test_models(void)
{
    const gemm_case cases[] = {
        {2, 77, 288, 96, H, H, H, H, .act = K_ACT_NONE}, // qkv
        {2, 144, 96, 96, H, H, F, H, .residual = true, .in_place = true, .gate = true,
         .gate_dtype = F},                                                             // out
        {1, 256, 384, 96, H, H, H, H, .act = K_ACT_GELU_TANH, .kernel = K_GEMM_LARGE}, // MLP
        {2, 256, 96, 384, H, H, F, H, .residual = true, .in_place = true, .gate = true,
         .gate_dtype = F},                                      // and back
        {1, 2, 1152, 192, F, H, F, H, .act = K_ACT_NONE},       // modulation
        {1, 1, 192, 256, F, H, F, H, .act = K_ACT_SILU},        // time embedding
        {1, 300, 64, 192, H, H, F, H, .act = K_ACT_NONE},       // last layer
        {1, 99, 320, 128, F, H, F, F, .act = K_ACT_QUICK_GELU}, // float32
    };
    CHECK_ALL(cases);
}

static void test_ends_of_the_range(void)
{
    for (int v = LARGE; v <= CONSTANT; v++) {
        const gemm_case cases[] = {
            {1, 33, 40, 99, S, S, F, S, .values = (values)v},
            {1, 33, 40, 99, H, H, H, H, .values = (values)v, .act = K_ACT_GELU_TANH},
            {1, 3, 40, 99, S, S, F, S, .values = (values)v, .act = K_ACT_SILU},
            {1, 33, 40, 99, F, F, F, F, .values = (values)v, .act = K_ACT_GELU_ERF},
        };
        CHECK_ALL(cases);
    }
}

// The same bits again, and for a sample alone as in its batch: of every kernel, and of the choice between them, whether the batch or the
// sample has more than 16 rows.
static void test_same_bits(void)
{
    enum { BATCH = 5, N = 40 };
    const k_gemm_kernel kernels[] = {K_GEMM_SMALL, K_GEMM_LARGE, K_GEMM_FEW, K_GEMM_PLAIN,
                                     K_GEMM_AUTO};
    for (int i = 0; i < 10; i++) {
        const gemm_case c = {BATCH,
                             i % 2 ? 17 : 5,
                             N,
                             520,
                             H,
                             H,
                             F,
                             kernels[i / 2] == K_GEMM_PLAIN ? F : H,
                             .kernel = kernels[i / 2]};
        call t;
        open_call(&t, &c);
        float together[BATCH * 17 * N];
        const size_t bytes = sizeof(float) * BATCH * (size_t)c.rows * N;
        CUDA_OK(k_gemm(&t.args, array_at(&t.ws, 0), NULL));
        array_fetch(&t.y.a);
        memcpy(together, t.y.a.v, bytes);
        CUDA_OK(cudaMemset(t.args.y.data, UNWRITTEN, bytes));
        t.args.batch = 1;
        for (int b = 0; b < BATCH; b++) {
            CUDA_OK(k_gemm(&t.args, array_at(&t.ws, 0), NULL));
            t.args.x.data = (char *)t.args.x.data + t.args.x.stride[0] * (int64_t)size_of(H);
            t.args.y.data = (char *)t.args.y.data + t.args.y.stride[0] * (int64_t)size_of(F);
        }
        array_fetch(&t.y.a);
        CHECK(!memcmp(together, t.y.a.v, bytes), "other bits of case %d", i);
        close_call(&t);
    }
}

static void test_pack(void)
{
    const k_dtype types[] = {K_F32, K_BF16, K_F16};
    for (int from = 0; from < 3; from++)
        for (int to = 0; to < 3; to++)
            for (int l = DENSE; l <= UNALIGNED; l++)
                for (int k = 1; k <= 41; k += 8) {
                    const gemm_case c = {.batch = 2, .layout = (layout)l};
                    const int rows = 3, pitch = (int)k_gemm_pitch(k);
                    matrix x = new_matrix(&c, types[from], rows, k);
                    fill(&c, &x, rows, k, NORMAL);
                    array y = array_make(types[to], (int64_t)c.batch * rows * pitch, 0);
                    CUDA_OK(
                        k_gemm_pack(array_at(&y, 0), types[to], x.view, c.batch, rows, k, NULL));
                    array_fetch(&y);
                    for (int r = 0; r < c.batch * rows; r++)
                        for (int j = 0; j < pitch; j++) {
                            float want =
                                j < k ? rounded(types[to], x.a.v[place(&x, r / rows, r % rows) + j])
                                      : 0;
                            CHECK(y.v[r * pitch + j] == want, "packed %g, not %g",
                                  y.v[r * pitch + j], want);
                        }
                    array_free(&x.a), array_free(&y);
                }
}

int main(int argc, char **argv)
{
    static const launch_test tests[] = {
        {"sizes", test_sizes},         {"borders", test_borders},
        {"storages", test_storages},   {"ends", test_ends},
        {"models", test_models},       {"ends_of_the_range", test_ends_of_the_range},
        {"same_bits", test_same_bits}, {"pack", test_pack},
    };
    return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
