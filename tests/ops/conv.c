// SPDX-License-Identifier: MIT
// y[b, oy, ox, o] = act(bias[o] + sum over i, ky, kx of x[b, oy s + ky - pad, ox s + kx - pad, i] w[o, i, ky, kx]) + residual,
// over NHWC maps, or the bytes of that where it is a picture; with upsampling x[b, y, x] is the map's pixel (y / 2, x / 2). What lies beyond the map is zero.
#include "families.h"
#include "number.h"
#include <math.h>
#include <stdlib.h>

typedef struct conv_case {
    op_case head;
    int64_t b, h, w, in, out;
    int64_t kh, kw;
    int stride, before, after; // padding: before is above and to the left
    swd_act act;
    bool no_bias, no_residual;
    fill fill;
    float scale, shift; // rgb8
} conv_case;

enum { X, W, Y, COMPUTE, RESIDUAL };

// clang-format off
#define K3 .kh = 3, .kw = 3, .stride = 1, .before = 1, .after = 1
#define K1 .kh = 1, .kw = 1, .stride = 1
#define DOWN .kh = 3, .kw = 3, .stride = 2, .before = 0, .after = 1, .no_residual = true // as diffusers pads: right and below
static const conv_case plain_cases[] = {
    {{"odd", SMALL, "fffff fbfff bbbbb fbbbf bbbff fbfbf hfhfh hbhbh hbhfh hbfbh fbhbf bbhbb"}, .b = 2, .h = 7, .w = 5, .in = 16, .out = 8, K3},
    {{"one", SMALL, "fffff fbfff bbbbb"}, .b = 1, .h = 1, .w = 1, .in = 1, .out = 1, K1},
    {{"one_pixel", SMALL, "fffff bbbbb"}, .b = 3, .h = 1, .w = 1, .in = 32, .out = 24, K3},
    {{"rgb_in", SMALL, "ffff bbbb fbfb hbhb hfhf"}, .b = 2, .h = 9, .w = 6, .in = 3, .out = 32, K3, .no_residual = true},
    {{"rgb_out", SMALL, "ffff bbbb fbbb bbfb hbfb hbhb"}, .b = 2, .h = 9, .w = 9, .in = 32, .out = 3, K3, .no_residual = true},
    {{"relu", SMALL, "fffff bbbbb"}, .b = 2, .h = 5, .w = 9, .in = 64, .out = 64, K3, .act = SWD_ACT_RELU},
    {{"silu_alone", SMALL, "ffff bbbb"}, .b = 1, .h = 6, .w = 5, .in = 24, .out = 40, K3, .act = SWD_ACT_SILU, .no_residual = true},
    {{"k1", SMALL, "fffff fbfff bbbbb bbbff hbhbh hfhfh"}, .b = 2, .h = 9, .w = 11, .in = 16, .out = 16, K1},
    {{"k1_no_bias", SMALL, "fffff bbbbb"}, .b = 2, .h = 3, .w = 19, .in = 33, .out = 17, K1, .no_bias = true},
    {{"k2x3", SMALL, "ffff bbbb"}, .b = 1, .h = 8, .w = 7, .in = 8, .out = 16, .kh = 2, .kw = 3, .stride = 1, .before = 1, .after = 0, .no_residual = true},
    {{"no_padding", SMALL, "fffff bbbbb"}, .b = 2, .h = 7, .w = 6, .in = 16, .out = 16, .kh = 3, .kw = 3, .stride = 1},
    {{"down_even", SMALL, "ffff fbff bbbb fbfb bbff hbhb hfhf"}, .b = 2, .h = 8, .w = 8, .in = 16, .out = 24, DOWN},
    {{"down_odd", SMALL, "ffff bbbb bbfb"}, .b = 2, .h = 9, .w = 7, .in = 32, .out = 16, DOWN, .act = SWD_ACT_RELU},
    {{"down_both_sides", SMALL, "ffff bbbb"}, .b = 1, .h = 9, .w = 6, .in = 16, .out = 16, .kh = 3, .kw = 3, .stride = 2, .before = 1, .after = 1, .no_residual = true},
    {{"one_signed", SMALL, "fffff bbbbb"}, .b = 1, .h = 6, .w = 5, .in = 96, .out = 16, K3, .fill = FILL_POSITIVE},
    {{"large", SMALL, "fffff bbbbb fbhbh hbhbh"}, .b = 1, .h = 6, .w = 5, .in = 32, .out = 16, K3, .fill = FILL_LARGE},
    {{"zeros", SMALL, "fffff bbbbb"}, .b = 1, .h = 4, .w = 5, .in = 32, .out = 16, K3, .fill = FILL_ZERO},
    {{"subnormal", SMALL, "fffff bbbbb"}, .b = 1, .h = 4, .w = 5, .in = 32, .out = 16, K3, .fill = FILL_SUBNORMAL},
    {{"strips", MEDIUM, "fffff bbbbf fbbff hbhbh hfhfh"}, .b = 2, .h = 180, .w = 150, .in = 96, .out = 8, K3}, // over 8 MB of scratch
    {{"strips_down", MEDIUM, "fbfb bbff"}, .b = 1, .h = 301, .w = 150, .in = 64, .out = 8, DOWN},
    {{"vae_mid_128", REAL, "ffff bbbb"}, .b = 1, .h = 128, .w = 128, .in = 512, .out = 512, K3, .no_residual = true},
    {{"vae_resnet_256", REAL, "fffff bbbbb"}, .b = 1, .h = 256, .w = 256, .in = 256, .out = 256, K3},
    {{"vae_resnet_512", REAL, "fffff bbbbb"}, .b = 1, .h = 512, .w = 512, .in = 128, .out = 128, K3},
    {{"vae_shortcut_256", REAL, "ffff bbbb"}, .b = 1, .h = 256, .w = 256, .in = 512, .out = 256, K1, .no_residual = true},
    {{"vae_out_512", REAL, "ffff bbfb"}, .b = 1, .h = 512, .w = 512, .in = 128, .out = 3, K3, .no_residual = true},
    {{"taef2_64", REAL, "fffff bbbbb"}, .b = 1, .h = 64, .w = 64, .in = 64, .out = 64, K3, .act = SWD_ACT_RELU},
};

