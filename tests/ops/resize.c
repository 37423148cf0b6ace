// SPDX-License-Identifier: MIT
// Between two scales: y = (1 - sigma') bicubic(x - sigma v) + sigma' eps, noise given or Philox's; and that noise alone.
//
// bicubic: Keys' kernel with a = -0.75 at (i + 1/2) in / out - 1/2, indices clamped at the borders, from the kernel's definition over
// the distance. Error: the coordinate is rounded, and moves the value by its slope.
#include "families.h"
#include "base/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct resize_case {
    op_case head;
    int64_t b, c, h, w, oh, ow;
    float sigma, sigma_next; // of image 0; the others have their own
    bool mixed;              // every other image makes its last step
    bool no_v, no_x0, given; // given: noise from memory
    fill fill;
} resize_case;

typedef struct noise_case {
    op_case head;
    int64_t b, n[3]; // n ends at the first 0: [b, ...]
    uint32_t step;
} noise_case;

// clang-format off
static const resize_case resize_cases[] = {
    {{"3x19_to_5x24", SMALL, ""}, .b = 2, .c = 3, .h = 3, .w = 19, .oh = 5, .ow = 24, .sigma = 0.7f, .sigma_next = 0.6f, .given = true},
    {{"one_pixel", SMALL, ""}, .b = 2, .c = 3, .h = 1, .w = 1, .oh = 2, .ow = 3, .sigma = 1, .sigma_next = 0.5f},
    {{"3x5_to_1x1", SMALL, ""}, .b = 2, .c = 3, .h = 3, .w = 5, .oh = 1, .ow = 1, .sigma = 1, .sigma_next = 0.5f},
    {{"4_to_6", SMALL, ""}, .b = 2, .c = 16, .h = 4, .w = 4, .oh = 6, .ow = 6, .sigma = 1, .sigma_next = 0.9454f},
    {{"8_to_10", SMALL, ""}, .b = 2, .c = 16, .h = 8, .w = 8, .oh = 10, .ow = 10, .sigma = 0.8959f, .sigma_next = 0.7904f, .no_x0 = true},
    {{"10_to_12", SMALL, ""}, .b = 1, .c = 4, .h = 10, .w = 10, .oh = 12, .ow = 12, .sigma = 0.7904f, .sigma_next = 0.7371f, .given = true},
    {{"12_to_16", SMALL, ""}, .b = 2, .c = 4, .h = 12, .w = 12, .oh = 16, .ow = 16, .sigma = 0.7371f, .sigma_next = 0.6022f},
    {{"16x8_to_24x12", SMALL, ""}, .b = 2, .c = 4, .h = 16, .w = 8, .oh = 24, .ow = 12, .sigma = 0.7f, .sigma_next = 0.25f},
    {{"12x9_to_16x12", SMALL, ""}, .b = 2, .c = 3, .h = 12, .w = 9, .oh = 16, .ow = 12, .sigma = 0.7f, .sigma_next = 0.3f, .no_v = true, .no_x0 = true},
    {{"no_v_last", SMALL, ""}, .b = 2, .c = 3, .h = 12, .w = 9, .oh = 16, .ow = 12, .sigma = 0.7f, .sigma_next = 0, .no_v = true, .given = true},
    {{"equal", SMALL, ""}, .b = 2, .c = 3, .h = 4, .w = 4, .oh = 4, .ow = 4, .sigma = 0.7f, .sigma_next = 0.25f, .no_x0 = true},
    {{"equal_given", SMALL, ""}, .b = 2, .c = 3, .h = 5, .w = 7, .oh = 5, .ow = 7, .sigma = 0.7f, .sigma_next = 0.25f, .given = true},
    {{"equal_last", SMALL, ""}, .b = 2, .c = 16, .h = 8, .w = 8, .oh = 8, .ow = 8, .sigma = 0.6022f, .sigma_next = 0},
    {{"equal_no_v_last", SMALL, ""}, .b = 1, .c = 3, .h = 8, .w = 6, .oh = 8, .ow = 6, .sigma = 0.5f, .sigma_next = 0, .no_v = true},
    {{"equal_height", SMALL, ""}, .b = 2, .c = 3, .h = 8, .w = 8, .oh = 8, .ow = 11, .sigma = 0.7f, .sigma_next = 0.4f, .given = true},
    {{"mixed", SMALL, ""}, .b = 4, .c = 3, .h = 8, .w = 6, .oh = 12, .ow = 8, .sigma = 0.9f, .sigma_next = 0.6f, .mixed = true},
    {{"mixed_given", SMALL, ""}, .b = 3, .c = 2, .h = 5, .w = 5, .oh = 5, .ow = 7, .sigma = 0.9f, .sigma_next = 0.6f, .mixed = true, .given = true},
    {{"all_noise", SMALL, ""}, .b = 3, .c = 3, .h = 7, .w = 5, .oh = 19, .ow = 33, .sigma = 0.7f, .sigma_next = 1},
    {{"all_given_noise", SMALL, ""}, .b = 2, .c = 3, .h = 8, .w = 8, .oh = 8, .ow = 11, .sigma = 0.7f, .sigma_next = 1, .given = true},
    {{"smaller", SMALL, ""}, .b = 2, .c = 3, .h = 9, .w = 11, .oh = 5, .ow = 4, .sigma = 0.7f, .sigma_next = 0.5f},
    {{"column", SMALL, ""}, .b = 1, .c = 3, .h = 64, .w = 1, .oh = 111, .ow = 1, .sigma = 0.7f, .sigma_next = 0.9f, .no_x0 = true},
    {{"large", SMALL, ""}, .b = 1, .c = 3, .h = 6, .w = 8, .oh = 9, .ow = 13, .sigma = 0.9f, .sigma_next = 0.5f, .fill = FILL_LARGE},
    {{"zeros", SMALL, ""}, .b = 1, .c = 3, .h = 6, .w = 8, .oh = 9, .ow = 13, .sigma = 0.9f, .sigma_next = 0, .fill = FILL_ZERO},
    {{"equal_values", SMALL, ""}, .b = 1, .c = 3, .h = 6, .w = 8, .oh = 9, .ow = 13, .sigma = 0.5f, .sigma_next = 0, .fill = FILL_EQUAL},
    {{"32x48_to_40x60", MEDIUM, ""}, .b = 2, .c = 16, .h = 32, .w = 48, .oh = 40, .ow = 60, .sigma = 0.9f, .sigma_next = 0.7f},
    {{"64_to_96", REAL, ""}, .b = 1, .c = 16, .h = 64, .w = 64, .oh = 96, .ow = 96, .sigma = 0.7904f, .sigma_next = 0.7371f, .no_x0 = true},
    {{"96_to_128", REAL, ""}, .b = 1, .c = 16, .h = 96, .w = 96, .oh = 128, .ow = 128, .sigma = 0.7371f, .sigma_next = 0.6022f, .no_x0 = true},
};

