// SPDX-License-Identifier: MIT
// Ops that move elements between latents, tokens, feature maps and pictures:
//
//     patchify      y[b, (row, col), (c, p, q)] = x[b, c, row patch + p, col patch + q];   unpatchify reads (p, q, c)
//     add_position  x[b, (row, col)] += table[(max - gh) / 2 + row, (max - gw) / 2 + col]
//     relayout      NCHW <-> NHWC, y = x scale + shift
//     rgb8          round(clamp(x scale + shift, 0, 1) 255), half to even <-> (x / 255) scale + shift
#include "families.h"
#include <math.h>
#include <string.h>

typedef struct patch_case {
    op_case head;
    int64_t b, c, gh, gw; // grid of patches
    int patch;
    operand_view view; // of the tokens
} patch_case;

typedef struct position_case {
    op_case head;
    int64_t b, gh, gw, max, d;
    operand_view view;
} position_case;

typedef struct map_case {
    op_case head;
    int64_t b, c, h, w;
    float scale, shift;
    fill fill;
    bool ramp; // rgb8: x = i / 510, many of them ties
} map_case;

// clang-format off
#define MIX "ff fb bf bb fh hf hh" // of the 16-bit types one at a time: the CUDA row kernels take no mix of the two
static const patch_case patch_cases[] = {
    {{"p2", SMALL, "f b h"}, .b = 2, .c = 16, .gh = 3, .gw = 5, .patch = 2},
    {{"one", SMALL, "f b h"}, .b = 2, .c = 1, .gh = 1, .gw = 1, .patch = 1},
    {{"p1", SMALL, "f b h"}, .b = 2, .c = 4, .gh = 7, .gw = 3, .patch = 1, .view = STRIDED},
    {{"p2_unaligned", SMALL, "f b h"}, .b = 3, .c = 3, .gh = 6, .gw = 2, .patch = 2, .view = ODD},
    {{"p3", SMALL, "f b h"}, .b = 2, .c = 4, .gh = 2, .gw = 3, .patch = 3, .view = ODD},
    {{"tall", SMALL, "f b h"}, .b = 1, .c = 16, .gh = 19, .gw = 1, .patch = 2},
    {{"sd35m_64", REAL, "f b"}, .b = 1, .c = 16, .gh = 32, .gw = 32, .patch = 2},
    {{"sd35m_128", REAL, "f b"}, .b = 1, .c = 16, .gh = 64, .gw = 64, .patch = 2},
};

static const position_case position_cases[] = {
    {{"centre", SMALL, "f b h"}, .b = 2, .gh = 4, .gw = 3, .max = 7, .d = 19},
    {{"one", SMALL, "f b h"}, .b = 2, .gh = 1, .gw = 1, .max = 1, .d = 1},
    {{"whole", SMALL, "f b h"}, .b = 2, .gh = 7, .gw = 7, .max = 7, .d = 33, .view = ODD},
    {{"row", SMALL, "f b h"}, .b = 3, .gh = 1, .gw = 6, .max = 7, .d = 64, .view = STRIDED},
    {{"tall", SMALL, "f b h"}, .b = 1, .gh = 8, .gw = 5, .max = 8, .d = 99, .view = ODD},
    {{"sd35m_64", REAL, "f b"}, .b = 1, .gh = 32, .gw = 32, .max = 384, .d = 1536},
};

static const map_case layout_cases[] = {
    {{"odd", SMALL, MIX}, .b = 2, .c = 3, .h = 19, .w = 5, .scale = 1.5f, .shift = -0.25f},
    {{"one", SMALL, MIX}, .b = 2, .c = 1, .h = 1, .w = 1, .scale = -2, .shift = 1},
    {{"c16", SMALL, MIX}, .b = 2, .c = 16, .h = 3, .w = 33, .scale = 1.5305f, .shift = 0.0609f},
    {{"c64", SMALL, MIX}, .b = 1, .c = 64, .h = 8, .w = 9, .scale = 1, .shift = 0},
    {{"column", SMALL, MIX}, .b = 3, .c = 4, .h = 111, .w = 1, .scale = 0.1f, .shift = 3},
    {{"scales", SMALL, MIX}, .b = 1, .c = 5, .h = 7, .w = 11, .scale = 0.3f, .shift = -7, .fill = FILL_SCALES},
    {{"latents_128", REAL, "ff fb"}, .b = 1, .c = 16, .h = 128, .w = 128, .scale = 0.6536f, .shift = 0.0609f},
};

