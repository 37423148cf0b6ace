// SPDX-License-Identifier: MIT
// o_i = sum_j p_j v_j,  p = softmax_j(scale q_i . k_j + bias_ij) over the keys of one or two streams.
//
// Error: scores s_j in float32 are off by at most e, so weights by a factor within exp(+-2e), which moves o by expm1(2e) *
// sum_j p_j |v_j - o|. The weights are all positive: in a chain of additions those of a few units of the sum keep so few bits that
// what they lose doesn't average out (a row with one large weight and many tiny ones). Weights may be rounded to the storage type before they meet the values, as matrix units want them.
#include "families.h"
#include "number.h"
#include <math.h>
#include <stdlib.h>

// Far: most keys of a row are behind -infinity or a number like it.
typedef enum bias_kind { NO_BIAS, BIAS, FAR_BIAS } bias_kind;

enum { SAMPLES_MAX = 4 };

typedef struct attention_case {
    op_case head;
    int64_t b, h, d;
    int64_t nq[2], nk[2]; // nq 0: the stream has no queries; nk 0: as many as queries
    float scale;          // of the scores, beside 1 / sqrt(d)
    bool causal, packed;  // packed: q, k and v are parts of one row, as the models have them
    bias_kind bias;
    fill bias_fill;
    operand_view view;
    fill fill;
    int n_samples; // 0: b of one length; else of these, which add up to nq of each stream
    int32_t length[2][SAMPLES_MAX];
} attention_case;

// clang-format off
static const attention_case single_cases[] = {
    {{"bias", SMALL, "f b h"}, .b = 2, .h = 2, .d = 40, .nq = {19}, .scale = 1, .bias = BIAS},
    {{"one", SMALL, "f b h"}, .b = 1, .h = 1, .d = 8, .nq = {1}, .scale = 1},
    {{"one_key", SMALL, "f b h"}, .b = 2, .h = 3, .d = 16, .nq = {19}, .nk = {1}, .scale = 1},
    {{"one_query", SMALL, "f b h"}, .b = 2, .h = 3, .d = 16, .nq = {1}, .nk = {99}, .scale = 1},
    {{"odd", SMALL, "f b h"}, .b = 2, .h = 3, .d = 64, .nq = {99}, .scale = 1, .packed = true},
    {{"d24", SMALL, "f b h"}, .b = 1, .h = 2, .d = 24, .nq = {65}, .scale = 1, .view = STRIDED},
    {{"d32", SMALL, "f b h"}, .b = 2, .h = 2, .d = 32, .nq = {33}, .scale = 1, .packed = true},
    {{"d80", SMALL, "f b h"}, .b = 1, .h = 2, .d = 80, .nq = {17}, .scale = 1, .view = ODD},
    {{"d96", SMALL, "f b h"}, .b = 1, .h = 2, .d = 96, .nq = {33}, .scale = 1, .packed = true},
    {{"d128", SMALL, "f b h"}, .b = 1, .h = 2, .d = 128, .nq = {49}, .nk = {111}, .scale = 1},
    {{"rows_in", SMALL, "f b h"}, .b = 2, .h = 2, .d = 32, .nq = {33}, .scale = 1, .view = STRIDED_IN},
    {{"rows_out", SMALL, "f b h"}, .b = 2, .h = 2, .d = 32, .nq = {33}, .scale = 1, .view = STRIDED_OUT},
    {{"causal", SMALL, "f b h"}, .b = 2, .h = 2, .d = 64, .nq = {77}, .scale = 1, .causal = true, .packed = true},
    {{"causal_steep", SMALL, "f b h"}, .b = 1, .h = 2, .d = 64, .nq = {111}, .scale = 30, .causal = true},
    {{"causal_more_keys", SMALL, "f b h"}, .b = 1, .h = 2, .d = 16, .nq = {19}, .nk = {99}, .scale = 1, .causal = true},
    {{"causal_bias", SMALL, "f b h"}, .b = 1, .h = 2, .d = 16, .nq = {33}, .scale = 1, .causal = true, .bias = BIAS, .bias_fill = FILL_LARGE},
    {{"t5_bias", SMALL, "f b h"}, .b = 2, .h = 3, .d = 64, .nq = {77}, .scale = 8, .bias = BIAS, .bias_fill = FILL_WIDE, .packed = true},
    {{"bias_more_keys", SMALL, "f b h"}, .b = 1, .h = 2, .d = 40, .nq = {13}, .nk = {130}, .scale = 1, .bias = BIAS, .bias_fill = FILL_LARGE, .view = ODD},
    {{"hidden_keys", SMALL, "f b h"}, .b = 1, .h = 2, .d = 32, .nq = {19}, .nk = {150}, .scale = 1, .bias = FAR_BIAS},
    {{"equal_scores", SMALL, "f b h"}, .b = 1, .h = 1, .d = 64, .nq = {33}, .nk = {150}, .scale = 1, .fill = FILL_EQUAL},
    {{"huge_scores", SMALL, "f b h"}, .b = 1, .h = 1, .d = 16, .nq = {19}, .nk = {150}, .scale = 1000},
    {{"huge_inputs", SMALL, "f b h"}, .b = 1, .h = 1, .d = 16, .nq = {19}, .nk = {99}, .scale = 1, .fill = FILL_LARGE},
    {{"scales", SMALL, "f b h"}, .b = 1, .h = 1, .d = 16, .nq = {19}, .nk = {99}, .scale = 1, .fill = FILL_SCALES},
    {{"zeros", SMALL, "f b h"}, .b = 1, .h = 1, .d = 16, .nq = {3}, .nk = {19}, .scale = 1, .fill = FILL_ZERO},
    {{"subnormal", SMALL, "f b h"}, .b = 1, .h = 1, .d = 16, .nq = {3}, .nk = {19}, .scale = 1, .fill = FILL_SUBNORMAL},
    {{"d512", SMALL, "f b h"}, .b = 1, .h = 1, .d = 512, .nq = {35}, .scale = 1},
    {{"d512_many", MEDIUM, "f b h"}, .b = 2, .h = 1, .d = 512, .nq = {211}, .scale = 1, .packed = true},
    {{"many", MEDIUM, "f b h"}, .b = 1, .h = 2, .d = 64, .nq = {1030}, .scale = 4, .packed = true},
    {{"many_causal", MEDIUM, "f b h"}, .b = 1, .h = 2, .d = 64, .nq = {333}, .scale = 4, .causal = true, .packed = true},
    {{"t5xxl_512", REAL, "f b"}, .b = 1, .h = 64, .d = 64, .nq = {512}, .scale = 8, .bias = BIAS, .bias_fill = FILL_WIDE, .packed = true},
    {{"sd35m_dual_1024", REAL, "f b"}, .b = 1, .h = 24, .d = 64, .nq = {1024}, .scale = 1, .packed = true},
    {{"vae_4096", REAL, "f b"}, .b = 1, .h = 1, .d = 512, .nq = {4096}, .scale = 1},
};

