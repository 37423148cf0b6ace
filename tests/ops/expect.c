// SPDX-License-Identifier: MIT
#include "expect.h"
#include "number.h"
#include <math.h>

void expect(operand *o, int64_t i, double want, double slack)
{
    if (!o->want) {
        int64_t n = tensor_numel(o->t);
        o->want = test_alloc((size_t)n, sizeof *o->want);
        o->slack = test_alloc((size_t)n, sizeof *o->slack);
        for (int64_t k = 0; k < n; k++) o->slack[k] = -1;
    }
    o->want[i] = want;
    o->slack[i] = slack;
}

void expect_exactly(operand *o, int64_t i, double want)
{
    expect(o, i, want, 0);
}

void expect_near(operand *o, int64_t i, double want, double magnitude, double k)
{
    expect(o, i, want, k * UNIT * magnitude + FLUSHED);
}

bool sampled(fixture *f, int64_t i, int64_t n, int64_t work)
{
    const int64_t budget = (int64_t)1 << 25;
    int64_t every = n * work / budget;
    if (every < 2) return true;
    f->sampled = true;
    fill_rng spread = {(uint64_t)i};
    return fill_bits(&spread) % (uint64_t)every == 0;
}

double sum_slack(int64_t n, double size, swd_dtype compute)
{
    double roundings = 1 + sqrt((double)n) + (compute == SWD_F32 ? 0 : (double)n / 16);
    return roundings * UNIT * size + FLUSHED;
}

double tree_slack(int64_t n, double size)
{
    return (8 + log2((double)n)) * UNIT * size + FLUSHED;
}

double act_exact(double x, swd_act act)
{
    switch (act) {
    case SWD_ACT_SILU:
        return x / (1 + exp(-x));
    case SWD_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case SWD_ACT_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case SWD_ACT_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    case SWD_ACT_RELU:
        return x > 0 || isnan(x) ? x : 0;
    case SWD_ACT_TANH:
        return tanh(x);
    case SWD_ACT_NONE:
        break;
    }
    return x;
}

double act_slack(double x, swd_act act)
{
    const double k = 8; // exp, a sum, a quotient, two products and the rounding of their arguments
    double want = act_exact(x, act), size = fabs(want), flushed = FLUSHED;
    if (act == SWD_ACT_NONE || act == SWD_ACT_RELU) return 0;
    if (act == SWD_ACT_QUICK_GELU) size *= 1 + fabs(x); // 1.702 x is rounded before exp
    if (act == SWD_ACT_GELU_TANH || act == SWD_ACT_GELU_ERF)
        size = x < -10 ? 0 : fabs(x); // 1 + tanh and 1 + erf cancel, until they are exactly 0
    if (x < -1 && fabs(want) < fabs(x) * FLUSHED)
        flushed += fabs(want); // sigmoid(x) itself was flushed
    return k * UNIT * size + flushed;
}
