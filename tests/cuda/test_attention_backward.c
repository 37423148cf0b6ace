// SPDX-License-Identifier: MIT
// k_attention_backward against the formulas in double precision, which finite differences of a double forward pass hold to account: the tiled
// and the plain kernel, tails, strides, two streams, gradients that are written, added to or not wanted; and the slots.
#include "attention_oracle.h"
#include "backends.h"
#include "backend/ops.h"
#include "kernels/training.h"

typedef enum layout {
    APART,     // arrays [B, N, H, d] of their own, with a gap after each row
    PACKED,    // q, k, v are thirds of one row, as the models have them, and so are their gradients
    HEADS,     // [B, H, N, d]
    UNALIGNED, // as APART, one element past the alignment of 16 bytes
} layout;

typedef enum values {
    NORMAL,
    LARGE,    // scores of some hundreds: the softmax is a choice
    EQUAL,    // all keys alike
    NEGATIVE, // scores below -200: exp(-lse) is infinite
} values;

typedef struct backward_case {
    k_dtype in, out, grad;   // of q, k, v; o; d_o and gradients
    int b, h, d, q[2], k[2]; // q 0: the stream's queries are absent; k[1] 0: one stream
    layout layout;
    int block_rows;
    float scale; // times 1 / sqrt(d); 0 stands for 1
    values values;
    unsigned absent, add; // bit 3 stream + Q, K or V: of gradients
} backward_case;

// ---- the oracle ----

// The oracle's gradients are those of sum d_o o, by central differences.
static void test_oracle(void)
{
    const int q[2] = {2, 3}, k[2] = {3, 2};
    oracle t, moved;
    oracle_open(&t, 1, 2, 4, q, k, 0.7);
    for (int s = 0; s < 2; s++)
        for (int p = 0; p < PARTS; p++)
            for (int i = 0; p != O && i < t.n[s][p] * 8; i++) t.x[s][p][i] = random_normal();
    oracle_forward(&t);
    oracle_backward(&t);
    for (int s = 0; s < 2; s++)
        for (int p = Q; p <= V; p++)
            for (int e = 0; e < t.n[s][p] * 8; e++) {
                double loss[2] = {0, 0}, step = 1e-4;
                for (int side = 0; side < 2; side++) {
                    oracle_open(&moved, 1, 2, 4, q, k, 0.7);
                    for (int u = 0; u < 2; u++)
                        for (int part = Q; part <= V; part++)
                            memcpy(moved.x[u][part], t.x[u][part],
                                   (size_t)t.n[u][part] * 8 * sizeof(double));
                    moved.x[s][p][e] += side ? step : -step;
                    oracle_forward(&moved);
                    for (int u = 0; u < 2; u++)
                        loss[side] += dot(t.x[u][D_O], moved.x[u][O], q[u] * 8, NULL);
                    oracle_close(&moved);
                }
                double want = (loss[1] - loss[0]) / (2 * step), got = t.ref[s][p][e];
                CHECK(fabs(got - want) < 1e-6, "part %d of stream %d: %g, not %g", p, s, got, want);
            }
    oracle_close(&t);
}

// ---- a call ----

typedef struct operand {
    array *a;
    k_view view;
    int64_t first; // of the view, in elements of the array
} operand;

typedef struct call {
    const backward_case *c;
    oracle t;
    operand x[2][PARTS], grad[2][3];
    array arrays[16], lse[2], workspace;
    bool *seen[16]; // of an array: elements that belong to a view
    int n_arrays;
    k_attention_backward_args args;
} call;

static int64_t place(const operand *x, int64_t b, int64_t n, int64_t h)
{
    return x->first + b * x->view.stride[0] + n * x->view.stride[1] + h * x->view.stride[2];
}

