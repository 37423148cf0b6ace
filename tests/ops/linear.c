// SPDX-License-Identifier: MIT
// y = act(x W^T + b);  y = residual + gate * (x W^T + b).
//
// The operands of the products are rounded to the type of the arithmetic first (facts.compute), their sum is float32.
#include "families.h"
#include "number.h"
#include <math.h>
#include <stdlib.h>

typedef enum linear_residual {
    OVER_IT,
    BESIDE_IT
} linear_residual; /* y is the residual, or is not */

typedef struct linear_case {
    op_case head;
    int64_t b, n, in, out; // x [b, n, in]; b = 0: [n, in]; n = 0, too: [in]
    swd_act act;
    bool no_bias, no_gate;
    linear_residual residual;
    operand_view view;
    fill fill;
} linear_case;

enum { X, W, Y, COMPUTE, GATE }; // letters

// clang-format off
static const linear_case plain_cases[] = {
    {{"odd", SMALL, "ffff fbff bbbf bbbb fbfb hfhf hbhf hbhb hbfb fbhb bbhb hbbb"}, .b = 2, .n = 19, .in = 40, .out = 72},
    {{"one", SMALL, "ffff fbff bbbb"}, .b = 1, .n = 1, .in = 1, .out = 1},
    {{"vector", SMALL, "ffff fbff bbbb"}, .in = 33, .out = 17},
    {{"rows", SMALL, "ffff fbff bbbb"}, .n = 33, .in = 31, .out = 17, .act = SWD_ACT_QUICK_GELU},
    {{"silu", SMALL, "ffff fbff bbbb"}, .b = 2, .n = 1, .in = 64, .out = 96, .act = SWD_ACT_SILU},
    {{"gelu_tanh", SMALL, "ffff fbff bbbb fbfb hbhb hfff"}, .b = 2, .n = 19, .in = 40, .out = 72, .act = SWD_ACT_GELU_TANH, .view = STRIDED},
    {{"gelu_erf", SMALL, "ffff fbff bbbb hbhf hbhb"}, .b = 2, .n = 19, .in = 40, .out = 72, .act = SWD_ACT_GELU_ERF, .view = ODD},
    {{"relu", SMALL, "ffff bbbf bbbb"}, .b = 2, .n = 9, .in = 64, .out = 48, .act = SWD_ACT_RELU},
    {{"tanh", SMALL, "ffff fbff fbfb"}, .b = 2, .n = 19, .in = 64, .out = 80, .act = SWD_ACT_TANH, .view = STRIDED},
    {{"no_bias", SMALL, "ffff fbff bbbf bbbb"}, .b = 3, .n = 5, .in = 99, .out = 111, .no_bias = true, .view = ODD},
    {{"few_rows", SMALL, "ffff fbff bbbb hbhf hbhb"}, .b = 1, .n = 3, .in = 203, .out = 40, .act = SWD_ACT_SILU, .view = STRIDED},
    {{"rows_in", SMALL, "ffff fbff bbbf bbbb hbhb hbfb"}, .b = 3, .n = 5, .in = 40, .out = 24, .view = STRIDED_IN},
    {{"rows_out", SMALL, "ffff fbff fbbf bbbb hbhb fbhf"}, .b = 3, .n = 5, .in = 40, .out = 24, .view = STRIDED_OUT},
    {{"one_row_in", SMALL, "ffff fbff bbbb"}, .b = 3, .n = 1, .in = 40, .out = 24, .view = STRIDED_IN},
    {{"one_sample_in", SMALL, "ffff fbff bbbb"}, .b = 1, .n = 7, .in = 40, .out = 24, .view = STRIDED_IN},
    {{"one_output", SMALL, "ffff fbff bbbb"}, .b = 2, .n = 19, .in = 99, .out = 1},
    {{"one_input", SMALL, "ffff fbff bbbb"}, .b = 2, .n = 19, .in = 1, .out = 99},
    {{"one_signed", SMALL, "ffff fbff bbbb"}, .n = 19, .in = 333, .out = 24, .fill = FILL_POSITIVE},
    {{"large", SMALL, "ffff fbff bbbb fbhf hbhb"}, .n = 19, .in = 111, .out = 24, .fill = FILL_LARGE, .act = SWD_ACT_GELU_TANH},
    {{"scales", SMALL, "ffff fbff bbbb hbhf hbhb"}, .n = 9, .in = 111, .out = 24, .fill = FILL_SCALES},
    {{"zeros", SMALL, "ffff fbff bbbb"}, .n = 9, .in = 64, .out = 24, .fill = FILL_ZERO, .act = SWD_ACT_GELU_ERF},
    {{"subnormal", SMALL, "ffff fbff bbbb hfhf hbhb"}, .n = 9, .in = 64, .out = 24, .fill = FILL_SUBNORMAL},
    {{"wide_output", MEDIUM, "ffff fbff bbbb"}, .b = 1, .n = 9, .in = 16, .out = 2100}, // over 2048 rows of a weight
    {{"many_rows", MEDIUM, "ffff bbbf fbff hbhb hfhf"}, .b = 3, .n = 300, .in = 24, .out = 40, .view = STRIDED}, // over 512 rows of x
    {{"long_sum", MEDIUM, "ffff fbff bbbb"}, .n = 33, .in = 6144, .out = 40},
    {{"pieces", MEDIUM, "ffff bbbb bbbf"}, .b = 2, .n = 103, .in = 1600, .out = 24, .act = SWD_ACT_SILU}, // of columns and of rows, on AMX tiles
    {{"sd35m_modulation", REAL, "fbff bbbb"}, .n = 1, .in = 1536, .out = 9216, .act = SWD_ACT_NONE},
    {{"sd35m_text", REAL, "ffff fbff bbbb"}, .n = 333, .in = 1536, .out = 1536},
    {{"sd35m_qkv", REAL, "ffff fbff bbbb"}, .n = 1024, .in = 1536, .out = 4608},
    {{"sd35m_mlp_in", REAL, "ffff fbff bbbb"}, .n = 1024, .in = 1536, .out = 6144, .act = SWD_ACT_GELU_TANH},
    {{"sd35m_mlp_in_4096", REAL, "fbff bbbb"}, .n = 4096, .in = 1536, .out = 6144, .act = SWD_ACT_GELU_TANH},
    {{"sd35l_mlp_in", REAL, "fbff bbbb"}, .n = 1024, .in = 2432, .out = 9728, .act = SWD_ACT_GELU_TANH},
    {{"demo_qkv", REAL, "ffff fbff bbbb"}, .b = 2, .n = 64, .in = 192, .out = 576},
};