static const noise_case noise_cases[] = {
    {{"odd", SMALL, ""}, .b = 3, .n = {3, 19, 7}, .step = 2},
    {{"one", SMALL, ""}, .b = 1, .n = {1}},
    {{"alone", SMALL, ""}, .b = 4},
    {{"rows", SMALL, ""}, .b = 2, .n = {1030, 3}, .step = 0xffffffffu},
    {{"latents_128", REAL, ""}, .b = 1, .n = {16, 128, 128}, .step = 3},
};
// clang-format on

static const uint64_t seeds[] = {42, 0, 0xffffffffffffffffu, 0x123456789abcdef0u};

static renoise_step step_of(const resize_case *k, int64_t b)
{
    bool fixed = k->sigma_next == 0 || k->sigma_next == 1;
    float next = fixed ? k->sigma_next : k->sigma_next * (1 - 0.125f * (float)b);
    return (renoise_step){.seed = seeds[b],
                          .draw = 3 + (uint32_t)b,
                          .sigma = k->sigma * (1 - 0.0625f * (float)b),
                          .sigma_next = k->mixed && b % 2 ? 0 : next};
}

static void add_steps(fixture *f, const renoise_step *step, int64_t b)
{
    unsigned char byte[sizeof *step];
    operand *o =
        operand_add(f, "steps", IN, SWD_U8, PLAIN, FILL_ZERO, SHAPE(b, (int64_t)sizeof *step));
    for (int64_t i = 0; i < b; i++) {
        memcpy(byte, &step[i], sizeof byte);
        for (size_t j = 0; j < sizeof byte; j++)
            operand_set(o, i * (int64_t)sizeof byte + (int64_t)j, (double)byte[j]);
    }
}

