// SPDX-License-Identifier: MIT
// The kinds whose work is products: linear layers, attention, convolutions.
#include "kinds.h"
#include "plan.h"
#include <math.h>

/* ---- linear ---- */

static void plan_linear(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_WRITTEN, SWD_BF16, DIMS(d[0], d[2]));
    plan_add(p, "x", PART_READ, SWD_BF16, DIMS(d[0], d[1]));
    plan_add(p, "w", PART_WEIGHT, SWD_BF16, DIMS(d[2], d[1]));
    plan_add(p, "bias", PART_BIAS, SWD_F32, DIMS(d[2]));
    p->flop = 2.0 * (double)d[0] * (double)d[1] * (double)d[2];
}

static swd_status run_linear(const job *j, swd_exec *ex)
{
    return op_linear(j->t[0], j->t[1], j->linear, (swd_act)j->shape->d[3], ex);
}

static void plan_linear_residual(plan *p, const int64_t *d)
{
    plan_add(p, "y", PART_UPDATED, SWD_F32, DIMS(1, d[0], d[2]));
    plan_add(p, "x", PART_READ, SWD_BF16, DIMS(1, d[0], d[1]));
    plan_add(p, "w", PART_WEIGHT, SWD_BF16, DIMS(d[2], d[1]));
    plan_add(p, "bias", PART_BIAS, SWD_F32, DIMS(d[2]));
    plan_add(p, "gate", PART_READ, SWD_F32, DIMS(1, d[2]));
    p->flop = 2.0 * (double)d[0] * (double)d[1] * (double)d[2];
}

static swd_status run_linear_residual(const job *j, swd_exec *ex)
{
    return op_linear_residual(j->t[0], j->t[0], j->t[4], j->t[1], j->linear, ex);
}

// clang-format off
const kind kind_linear = {"linear", "gemm_tiles", "bias, activation", plan_linear, run_linear, {40, 64, 72, SWD_ACT_GELU_TANH}};
const kind kind_linear_few = {"linear", "gemm_few", "bias, activation", plan_linear, run_linear, {2, 64, 72, SWD_ACT_NONE}};
const kind kind_linear_residual = {"linear_residual", "gemm_tiles", "bias, gate, residual", plan_linear_residual, run_linear_residual, {40, 64, 72}};
// clang-format on

/* ---- attention ---- */

static int64_t streams_of(const int64_t *d)
{
    return d[3] ? 2 : 1;
}

static void plan_attention(plan *p, const int64_t *d)
{
    static const char *const names[2][2] = {{"o", "qkv"}, {"o2", "qkv2"}};
    const int64_t n = d[2] + d[3];
    for (int s = 0; s < streams_of(d); s++) {
        plan_add(p, names[s][0], PART_WRITTEN, SWD_BF16, DIMS(1, d[2 + s], d[0], d[1]));
        plan_add(p, names[s][1], PART_READ, SWD_BF16, DIMS(1, d[2 + s], 3, d[0], d[1]));
    }
    if (d[5]) plan_add(p, "bias", PART_READ, SWD_F32, DIMS(d[0], n, n));
    p->flop = 4.0 * (double)d[0] * (double)d[1] * (double)n * (double)n * (d[4] ? 0.5 : 1);
}

static swd_status run_attention(const job *j, swd_exec *ex)
{
    const int64_t *d = j->shape->d;
    attention_args a = {.n_streams = (int)streams_of(d),
                        .scale = 1 / sqrtf((float)d[1]),
                        .causal = d[4] != 0,
                        .bias = d[5] ? j->t[2] : tensor_none()};
    for (int s = 0; s < a.n_streams; s++) {
        a.o[s] = j->t[2 * s];
        a.q[s] = plan_third(j->t[2 * s + 1], 0);
        a.k[s] = plan_third(j->t[2 * s + 1], 1);
        a.v[s] = plan_third(j->t[2 * s + 1], 2);
    }
    return op_attention(&a, ex);
}

// clang-format off
const kind kind_attention = {"attention", "flash", "both streams, softmax, bias or mask", plan_attention, run_attention, {2, 64, 40, 24}};
const kind kind_attention_wide = {"attention", "wide", "softmax", plan_attention, run_attention, {1, 512, 40}};
// clang-format on

/* ---- convolutions ---- */

static void plan_conv_of(plan *p, const int64_t *d, int64_t side)
{
    plan_add(p, "y", PART_WRITTEN, SWD_BF16, DIMS(1, d[0], d[0], d[2]));
    plan_add(p, "x", PART_READ, SWD_BF16, DIMS(1, side, side, d[1]));
    plan_add(p, "w", PART_WEIGHT, SWD_BF16, DIMS(d[2], d[1], d[3], d[3]));
    plan_add(p, "bias", PART_BIAS, SWD_F32, DIMS(d[2]));
    if (d[4]) plan_add(p, "residual", PART_READ, SWD_BF16, DIMS(1, d[0], d[0], d[2]));
    p->flop = 2.0 * (double)(d[0] * d[0]) * (double)(d[1] * d[3] * d[3]) * (double)d[2];
}

static void plan_conv(plan *p, const int64_t *d)
{
    plan_conv_of(p, d, d[0]);
}

static void plan_upsample_conv(plan *p, const int64_t *d)
{
    plan_conv_of(p, d, d[0] / 2);
    p->upsample = true;
}

static swd_status run_conv(const job *j, swd_exec *ex)
{
    swd_tensor residual = j->shape->d[4] ? j->t[4] : tensor_none();
    return op_conv(j->t[0], j->t[1], j->conv, SWD_ACT_NONE, residual, ex);
}

static void plan_conv_rgb8(plan *p, const int64_t *d)
{
    plan_conv(p, d);
    p->part[0].dtype = SWD_U8;
}

static swd_status run_conv_rgb8(const job *j, swd_exec *ex)
{
    return op_conv_rgb8(j->t[0], j->t[1], j->conv, 0.5f, 0.5f, ex);
}

static swd_status run_upsample_conv(const job *j, swd_exec *ex)
{
    return op_upsample_conv(j->t[0], j->t[1], j->conv, ex);
}

// clang-format off
const kind kind_conv = {"conv", "conv_halo", "bias, residual", plan_conv, run_conv, {8, 16, 24, 3, 1}};
const kind kind_conv_1x1 = {"conv", "conv_gemm", "bias, residual", plan_conv, run_conv, {8, 16, 24, 1}};
const kind kind_conv_out = {"conv", "conv_columns", "bias", plan_conv, run_conv, {8, 16, 3, 3}};
const kind kind_conv_rgb8 = {"conv_rgb8", "conv_columns", "bias, scale, shift, rounding", plan_conv_rgb8, run_conv_rgb8, {8, 16, 3, 3}};
const kind kind_upsample_conv = {"upsample_conv", "conv_halo", "nearest 2x, bias", plan_upsample_conv, run_upsample_conv, {8, 16, 24, 3}};
// clang-format on