static const linear_case residual_cases[] = {
    {{"odd", SMALL, "fffff fbfff bbbfb bbbbb fbfbb hfhfh hbhfh hbhbh hbfbh fbhbf"}, .b = 2, .n = 19, .in = 40, .out = 72, .residual = BESIDE_IT},
    {{"over_it", SMALL, "fffff fbfff bbbbb fbfbb"}, .b = 2, .n = 9, .in = 64, .out = 111},
    {{"no_gate", SMALL, "fffff fbfff bbbbf"}, .b = 1, .n = 3, .in = 24, .out = 40, .no_gate = true},
    {{"rows_no_gate", SMALL, "fffff fbfff bbbbf"}, .n = 19, .in = 33, .out = 17, .no_gate = true, .residual = BESIDE_IT, .view = ODD},
    {{"strided", SMALL, "fffff fbffb bbbbb bbfbf hbhbh hbhff"}, .b = 3, .n = 7, .in = 40, .out = 24, .view = STRIDED},
    {{"unaligned", SMALL, "fffff fbffb bbbbb bbfbf hbhbh hbhff"}, .b = 3, .n = 7, .in = 41, .out = 25, .residual = BESIDE_IT, .view = ODD},
    {{"rows_in", SMALL, "fffff fbfff bbbbb"}, .b = 3, .n = 5, .in = 40, .out = 24, .residual = BESIDE_IT, .view = STRIDED_IN},
    {{"rows_out", SMALL, "fffff fbfff bbbbb"}, .b = 3, .n = 5, .in = 40, .out = 24, .view = STRIDED_OUT},
    {{"large", SMALL, "fffff fbffb bbbbb"}, .b = 2, .n = 5, .in = 64, .out = 24, .fill = FILL_LARGE},
    {{"zeros", SMALL, "fffff bbbbb"}, .b = 2, .n = 5, .in = 64, .out = 24, .fill = FILL_ZERO},
    {{"many_rows", MEDIUM, "fffff fbfff bbfbf bbbbb hbhbh hfhfh"}, .b = 2, .n = 300, .in = 64, .out = 32}, // samples end within a chunk
    {{"wide_output", MEDIUM, "fffff fbfff"}, .b = 2, .n = 9, .in = 64, .out = 2600},
    {{"pieces", MEDIUM, "fffff bbfbf bbbbb"}, .b = 2, .n = 103, .in = 1600, .out = 24},
    {{"sd35m_out", REAL, "fffff fbfff bbfbf"}, .b = 1, .n = 1024, .in = 1536, .out = 1536},
    {{"sd35m_mlp_out", REAL, "fffff fbfff bbfbf"}, .b = 1, .n = 1024, .in = 6144, .out = 1536},
};
// clang-format on

static void add_rows(fixture *f, const char *name, operand_role role, swd_dtype type,
                     const linear_case *k, int64_t d)
{
    const int64_t shape[] = {k->b, k->n, d};
    int skip = k->b ? 0 : k->n ? 1 : 2;
    operand_add(f, name, role, type, k->view, k->fill, shape + skip, 3 - skip);
}

