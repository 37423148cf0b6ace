// SPDX-License-Identifier: MIT
// k_attention against a plain double-precision softmax: every tiled variant and the plain kernel, tails, strides, masks, bias,
// two streams, samples of different lengths, log-sum-exp, and inputs at the ends of their range.
#include "launch_support.h"

typedef enum layout {
    APART,     // q, k, v, o in arrays [B, N, H, d] of their own, with a gap after each row
    PACKED,    // q, k, v are thirds of one row, as the models have them
    HEADS,     // [B, H, N, d]
    UNALIGNED, // as APART, one element past the alignment of 16 bytes
} layout;

typedef enum values {
    NORMAL,
    LARGE,     // scores of some hundreds: the softmax is a choice
    EQUAL,     // all keys alike: the mean of the values
    DENORMAL,  // values below the normal range of fp16
    ASCENDING, // each tile has a larger maximum than all before: outputs are scaled again and again
} values;

typedef struct attention_case {
    k_dtype in, out;
    int b, h, d, q[2], k[2]; // q 0: the stream's queries are absent; k[1] 0: one stream
    layout layout;
    values values;
    float scale; // times 1 / sqrt(d); 0 stands for 1
    bool causal, bias, lse;
    int block_rows;
} attention_case;

// q, k, v or o of a stream.
typedef struct operand {
    array *a;
    k_view view;
    int64_t first; // of the view, in elements of the array
    int n;
} operand;

static int64_t place(const operand *t, int64_t b, int64_t n, int64_t h)
{
    return t->first + b * t->view.stride[0] + n * t->view.stride[1] + h * t->view.stride[2];
}

// A call, its data, and the arrays it owns.
typedef struct call {
    const attention_case *c;
    k_attention_args args;
    operand q[2], k[2], v[2], o[2];
    array arrays[10], bias, lse[2];
    int n_arrays;
} call;

static array *new_array(call *t, k_dtype dtype, int64_t n, int shift)
{
    t->arrays[t->n_arrays] = array_make(dtype, n, shift);
    return &t->arrays[t->n_arrays++];
}

static operand new_operand(call *t, k_dtype dtype, int n)
{
    const attention_case *c = t->c;
    int64_t row = (int64_t)c->h * c->d + (c->layout == HEADS ? 0 : 8);
    operand x = {.n = n, .a = new_array(t, dtype, c->b * n * row, c->layout == UNALIGNED)};
    x.view = (k_view){array_at(x.a, 0), dtype, {n * row, row, c->d}};
    if (c->layout == HEADS) x.view.stride[1] = c->d, x.view.stride[2] = (int64_t)n * c->d;
    return x;
}

static void new_packed(call *t, int s)
{
    const attention_case *c = t->c;
    int64_t width = (int64_t)c->h * c->d, n = c->k[s];
    array *a = new_array(t, c->in, c->b * n * 3 * width, 0);
    operand *part[] = {&t->q[s], &t->k[s], &t->v[s]};
    for (int i = c->q[s] ? 0 : 1; i < 3; i++)
        *part[i] = (operand){a,
                             {array_at(a, i * width), c->in, {n * 3 * width, 3 * width, c->d}},
                             i * width,
                             c->k[s]};
}

static void fill(const call *t, const operand *x, bool key, bool value)
{
    const attention_case *c = t->c;
    for (int b = 0; b < c->b; b++)
        for (int i = 0; i < x->n; i++)
            for (int h = 0; h < c->h; h++)
                for (int e = 0; e < c->d; e++) {
                    double r = random_normal();
                    if (c->values == LARGE && !value) r *= 8;
                    if (c->values == DENORMAL && value) r *= 1e-6;
                    if (c->values == EQUAL && key) r = e % 7 - 3;
                    if (c->values == ASCENDING && !value) r = key ? 0.5 + 0.1 * (i / 16) : fabs(r);
                    x->a->v[place(x, b, i, h) + e] = (float)r;
                }
}