// Parts of one row each: 1, or the 3 of q, k and v.
static void new_operands(call *t, operand *x, int parts, k_dtype dtype, int n)
{
    const backward_case *c = t->c;
    int64_t width = (int64_t)c->h * c->d, line = parts * width + (c->layout == HEADS ? 0 : 8);
    array *a = &t->arrays[t->n_arrays];
    *a = array_make(dtype, c->b * n * line, c->layout == UNALIGNED);
    t->seen[t->n_arrays++] = calloc((size_t)a->n, sizeof(bool));
    for (int64_t i = 0; i < a->n; i++) a->v[i] = NAN;
    for (int i = 0; i < parts; i++) {
        x[i] = (operand){a, {array_at(a, i * width), dtype, {n * line, line, c->d}}, i * width};
        if (c->layout == HEADS) x[i].view.stride[1] = c->d, x[i].view.stride[2] = n * c->d;
    }
}

// The values of a view: from the oracle's dense ones, and back as they are stored.
static void exchange(call *t, const operand *x, double *numbers, int n, bool send)
{
    const backward_case *c = t->c;
    for (int b = 0; b < c->b; b++)
        for (int i = 0; i < n; i++)
            for (int h = 0; h < c->h; h++)
                for (int e = 0; e < c->d; e++) {
                    int64_t from = dense(&t->t, n, b, i, h) + e, to = place(x, b, i, h) + e;
                    t->seen[x->a - t->arrays][to] = true;
                    if (send)
                        x->a->v[to] = rounded(x->a->dtype, (float)numbers[from]);
                    else
                        numbers[from] = x->a->v[to];
                }
}

static void fill(call *t, int s, int part)
{
    const backward_case *c = t->c;
    int64_t n = (int64_t)c->b * t->t.n[s][part] * c->h * c->d;
    for (int64_t i = 0; i < n; i++) {
        double r = random_normal();
        if (c->values == LARGE && (part == Q || part == K)) r *= 8;
        if (c->values == NEGATIVE && part == Q) r = 5 + r;
        if (c->values == NEGATIVE && part == K) r = -7 + r;
        if (c->values == EQUAL && part == K) r = (double)(i % c->d % 7) - 3;
        t->t.x[s][part][i] = r;
    }
}

static void open_part(call *t, int s, int part)
{
    exchange(t, &t->x[s][part], t->t.x[s][part], t->t.n[s][part], true);
    exchange(t, &t->x[s][part], t->t.x[s][part], t->t.n[s][part], false);
}

// Values before the call where a gradient is added to; nothing elsewhere.
static void open_gradients(call *t, int s)
{
    const backward_case *c = t->c;
    k_grad *to[] = {&t->args.dq[s], &t->args.dk[s], &t->args.dv[s]};
    for (int p = Q; p <= V; p++) {
        int n = t->t.n[s][p];
        if (!n || c->absent >> (3 * s + p) & 1) continue;
        to[p]->view = t->grad[s][p].view;
        to[p]->add = c->add >> (3 * s + p) & 1;
        double *old = zeros((int64_t)c->b * n * c->h * c->d);
        for (int64_t i = 0; i < (int64_t)c->b * n * c->h * c->d; i++)
            old[i] = to[p]->add ? random_normal() : NAN;
        exchange(t, &t->grad[s][p], old, n, true);
        free(old);
    }
}