static const conv_case upsample_cases[] = {
    {{"odd", SMALL, "ffff fbff bbbb fbfb bbff hbhb hfhf hbfb"}, .b = 2, .h = 6, .w = 5, .in = 16, .out = 8, K3, .no_residual = true},
    {{"one_pixel", SMALL, "ffff bbbb"}, .b = 2, .h = 1, .w = 1, .in = 8, .out = 8, K3, .no_residual = true},
    {{"one_row", SMALL, "ffff bbbb"}, .b = 1, .h = 1, .w = 19, .in = 24, .out = 32, K3, .no_residual = true, .no_bias = true},
    {{"large", SMALL, "ffff bbbb"}, .b = 1, .h = 5, .w = 3, .in = 32, .out = 16, K3, .no_residual = true, .fill = FILL_LARGE},
    {{"strips", MEDIUM, "ffff bbbf bbbb fbbb hbhb"}, .b = 2, .h = 90, .w = 150, .in = 64, .out = 8, K3, .no_residual = true},
    {{"vae_up_128", REAL, "ffff bbbb"}, .b = 1, .h = 128, .w = 128, .in = 512, .out = 512, K3, .no_residual = true},
    {{"vae_up_256", REAL, "ffff bbbb"}, .b = 1, .h = 256, .w = 256, .in = 256, .out = 256, K3, .no_residual = true},
};