static swd_status make_resize(fixture *f, const void *c, swd_err *err)
{
    const resize_case *k = c;
    int64_t in[] = {k->b, k->c, k->h, k->w}, out[] = {k->b, k->c, k->oh, k->ow};
    (void)err;
    operand_add(f, "y", OUT, SWD_F32, PLAIN, k->fill, out, 4);
    operand_add(f, "x", IN, SWD_F32, PLAIN, k->fill, in, 4);
    if (!k->no_v) operand_add(f, "v", IN, SWD_F32, PLAIN, k->fill, in, 4);
    if (!k->no_x0) operand_add(f, "x0", OUT, SWD_F32, PLAIN, k->fill, in, 4);
    if (k->given) operand_add(f, "eps", IN, SWD_F32, PLAIN, FILL_WIDE, out, 4);
    renoise_step steps[4];
    for (int64_t b = 0; b < k->b; b++) steps[b] = step_of(k, b);
    add_steps(f, steps, k->b);
    return SWD_OK;
}

static swd_status run_resize(const fixture *f, const void *c, swd_exec *ex)
{
    (void)c;
    return op_resize_renoise(&(resize_renoise_args){.y = tensor_of(f, "y"),
                                                    .x = tensor_of(f, "x"),
                                                    .v = tensor_of(f, "v"),
                                                    .x0 = tensor_of(f, "x0"),
                                                    .eps = tensor_of(f, "eps"),
                                                    .steps = tensor_of(f, "steps")},
                             ex);
}

static double keys(double s)
{
    const double a = -0.75;
    s = fabs(s);
    if (s <= 1) return (a + 2) * s * s * s - (a + 3) * s * s + 1;
    return s < 2 ? a * s * s * s - 5 * a * s * s + 8 * a * s - 4 * a : 0;
}