static const attention_case joint_cases[] = {
    {{"joint", SMALL, "f b h"}, .b = 2, .h = 2, .d = 24, .nq = {65, 33}, .scale = 1},
    {{"joint_packed", SMALL, "f b h"}, .b = 2, .h = 2, .d = 64, .nq = {99, 19}, .scale = 1, .packed = true},
    {{"joint_one_each", SMALL, "f b h"}, .b = 1, .h = 1, .d = 8, .nq = {1, 1}, .scale = 1},
    {{"joint_first_only_looked_at", SMALL, "f b h"}, .b = 2, .h = 2, .d = 32, .nq = {0, 19}, .nk = {33, 0}, .scale = 1},
    {{"joint_second_only_looked_at", SMALL, "f b h"}, .b = 2, .h = 2, .d = 40, .nq = {65, 0}, .nk = {0, 33}, .scale = 1, .view = STRIDED},
    {{"joint_unaligned", SMALL, "f b h"}, .b = 1, .h = 3, .d = 16, .nq = {17, 3}, .nk = {19, 111}, .scale = 1, .view = ODD},
    {{"joint_huge_scores", SMALL, "f b h"}, .b = 1, .h = 1, .d = 32, .nq = {33, 19}, .scale = 1000},
    {{"joint_equal_scores", SMALL, "f b h"}, .b = 1, .h = 1, .d = 64, .nq = {19, 99}, .scale = 1, .fill = FILL_EQUAL},
    {{"joint_many", MEDIUM, "f b h"}, .b = 2, .h = 2, .d = 64, .nq = {259, 154}, .scale = 2, .packed = true},
    {{"joint_demo_64", REAL, "f b"}, .b = 2, .h = 3, .d = 64, .nq = {64, 77}, .scale = 1, .packed = true},
    {{"joint_sd35m_256", REAL, "f b"}, .b = 1, .h = 24, .d = 64, .nq = {256, 333}, .scale = 1, .packed = true},
    {{"joint_sd35m_1024", REAL, "f b"}, .b = 1, .h = 24, .d = 64, .nq = {1024, 333}, .scale = 1, .packed = true},
    {{"joint_sd35m_4096", REAL, "f b"}, .b = 1, .h = 24, .d = 64, .nq = {4096, 333}, .scale = 1, .packed = true},
};