static void open_call(call *t, const backward_case *c)
{
    memset(t, 0, sizeof *t);
    t->c = c;
    float scale = (c->scale == 0 ? 1.0f : c->scale) / sqrtf((float)c->d);
    oracle_open(&t->t, c->b, c->h, c->d, c->q, c->k, scale);
    k_attention_args *f = &t->args.forward;
    *f = (k_attention_args){.n_streams = c->k[1] ? 2 : 1,
                            .batch = c->b,
                            .heads = c->h,
                            .head_dim = c->d,
                            .scale = scale,
                            .block_rows = c->block_rows};
    for (int s = 0; s < f->n_streams; s++) {
        f->n_q[s] = c->q[s], f->n_k[s] = c->k[s];
        if (c->layout == PACKED) {
            new_operands(t, t->x[s], 3, c->in, c->k[s]);
            new_operands(t, t->grad[s], 3, c->grad, c->k[s]);
        } else {
            for (int p = c->q[s] ? Q : K; p <= V; p++) {
                new_operands(t, &t->x[s][p], 1, c->in, t->t.n[s][p]);
                new_operands(t, &t->grad[s][p], 1, c->grad, t->t.n[s][p]);
            }
        }
        for (int p = Q; p <= V; p++) fill(t, s, p), open_part(t, s, p);
        open_gradients(t, s);
        f->k[s] = t->x[s][K].view, f->v[s] = t->x[s][V].view;
    }
    oracle_forward(&t->t);
    for (int s = 0; s < f->n_streams; s++) {
        if (!c->q[s]) continue;
        new_operands(t, &t->x[s][O], 1, c->out, c->q[s]);
        new_operands(t, &t->x[s][D_O], 1, c->grad, c->q[s]);
        fill(t, s, D_O);
        open_part(t, s, O), open_part(t, s, D_O);
        f->q[s] = t->x[s][Q].view, f->o[s] = t->x[s][O].view, t->args.d_o[s] = t->x[s][D_O].view;
        t->lse[s] = array_make(K_F32, (int64_t)c->b * c->h * c->q[s], 1);
        for (int64_t i = 0; i < t->lse[s].n; i++)
            t->t.lse[s][i] = t->lse[s].v[i] = (float)t->t.lse[s][i];
        array_send(&t->lse[s]);
        f->lse[s] = array_at(&t->lse[s], 0);
    }
    for (int i = 0; i < t->n_arrays; i++) array_send(&t->arrays[i]);
    size_t bytes = k_attention_backward_workspace(c->b, c->h, c->q);
    t->workspace = array_make(K_F32, (int64_t)(bytes / 4), 0);
}

static void run_call(call *t)
{
    CUDA_OK(k_attention_backward(&t->args, array_at(&t->workspace, 0), NULL));
    CUDA_OK(cudaDeviceSynchronize());
    for (int i = 0; i < t->n_arrays; i++) array_fetch(&t->arrays[i]);
    array_fetch(&t->workspace); // its guards
}

static void close_call(call *t)
{
    for (int i = 0; i < t->n_arrays; i++) array_free(&t->arrays[i]), free(t->seen[i]);
    for (int s = 0; s < 2; s++)
        if (t->lse[s].n) array_free(&t->lse[s]);
    array_free(&t->workspace);
    oracle_close(&t->t);
}

// Whether p and ds are rounded to the inputs' type before they meet rows.
static bool tiled(const backward_case *c)
{
    return c->in == K_BF16 && c->grad == K_BF16 && c->d % 8 == 0 && c->d <= 128 &&
           c->layout != UNALIGNED;
}

// One gradient. Rounded weights are independent of one another where the inputs are random: six standard deviations.
static void check_gradient(const call *t, int s, int part, const double *old)
{
    const backward_case *c = t->c;
    const oracle *o = &t->t;
    int n = o->n[s][part];
    double u = tiled(c) ? roundoff(c->in) : 0, ug = roundoff(c->grad);
    for (int64_t r = 0; r < (int64_t)c->b * n * c->h * c->d; r++) {
        int64_t bi = r / c->d / c->h;
        const operand *x = &t->grad[s][part];
        float y = x->a->v[place(x, bi / n, bi % n, r / c->d % c->h) + r % c->d];
        double rounding = u * o->mass[s][part][r], ref = o->ref[s][part][r] + old[r];
        if (c->values != EQUAL)
            rounding = fmin(rounding, 6 / sqrt(3) * u * sqrt(o->square[s][part][r]));
        double bound = o->hard[s][part][r] + rounding;
        bound += ug * (fabs(ref) + bound) + (c->grad == K_F16 ? ldexp(1, -24) : 1e-30);
        CHECK(fabs(y - ref) <= bound,
              "stream %d part %d element %lld is %g, not %g +- %g (h %d d %d q %d %d k %d %d)", s,
              part, (long long)r, y, ref, bound, c->h, c->d, c->q[0], c->q[1], c->k[0], c->k[1]);
    }
}

