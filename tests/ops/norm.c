// SPDX-License-Identifier: MIT
// Row norms over the last dimension, D elements:
//
//     layernorm   y = (x - mean) / sqrt(var + eps) * weight + bias
//     modulate    y = (x - mean) / sqrt(var + eps) * (1 + scale[b]) + shift[b]
//     modulate2   two modulations of one norm
//     rms_norm    y = x / sqrt(mean(x^2) + eps) * weight
//
// Errors as in group_norm.c: the mean by a tree over |x|, the variance by its own tree and the square of that.
#include "families.h"
#include <math.h>

typedef struct norm_case {
    op_case head;
    int64_t b, n, d; // b = 0: [n, d]; n = 0, too: [d]
    float eps;
    bool no_weight, no_bias, in_place;
    operand_view view;
    fill fill;
} norm_case;

enum { X, Y, SCALE, SHIFT };

// clang-format off
#define MIX "ff fb bf bb fh hf hh" // of the 16-bit types one at a time: the CUDA row kernels take no mix of the two
static const norm_case affine_cases[] = {
    {{"d19", SMALL, MIX}, .b = 2, .n = 3, .d = 19, .eps = 1e-3f},
    {{"d1", SMALL, MIX}, .b = 2, .n = 3, .d = 1, .eps = 1e-3f, .view = STRIDED},
    {{"d3", SMALL, MIX}, .b = 2, .n = 3, .d = 3, .eps = 1e-3f, .view = ODD},
    {{"d99", SMALL, MIX}, .b = 2, .n = 3, .d = 99, .eps = 1e-6f, .view = ODD, .no_bias = true},
    {{"d111", SMALL, MIX}, .b = 2, .n = 3, .d = 111, .eps = 1e-6f, .view = STRIDED, .no_weight = true},
    {{"d1030", SMALL, MIX}, .b = 2, .n = 3, .d = 1030, .eps = 1e-6f, .view = STRIDED, .no_weight = true, .no_bias = true},
    {{"d1536", SMALL, "ff fb bb fh hh"}, .n = 5, .d = 1536, .eps = 1e-5f},
    {{"vector", SMALL, "ff bb hh"}, .d = 333, .eps = 1e-5f},
    {{"rows_in", SMALL, MIX}, .b = 3, .n = 2, .d = 40, .eps = 1e-5f, .view = STRIDED_IN},
    {{"rows_out", SMALL, MIX}, .b = 3, .n = 2, .d = 40, .eps = 1e-5f, .view = STRIDED_OUT},
    {{"in_place", SMALL, "ff bb hh"}, .b = 3, .n = 5, .d = 77, .eps = 1e-5f, .view = ODD, .in_place = true},
    {{"mean_over_spread", SMALL, "ff bf hf"}, .b = 2, .n = 19, .d = 72, .eps = 1e-6f, .fill = FILL_OFFSET},
    {{"large", SMALL, MIX}, .b = 1, .n = 3, .d = 768, .eps = 1e-6f, .fill = FILL_LARGE},
    {{"scales", SMALL, MIX}, .b = 1, .n = 3, .d = 333, .eps = 1e-6f, .fill = FILL_SCALES},
    {{"constant_rows", SMALL, MIX}, .b = 1, .n = 5, .d = 333, .eps = 1e-6f, .fill = FILL_CONSTANT_ROWS},
    {{"zeros", SMALL, "ff bb hh"}, .b = 1, .n = 3, .d = 64, .eps = 1e-6f, .fill = FILL_ZERO},
    {{"subnormal", SMALL, "ff bb hh"}, .b = 1, .n = 3, .d = 64, .eps = 1e-6f, .fill = FILL_SUBNORMAL},
    {{"many_rows", MEDIUM, "ff fb bb fh hh"}, .b = 3, .n = 333, .d = 768, .eps = 1e-5f, .view = STRIDED},
    {{"wide", MEDIUM, "ff bb hh"}, .b = 1, .n = 3, .d = 10240, .eps = 1e-5f},
    {{"clip_g_77", REAL, "fb bb"}, .b = 2, .n = 77, .d = 1280, .eps = 1e-5f},
    {{"t5xxl_512", REAL, "fb bb"}, .b = 1, .n = 512, .d = 4096, .eps = 1e-6f, .no_bias = true},
};