static const attention_case samples_cases[] = {
    {{"samples", SMALL, "f b h"}, .b = 1, .h = 2, .d = 40, .nq = {22}, .scale = 1, .n_samples = 2, .length = {{19, 3}}},
    {{"samples_joint", SMALL, "f b h"}, .b = 1, .h = 2, .d = 64, .nq = {156, 57}, .scale = 1, .packed = true, .n_samples = 3, .length = {{4, 111, 41}, {19, 19, 19}}},
    {{"samples_second_only_looked_at", SMALL, "f b h"}, .b = 1, .h = 3, .d = 32, .nq = {102, 0}, .nk = {0, 38}, .scale = 2, .n_samples = 4, .length = {{1, 99, 1, 1}, {1, 3, 33, 1}}},
    {{"samples_odd", SMALL, "f b h"}, .b = 1, .h = 1, .d = 16, .nq = {130, 12}, .scale = 8, .view = ODD, .n_samples = 2, .length = {{65, 65}, {11, 1}}},
    {{"samples_many", MEDIUM, "f b h"}, .b = 1, .h = 2, .d = 64, .nq = {674, 228}, .scale = 2, .packed = true, .n_samples = 3, .length = {{64, 354, 256}, {76, 76, 76}}},
};
// clang-format on

static const char *const names[2][5] = {{"q0", "k0", "v0", "o0", "qkv0"},
                                        {"q1", "k1", "v1", "o1", "qkv1"}};

static int64_t n_keys(const attention_case *k, int stream)
{
    return k->nk[stream] ? k->nk[stream] : k->nq[stream];
}

// [b, n, h, d] with rows as the view says.
static void add_heads(fixture *f, const char *name, operand_role role, const attention_case *k,
                      int64_t n)
{
    operand *o =
        operand_add(f, name, role, type_of(f, 0), k->view, k->fill, SHAPE(k->b, n, k->h * k->d));
    o->t = tensor_split_last(o->t, k->d);
}

static void make(fixture *f, const attention_case *k, int streams)
{
    for (int s = 0; s < streams; s++) {
        if (k->nq[s]) add_heads(f, names[s][3], OUT, k, k->nq[s]);
        if (k->packed) {
            operand_add(f, names[s][4], IN, type_of(f, 0), k->view, k->fill,
                        SHAPE(k->b, k->nq[s], 3 * k->h * k->d));
            continue;
        }
        if (k->nq[s]) add_heads(f, names[s][0], IN, k, k->nq[s]);
        add_heads(f, names[s][1], IN, k, n_keys(k, s));
        add_heads(f, names[s][2], IN, k, n_keys(k, s));
    }
}

// Row i sees every seventh key; row 0 none of the first 140, so that whole blocks of keys weigh nothing.
static void hide_keys(operand *bias, int64_t n, int64_t nk)
{
    static const float far[] = {-INFINITY, -3e38f, -1e9f, -1e5f};
    for (int64_t i = 0; i < n; i++) {
        int64_t j = i % nk, row = i / nk;
        if ((row + j) % 7 != 0 || (row == 0 && j < 140)) operand_set(bias, i, (double)far[i % 4]);
    }
}

static swd_status make_single(fixture *f, const void *c, swd_err *err)
{
    const attention_case *k = c;
    (void)err;
    make(f, k, 1);
    if (k->bias != NO_BIAS) {
        int64_t nk = n_keys(k, 0);
        operand *bias =
            operand_add(f, "bias", IN, SWD_F32, PLAIN, k->bias_fill, SHAPE(k->h, k->nq[0], nk));
        if (k->bias == FAR_BIAS) hide_keys(bias, k->h * k->nq[0] * nk, nk);
    }
    return SWD_OK;
}

static int n_streams_of(const attention_case *k)
{
    return k->nq[1] || k->nk[1] ? 2 : 1;
}

static const char *const starts_names[2] = {"starts0", "starts1"};

// The first row of sample i of a stream; of i = n_samples all rows.
static int32_t start_of(const attention_case *k, int stream, int i)
{
    int32_t row = 0;
    for (int b = 0; b < i; b++) row += k->length[stream][b];
    return row;
}