static void check_case(const backward_case *c)
{
    call t;
    open_call(&t, c);
    double *old[2][3] = {{NULL}};
    for (int s = 0; s < 2; s++)
        for (int p = Q; p <= V; p++) {
            int64_t n = (int64_t)c->b * t.t.n[s][p] * c->h * c->d;
            old[s][p] = zeros(n);
            if (n && c->add >> (3 * s + p) & 1)
                exchange(&t, &t.grad[s][p], old[s][p], t.t.n[s][p], false);
        }
    run_call(&t);
    oracle_backward(&t.t);
    for (int s = 0; s < 2; s++)
        for (int p = Q; p <= V; p++) {
            if (t.t.n[s][p] && !(c->absent >> (3 * s + p) & 1)) check_gradient(&t, s, p, old[s][p]);
            free(old[s][p]);
        }
    for (int i = 0; i < t.n_arrays; i++)
        for (int64_t k = 0; k < t.arrays[i].n; k++)
            CHECK(t.seen[i][k] || isnan(t.arrays[i].v[k]), "written between rows");
    close_call(&t);
}

#define CHECK_ALL(cases)                                                                           \
    for (size_t i_ = 0; i_ < sizeof(cases) / sizeof *(cases); i_++) check_case(&(cases)[i_])

static const k_dtype F = K_F32, H = K_BF16, S = K_F16;

// The models' shapes, scaled down in tokens and heads.
static void test_models(void)
{
    const backward_case cases[] = {
        {H, H, H, 2, 1, 64, {144, 77}, {144, 77}, PACKED, .block_rows = 64},  // SD3.5-M
        {H, H, H, 1, 2, 64, {144, 33}, {144, 33}, PACKED, .block_rows = 128}, //
        {H, H, H, 1, 3, 64, {80, 0}, {80, 77}, PACKED, .block_rows = 0},      // its last block
        {H, F, H, 1, 1, 64, {100, 0}, {100, 0}, PACKED, .block_rows = 128},  // its second attention
        {H, H, H, 1, 2, 128, {47, 100}, {47, 100}, PACKED, .block_rows = 0}, // FLUX
    };
    CHECK_ALL(cases);
}

static void test_odd_sizes(void)
{
    const int sizes[] = {1, 3, 19, 33, 65, 129}, borders[] = {15, 16, 17, 31, 32, 63, 64, 127, 128};
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++) {
            backward_case c = {H, H, H, 1, 1, 64, .block_rows = (i + j) % 2 ? 64 : 128};
            c.q[0] = sizes[i], c.k[0] = sizes[j];
            if (i < 4 || j < 4) check_case(&c);
        }
    for (int i = 0; i < 9; i++) {
        backward_case c = {
            H, H, H, 1, 1, 64, {17, borders[i]}, {borders[8 - i], 3}, HEADS, .block_rows = 64};
        check_case(&c);
        c.block_rows = 128, c.layout = APART;
        check_case(&c);
        c.d = 128;
        check_case(&c);
    }
}

static void test_head_dims(void)
{
    const int dims[] = {8, 16, 24, 32, 40, 72, 80, 96, 120, 128, 136, 264};
    for (int i = 0; i < 12; i++) {
        const backward_case cases[] = {
            {H, H, H, 1, 2, dims[i], {35, 5}, {35, 5}, i % 2 ? PACKED : HEADS, .block_rows = 128},
            {F, F, F, 1, 2, dims[i], {19, 5}, {33, 3}, i % 2 ? HEADS : APART, .block_rows = 0},
        };
        CHECK_ALL(cases);
    }
}