static void open_call(call *t, const attention_case *c)
{
    *t = (call){.c = c};
    t->args = (k_attention_args){.n_streams = c->k[1] ? 2 : 1,
                                 .batch = c->b,
                                 .heads = c->h,
                                 .head_dim = c->d,
                                 .scale = (c->scale == 0 ? 1.0f : c->scale) / sqrtf((float)c->d),
                                 .causal = c->causal,
                                 .block_rows = c->block_rows};
    for (int s = 0; s < t->args.n_streams; s++) {
        if (c->layout == PACKED) {
            new_packed(t, s);
        } else {
            if (c->q[s]) t->q[s] = new_operand(t, c->in, c->q[s]);
            t->k[s] = new_operand(t, c->in, c->k[s]);
            t->v[s] = new_operand(t, c->in, c->k[s]);
        }
        if (c->q[s]) fill(t, &t->q[s], false, false);
        fill(t, &t->k[s], true, false);
        fill(t, &t->v[s], false, true);
    }
    for (int i = 0; i < t->n_arrays; i++) array_send(&t->arrays[i]);
    for (int s = 0; s < t->args.n_streams; s++) {
        if (c->q[s]) t->o[s] = new_operand(t, c->out, c->q[s]);
        t->args.q[s] = t->q[s].view, t->args.k[s] = t->k[s].view, t->args.v[s] = t->v[s].view,
        t->args.o[s] = t->o[s].view;
        t->args.n_q[s] = c->q[s], t->args.n_k[s] = c->k[s];
    }
    if (c->bias) {
        t->bias = array_make(K_F32, (int64_t)c->h * c->q[0] * c->k[0], 1);
        array_fill(&t->bias, random_normal, 2);
        t->args.bias = array_at(&t->bias, 0);
    }
    for (int s = 0; c->lse && s < 2; s++) {
        if (!c->q[s]) continue;
        t->lse[s] = array_make(K_F32, (int64_t)c->b * c->h * c->q[s], 1);
        t->args.lse[s] = array_at(&t->lse[s], 0);
    }
}

static void run_call(call *t)
{
    CUDA_OK(k_attention(&t->args, NULL));
    CUDA_OK(cudaDeviceSynchronize());
    for (int s = 0; s < 2; s++) {
        if (t->o[s].a) array_fetch(t->o[s].a);
        if (t->lse[s].n) array_fetch(&t->lse[s]);
    }
}

static void close_call(call *t)
{
    for (int i = 0; i < t->n_arrays; i++) array_free(&t->arrays[i]);
    if (t->c->bias) array_free(&t->bias);
    for (int s = 0; s < 2; s++)
        if (t->lse[s].n) array_free(&t->lse[s]);
}

// The probabilities of one query in double precision. Returns log-sum-exp; *err bounds the error of a score.
static double probabilities(const call *t, int s, int b, int h, int i, double *p, double *err)
{
    const attention_case *c = t->c;
    double top = -INFINITY, sum = 0, size = 1;
    int n = 0;
    for (int r = 0; r < t->args.n_streams; r++)
        for (int j = 0; j < c->k[r]; j++, n++) {
            const float *x = t->q[s].a->v + place(&t->q[s], b, i, h),
                        *y = t->k[r].a->v + place(&t->k[r], b, j, h);
            double dot = 0, magnitude = 0;
            for (int e = 0; e < c->d; e++) {
                dot += (double)x[e] * y[e];
                magnitude += fabs((double)x[e] * y[e]);
            }
            p[n] = dot * t->args.scale;
            if (c->bias) p[n] += t->bias.v[((int64_t)h * c->q[0] + i) * c->k[0] + j];
            size = fmax(size, magnitude * fabs(t->args.scale) + fabs(p[n]));
            if (c->causal && j > i) p[n] = -INFINITY;
            top = fmax(top, p[n]);
        }
    for (int j = 0; j < n; j++) sum += p[j] = exp(p[j] - top);
    for (int j = 0; j < n; j++) p[j] /= sum;
    *err = 4 * sqrt(c->d) *
           ldexp(size, -24); // float32 sums of d products, scaled; the exponent's subtraction
    return top + log(sum);
}

