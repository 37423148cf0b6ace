// SPDX-License-Identifier: MIT
// y = act((x - mean) / sqrt(var + eps) * gamma + beta), mean and variance over the pixels and channels of a group, NHWC.
//
// Error: the mean is off by m = tree_slack(mean |x|), so the centred values are, and the variance by m^2 and its own tree; the same
// formula written x * scale + shift rounds numbers of size |x| k |gamma|.
#include "families.h"
#include <math.h>

typedef struct group_norm_case {
    op_case head;
    int64_t b, h, w, c;
    int groups;
    float eps;
    bool in_place;
    fill fill;
} group_norm_case;

enum { X, Y };

// clang-format off
static const group_norm_case cases[] = {
    {{"odd", SMALL, "ff fb bf bb fh hf hh"}, .b = 2, .h = 7, .w = 5, .c = 72, .groups = 6, .eps = 1e-5f},
    {{"one", SMALL, "ff bb hh"}, .b = 1, .h = 1, .w = 1, .c = 1, .groups = 1, .eps = 1e-5f},
    {{"one_pixel", SMALL, "ff bb hh"}, .b = 3, .h = 1, .w = 1, .c = 64, .groups = 8, .eps = 1e-6f},
    {{"one_group", SMALL, "ff bb hh"}, .b = 2, .h = 3, .w = 19, .c = 24, .groups = 1, .eps = 1e-6f},
    {{"channel_groups", SMALL, "ff bb hh"}, .b = 2, .h = 9, .w = 11, .c = 16, .groups = 16, .eps = 1e-6f},
    {{"odd_groups", SMALL, "ff fb bf bb fh hf hh"}, .b = 2, .h = 5, .w = 3, .c = 99, .groups = 33, .eps = 1e-3f},
    {{"in_place", SMALL, "ff bb hh"}, .b = 2, .h = 6, .w = 7, .c = 32, .groups = 4, .eps = 1e-6f, .in_place = true},
    {{"mean_over_spread", SMALL, "ff bf hf"}, .b = 2, .h = 13, .w = 11, .c = 32, .groups = 8, .eps = 1e-6f, .fill = FILL_OFFSET},
    {{"large", SMALL, "ff bb hh"}, .b = 1, .h = 9, .w = 9, .c = 32, .groups = 8, .eps = 1e-6f, .fill = FILL_LARGE},
    {{"scales", SMALL, "ff bb hh"}, .b = 1, .h = 9, .w = 9, .c = 32, .groups = 8, .eps = 1e-6f, .fill = FILL_SCALES},
    {{"equal", SMALL, "ff bb hh"}, .b = 2, .h = 9, .w = 9, .c = 32, .groups = 8, .eps = 1e-6f, .fill = FILL_EQUAL},
    {{"zeros", SMALL, "ff bb hh"}, .b = 1, .h = 4, .w = 4, .c = 32, .groups = 8, .eps = 1e-6f, .fill = FILL_ZERO},
    {{"subnormal", SMALL, "ff bb hh"}, .b = 1, .h = 4, .w = 4, .c = 32, .groups = 8, .eps = 1e-6f, .fill = FILL_SUBNORMAL},
    {{"many_pixels", MEDIUM, "ff bb hh"}, .b = 2, .h = 99, .w = 111, .c = 64, .groups = 32, .eps = 1e-6f},
    {{"many_offset", MEDIUM, "ff"}, .b = 2, .h = 64, .w = 64, .c = 128, .groups = 32, .eps = 1e-6f, .fill = FILL_OFFSET},
    {{"wide", MEDIUM, "ff bb hh"}, .b = 2, .h = 9, .w = 7, .c = 1030, .groups = 10, .eps = 1e-6f},
    {{"vae_mid_128", REAL, "ff bb"}, .b = 1, .h = 128, .w = 128, .c = 512, .groups = 32, .eps = 1e-6f},
    {{"vae_512", REAL, "ff bb"}, .b = 1, .h = 512, .w = 512, .c = 128, .groups = 32, .eps = 1e-6f},
};
// clang-format on