#define RGB .out = 3, .no_residual = true, .scale = 0.5f, .shift = 0.5f
static const conv_case rgb8_cases[] = {
    {{"odd", SMALL, "fff bff bbb fbb hbb hff"}, .b = 2, .h = 9, .w = 7, .in = 16, K3, RGB},
    {{"one_pixel", SMALL, "fff bbb"}, .b = 3, .h = 1, .w = 1, .in = 24, K3, RGB},
    {{"square", SMALL, "fff bbb bfb"}, .b = 1, .h = 29, .w = 15, .in = 40, K3, RGB},
    {{"no_bias", SMALL, "fff bbb"}, .b = 1, .h = 5, .w = 19, .in = 33, K3, RGB, .no_bias = true},
    {{"k1", SMALL, "fff bbb"}, .b = 2, .h = 5, .w = 4, .in = 16, K1, RGB},
    {{"down", SMALL, "fff bbb"}, .b = 1, .h = 9, .w = 8, .in = 16, DOWN, .out = 3, .scale = 1},
    {{"large", SMALL, "fff bbb"}, .b = 1, .h = 6, .w = 5, .in = 32, K3, RGB, .fill = FILL_LARGE},
    {{"zeros", SMALL, "fff bbb"}, .b = 1, .h = 4, .w = 5, .in = 32, K3, RGB, .fill = FILL_ZERO},
    {{"strips", MEDIUM, "fff bfb bbb"}, .b = 2, .h = 700, .w = 1024, .in = 8, K3, RGB},
    {{"vae_512", REAL, "fff bbb"}, .b = 1, .h = 512, .w = 512, .in = 128, K3, RGB},
    {{"vae_1024", REAL, "fff bbb"}, .b = 1, .h = 1024, .w = 1024, .in = 128, K3, RGB},
};
// clang-format on

static int64_t out_side(int64_t in, int64_t kernel, const conv_case *k, bool up)
{
    return (in * (up ? 2 : 1) + k->before + k->after - kernel) / k->stride + 1;
}

enum { Y_U8 = -1 };

static swd_status make(fixture *f, const conv_case *k, bool up, int y, int compute, swd_err *err)
{
    int64_t ho = out_side(k->h, k->kh, k, up), wo = out_side(k->w, k->kw, k, up);
    operand_add(f, "y", OUT, y == Y_U8 ? SWD_U8 : type_of(f, y), PLAIN, k->fill,
                SHAPE(k->b, ho, wo, k->out));
    operand_add(f, "x", IN, type_of(f, X), PLAIN, k->fill, SHAPE(k->b, k->h, k->w, k->in));
    if (!k->no_residual)
        operand_add(f, "residual", IN, type_of(f, RESIDUAL), PLAIN, k->fill,
                    SHAPE(k->b, ho, wo, k->out));
    operand_add(f, "w", WEIGHT, type_of(f, W), PLAIN, k->fill, SHAPE(k->out, k->in, k->kh, k->kw));
    if (!k->no_bias) operand_add(f, "bias", WEIGHT, SWD_F32, PLAIN, k->fill, SHAPE(k->out));
    return f->backend->conv_create(f->backend, &f->conv, tensor_of(f, "w"), tensor_of(f, "bias"),
                                   k->stride, k->before, k->after, up, type_of(f, compute), err);
}

static swd_status make_plain(fixture *f, const void *c, swd_err *err)
{
    return make(f, c, false, Y, COMPUTE, err);
}

static swd_status make_upsample(fixture *f, const void *c, swd_err *err)
{
    return make(f, c, true, Y, COMPUTE, err);
}

static swd_status make_rgb8(fixture *f, const void *c, swd_err *err)
{
    return make(f, c, false, Y_U8, W + 1, err);
}

static swd_status run_plain(const fixture *f, const void *c, swd_exec *ex)
{
    const conv_case *k = c;
    return op_conv(tensor_of(f, "y"), tensor_of(f, "x"), f->conv, k->act, tensor_of(f, "residual"),
                   ex);
}

static swd_status run_upsample(const fixture *f, const void *c, swd_exec *ex)
{
    (void)c;
    return op_upsample_conv(tensor_of(f, "y"), tensor_of(f, "x"), f->conv, ex);
}

static swd_status run_rgb8(const fixture *f, const void *c, swd_exec *ex)
{
    const conv_case *k = c;
    return op_conv_rgb8(tensor_of(f, "y"), tensor_of(f, "x"), f->conv, k->scale, k->shift, ex);
}