// One output. The bound: scores' errors shift p, tiled kernels round p (to the inputs' type, independent of one another where the
// inputs are random: six standard deviations), float32 sums, one rounding on store, fp16's denormal step.
static void check_output(const call *t, int s, int b, int h, int i, int e, const double *p,
                         double err)
{
    const attention_case *c = t->c;
    double ref = 0, mass = 0, square = 0, total = 0, top = 0, u = roundoff(c->in);
    int n = 0;
    for (int r = 0; r < t->args.n_streams; r++)
        for (int j = 0; j < c->k[r]; j++, n++) {
            double v = t->v[r].a->v[place(&t->v[r], b, j, h) + e];
            ref += p[n] * v;
            mass += p[n] * fabs(v);
            square += p[n] * v * p[n] * v;
            total += fabs(v);
            top = fmax(top, p[n]);
        }
    double rounding = u * mass;
    if (c->values == NORMAL || c->values == LARGE)
        rounding = fmin(rounding, 6 / sqrt(3) * u * sqrt(square));
    double bound =
        2 * err * mass + rounding + ldexp(mass, -20) + 2 * roundoff(c->out) * fabs(ref) + 1e-30;
    if (c->in == K_F16) bound += ldexp(top * total, -25);
    if (c->out == K_F16) bound += ldexp(1, -24);
    float y = t->o[s].a->v[place(&t->o[s], b, i, h) + e];
    CHECK(fabs(y - ref) <= bound,
          "stream %d sample %d head %d query %d column %d is %g, not %g +- %g (h %d d %d q %d "
          "%d k %d %d)",
          s, b, h, i, e, y, ref, bound, c->h, c->d, c->q[0], c->q[1], c->k[0], c->k[1]);
}

static void check_case(const attention_case *c)
{
    call t;
    open_call(&t, c);
    run_call(&t);
    double *p = calloc((size_t)(c->k[0] + c->k[1]), sizeof *p), err;
    for (int s = 0; s < t.args.n_streams; s++)
        for (int b = 0; b < c->b; b++)
            for (int h = 0; h < c->h; h++)
                for (int i = 0; i < c->q[s]; i++) {
                    double lse = probabilities(&t, s, b, h, i, p, &err);
                    for (int e = 0; e < c->d; e++) check_output(&t, s, b, h, i, e, p, err);
                    if (!c->lse) continue;
                    float y = t.lse[s].v[((int64_t)b * c->h + h) * c->q[s] + i];
                    CHECK(fabs(y - lse) <= 2 * err + ldexp(fabs(lse) + 1, -20),
                          "log-sum-exp %g, not %g", y, lse);
                }
    free(p);
    for (int s = 0; s < 2; s++) { // what lies between the outputs' rows was left alone
        if (!t.o[s].a || c->layout == HEADS) continue;
        int64_t row = t.o[s].view.stride[1];
        for (int64_t i = 0; i < t.o[s].a->n; i++)
            if (i % row >= (int64_t)c->h * c->d)
                CHECK(isnan(t.o[s].a->v[i]), "written between rows");
    }
    close_call(&t);
}

#define CHECK_ALL(cases)                                                                           \
    for (size_t i_ = 0; i_ < sizeof(cases) / sizeof *(cases); i_++) check_case(&(cases)[i_])

static const k_dtype F = K_F32, H = K_BF16, S = K_F16;

// The models' shapes, scaled down in tokens and heads.
static void test_models(void)
{
    const attention_case cases[] = {
        {H, H, 2, 2, 64, {256, 77}, {256, 77}, PACKED, .lse = true},      // SD3.5-M
        {H, F, 1, 3, 64, {144, 0}, {144, 99}, PACKED, .block_rows = 128}, // SD3.5-L, last block
        {H, H, 1, 2, 128, {99, 256}, {99, 256}, PACKED, .block_rows = 128, .lse = true}, // FLUX
        {H, H, 2, 3, 64, {77, 0}, {77, 0}, PACKED, .causal = true},                      // CLIP
        {H, H, 1, 3, 64, {128, 0}, {128, 0}, PACKED, .scale = 8, .bias = true},          // T5
        {H, H, 1, 1, 512, {144, 0}, {144, 0}, .lse = true}, // the autoencoder's middle
    };
    CHECK_ALL(cases);
}