static swd_status make(fixture *f, const void *c, swd_err *err)
{
    const group_norm_case *k = c;
    (void)err;
    if (!k->in_place)
        operand_add(f, "y", OUT, type_of(f, Y), PLAIN, k->fill, SHAPE(k->b, k->h, k->w, k->c));
    operand_add(f, "x", k->in_place ? INOUT : IN, type_of(f, X), PLAIN, k->fill,
                SHAPE(k->b, k->h, k->w, k->c));
    operand_add(f, "gamma", IN, SWD_F32, PLAIN, FILL_UNIFORM, SHAPE(k->c));
    operand_add(f, "beta", IN, SWD_F32, PLAIN, FILL_UNIFORM, SHAPE(k->c));
    return SWD_OK;
}

static swd_tensor result(const fixture *f, const group_norm_case *k)
{
    return tensor_of(f, k->in_place ? "x" : "y");
}

static swd_status run(const fixture *f, const void *c, swd_exec *ex)
{
    const group_norm_case *k = c;
    return op_group_norm(result(f, k), tensor_of(f, "x"), tensor_of(f, "gamma"),
                         tensor_of(f, "beta"), k->groups, k->eps, ex);
}

static swd_status run_silu(const fixture *f, const void *c, swd_exec *ex)
{
    const group_norm_case *k = c;
    return op_group_norm_silu(result(f, k), tensor_of(f, "x"), tensor_of(f, "gamma"),
                              tensor_of(f, "beta"), k->groups, k->eps, ex);
}

// Where element i of group g of image b lies.
static int64_t element_of(const group_norm_case *k, int64_t b, int64_t g, int64_t i)
{
    int64_t per = k->c / k->groups;
    return (b * k->h * k->w + i / per) * k->c + g * per + i % per;
}

static void check_group(fixture *f, const group_norm_case *k, swd_act act, int64_t b, int64_t g)
{
    const operand *x = operand_of(f, "x"), *gamma = operand_of(f, "gamma"),
                  *beta = operand_of(f, "beta");
    operand *y = operand_of(f, k->in_place ? "x" : "y");
    int64_t n = k->h * k->w * (k->c / k->groups);
    double sum = 0, size = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += value_of(x, element_of(k, b, g, i));
        size += fabs(value_of(x, element_of(k, b, g, i)));
    }
    double mean = sum / (double)n, off = tree_slack(n, size / (double)n);
    for (int64_t i = 0; i < n; i++) squares += pow(value_of(x, element_of(k, b, g, i)) - mean, 2);
    double var = squares / (double)n + (double)k->eps, scale = 1 / sqrt(var),
           relative = tree_slack(n, 1) + off * off / var;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = element_of(k, b, g, i), channel = at % k->c;
        double v = value_of(x, at), factor = scale * value_of(gamma, channel),
               centred = (v - mean) * factor, want = centred + value_of(beta, channel);
        double slack = fabs(factor) * off + fabs(centred) * relative +
                       UNIT * (4 * (fabs(v) + fabs(mean)) * fabs(factor) + fabs(want) +
                               fabs(value_of(beta, channel))) +
                       FLUSHED;
        expect(y, at, act_exact(want, act), ACT_SLOPE * slack + act_slack(want, act));
    }
}

static void check(fixture *f, const group_norm_case *k, swd_act act)
{
    int64_t groups = k->b * k->groups, work = k->h * k->w * (k->c / k->groups);
    for (int64_t i = 0; i < groups; i++)
        if (sampled(f, i, groups, 4 * work)) check_group(f, k, act, i / k->groups, i % k->groups);
}

static void reference(fixture *f, const void *c)
{
    check(f, c, SWD_ACT_NONE);
}

static void reference_silu(fixture *f, const void *c)
{
    check(f, c, SWD_ACT_SILU);
}

const op_family group_norm_family = {.op = "group_norm",
                                     .letters = "x y",
                                     CASES(cases),
                                     .make = make,
                                     .run = run,
                                     .reference = reference};
const op_family group_norm_silu_family = {.op = "group_norm_silu",
                                          .letters = "x y",
                                          CASES(cases),
                                          .make = make,
                                          .run = run_silu,
                                          .reference = reference_silu};