// Streams that are only looked at, gradients that nobody wants or that are there already.
static void test_streams_and_gradients(void)
{
    const k_dtype types[] = {H, F};
    for (int i = 0; i < 2; i++) {
        k_dtype t = types[i];
        const backward_case cases[] = {
            {t, t, t, 2, 2, 32, {0, 19}, {33, 19}, PACKED, .block_rows = 64},
            {t, t, t, 1, 2, 40, {37, 0}, {37, 19}, APART, .block_rows = 128},
            {t, t, t, 1, 1, 64, {33, 19}, {33, 19}, PACKED, 128, .absent = 012, .add = 061},
            {t, t, t, 1, 1, 64, {33, 19}, {33, 19}, PACKED, 64, .absent = 061, .add = 016},
            {t, t, t, 2, 1, 24, {19, 17}, {19, 40}, HEADS, 64, .add = 077},
            {t, t, t, 1, 1, 24, {19, 17}, {19, 40}, APART, 64, .absent = 066},
            {t, t, t, 1, 1, 24, {19, 17}, {19, 40}, APART, 64, .absent = 011, .add = 022},
            {t, t, t, 1, 1, 24, {19, 17}, {19, 40}, APART, 64, .absent = 077},
            {t, t, t, 1, 1, 128, {19, 17}, {19, 40}, APART, 0, .absent = 004, .add = 063},
        };
        CHECK_ALL(cases);
    }
}

static void test_ends_of_the_range(void)
{
    const k_dtype types[] = {H, F};
    for (int i = 0; i < 2; i++) {
        k_dtype t = types[i];
        const backward_case cases[] = {
            {t, t, t, 1, 1, 64, {33, 0}, {70, 19}, APART, 128, .values = LARGE},
            {t, t, t, 1, 1, 128, {33, 0}, {40, 19}, APART, 0, .values = LARGE},
            {t, t, t, 1, 1, 64, {33, 0}, {70, 19}, APART, 64, .values = EQUAL},
            {t, t, t, 1, 1, 64, {33, 0}, {70, 19}, .block_rows = 128, .values = NEGATIVE},
            {t, t, t, 1, 1, 128, {33, 0}, {40, 19}, .values = NEGATIVE},
            {t, t, t, 1, 1, 64, {33, 3}, {70, 19}, APART, 64, .scale = -1},
            {t, t, t, 1, 1, 64, {33, 3}, {70, 19}, APART, 128, .scale = -30},
            {t, t, t, 1, 1, 64, {33, 3}, {70, 19}, APART, 64, .scale = 1e-30f},
        };
        CHECK_ALL(cases);
    }
}

static void test_plain_kernel(void)
{
    const backward_case cases[] = {
        {F, F, F, 2, 2, 64, {45, 19}, {45, 19}, .layout = PACKED},
        {F, F, F, 1, 3, 13, {19, 5}, {19, 5}, .layout = APART}, // head_dim no multiple of 8
        {F, H, S, 1, 1, 40, {19, 0}, {40, 0}, .add = 7},
        {S, S, F, 1, 2, 64, {33, 3}, {40, 3}, .layout = PACKED}, // as fp16 trains
        {H, H, F, 1, 1, 64, {33, 0}, {40, 3}, PACKED, .add = 077},
        {H, H, H, 1, 2, 64, {33, 0}, {40, 3}, .layout = UNALIGNED},
        {H, H, H, 1, 1, 512, {5, 0}, {33, 0}, .layout = APART},
        {F, F, F, 1, 1, 200, {3, 0}, {35, 0}, .add = 5},
        {F, F, F, 1, 1, 512, {5, 3}, {33, 2}, .layout = APART},
    };
    CHECK_ALL(cases);
}