static void test_odd_sizes(void)
{
    const int sizes[] = {1, 3, 19, 99, 111, 333};
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++) {
            attention_case c = {S, S, 1, 1, 64, .block_rows = i % 2 ? 64 : 128, .lse = true};
            c.q[0] = sizes[i], c.k[0] = sizes[j];
            if (i != 5 || j != 5) check_case(&c); // test_models has the long ones
        }
    const int borders[] = {31, 32, 33, 63, 64, 65, 127, 128, 129}; // of tiles
    for (int i = 0; i < 9; i++) {
        attention_case c = {
            S, S, 1, 1, 64, {33, 0}, {borders[i], borders[8 - i]}, .block_rows = 64, .lse = true};
        check_case(&c);
        c.q[0] = borders[i], c.k[0] = 33, c.block_rows = 128;
        check_case(&c);
        c.d = i % 2 ? 128 : 512, c.q[0] = 17, c.k[0] = borders[i];
        check_case(&c);
    }
    const attention_case cases[] = {
        {S, S, 1, 2, 64, {3, 130}, {65, 19}, .block_rows = 128, .lse = true},
        {S, F, 2, 1, 64, {0, 111}, {99, 1}, .lse = true},
        {S, S, 1, 1, 128, {129, 1}, {64, 33}, .block_rows = 128},
        {S, S, 1, 1, 128, {19, 99}, {33, 97}, .block_rows = 64, .lse = true},
        {S, S, 1, 1, 512, {65, 3}, {33, 19}, .lse = true},
    };
    CHECK_ALL(cases);
}

static void test_head_dims(void)
{
    const int dims[] = {8,   16,  24,  32,  40,  72,  80,  96,  104,
                        120, 128, 136, 200, 256, 264, 320, 504, 512};
    for (int i = 0; i < 18; i++) {
        const attention_case cases[] = {
            {S, S, 1, 2, dims[i], {70, 0}, {70, 19}, i % 2 ? PACKED : APART, .lse = true},
            {H, F, 1, 1, dims[i], {40, 0}, {75, 0}, HEADS, .block_rows = 128},
            {S,
             S,
             1,
             1,
             dims[i],
             {45, 0},
             {45, 0},
             .causal = true,
             .bias = i % 3 == 0,
             .lse = true},
        };
        CHECK_ALL(cases);
    }
}

static void test_masks_and_scales(void)
{
    const attention_case cases[] = {
        {S, S, 1, 2, 64, {150, 0}, {150, 0}, .causal = true, .lse = true},
        {S, S, 1, 1, 64, {150, 0}, {70, 0}, .causal = true},  // more queries than keys
        {S, S, 1, 1, 128, {70, 0}, {150, 0}, .causal = true}, // fewer
        {S, S, 1, 2, 64, {99, 0}, {111, 0}, .bias = true, .lse = true},
        {S, F, 2, 2, 40, {33, 0}, {67, 0}, .bias = true, .causal = true},
        {S, S, 1, 1, 128, {65, 0}, {65, 0}, .bias = true, .layout = HEADS},
        {S, S, 1, 1, 512, {70, 0}, {70, 0}, .causal = true},
        {S, S, 1, 1, 256, {33, 0}, {40, 0}, .bias = true},
        {S, S, 1, 2, 64, {70, 0}, {70, 33}, .scale = -1, .lse = true},
        {S, S, 1, 2, 64, {70, 0}, {70, 33}, .scale = 1e-30f}, // the mean of the values
        {S, S, 1, 1, 512, {33, 0}, {40, 0}, .scale = -1},
        {F, F, 1, 1, 64, {33, 0}, {40, 0}, .scale = -1, .lse = true},
    };
    CHECK_ALL(cases);
}

static void test_scale_zero(void)
{
    const int dims[] = {64, 512};
    for (int i = 0; i < 2; i++) {
        const attention_case c = {S, S, 1, 1, dims[i], {19, 0}, {70, 0}, .scale = 1e-30f};
        call t;
        open_call(&t, &c);
        t.args.scale = 0;
        run_call(&t);
        for (int e = 0; e < c.d; e++) {
            double sum = 0;
            for (int j = 0; j < 70; j++) sum += t.v[0].a->v[place(&t.v[0], 0, j, 0) + e];
            CHECK(fabs(t.o[0].a->v[place(&t.o[0], 0, 7, 0) + e] - sum / 70) < 1e-3,
                  "scale 0 is not the mean");
        }
        close_call(&t);
    }
}