static const map_case rgb_cases[] = {
    {{"odd", SMALL, "f b h"}, .b = 2, .c = 3, .h = 19, .w = 11, .scale = 0.5f, .shift = 0.5f},
    {{"one", SMALL, "f b h"}, .b = 1, .c = 3, .h = 1, .w = 1, .scale = 1, .shift = 0},
    {{"ties", SMALL, "f"}, .b = 1, .c = 3, .h = 17, .w = 10, .scale = 1, .shift = 0, .ramp = true},
    {{"special", SMALL, "f b h"}, .b = 1, .c = 3, .h = 5, .w = 9, .scale = 1, .shift = 0, .fill = FILL_SPECIAL},
    {{"any_bits", SMALL, "f b h"}, .b = 1, .c = 3, .h = 9, .w = 9, .scale = 1, .shift = 0, .fill = FILL_BITS},
    {{"clamped", SMALL, "f b h"}, .b = 2, .c = 3, .h = 3, .w = 33, .scale = 0.5f, .shift = 0.5f, .fill = FILL_WIDE},
    {{"picture_512", REAL, "f b"}, .b = 1, .c = 3, .h = 512, .w = 512, .scale = 0.5f, .shift = 0.5f},
};
// clang-format on

static swd_status make_patch(fixture *f, const patch_case *k, bool to_tokens)
{
    operand_add(f, "x", to_tokens ? IN : OUT, SWD_F32, PLAIN, FILL_UNIFORM,
                SHAPE(k->b, k->c, k->gh * k->patch, k->gw * k->patch));
    operand_add(f, "y", to_tokens ? OUT : IN, type_of(f, 0), k->view, FILL_UNIFORM,
                SHAPE(k->b, k->gh * k->gw, k->patch * k->patch * k->c));
    return SWD_OK;
}

static swd_status make_patchify(fixture *f, const void *c, swd_err *err)
{
    (void)err;
    return make_patch(f, c, true);
}

static swd_status make_unpatchify(fixture *f, const void *c, swd_err *err)
{
    (void)err;
    return make_patch(f, c, false);
}

static swd_status run_patchify(const fixture *f, const void *c, swd_exec *ex)
{
    const patch_case *k = c;
    return op_patchify(tensor_of(f, "y"), tensor_of(f, "x"), k->patch, ex);
}

static swd_status run_unpatchify(const fixture *f, const void *c, swd_exec *ex)
{
    const patch_case *k = c;
    return op_unpatchify(tensor_of(f, "x"), tensor_of(f, "y"), k->patch, ex);
}

// Pixel i of x is element `at` of y.
static int64_t token_element(const patch_case *k, int64_t i, bool channel_first)
{
    int64_t w = k->gw * k->patch, h = k->gh * k->patch, p = k->patch;
    int64_t col = i % w, row = i / w % h, ch = i / w / h % k->c, b = i / w / h / k->c;
    int64_t token = row / p * k->gw + col / p, r = row % p, q = col % p;
    int64_t within = channel_first ? (ch * p + r) * p + q : (r * p + q) * k->c + ch;
    return (b * k->gh * k->gw + token) * p * p * k->c + within;
}

static void reference_patchify(fixture *f, const void *c)
{
    operand *x = operand_of(f, "x"), *y = operand_of(f, "y");
    for (int64_t i = 0; i < tensor_numel(x->t); i++)
        expect_exactly(y, token_element(c, i, true), value_of(x, i));
}

static void reference_unpatchify(fixture *f, const void *c)
{
    operand *x = operand_of(f, "x"), *y = operand_of(f, "y");
    for (int64_t i = 0; i < tensor_numel(x->t); i++)
        expect_exactly(x, i, value_of(y, token_element(c, i, false)));
}