// The sum of output pixel (b, oy, ox), channel o, in the arithmetic's type; size: of its products.
static double pixel(const fixture *f, const conv_case *k, bool up, const int64_t at[4],
                    double *size)
{
    const operand *x = operand_of(f, "x"), *w = operand_of(f, "w");
    swd_dtype compute = conv_facts(f->conv)->compute;
    int64_t h = k->h * (up ? 2 : 1), width = k->w * (up ? 2 : 1);
    double sum = 0;
    for (int64_t ky = 0; ky < k->kh; ky++)
        for (int64_t kx = 0; kx < k->kw; kx++) {
            int64_t iy = at[1] * k->stride + ky - k->before,
                    ix = at[2] * k->stride + kx - k->before;
            if (iy < 0 || iy >= h || ix < 0 || ix >= width) continue;
            int64_t sy = up ? iy / 2 : iy, sx = up ? ix / 2 : ix;
            for (int64_t i = 0; i < k->in; i++) {
                double xv = value_of(x, ((at[0] * k->h + sy) * k->w + sx) * k->in + i),
                       wv = value_of(w, ((at[3] * k->in + i) * k->kh + ky) * k->kw + kx);
                double p = compute == SWD_F32
                               ? xv * wv
                               : number_round(xv, compute) * number_round(wv, compute);
                sum += p;
                *size += fabs(p);
            }
        }
    return sum;
}

static void check(fixture *f, const conv_case *k, bool up)
{
    operand *y = operand_of(f, "y"), *bias = operand_of(f, "bias"),
            *residual = operand_of(f, "residual");
    swd_dtype compute = conv_facts(f->conv)->compute;
    int64_t n = tensor_numel(y->t), terms = k->in * k->kh * k->kw;
    for (int64_t i = 0; i < n; i++) {
        if (!sampled(f, i, n, compute == SWD_F32 ? terms : 8 * terms)) continue;
        int64_t pixels = y->t.shape[1] * y->t.shape[2], p = i / k->out % pixels;
        const int64_t at[] = {i / k->out / pixels, p / y->t.shape[2], p % y->t.shape[2],
                              i % k->out};
        double b = bias ? value_of(bias, i % k->out) : 0, size = fabs(b),
               sum = b + pixel(f, k, up, at, &size);
        double want = act_exact(sum, k->act),
               slack = ACT_SLOPE * sum_slack(terms, size, compute) + act_slack(sum, k->act);
        if (residual) {
            slack += UNIT * (fabs(value_of(residual, i)) + fabs(want));
            want += value_of(residual, i);
        }
        if (y->t.dtype == SWD_U8) {
            double product = want * (double)k->scale, v = product + (double)k->shift;
            want = 255 * fmin(fmax(v, 0), 1);
            slack = 255 * (slack * fabs((double)k->scale) + UNIT * (fabs(product) + fabs(v))) +
                    UNIT * want;
        }
        expect(y, i, want, slack);
    }
}

static void reference_plain(fixture *f, const void *c)
{
    check(f, c, false);
}

static void reference_upsample(fixture *f, const void *c)
{
    check(f, c, true);
}

static double flops(const fixture *f, const void *c)
{
    const conv_case *k = c;
    return 2.0 * (double)tensor_numel(tensor_of(f, "y")) * (double)(k->in * k->kh * k->kw);
}

const op_family conv_family = {.op = "conv",
                               .letters = "x weight y arithmetic residual",
                               CASES(plain_cases),
                               .make = make_plain,
                               .run = run_plain,
                               .reference = reference_plain,
                               .flops = flops};
const op_family upsample_conv_family = {.op = "upsample_conv",
                                        .letters = "x weight y arithmetic",
                                        CASES(upsample_cases),
                                        .make = make_upsample,
                                        .run = run_upsample,
                                        .reference = reference_upsample,
                                        .flops = flops};
const op_family conv_rgb8_family = {.op = "conv_rgb8",
                                    .letters = "x weight arithmetic",
                                    CASES(rgb8_cases),
                                    .make = make_rgb8,
                                    .run = run_rgb8,
                                    .reference = reference_plain,
                                    .flops = flops};