static const norm_case modulate_cases[] = {
    {{"d19", SMALL, "ffff fbff bfbb bbbb fbbf fhff hfhh hhhh fhhf"}, .b = 2, .n = 3, .d = 19, .eps = 1e-6f},
    {{"d1", SMALL, "ffff bbbb hhhh"}, .b = 2, .n = 3, .d = 1, .eps = 1e-3f, .view = STRIDED},
    {{"d3", SMALL, "ffff fbbb fhhh"}, .b = 3, .n = 1, .d = 3, .eps = 1e-3f, .view = ODD},
    {{"d99", SMALL, "ffff fbff bbbb fhff hhhh"}, .b = 2, .n = 5, .d = 99, .eps = 1e-6f, .view = ODD},
    {{"d111", SMALL, "ffff fbff bbbb fhff hhhh"}, .b = 1, .n = 19, .d = 111, .eps = 1e-6f, .view = STRIDED},
    {{"d1030", SMALL, "ffff fbff bfbb bbbb fhff hfhh hhhh"}, .b = 2, .n = 3, .d = 1030, .eps = 1e-6f, .view = STRIDED},
    {{"d1536", SMALL, "ffff fbff bbbb fhff hhhh"}, .b = 2, .n = 3, .d = 1536, .eps = 1e-6f},
    {{"rows_in", SMALL, "ffff fbff bbbb fhff hhhh"}, .b = 3, .n = 2, .d = 40, .eps = 1e-5f, .view = STRIDED_IN},
    {{"rows_out", SMALL, "ffff fbff bbbb fhff hhhh"}, .b = 3, .n = 2, .d = 40, .eps = 1e-5f, .view = STRIDED_OUT},
    {{"in_place", SMALL, "ffff bbff hhff"}, .b = 3, .n = 5, .d = 77, .eps = 1e-6f, .view = ODD, .in_place = true},
    {{"mean_over_spread", SMALL, "ffff bfff hfff"}, .b = 2, .n = 19, .d = 72, .eps = 1e-6f, .fill = FILL_OFFSET},
    {{"large", SMALL, "ffff bbbb hhhh"}, .b = 1, .n = 3, .d = 768, .eps = 1e-6f, .fill = FILL_LARGE},
    {{"scales", SMALL, "ffff bbbb hhhh"}, .b = 1, .n = 3, .d = 333, .eps = 1e-6f, .fill = FILL_SCALES},
    {{"constant_rows", SMALL, "ffff bbbb hhhh"}, .b = 2, .n = 5, .d = 333, .eps = 1e-6f, .fill = FILL_CONSTANT_ROWS},
    {{"zeros", SMALL, "ffff bbbb hhhh"}, .b = 1, .n = 3, .d = 64, .eps = 1e-6f, .fill = FILL_ZERO},
    {{"many_rows", MEDIUM, "ffff fbff bbbb fhff hhhh"}, .b = 3, .n = 333, .d = 768, .eps = 1e-6f, .view = STRIDED},
    {{"demo_64", REAL, "ffff fbff"}, .b = 2, .n = 64, .d = 192, .eps = 1e-6f},
    {{"sd35m_1024", REAL, "ffff fbff bbbb"}, .b = 1, .n = 1024, .d = 1536, .eps = 1e-6f},
    {{"sd35m_4096", REAL, "ffff fbff bbbb"}, .b = 1, .n = 4096, .d = 1536, .eps = 1e-6f},
};

static const norm_case modulate2_cases[] = {
    {{"d19", SMALL, "ffff fbff bfbb bbbb fhhf hhhh"}, .b = 2, .n = 3, .d = 19, .eps = 1e-6f},
    {{"d99", SMALL, "ffff fbff bbbb hhhh"}, .b = 2, .n = 5, .d = 99, .eps = 1e-6f, .view = ODD},
    {{"d136", SMALL, "ffff fbff bfbb bbbb fhff hfhh hhhh"}, .b = 2, .n = 3, .d = 136, .eps = 1e-6f, .view = STRIDED},
    {{"d1544", SMALL, "ffff fbff bbbb"}, .b = 2, .n = 2, .d = 1544, .eps = 1e-6f, .view = STRIDED},
    {{"rows_in", SMALL, "ffff fbff bbbb"}, .b = 3, .n = 2, .d = 40, .eps = 1e-5f, .view = STRIDED_IN},
    {{"rows_out", SMALL, "ffff fbff bbbb"}, .b = 3, .n = 2, .d = 40, .eps = 1e-5f, .view = STRIDED_OUT},
    {{"in_place", SMALL, "ffff bbff hhff"}, .b = 3, .n = 5, .d = 77, .eps = 1e-6f, .view = ODD, .in_place = true},
    {{"in_place_aligned", SMALL, "ffff bbff hhff"}, .b = 3, .n = 2, .d = 80, .eps = 1e-6f, .in_place = true},
    {{"large", SMALL, "ffff bbbb hhhh"}, .b = 1, .n = 3, .d = 768, .eps = 1e-6f, .fill = FILL_LARGE},
    {{"constant_rows", SMALL, "ffff bbbb hhhh"}, .b = 2, .n = 5, .d = 333, .eps = 1e-6f, .fill = FILL_CONSTANT_ROWS},
    {{"many_rows", MEDIUM, "ffff fbff bbbb"}, .b = 3, .n = 333, .d = 768, .eps = 1e-6f, .view = STRIDED},
    {{"sd35m_1024", REAL, "ffff fbff"}, .b = 1, .n = 1024, .d = 1536, .eps = 1e-6f},
    {{"sd35m_4096", REAL, "ffff fbff"}, .b = 1, .n = 4096, .d = 1536, .eps = 1e-6f},
};
// clang-format on