static swd_status make_position(fixture *f, const void *c, swd_err *err)
{
    const position_case *k = c;
    (void)err;
    operand_add(f, "x", INOUT, type_of(f, 0), k->view, FILL_UNIFORM,
                SHAPE(k->b, k->gh * k->gw, k->d));
    operand *table =
        operand_add(f, "table", IN, SWD_F32, PLAIN, FILL_UNIFORM, SHAPE(k->max * k->max, k->d));
    table->traffic = k->gh * k->gw * k->d;
    return SWD_OK;
}

static swd_status run_position(const fixture *f, const void *c, swd_exec *ex)
{
    const position_case *k = c;
    return op_add_position(tensor_of(f, "x"), tensor_of(f, "table"), (int)k->gh, (int)k->gw, ex);
}

static void reference_position(fixture *f, const void *c)
{
    const position_case *k = c;
    operand *x = operand_of(f, "x"), *table = operand_of(f, "table");
    for (int64_t i = 0; i < tensor_numel(x->t); i++) {
        int64_t token = i / k->d % (k->gh * k->gw), row = (k->max - k->gh) / 2 + token / k->gw,
                col = (k->max - k->gw) / 2 + token % k->gw;
        double want = value_of(x, i) + value_of(table, (row * k->max + col) * k->d + i % k->d);
        expect_near(x, i, want, fabs(want), 1);
    }
}

static swd_status make_layout(fixture *f, const map_case *k, bool to_nhwc)
{
    int64_t planar[] = {k->b, k->c, k->h, k->w}, interleaved[] = {k->b, k->h, k->w, k->c};
    operand_add(f, "y", OUT, type_of(f, 0), PLAIN, k->fill, to_nhwc ? interleaved : planar, 4);
    operand_add(f, "x", IN, type_of(f, 1), PLAIN, k->fill, to_nhwc ? planar : interleaved, 4);
    return SWD_OK;
}

static swd_status make_to_nhwc(fixture *f, const void *c, swd_err *err)
{
    (void)err;
    return make_layout(f, c, true);
}

static swd_status make_to_nchw(fixture *f, const void *c, swd_err *err)
{
    (void)err;
    return make_layout(f, c, false);
}

static swd_status run_to_nhwc(const fixture *f, const void *c, swd_exec *ex)
{
    const map_case *k = c;
    return op_nchw_to_nhwc(tensor_of(f, "y"), tensor_of(f, "x"), k->scale, k->shift, ex);
}

static swd_status run_to_nchw(const fixture *f, const void *c, swd_exec *ex)
{
    const map_case *k = c;
    return op_nhwc_to_nchw(tensor_of(f, "y"), tensor_of(f, "x"), k->scale, k->shift, ex);
}

static void reference_layout(fixture *f, const map_case *k, bool to_nhwc)
{
    operand *x = operand_of(f, "x"), *y = operand_of(f, "y");
    for (int64_t b = 0; b < k->b; b++)
        for (int64_t ch = 0; ch < k->c; ch++)
            for (int64_t p = 0; p < k->h * k->w; p++) {
                int64_t planar = (b * k->c + ch) * k->h * k->w + p,
                        interleaved = (b * k->h * k->w + p) * k->c + ch;
                double product = value_of(x, to_nhwc ? planar : interleaved) * (double)k->scale,
                       want = product + (double)k->shift;
                expect_near(y, to_nhwc ? interleaved : planar, want, fabs(product) + fabs(want), 1);
            }
}

static void reference_to_nhwc(fixture *f, const void *c)
{
    reference_layout(f, c, true);
}

static void reference_to_nchw(fixture *f, const void *c)
{
    reference_layout(f, c, false);
}

