// SPDX-License-Identifier: MIT
// In place, on heads of d elements of q and of k: x = x / sqrt(mean(x^2) + eps) * weight, then pairs of neighbours turned by the angle
// of their position: (x0 c - x1 s, x1 c + x0 s).
#include "families.h"
#include <math.h>

typedef struct qk_case {
    op_case head;
    int64_t b, n, h, d;
    float eps;
    bool no_weight_q, no_weight_k, no_angles;
    bool packed; // q and k are the first two thirds of one tensor's rows
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
    {{"no_weight", SMALL, "f b h"}, .b = 2, .n = 3, .h = 2, .d = 40, .eps = 1e-6f, .no_weight_q = true, .no_weight_k = true},
    {{"no_weight_q", SMALL, "f b h"}, .b = 2, .n = 3, .h = 2, .d = 40, .eps = 1e-6f, .no_weight_q = true},
    {{"no_weight_k", SMALL, "f b h"}, .b = 2, .n = 3, .h = 2, .d = 33, .eps = 1e-6f, .no_weight_k = true},
    {{"packed", SMALL, "f b h"}, .b = 2, .n = 5, .h = 3, .d = 64, .eps = 1e-6f, .packed = true},
    {{"packed_d9", SMALL, "f b h"}, .b = 2, .n = 5, .h = 2, .d = 9, .eps = 1e-6f, .packed = true},
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
    {{"packed", SMALL, "f b h"}, .b = 2, .n = 5, .h = 3, .d = 64, .eps = 1e-6f, .packed = true},
    {{"no_weight_k", SMALL, "f b h"}, .b = 2, .n = 3, .h = 2, .d = 10, .eps = 1e-6f, .no_weight_k = true},
    {{"d2", SMALL, "f b h"}, .b = 2, .n = 3, .h = 1, .d = 2, .eps = 1e-6f},
    {{"d128", SMALL, "f b h"}, .b = 1, .n = 99, .h = 2, .d = 128, .eps = 1e-6f},
    {{"no_weight", SMALL, "f b h"}, .b = 2, .n = 7, .h = 2, .d = 40, .eps = 1e-6f, .no_weight_q = true, .no_weight_k = true},
    {{"packed_d128", SMALL, "f b h"}, .b = 2, .n = 5, .h = 2, .d = 128, .eps = 1e-6f, .packed = true},
    {{"d24", SMALL, "f b h"}, .b = 2, .n = 7, .h = 1, .d = 24, .eps = 1e-6f, .view = STRIDED},
    {{"flux", MEDIUM, "f b"}, .b = 2, .n = 99, .h = 24, .d = 128, .eps = 1e-6f, .packed = true},
    {{"no_angles", SMALL, "f b h"}, .b = 2, .n = 7, .h = 2, .d = 33, .eps = 1e-6f, .no_angles = true},
    {{"large", SMALL, "f b h"}, .b = 1, .n = 3, .h = 2, .d = 64, .eps = 1e-6f, .fill = FILL_LARGE},
    {{"flux_1024", REAL, "f b"}, .b = 1, .n = 1024, .h = 24, .d = 128, .eps = 1e-6f},
};
// clang-format on