static swd_status make(fixture *f, const linear_case *k, swd_err *err)
{
    add_rows(f, "x", IN, type_of(f, X), k, k->in);
    operand_add(f, "w", WEIGHT, type_of(f, W), PLAIN, k->fill, SHAPE(k->out, k->in));
    if (!k->no_bias) operand_add(f, "bias", WEIGHT, SWD_F32, PLAIN, k->fill, SHAPE(k->out));
    return f->backend->linear_create(f->backend, &f->linear, tensor_of(f, "w"),
                                     tensor_of(f, "bias"), type_of(f, COMPUTE), err);
}

static swd_status make_plain(fixture *f, const void *c, swd_err *err)
{
    const linear_case *k = c;
    add_rows(f, "y", OUT, type_of(f, Y), k, k->out);
    return make(f, k, err);
}

static swd_status make_residual(fixture *f, const void *c, swd_err *err)
{
    const linear_case *k = c;
    add_rows(f, "y", k->residual == OVER_IT ? INOUT : OUT, type_of(f, Y), k, k->out);
    if (k->residual == BESIDE_IT) add_rows(f, "residual", IN, type_of(f, Y), k, k->out);
    if (!k->no_gate)
        operand_add(f, "gate", IN, type_of(f, GATE), k->view, k->fill, SHAPE(k->b, k->out));
    return make(f, k, err);
}

static swd_status run_plain(const fixture *f, const void *c, swd_exec *ex)
{
    const linear_case *k = c;
    return op_linear(tensor_of(f, "y"), tensor_of(f, "x"), f->linear, k->act, ex);
}

static swd_status run_residual(const fixture *f, const void *c, swd_exec *ex)
{
    const linear_case *k = c;
    swd_tensor residual = tensor_of(f, k->residual == OVER_IT ? "y" : "residual");
    return op_linear_residual(tensor_of(f, "y"), residual, tensor_of(f, "gate"), tensor_of(f, "x"),
                              f->linear, ex);
}

// The values of an operand of the products, as the arithmetic sees them.
static float *as_computed(const operand *o, swd_dtype compute)
{
    int64_t n = tensor_numel(o->t);
    float *v = test_alloc((size_t)n, sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = compute == SWD_F32 ? o->value[i] : (float)number_round(value_of(o, i), compute);
    return v;
}

// Element o of row r: the sum and how far float32 may be from it.
static double product(const float *x, const float *w, const operand *bias, const linear_case *k,
                      int64_t r, int64_t o, swd_dtype compute, double *slack)
{
    double sum = bias ? value_of(bias, o) : 0, size = fabs(sum);
    for (int64_t i = 0; i < k->in; i++) {
        double p = (double)x[r * k->in + i] * (double)w[o * k->in + i];
        sum += p;
        size += fabs(p);
    }
    *slack = sum_slack(k->in, size, compute);
    return sum;
}

static void reference(fixture *f, const void *c)
{
    const linear_case *k = c;
    operand *y = operand_of(f, "y"), *bias = operand_of(f, "bias"), *gate = operand_of(f, "gate"),
            *residual = operand_of(f, "residual");
    swd_dtype compute = linear_facts(f->linear)->compute;
    float *x = as_computed(operand_of(f, "x"), compute),
          *w = as_computed(operand_of(f, "w"), compute);
    int64_t n = tensor_numel(y->t), per_sample = k->n ? k->n * k->out : n;
    if (y->role == INOUT) residual = y;
    for (int64_t i = 0; i < n; i++) {
        if (!sampled(f, i, n, k->in)) continue;
        double e, t = product(x, w, bias, k, i / k->out, i % k->out, compute, &e);
        double want = act_exact(t, k->act), slack = ACT_SLOPE * e + act_slack(t, k->act);
        if (residual) {
            double g = gate ? value_of(gate, i / per_sample * k->out + i % k->out) : 1,
                   r = value_of(residual, i);
            slack = fabs(g) * slack + 2 * UNIT * (fabs(r) + fabs(g * want));
            want = r + g * want;
        }
        expect(y, i, want, slack);
    }
    free(x), free(w);
}

static double flops(const fixture *f, const void *c)
{
    const linear_case *k = c;
    return 2.0 * (double)tensor_numel(tensor_of(f, "x")) * (double)k->out;
}

const op_family linear_family = {.op = "linear",
                                 .letters = "x weight y arithmetic",
                                 CASES(plain_cases),
                                 .make = make_plain,
                                 .run = run_plain,
                                 .reference = reference,
                                 .flops = flops};
const op_family linear_residual_family = {.op = "linear_residual",
                                          .letters = "x weight y arithmetic gate",
                                          CASES(residual_cases),
                                          .make = make_residual,
                                          .run = run_residual,
                                          .reference = reference,
                                          .flops = flops};