static void add_rows(fixture *f, const char *name, operand_role role, swd_dtype type,
                     const norm_case *k)
{
    const int64_t shape[] = {k->b, k->n, k->d};
    int skip = k->b ? 0 : k->n ? 1 : 2;
    operand_add(f, name, role, type, k->view, k->fill, shape + skip, 3 - skip);
}

static void make_rows(fixture *f, const norm_case *k)
{
    if (!k->in_place) add_rows(f, "y", OUT, type_of(f, Y), k);
    add_rows(f, "x", k->in_place ? INOUT : IN, type_of(f, X), k);
}

static swd_status make_layernorm(fixture *f, const void *c, swd_err *err)
{
    const norm_case *k = c;
    (void)err;
    make_rows(f, k);
    if (!k->no_weight) operand_add(f, "weight", IN, SWD_F32, PLAIN, FILL_UNIFORM, SHAPE(k->d));
    if (!k->no_bias) operand_add(f, "bias", IN, SWD_F32, PLAIN, FILL_UNIFORM, SHAPE(k->d));
    return SWD_OK;
}

static swd_status make_rms(fixture *f, const void *c, swd_err *err)
{
    const norm_case *k = c;
    (void)err;
    make_rows(f, k);
    if (!k->no_weight) operand_add(f, "weight", IN, SWD_F32, PLAIN, FILL_UNIFORM, SHAPE(k->d));
    return SWD_OK;
}

static swd_status make_modulate(fixture *f, const void *c, swd_err *err)
{
    const norm_case *k = c;
    (void)err;
    make_rows(f, k);
    operand_add(f, "scale", IN, type_of(f, SCALE), k->view, FILL_UNIFORM, SHAPE(k->b, k->d));
    operand_add(f, "shift", IN, type_of(f, SHIFT), k->view, FILL_UNIFORM, SHAPE(k->b, k->d));
    return SWD_OK;
}

static swd_status make_modulate2(fixture *f, const void *c, swd_err *err)
{
    const norm_case *k = c;
    SWD_TRY(make_modulate(f, c, err), err);
    add_rows(f, "y2", OUT, type_of(f, Y), k);
    operand_add(f, "scale2", IN, type_of(f, SCALE), k->view, FILL_UNIFORM, SHAPE(k->b, k->d));
    operand_add(f, "shift2", IN, type_of(f, SHIFT), k->view, FILL_UNIFORM, SHAPE(k->b, k->d));
    return SWD_OK;
}

static swd_tensor result(const fixture *f, const norm_case *k)
{
    return tensor_of(f, k->in_place ? "x" : "y");
}

static swd_status run_layernorm(const fixture *f, const void *c, swd_exec *ex)
{
    const norm_case *k = c;
    return op_layernorm(result(f, k), tensor_of(f, "x"), tensor_of(f, "weight"),
                        tensor_of(f, "bias"), k->eps, ex);
}

static swd_status run_rms(const fixture *f, const void *c, swd_exec *ex)
{
    const norm_case *k = c;
    return op_rms_norm(result(f, k), tensor_of(f, "x"), tensor_of(f, "weight"), k->eps, ex);
}

static swd_status run_modulate(const fixture *f, const void *c, swd_exec *ex)
{
    const norm_case *k = c;
    return op_layernorm_modulate(result(f, k), tensor_of(f, "x"), tensor_of(f, "shift"),
                                 tensor_of(f, "scale"), k->eps, ex);
}