static swd_status make(fixture *f, const void *c, swd_err *err)
{
    const qk_case *k = c;
    const int64_t width = k->h * k->d;
    swd_dtype type = type_of(f, 0);
    (void)err;
    if (k->packed) {
        operand_add(f, "qkv", INOUT, type, k->view, k->fill, SHAPE(k->b, k->n, 3 * width));
    } else {
        operand *q = operand_add(f, "q", INOUT, type, k->view, k->fill, SHAPE(k->b, k->n, width));
        q->t = tensor_split_last(q->t, k->d);
        operand *o = operand_add(f, "k", INOUT, type, k->view, k->fill, SHAPE(k->b, k->n, width));
        o->t = tensor_split_last(o->t, k->d);
    }
    if (!k->no_weight_q) operand_add(f, "weight_q", IN, SWD_F32, PLAIN, FILL_UNIFORM, SHAPE(k->d));
    if (!k->no_weight_k) operand_add(f, "weight_k", IN, SWD_F32, PLAIN, FILL_UNIFORM, SHAPE(k->d));
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

static swd_tensor heads_of(const fixture *f, const qk_case *k, int part)
{
    if (!k->packed) return tensor_of(f, part ? "k" : "q");
    const int64_t width = k->h * k->d;
    return tensor_split_last(tensor_slice(tensor_of(f, "qkv"), 2, part * width, width), k->d);
}

static swd_status run(const fixture *f, const void *c, swd_exec *ex)
{
    const qk_case *k = c;
    return op_qk_norm(heads_of(f, k, 0), heads_of(f, k, 1), tensor_of(f, "weight_q"),
                      tensor_of(f, "weight_k"), k->eps, ex);
}

static swd_status run_rope(const fixture *f, const void *c, swd_exec *ex)
{
    const qk_case *k = c;
    return op_qk_norm_rope(heads_of(f, k, 0), heads_of(f, k, 1), tensor_of(f, "weight_q"),
                           tensor_of(f, "weight_k"), k->eps, tensor_of(f, "cos"),
                           tensor_of(f, "sin"), ex);
}

// Heads are numbered through samples and tokens; `at` is where the head's elements begin in x.
static void expect_head(fixture *f, operand *x, const operand *weight, const qk_case *k, int64_t r,
                        int64_t at)
{
    const operand *cosine = operand_of(f, "cos"), *sine = operand_of(f, "sin");
    double squares = 0, scale = 1, relative = 0;
    for (int64_t i = 0; i < k->d; i++) squares += pow(value_of(x, at + i), 2);
    if (weight) { // else there is no norm
        scale = 1 / sqrt(squares / (double)k->d + (double)k->eps);
        relative = tree_slack(k->d, 1) + 3 * UNIT;
    }
    for (int64_t i = 0; i < k->d; i++) {
        int64_t pair = i ^ 1, angle = r / k->h % k->n * (k->d / 2) + i / 2;
        double own = value_of(x, at + i) * scale * (weight ? value_of(weight, i) : 1);
        if (!cosine) {
            expect(x, at + i, own, relative * fabs(own) + (weight ? FLUSHED : 0));
            continue;
        }
        double other = value_of(x, at + pair) * scale * (weight ? value_of(weight, pair) : 1);
        double a = own * value_of(cosine, angle), b = other * value_of(sine, angle),
               want = i % 2 ? a + b : a - b;
        expect(x, at + i, want,
               (relative + UNIT) * (fabs(a) + fabs(b)) + UNIT * fabs(want) + FLUSHED);
    }
}

static void reference(fixture *f, const void *c)
{
    const qk_case *k = c;
    const int64_t heads = k->b * k->n * k->h, width = k->h * k->d,
                  pitch = (k->packed ? 3 : 1) * width;
    for (int part = 0; part < 2; part++) {
        operand *x = operand_of(f, k->packed ? "qkv" : part ? "k" : "q");
        const operand *weight = operand_of(f, part ? "weight_k" : "weight_q");
        for (int64_t r = 0; r < heads; r++)
            if (sampled(f, r, heads, 20 * k->d))
                expect_head(f, x, weight, k, r,
                            r / k->h * pitch + (k->packed ? part * width : 0) + r % k->h * k->d);
    }
    operand *v = operand_of(f, "qkv");
    for (int64_t i = 0; v && i < k->b * k->n * width; i++) {
        int64_t at = i / width * pitch + 2 * width + i % width;
        expect_exactly(v, at, value_of(v, at));
    }
}

const op_family qk_norm_family = {.op = "qk_norm",
                                  .letters = "qk",
                                  CASES(norm_cases),
                                  .make = make,
                                  .run = run,
                                  .reference = reference};
const op_family qk_norm_rope_family = {.op = "qk_norm_rope",
                                       .letters = "qk",
                                       CASES(rope_cases),
                                       .make = make_rope,
                                       .run = run_rope,
                                       .reference = reference};