static int64_t clamp(int64_t i, int64_t n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

// The value at (row, col) of the enlarged plane, and how far float32 may be from it; slack[] is that of plane[].
static double bicubic(const double *plane, const double *plane_slack, const resize_case *k,
                      int64_t row, int64_t col, double *slack)
{
    double sy = ((double)row + 0.5) * (double)k->h / (double)k->oh - 0.5,
           sx = ((double)col + 0.5) * (double)k->w / (double)k->ow - 0.5, sum = 0, size = 0,
           largest = 0;
    int64_t y0 = (int64_t)floor(sy), x0 = (int64_t)floor(sx);
    *slack = 0;
    for (int64_t y = y0 - 1; y <= y0 + 2; y++)
        for (int64_t x = x0 - 1; x <= x0 + 2; x++) {
            int64_t at = clamp(y, k->h) * k->w + clamp(x, k->w);
            double weight = keys(sy - (double)y) * keys(sx - (double)x);
            sum += weight * plane[at];
            size += fabs(weight * plane[at]);
            largest = fmax(largest, fabs(plane[at]));
            *slack += fabs(weight) * plane_slack[at];
        }
    // Coordinates are off by up to 3 roundings of their size; the kernel's slope is at most 1.35, over 4 taps and the other axis' 1.4.
    double moved = 3 * UNIT * (fabs(sy) + fabs(sx) + 2) * 1.35 * 4 * 1.4 * largest;
    *slack +=
        moved + 16 * UNIT * size + FLUSHED; // weights of about 8 roundings, 8 for the two sums of 4
    return sum;
}

// x0 of one plane: values and how far float32 may be from them.
static void plane_of(double *plane, double *slack, fixture *f, const resize_case *k, int64_t p)
{
    operand *x = operand_of(f, "x"), *v = operand_of(f, "v"), *x0 = operand_of(f, "x0");
    for (int64_t i = 0; i < k->h * k->w; i++) {
        int64_t at = p * k->h * k->w + i;
        double step = v ? (double)step_of(k, p / k->c).sigma * value_of(v, at) : 0;
        plane[i] = value_of(x, at) - step;
        slack[i] = v ? UNIT * (fabs(step) + fabs(plane[i])) + FLUSHED : 0;
        if (x0) expect(x0, at, plane[i], slack[i]);
    }
}

static void reference_resize(fixture *f, const void *c)
{
    const resize_case *k = c;
    operand *y = operand_of(f, "y"), *given = operand_of(f, "eps");
    int64_t pixels = k->oh * k->ow;
    double *plane = test_alloc((size_t)(k->h * k->w), sizeof *plane),
           *plane_slack = test_alloc((size_t)(k->h * k->w), sizeof *plane_slack);
    float *eps = test_alloc((size_t)pixels, sizeof *eps);
    for (int64_t p = 0; p < k->b * k->c; p++) {
        const renoise_step step = step_of(k, p / k->c);
        double noise = (double)step.sigma_next, keep = 1 - noise;
        plane_of(plane, plane_slack, f, k, p);
        if (!given) philox_randn(eps, pixels, p % k->c * pixels, step.seed, step.draw);
        for (int64_t i = 0; i < pixels; i++) {
            double slack = 0, value, e = given ? value_of(given, p * pixels + i) : (double)eps[i];
            if (k->h == k->oh && k->w == k->ow)
                value = plane[i], slack = plane_slack[i];
            else
                value = bicubic(plane, plane_slack, k, i / k->ow, i % k->ow, &slack);
            if (noise == 0)
                expect(y, p * pixels + i, value, slack);
            else if (keep == 0) // noise alone, bit for bit
                expect_exactly(y, p * pixels + i, e);
            else
                expect(y, p * pixels + i, keep * value + noise * e,
                       keep * slack + 3 * UNIT * (fabs(keep * value) + fabs(noise * e)));
        }
    }
    free(plane), free(plane_slack), free(eps);
}

// Sigmas are not read.
static renoise_step noise_step(const noise_case *k, int64_t b)
{
    return (renoise_step){.seed = seeds[b],
                          .draw = k->step - (uint32_t)b,
                          .sigma = NAN,
                          .sigma_next = b % 2 ? NAN : 0};
}

static swd_status make_noise(fixture *f, const void *c, swd_err *err)
{
    const noise_case *k = c;
    int64_t shape[] = {k->b, k->n[0], k->n[1], k->n[2]};
    int ndim = 1;
    (void)err;
    while (ndim < 4 && shape[ndim]) ndim++;
    operand_add(f, "y", OUT, SWD_F32, PLAIN, FILL_ZERO, shape, ndim);
    renoise_step steps[4];
    for (int64_t b = 0; b < k->b; b++) steps[b] = noise_step(k, b);
    add_steps(f, steps, k->b);
    return SWD_OK;
}

static swd_status run_noise(const fixture *f, const void *c, swd_exec *ex)
{
    (void)c;
    return op_noise(tensor_of(f, "y"), tensor_of(f, "steps"), ex);
}

// Bit for bit: the generator is held to its goldens in test_rng.c.
static void reference_noise(fixture *f, const void *c)
{
    const noise_case *k = c;
    operand *y = operand_of(f, "y");
    int64_t n = tensor_numel(y->t) / k->b;
    float *want = test_alloc((size_t)n, sizeof *want);
    for (int64_t b = 0; b < k->b; b++) {
        philox_randn(want, n, 0, noise_step(k, b).seed, noise_step(k, b).draw);
        for (int64_t i = 0; i < n; i++) expect_exactly(y, b * n + i, (double)want[i]);
    }
    free(want);
}

const op_family resize_renoise_family = {.op = "resize_renoise",
                                         .letters = "",
                                         CASES(resize_cases),
                                         .make = make_resize,
                                         .run = run_resize,
                                         .reference = reference_resize};
const op_family noise_family = {.op = "noise",
                                .letters = "",
                                CASES(noise_cases),
                                .make = make_noise,
                                .run = run_noise,
                                .reference = reference_noise};