// Blocks of 64 and of 128 rows, today and tomorrow.
static void test_same_bits(void)
{
    const backward_case c = {H, H, H, 1, 1, 64, {150, 37}, {150, 37}, PACKED, .block_rows = 64};
    call t;
    open_call(&t, &c);
    run_call(&t);
    const array *a[2] = {t.grad[0][Q].a, t.grad[1][Q].a};
    float *first[2];
    for (int s = 0; s < 2; s++) {
        size_t bytes = (size_t)a[s]->n * sizeof(float);
        first[s] = malloc(bytes);
        memcpy(first[s], a[s]->v, bytes);
    }
    for (int i = 0; i < 2; i++) {
        t.args.forward.block_rows = i ? 64 : 128;
        for (int s = 0; s < 2; s++)
            CUDA_OK(cudaMemset(array_at(a[s], 0), UNWRITTEN, (size_t)a[s]->n * 2));
        run_call(&t);
        for (int s = 0; s < 2; s++)
            for (int64_t e = 0; e < a[s]->n; e++) // what lies between rows is NaN
                CHECK(first[s][e] == a[s]->v[e] || (isnan(first[s][e]) && isnan(a[s]->v[e])),
                      "element %lld has other bits", (long long)e);
    }
    for (int s = 0; s < 2; s++) free(first[s]);
    close_call(&t);
}

// No queries: gradients of zero, which change nothing where they are added.
static void test_no_queries(void)
{
    const backward_case cases[] = {
        {H, H, H, 1, 1, 64, {0, 0}, {33, 19}, APART, 64, .add = 030},
        {F, F, F, 1, 1, 40, {0, 0}, {33, 19}, APART, 64, .add = 002},
    };
    CHECK_ALL(cases);
}

// ---- the slots ----

enum { BATCH = 2, N_HEADS = 2, DIM = 64, IMAGE = 37, TEXT = 19, ROW = 3 * N_HEADS * DIM };

// [BATCH, n, heads, DIM] of bf16 numbers, the same for all types.
static swd_tensor new_rows(swd_backend *b, swd_dtype dtype, int n, int heads)
{
    swd_tensor t = tensor4(NULL, dtype, BATCH, n, heads, DIM);
    int64_t all = tensor_numel(t);
    float *numbers = malloc((size_t)all * sizeof *numbers);
    uint16_t *halves = malloc((size_t)all * sizeof *halves);
    for (int64_t i = 0; i < all; i++) {
        halves[i] = f32_to_bf16((float)random_normal());
        numbers[i] = bf16_to_f32(halves[i]);
    }
    t.data = b->alloc(b, tensor_bytes(t));
    CHECK(t.data, "no memory");
    OK(b->upload(b, t, dtype == SWD_F32 ? (void *)numbers : (void *)halves, NULL, &error));
    free(numbers);
    free(halves);
    return t;
}

static float *fetch(swd_backend *b, swd_tensor t)
{
    float *numbers = malloc((size_t)tensor_numel(t) * sizeof *numbers);
    uint16_t *halves = malloc((size_t)tensor_numel(t) * sizeof *halves);
    bool wide = t.dtype == SWD_F32;
    OK(b->download(b, wide ? (void *)numbers : (void *)halves, t, NULL, &error));
    OK(b->synchronize(b, NULL, &error));
    for (int64_t i = 0; !wide && i < tensor_numel(t); i++) numbers[i] = bf16_to_f32(halves[i]);
    free(halves);
    return numbers;
}

static swd_status both_ways(const attention_backward_args *a, swd_exec *ex)
{
    SWD_TRY(op_attention(&a->forward, ex), ex->err);
    return op_attention_backward(a, ex);
}