static swd_status run_modulate2(const fixture *f, const void *c, swd_exec *ex)
{
    const norm_case *k = c;
    const swd_tensor y[] = {result(f, k), tensor_of(f, "y2")},
                     shift[] = {tensor_of(f, "shift"), tensor_of(f, "shift2")},
                     scale[] = {tensor_of(f, "scale"), tensor_of(f, "scale2")};
    return op_layernorm_modulate2(y, tensor_of(f, "x"), shift, scale, k->eps, ex);
}

typedef struct moments {
    double mean, off;       // of the row; error of the mean
    double scale, relative; // 1 / sqrt(var + eps); relative error of it
} moments;

static moments moments_of(const operand *x, const norm_case *k, int64_t row, bool centred)
{
    double sum = 0, size = 0, squares = 0, d = (double)k->d;
    for (int64_t i = 0; i < k->d; i++) {
        sum += value_of(x, row * k->d + i);
        size += fabs(value_of(x, row * k->d + i));
    }
    moments m = {.mean = centred ? sum / d : 0, .off = centred ? tree_slack(k->d, size / d) : 0};
    for (int64_t i = 0; i < k->d; i++) squares += pow(value_of(x, row * k->d + i) - m.mean, 2);
    double var = squares / d + (double)k->eps;
    m.scale = 1 / sqrt(var);
    m.relative = tree_slack(k->d, 1) + m.off * m.off / var;
    return m;
}

typedef struct affine {
    const operand *weight, *bias, *scale, *shift; // [d], [d], [b, d], [b, d]; some are absent
} affine;

// One row: y = (x - mean) * scale * factor[i] + add[i].
static void expect_row(operand *y, const operand *x, const affine *by, const norm_case *k,
                       int64_t row, const moments *m)
{
    const operand *weight = by->weight, *bias = by->bias, *scale = by->scale, *shift = by->shift;
    for (int64_t i = 0; i < k->d; i++) {
        int64_t at = row * k->d + i, sample = scale ? row / k->n * k->d + i : 0;
        double factor = weight  ? value_of(weight, i)
                        : scale ? 1 + value_of(scale, sample)
                                : 1,
               add = bias    ? value_of(bias, i)
                     : shift ? value_of(shift, sample)
                             : 0;
        double v = value_of(x, at), centred = (v - m->mean) * m->scale * factor,
               want = centred + add;
        double slack = m->scale * fabs(factor) * (m->off + 2 * UNIT * (fabs(v) + fabs(m->mean))) +
                       fabs(centred) * (m->relative + 2 * UNIT) + UNIT * (fabs(add) + fabs(want)) +
                       (scale ? UNIT * fabs((v - m->mean) * m->scale) : 0) + FLUSHED;
        expect(y, at, want, slack);
    }
}

static void check(fixture *f, const norm_case *k, bool centred)
{
    const operand *x = operand_of(f, "x");
    operand *y = operand_of(f, k->in_place ? "x" : "y"), *y2 = operand_of(f, "y2");
    const affine by = {operand_of(f, "weight"), operand_of(f, "bias"), operand_of(f, "scale"),
                       operand_of(f, "shift")},
                 by2 = {.scale = operand_of(f, "scale2"), .shift = operand_of(f, "shift2")};
    int64_t rows = tensor_numel(x->t) / k->d;
    for (int64_t r = 0; r < rows; r++) {
        if (!sampled(f, r, rows, 10 * k->d)) continue;
        moments m = moments_of(x, k, r, centred);
        expect_row(y, x, &by, k, r, &m);
        if (y2) expect_row(y2, x, &by2, k, r, &m);
    }
}

static void reference_layernorm(fixture *f, const void *c)
{
    check(f, c, true);
}

static void reference_rms(fixture *f, const void *c)
{
    check(f, c, false);
}

const op_family layernorm_family = {.op = "layernorm",
                                    .letters = "x y",
                                    CASES(affine_cases),
                                    .make = make_layernorm,
                                    .run = run_layernorm,
                                    .reference = reference_layernorm};
const op_family rms_norm_family = {.op = "rms_norm",
                                   .letters = "x y",
                                   CASES(affine_cases),
                                   .make = make_rms,
                                   .run = run_rms,
                                   .reference = reference_rms};
const op_family modulate_family = {.op = "layernorm_modulate",
                                   .letters = "x y scale shift",
                                   CASES(modulate_cases),
                                   .make = make_modulate,
                                   .run = run_modulate,
                                   .reference = reference_layernorm};
const op_family modulate2_family = {.op = "layernorm_modulate2",
                                    .letters = "x y scale shift",
                                    CASES(modulate2_cases),
                                    .make = make_modulate2,
                                    .run = run_modulate2,
                                    .reference = reference_layernorm};