static swd_status make_to_rgb(fixture *f, const void *c, swd_err *err)
{
    const map_case *k = c;
    (void)err;
    operand_add(f, "y", OUT, SWD_U8, PLAIN, k->fill, SHAPE(k->b, k->h, k->w, k->c));
    operand *x =
        operand_add(f, "x", IN, type_of(f, 0), PLAIN, k->fill, SHAPE(k->b, k->h, k->w, k->c));
    for (int64_t i = 0; k->ramp && i < tensor_numel(x->t); i++)
        operand_set(x, i, (double)((float)i / 510));
    return SWD_OK;
}

static swd_status run_to_rgb(const fixture *f, const void *c, swd_exec *ex)
{
    const map_case *k = c;
    return op_to_rgb8(tensor_of(f, "y"), tensor_of(f, "x"), k->scale, k->shift, ex);
}

// By 1 and 0 the only rounding before the last one is that of the product with 255, and it makes ties: exact.
static void reference_to_rgb(fixture *f, const void *c)
{
    const map_case *k = c;
    operand *x = operand_of(f, "x"), *y = operand_of(f, "y");
    bool plain = k->scale == 1 && k->shift == 0;
    for (int64_t i = 0; i < tensor_numel(x->t); i++) {
        double product = value_of(x, i) * (double)k->scale, v = product + (double)k->shift,
               clamped = isnan(v) || v < 0 ? 0
                         : v > 1           ? 1
                                           : v;
        double rounded = plain ? (double)((float)clamped * 255.0f) : clamped * 255;
        double slack = 255 * UNIT * (fabs(product) + fabs(v)) + UNIT * clamped * 255;
        expect(y, i, rounded, plain || v < -1 || v > 2 ? 0 : slack);
    }
}

static swd_status make_from_rgb(fixture *f, const void *c, swd_err *err)
{
    const map_case *k = c;
    (void)err;
    operand_add(f, "y", OUT, type_of(f, 0), PLAIN, k->fill, SHAPE(k->b, k->h, k->w, k->c));
    operand *x = operand_add(f, "x", IN, SWD_U8, PLAIN, FILL_ZERO, SHAPE(k->b, k->h, k->w, k->c));
    for (int64_t i = 0; i < tensor_numel(x->t); i++) operand_set(x, i, (double)(i & 255));
    return SWD_OK;
}

static swd_status run_from_rgb(const fixture *f, const void *c, swd_exec *ex)
{
    const map_case *k = c;
    return op_from_rgb8(tensor_of(f, "y"), tensor_of(f, "x"), k->scale, k->shift, ex);
}

static void reference_from_rgb(fixture *f, const void *c)
{
    const map_case *k = c;
    operand *x = operand_of(f, "x"), *y = operand_of(f, "y");
    for (int64_t i = 0; i < tensor_numel(x->t); i++) {
        double product = value_of(x, i) / 255 * (double)k->scale, want = product + (double)k->shift;
        expect_near(y, i, want, 2 * fabs(product) + fabs(want), 1);
    }
}

#define FAMILY(name, op_, letters_, table, make_, run_, reference_)                                \
    const op_family name = {.op = op_,                                                             \
                            .letters = letters_,                                                   \
                            CASES(table),                                                          \
                            .make = make_,                                                         \
                            .run = run_,                                                           \
                            .reference = reference_}
FAMILY(patchify_family, "patchify", "y", patch_cases, make_patchify, run_patchify,
       reference_patchify);
FAMILY(unpatchify_family, "unpatchify", "y", patch_cases, make_unpatchify, run_unpatchify,
       reference_unpatchify);
FAMILY(add_position_family, "add_position", "x", position_cases, make_position, run_position,
       reference_position);
FAMILY(nchw_to_nhwc_family, "nchw_to_nhwc", "y x", layout_cases, make_to_nhwc, run_to_nhwc,
       reference_to_nhwc);
FAMILY(nhwc_to_nchw_family, "nhwc_to_nchw", "y x", layout_cases, make_to_nchw, run_to_nchw,
       reference_to_nchw);
FAMILY(to_rgb8_family, "to_rgb8", "x", rgb_cases, make_to_rgb, run_to_rgb, reference_to_rgb);
FAMILY(from_rgb8_family, "from_rgb8", "y", rgb_cases, make_from_rgb, run_from_rgb,
       reference_from_rgb);