static void test_ends_of_the_range(void)
{
    for (int v = LARGE; v <= ASCENDING; v++) {
        const attention_case cases[] = {
            {S,
             S,
             1,
             1,
             64,
             {70, 0},
             {140, 19},
             .values = (values)v,
             .lse = true,
             .block_rows = 128},
            {H, H, 1, 1, 128, {70, 0}, {140, 19}, .values = (values)v, .lse = true},
            {S, S, 1, 1, 64, {70, 0}, {70, 0}, .values = (values)v, .causal = true, .bias = true},
            {S, F, 1, 1, 512, {33, 0}, {70, 19}, .values = (values)v, .lse = true},
            {F, F, 1, 1, 40, {19, 0}, {70, 19}, .values = (values)v, .lse = true},
        };
        CHECK_ALL(cases);
    }
}

static void test_plain_kernel(void)
{
    const attention_case cases[] = {
        {F, F, 2, 2, 64, {99, 19}, {99, 19}, PACKED, .lse = true},
        {F, H, 1, 1, 64, {19, 0}, {19, 33}, .layout = HEADS},
        {F, F, 1, 1, 512, {19, 0}, {70, 0}, .lse = true},
        {F, F, 1, 2, 128, {33, 0}, {40, 0}, .causal = true, .bias = true, .lse = true},
        {F, F, 1, 1, 200, {3, 0}, {1, 0}, .lse = true},
        {F, F, 1, 3, 13, {19, 5}, {19, 5}, .lse = true}, // head_dim no multiple of 8
        {H, S, 1, 1, 40, {19, 0}, {40, 0}, .lse = true}, // an output of another 2-byte type
        {S, S, 1, 2, 64, {33, 0}, {40, 3}, UNALIGNED, .lse = true},
        {H, H, 1, 1, 512, {19, 0}, {33, 0}, UNALIGNED, .causal = true},
        {H, F, 1, 1, 20, {19, 0}, {33, 0}, .lse = true},
    };
    CHECK_ALL(cases);
}

// A sample's output has the same bits in a batch and alone, in small and in large blocks, today and tomorrow.
static void test_same_bits(void)
{
    attention_case c = {H, F, 3, 2, 64, {150, 77}, {150, 77}, PACKED, .block_rows = 64};
    call t;
    open_call(&t, &c);
    run_call(&t);
    int64_t n = t.o[0].a->n, sample = t.o[0].view.stride[0];
    float *first = malloc((size_t)n * sizeof *first);
    memcpy(first, t.o[0].a->v, (size_t)n * sizeof *first);
    t.args.block_rows = 128;
    run_call(&t);
    CHECK(!memcmp(first, t.o[0].a->v, (size_t)n * sizeof *first), "other bits");
    t.args.batch = 1;
    CUDA_OK(cudaMemset(t.args.o[0].data, UNWRITTEN, (size_t)n * sizeof *first));
    for (int s = 0; s < 2; s++) {
        k_view *view[] = {&t.args.q[s], &t.args.k[s], &t.args.v[s]};
        for (int i = 0; i < 3; i++) view[i]->data = (char *)view[i]->data + view[i]->stride[0] * 2;
    }
    run_call(&t);
    CHECK(!memcmp(first + sample, t.o[0].a->v, (size_t)sample * sizeof *first), "other bits");
    free(first);
    close_call(&t);
}