static swd_status make_samples(fixture *f, const void *c, swd_err *err)
{
    const attention_case *k = c;
    (void)err;
    make(f, k, n_streams_of(k));
    for (int s = 0; s < n_streams_of(k); s++) {
        operand *o =
            operand_add(f, starts_names[s], IN, SWD_I32, PLAIN, FILL_ZERO, SHAPE(k->n_samples + 1));
        for (int i = 0; i <= k->n_samples; i++) operand_set(o, i, start_of(k, s, i));
    }
    return SWD_OK;
}

static swd_status make_joint(fixture *f, const void *c, swd_err *err)
{
    (void)err;
    make(f, c, 2);
    return SWD_OK;
}

static float scale_of(const attention_case *k)
{
    return k->scale / sqrtf((float)k->d);
}

static swd_status run(const fixture *f, const attention_case *k, int streams, swd_exec *ex)
{
    attention_args a = {.n_streams = streams,
                        .scale = scale_of(k),
                        .causal = k->causal,
                        .bias = tensor_of(f, "bias")};
    attention_samples samples = {.n = k->n_samples};
    int32_t starts[2][SAMPLES_MAX + 1];
    for (int s = 0; s < streams && k->n_samples; s++) {
        for (int i = 0; i <= k->n_samples; i++) starts[s][i] = start_of(k, s, i);
        samples.starts[s] = starts[s];
        samples.on_device[s] = tensor_of(f, starts_names[s]);
    }
    a.samples = k->n_samples ? &samples : NULL;
    for (int s = 0; s < streams; s++) {
        swd_tensor *part[] = {&a.q[s], &a.k[s], &a.v[s]}, row = tensor_of(f, names[s][4]);
        for (int p = 0; p < 3; p++)
            *part[p] =
                k->packed
                    ? tensor_split_last(tensor_slice(row, 2, p * k->h * k->d, k->h * k->d), k->d)
                    : tensor_of(f, names[s][p]);
        a.o[s] = tensor_of(f, names[s][3]);
    }
    return op_attention(&a, ex);
}

static swd_status run_single(const fixture *f, const void *c, swd_exec *ex)
{
    return run(f, c, 1, ex);
}

static swd_status run_joint(const fixture *f, const void *c, swd_exec *ex)
{
    return run(f, c, 2, ex);
}

static swd_status run_samples(const fixture *f, const void *c, swd_exec *ex)
{
    return run(f, c, n_streams_of(c), ex);
}

enum { Q, K, V }; // parts

// Row [d] of token n of a stream.
static const float *head_row(const fixture *f, const attention_case *k, int stream, int part,
                             int64_t b, int64_t n, int64_t h)
{
    if (k->packed)
        return operand_of(f, names[stream][4])->value +
               (((b * k->nq[stream] + n) * 3 + part) * k->h + h) * k->d;
    int64_t tokens = part == Q ? k->nq[stream] : n_keys(k, stream);
    return operand_of(f, names[stream][part])->value + ((b * tokens + n) * k->h + h) * k->d;
}

// One query against the keys of all streams.
typedef struct softmax_row {
    double *p, *error; // [keys] weights; relative error of each
    const float **v;   // [keys] values
    double lost;       // of the sum of the weights, see above
    int64_t n;
} softmax_row;

// What an addition may lose of an addend so small beside the total. A larger one is rounded this way or that.
static double lost(double addend, double total)
{
    return addend < 16 * UNIT * total ? fmin(addend, UNIT * total) : 0;
}

static void score(softmax_row *r, const fixture *f, const attention_case *k, const float *q,
                  const float *key, double bias)
{
    double sum = 0, size = 0, scale = (double)scale_of(k);
    for (int64_t i = 0; i < k->d; i++) {
        double p = (double)q[i] * (double)key[i];
        sum += p;
        size += fabs(p);
    }
    r->p[r->n] = sum * scale + bias;
    r->error[r->n] = scale * sum_slack(k->d, size, type_of(f, 0)) +
                     4 * UNIT * fabs(sum * scale + bias) + 2 * UNIT * fabs(bias);
}