// Attention that saves its sums, then backward, over packed rows: out[s] are those of gradients. last: the text has no queries. Every other
// gradient is added to.
static void run_slots(swd_backend *b, swd_dtype dtype, int streams, bool last, float *out[2])
{
    const int n[2] = {IMAGE, TEXT};
    swd_exec ex = {.backend = b, .err = &error, .dry = true};
    attention_backward_args a = {.forward = {.n_streams = streams, .scale = 0.2f}};
    attention_args *f = &a.forward;
    swd_tensor own[2][5];
    random_state = 7;
    for (int s = 0; s < streams; s++) {
        swd_tensor *part[] = {&f->q[s], &f->k[s], &f->v[s]};
        swd_grad *grad[] = {&a.dq[s], &a.dk[s], &a.dv[s]};
        for (int i = 0; i < 4; i++)
            own[s][i] = new_rows(b, dtype, n[s], i < 2 ? 3 * N_HEADS : N_HEADS);
        own[s][4] = tensor3(NULL, SWD_F32, BATCH, N_HEADS, n[s]);
        own[s][4].data = b->alloc(b, tensor_bytes(own[s][4]));
        for (int p = s && last ? K : Q; p <= V; p++) {
            *part[p] = tensor_slice(own[s][0], 2, p * N_HEADS, N_HEADS);
            *grad[p] = (swd_grad){tensor_slice(own[s][1], 2, p * N_HEADS, N_HEADS), (s + p) % 2};
        }
        if (s && last) continue;
        f->o[s] = own[s][2], a.d_o[s] = own[s][3], f->lse[s] = own[s][4];
    }
    OK(both_ways(&a, &ex));
    ex = (swd_exec){.backend = b, .err = &error, .slab_bytes = ex.peak};
    ex.slab = b->alloc(b, ex.slab_bytes);
    if (streams == 1) { // without sums, which NVIDIA's libraries may compute: the same outputs
        attention_args plain = *f;
        plain.lse[0] = tensor_none();
        OK(op_attention(&plain, &ex));
        out[1] = fetch(b, own[0][2]);
    }
    OK(both_ways(&a, &ex));
    for (int s = 0; s < streams; s++) {
        out[s] = fetch(b, own[s][1]);
        for (int i = 0; i < 5; i++) b->release(b, own[s][i].data);
    }
    b->release(b, ex.slab);
}

// The rounding of a few stores of bf16 on either side.
static void compare(const float *x, const float *y, int64_t n, swd_dtype dtype)
{
    double top = 0;
    for (int64_t i = 0; i < n; i++) top = fmax(top, fabs((double)x[i]));
    for (int64_t i = 0; i < n; i++)
        CHECK(fabs((double)x[i] - y[i]) <= top * ldexp(1, dtype == SWD_F32 ? -16 : -6),
              "element %lld: cpu %g, cuda %g", (long long)i, x[i], y[i]);
}

static void test_slots(void)
{
    for (int i = 0; i < 6; i++) {
        swd_dtype dtype = i % 2 ? SWD_F32 : SWD_BF16;
        int streams = i < 4 ? 2 : 1;
        float *out[2][2];
        for (int k = 0; k < 2; k++) run_slots(backends[k], dtype, streams, i / 2 == 1, out[k]);
        compare(out[0][0], out[1][0], BATCH * IMAGE * ROW, dtype);
        compare(out[0][1], out[1][1], BATCH * (streams == 2 ? TEXT * ROW : IMAGE * ROW / 3), dtype);
        for (int k = 0; k < 2; k++) free(out[k][0]), free(out[k][1]);
    }
}

int main(int argc, char **argv)
{
    static const launch_test tests[] = {
        {"oracle", test_oracle},
        {"models", test_models},
        {"odd_sizes", test_odd_sizes},
        {"head_dims", test_head_dims},
        {"streams_and_gradients", test_streams_and_gradients},
        {"ends_of_the_range", test_ends_of_the_range},
        {"plain_kernel", test_plain_kernel},
        {"same_bits", test_same_bits},
        {"no_queries", test_no_queries},
        {"slots", test_slots},
    };
    return run_beside_cpu(tests, sizeof tests / sizeof *tests, argc, argv);
}
