// SPDX-License-Identifier: MIT
// In place, on heads of d elements: x = x / sqrt(mean(x^2) + eps) * weight, then pairs of neighbours turned by the angle of
// their position: (x0 c - x1 s, x1 c + x0 s).
#include "families.h"
#include <math.h>

typedef struct qk_case {
    op_case head;
    int64_t b, n, h, d;
    float eps;
    bool no_weight, no_angles;
    operand_view view;
    fill fill;
} qk_case;

// clang-format off
static const qk_case norm_cases[] = {
    {{"d64", SMALL, "f b h"}, .b = 2, .n = 19, .h = 3, .d = 64, .eps = 1e-6f, .view = STRIDED},
    {{"d6", SMALL, "f b h"}, .b = 2, .n = 19, .h = 3, .d = 6, .eps = 1e-6f, .view = ODD},
    {{"d1", SMALL, "f b h"}, .b = 2, .n = 3, .h = 1, .d = 1, .eps = 1e-6f},
    {{"d99", SMALL, "f b h"}, .b = 2, .n = 3, .h = 1, .d = 99, .eps = 1e-6f, .view = ODD},
    {{"d128", SMALL, "f b h"}, .b = 1, .n = 5, .h = 2, .d = 128, .eps = 1e-6f},
    {{"no_weight", SMALL, "f b h"}, .b = 2, .n = 3, .h = 2, .d = 40, .eps = 1e-6f, .no_weight = true},
    {{"large", SMALL, "f b h"}, .b = 1, .n = 3, .h = 2, .d = 64, .eps = 1e-6f, .fill = FILL_LARGE},
    {{"scales", SMALL, "f b h"}, .b = 1, .n = 3, .h = 2, .d = 64, .eps = 1e-6f, .fill = FILL_SCALES},
    {{"zeros", SMALL, "f b h"}, .b = 1, .n = 3, .h = 2, .d = 64, .eps = 1e-6f, .fill = FILL_ZERO},
    {{"subnormal", SMALL, "f b h"}, .b = 1, .n = 3, .h = 2, .d = 64, .eps = 1e-6f, .fill = FILL_SUBNORMAL},
    {{"many", MEDIUM, "f b h"}, .b = 2, .n = 333, .h = 24, .d = 64, .eps = 1e-6f, .view = STRIDED},
    {{"sd35m_1024", REAL, "f b"}, .b = 1, .n = 1024, .h = 24, .d = 64, .eps = 1e-6f},
};

static const qk_case rope_cases[] = {
    {{"d64", SMALL, "f b h"}, .b = 2, .n = 19, .h = 3, .d = 64, .eps = 1e-6f, .view = STRIDED},
    {{"d6", SMALL, "f b h"}, .b = 2, .n = 19, .h = 3, .d = 6, .eps = 1e-6f, .view = ODD},
    {{"d2", SMALL, "f b h"}, .b = 2, .n = 3, .h = 1, .d = 2, .eps = 1e-6f},
    {{"d128", SMALL, "f b h"}, .b = 1, .n = 99, .h = 2, .d = 128, .eps = 1e-6f},
    {{"no_weight", SMALL, "f b h"}, .b = 2, .n = 7, .h = 2, .d = 40, .eps = 1e-6f, .no_weight = true},
    {{"no_angles", SMALL, "f b h"}, .b = 2, .n = 7, .h = 2, .d = 33, .eps = 1e-6f, .no_angles = true},
    {{"large", SMALL, "f b h"}, .b = 1, .n = 3, .h = 2, .d = 64, .eps = 1e-6f, .fill = FILL_LARGE},
    {{"flux_1024", REAL, "f b"}, .b = 1, .n = 1024, .h = 24, .d = 128, .eps = 1e-6f},
};
// clang-format on

static swd_status make(fixture *f, const void *c, swd_err *err)
{
    const qk_case *k = c;
    (void)err;
    operand *x =
        operand_add(f, "x", INOUT, type_of(f, 0), k->view, k->fill, SHAPE(k->b, k->n, k->h * k->d));
    x->t = tensor_split_last(x->t, k->d);
    if (!k->no_weight) operand_add(f, "weight", IN, SWD_F32, PLAIN, FILL_UNIFORM, SHAPE(k->d));
    return SWD_OK;
}

// Any numbers will do for the tables, of sines and cosines or not.
static swd_status make_rope(fixture *f, const void *c, swd_err *err)
{
    const qk_case *k = c;
    if (!k->no_angles) {
        operand_add(f, "cos", IN, SWD_F32, PLAIN, FILL_UNIFORM, SHAPE(k->n, k->d / 2));
        operand_add(f, "sin", IN, SWD_F32, PLAIN, FILL_UNIFORM, SHAPE(k->n, k->d / 2));
    }
    return make(f, c, err);
}

static swd_status run(const fixture *f, const void *c, swd_exec *ex)
{
    const qk_case *k = c;
    return op_qk_norm(tensor_of(f, "x"), tensor_of(f, "weight"), k->eps, ex);
}

static swd_status run_rope(const fixture *f, const void *c, swd_exec *ex)
{
    const qk_case *k = c;
    return op_qk_norm_rope(tensor_of(f, "x"), tensor_of(f, "weight"), k->eps, tensor_of(f, "cos"),
                           tensor_of(f, "sin"), ex);
}

// 1 / sqrt(mean + eps) of head r; 1 where there is no weight: no norm.
static double head_scale(const operand *x, const qk_case *k, int64_t r)
{
    double squares = 0;
    for (int64_t i = 0; i < k->d; i++) squares += pow(value_of(x, r * k->d + i), 2);
    return k->no_weight ? 1 : 1 / sqrt(squares / (double)k->d + (double)k->eps);
}

static void reference(fixture *f, const void *c)
{
    const qk_case *k = c;
    operand *x = operand_of(f, "x"), *weight = operand_of(f, "weight"),
            *cosine = operand_of(f, "cos"), *sine = operand_of(f, "sin");
    int64_t heads = k->b * k->n * k->h;
    double relative = k->no_weight ? 0 : tree_slack(k->d, 1) + 3 * UNIT;
    for (int64_t r = 0; r < heads; r++) {
        if (!sampled(f, r, heads, 10 * k->d)) continue;
        double scale = head_scale(x, k, r);
        for (int64_t i = 0; i < k->d; i++) {
            int64_t pair = i ^ 1, angle = r / k->h % k->n * (k->d / 2) + i / 2;
            double own = value_of(x, r * k->d + i) * scale * (weight ? value_of(weight, i) : 1);
            if (!cosine) {
                expect(x, r * k->d + i, own, relative * fabs(own) + (weight ? FLUSHED : 0));
                continue;
            }
            double other =
                value_of(x, r * k->d + pair) * scale * (weight ? value_of(weight, pair) : 1);
            double a = own * value_of(cosine, angle), b = other * value_of(sine, angle),
                   want = i % 2 ? a + b : a - b;
            expect(x, r * k->d + i, want,
                   (relative + UNIT) * (fabs(a) + fabs(b)) + UNIT * fabs(want) + FLUSHED);
        }
    }
}

const op_family qk_norm_family = {.op = "qk_norm",
                                  .letters = "x",
                                  CASES(norm_cases),
                                  .make = make,
                                  .run = run,
                                  .reference = reference};
const op_family qk_norm_rope_family = {.op = "qk_norm_rope",
                                       .letters = "x",
                                       CASES(rope_cases),
                                       .make = make_rope,
                                       .run = run_rope,
                                       .reference = reference};