static void softmax(softmax_row *r, const fixture *f, const attention_case *k, int streams,
                    int stream, int64_t b, int64_t h, int64_t q)
{
    const operand *bias = operand_of(f, "bias");
    const float *query = head_row(f, k, stream, Q, b, q, h);
    double top = -INFINITY, sum = 0;
    r->n = 0;
    r->lost = 0;
    int sample = 0;
    while (k->n_samples && q >= start_of(k, stream, sample + 1)) sample++;
    for (int s = 0; s < streams; s++) {
        int64_t first = k->n_samples ? start_of(k, s, sample) : 0,
                end = k->n_samples ? start_of(k, s, sample + 1) : n_keys(k, s);
        for (int64_t j = first; j < end; j++, r->n++) {
            double add = bias ? value_of(bias, (h * k->nq[0] + q) * n_keys(k, 0) + j) : 0;
            if (k->causal && j > q) add = -INFINITY;
            score(r, f, k, query, head_row(f, k, s, K, b, j, h), add);
            r->v[r->n] = head_row(f, k, s, V, b, j, h);
            top = fmax(top, r->p[r->n]);
        }
    }
    for (int64_t j = 0; j < r->n; j++) sum += r->p[j] = exp(r->p[j] - top);
    for (int64_t j = 0; j < r->n; j++) {
        r->p[j] /= sum;
        r->lost += lost(r->p[j], 1);
        r->error[j] = r->p[j] > 0 ? expm1(2 * r->error[j]) + 8 * UNIT : 0;
    }
}

static void expect_row(operand *o, int64_t at, const softmax_row *r, const attention_case *k,
                       swd_dtype type)
{
    for (int64_t i = 0; i < k->d; i++) {
        double want = 0, size = 0, moved = 0;
        for (int64_t j = 0; j < r->n; j++) {
            want += r->p[j] * (double)r->v[j][i];
            size += r->p[j] * fabs((double)r->v[j][i]);
        }
        for (int64_t j = 0; j < r->n; j++) {
            moved += r->p[j] * r->error[j] * fabs((double)r->v[j][i] - want);
            moved += lost(r->p[j] * fabs((double)r->v[j][i]), size);
        }
        moved += r->lost * fabs(want);
        double rounded = type == SWD_F32 ? 0 : number_unit(type) * size;
        expect(o, at + i, want, moved + rounded + sum_slack(r->n, size, type));
    }
}

static void check(fixture *f, const attention_case *k, int streams)
{
    int64_t keys = n_keys(k, 0) + (streams > 1 ? n_keys(k, 1) : 0);
    softmax_row r = {.p = test_alloc((size_t)keys, sizeof *r.p),
                     .error = test_alloc((size_t)keys, sizeof *r.error),
                     .v = test_alloc((size_t)keys, sizeof *r.v)};
    for (int s = 0; s < streams; s++) {
        int64_t n = k->b * k->nq[s] * k->h;
        for (int64_t i = 0; i < n; i++) {
            if (!sampled(f, i, n, 4 * keys * k->d)) continue;
            softmax(&r, f, k, streams, s, i / k->h / k->nq[s], i % k->h, i / k->h % k->nq[s]);
            expect_row(operand_of(f, names[s][3]), i * k->d, &r, k, type_of(f, 0));
        }
    }
    free(r.p), free(r.error), free(r.v);
}

static void reference_single(fixture *f, const void *c)
{
    check(f, c, 1);
}

static void reference_joint(fixture *f, const void *c)
{
    check(f, c, 2);
}

static void reference_samples(fixture *f, const void *c)
{
    check(f, c, n_streams_of(c));
}

// 2 d for the score, 2 d for the value; a causal query sees half of its keys on average.
static double flops(const fixture *f, const void *c)
{
    const attention_case *k = c;
    (void)f;
    double sum = 0;
    for (int i = 0; i < k->n_samples; i++) {
        double image = k->length[0][i], text = k->length[1][i];
        sum += (image + (k->nq[1] ? text : 0)) * (image + text);
    }
    if (k->n_samples) return 4 * (double)(k->h * k->d) * sum;
    double queries = (double)(k->nq[0] + k->nq[1]),
           keys = (double)n_keys(k, 0) + (double)n_keys(k, 1);
    return 4 * (double)(k->b * k->h * k->d) * queries * keys * (k->causal ? 0.5 : 1);
}

const op_family attention_family = {.op = "attention",
                                    .letters = "all",
                                    CASES(single_cases),
                                    .make = make_single,
                                    .run = run_single,
                                    .reference = reference_single,
                                    .flops = flops};
const op_family joint_attention_family = {.op = "attention",
                                          .letters = "all",
                                          CASES(joint_cases),
                                          .make = make_joint,
                                          .run = run_joint,
                                          .reference = reference_joint,
                                          .flops = flops};
const op_family samples_attention_family = {.op = "attention",
                                            .letters = "all",
                                            CASES(samples_cases),
                                            .make = make_samples,
                                            .run = run_samples,
                                            .reference = reference_samples,
                                            .flops = flops};