// Samples of different lengths in one launch give the bits of one launch each; a sample without any key gives zeros.
static void check_lengths(k_dtype dtype, int d, bool both)
{
    enum { B = 4 };
    const int length[2][B] = {{70, 1, 130, 3}, {19, 77, 5, 0}};
    const attention_case c = {
        dtype,           dtype, 1, 2, d, {204, both ? 101 : 77 * B}, {204, both ? 101 : 77 * B},

        .block_rows = 64};
    call t;
    open_call(&t, &c);
    array cu[2] = {array_make(K_F32, B + 1, 0), array_make(K_F32, B + 1, 0)};
    int32_t ends[2][B + 1] = {{0}, {0}};
    for (int s = 0; s < 2; s++) {
        for (int b = 0; b < B; b++) ends[s][b + 1] = ends[s][b] + length[s][b];
        CUDA_OK(cudaMemcpy(array_at(&cu[s], 0), ends[s], sizeof ends[s], cudaMemcpyHostToDevice));
    }
    k_attention_args a = t.args;
    a.batch = B;
    for (int s = 0; s < 2; s++) {
        a.n_q[s] = a.n_k[s] = s ? 77 : 130;
        if (s == 0 || both) {
            a.cu[s] = array_at(&cu[s], 0);
            continue;
        }
        k_view *view[] = {&a.q[s], &a.k[s], &a.v[s], &a.o[s]};
        for (int i = 0; i < 4; i++) view[i]->stride[0] = 77 * view[i]->stride[1];
    }
    CUDA_OK(k_attention(&a, NULL));
    array_fetch(t.o[0].a);
    array_fetch(t.o[1].a);
    float *together[2];
    for (int s = 0; s < 2; s++) {
        size_t bytes = (size_t)t.o[s].a->n * sizeof(float);
        together[s] = malloc(bytes);
        memcpy(together[s], t.o[s].a->v, bytes);
        CUDA_OK(cudaMemset(t.args.o[s].data, UNWRITTEN, (size_t)t.o[s].a->n * size_of(dtype)));
    }
    for (int b = 0; b < B; b++) {
        k_attention_args one = t.args;
        for (int s = 0; s < 2; s++) {
            k_view *view[] = {&one.q[s], &one.k[s], &one.v[s], &one.o[s]};
            int first = s == 0 || both ? ends[s][b] : 77 * b;
            one.n_q[s] = one.n_k[s] = s == 0 || both ? length[s][b] : 77;
            for (int i = 0; i < 4; i++)
                view[i]->data =
                    (char *)view[i]->data + first * view[i]->stride[1] * (int64_t)size_of(dtype);
        }
        CUDA_OK(k_attention(&one, NULL));
    }
    for (int s = 0; s < 2; s++) {
        array_fetch(t.o[s].a);
        CHECK(!memcmp(together[s], t.o[s].a->v, (size_t)t.o[s].a->n * sizeof(float)), "other bits");
        free(together[s]);
        array_free(&cu[s]);
    }
    close_call(&t);
}

static void test_lengths(void)
{
    check_lengths(H, 64, true);
    check_lengths(S, 64, false);
    check_lengths(H, 128, true);
    check_lengths(H, 512, true);
    check_lengths(F, 40, true);
}

static void test_no_keys(void)
{
    const int dims[] = {64, 512, 64};
    for (int i = 0; i < 3; i++) {
        const attention_case c = {i == 2 ? F : H, F, 1, 1, dims[i], {19, 0}, {1, 0}, .lse = true};
        call t;
        open_call(&t, &c);
        t.args.n_k[0] = 0;
        run_call(&t);
        for (int r = 0; r < 19; r++) {
            CHECK(t.lse[0].v[r] == -INFINITY, "log-sum-exp %g of nothing", t.lse[0].v[r]);
            for (int e = 0; e < c.d; e++)
                CHECK(t.o[0].a->v[place(&t.o[0], 0, r, 0) + e] == 0,
                      "an output without keys is not 0");
        }
        close_call(&t);
    }
}

int main(int argc, char **argv)
{
    static const launch_test tests[] = {
        {"models", test_models},
        {"odd_sizes", test_odd_sizes},
        {"head_dims", test_head_dims},
        {"masks_and_scales", test_masks_and_scales},
        {"scale_zero", test_scale_zero},
        {"ends_of_the_range", test_ends_of_the_range},
        {"plain_kernel", test_plain_kernel},
        {"same_bits", test_same_bits},
        {"lengths", test_lengths},
        {"no_keys", test_no_keys},
    };
    return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
