// SPDX-License-Identifier: MIT
// What text encoders and time embeddings look up or compute from small integers and times:
//
//     embed               y[b, n] = table[ids[b, n]]
//     relative_bias       bias[h, q, k] = table[bucket(k - q), h], T5's buckets, both directions
//     timestep_sinusoid   y[b] = (cos(t f_i), sin(t f_i)),  f_i = 10000^(-i / half)
#include "families.h"
#include <math.h>
#include <stdlib.h>

typedef struct embed_case {
    op_case head;
    int64_t b, n, d, vocabulary;
    operand_view view;
} embed_case;

typedef struct bias_case {
    op_case head;
    int64_t heads, n, buckets;
    int max_distance;
} bias_case;

typedef struct sinusoid_case {
    op_case head;
    int64_t b, d;
    operand_view view;
} sinusoid_case;

// clang-format off
#define MIX "ff fb bf bb fh hf hh" // of the 16-bit types one at a time: the CUDA row kernels take no mix of the two
static const embed_case embed_cases[] = {
    {{"d19", SMALL, MIX}, .b = 2, .n = 3, .d = 19, .vocabulary = 7},
    {{"d1", SMALL, MIX}, .b = 2, .n = 3, .d = 1, .vocabulary = 7, .view = ODD},
    {{"d99", SMALL, MIX}, .b = 2, .n = 5, .d = 99, .vocabulary = 3, .view = ODD},
    {{"d1030", SMALL, MIX}, .b = 3, .n = 4, .d = 1030, .vocabulary = 11, .view = STRIDED},
    {{"one_word", SMALL, MIX}, .b = 1, .n = 77, .d = 33, .vocabulary = 1},
    {{"clip_l", REAL, "fb bb"}, .b = 2, .n = 77, .d = 768, .vocabulary = 49408},
    {{"t5xxl_512", REAL, "fb bb"}, .b = 1, .n = 512, .d = 4096, .vocabulary = 32128},
};

static const bias_case bias_cases[] = {
    {{"t5_19", SMALL, ""}, .heads = 3, .n = 19, .buckets = 32, .max_distance = 128},
    {{"t5_1", SMALL, ""}, .heads = 2, .n = 1, .buckets = 32, .max_distance = 128},
    {{"t5_111", SMALL, ""}, .heads = 2, .n = 111, .buckets = 32, .max_distance = 128},
    {{"few_buckets", SMALL, ""}, .heads = 3, .n = 99, .buckets = 8, .max_distance = 20},
    {{"fewest_buckets", SMALL, ""}, .heads = 1, .n = 33, .buckets = 4, .max_distance = 9},
    {{"t5_300", MEDIUM, ""}, .heads = 3, .n = 300, .buckets = 32, .max_distance = 128},
    {{"t5xxl_512", REAL, ""}, .heads = 64, .n = 512, .buckets = 32, .max_distance = 128},
};

static const sinusoid_case sinusoid_cases[] = {
    {{"d256", SMALL, "f b h"}, .b = 5, .d = 256},
    {{"d2", SMALL, "f b h"}, .b = 5, .d = 2, .view = ODD},
    {{"d38", SMALL, "f b h"}, .b = 3, .d = 38, .view = ODD},
    {{"one_time", SMALL, "f b h"}, .b = 1, .d = 256, .view = STRIDED},
};
// clang-format on

static swd_status make_embed(fixture *f, const void *c, swd_err *err)
{
    const embed_case *k = c;
    (void)err;
    operand_add(f, "y", OUT, type_of(f, 1), k->view, FILL_UNIFORM, SHAPE(k->b, k->n, k->d));
    operand *table =
        operand_add(f, "table", IN, type_of(f, 0), PLAIN, FILL_UNIFORM, SHAPE(k->vocabulary, k->d));
    operand *ids = operand_add(f, "ids", IN, SWD_I32, PLAIN, FILL_ZERO, SHAPE(k->b, k->n));
    table->traffic = k->b * k->n * k->d;
    for (int64_t i = 1; i < k->b * k->n; i++) // the first word, the last, then any
        operand_set(ids, i,
                    i == 1 ? (double)(k->vocabulary - 1)
                           : (double)(fill_bits(&f->rng) % (uint64_t)k->vocabulary));
    return SWD_OK;
}

static swd_status run_embed(const fixture *f, const void *c, swd_exec *ex)
{
    (void)c;
    return op_embed(tensor_of(f, "y"), tensor_of(f, "table"), tensor_of(f, "ids"), ex);
}

static void reference_embed(fixture *f, const void *c)
{
    const embed_case *k = c;
    operand *y = operand_of(f, "y"), *table = operand_of(f, "table"), *ids = operand_of(f, "ids");
    for (int64_t i = 0; i < k->b * k->n * k->d; i++) {
        int64_t id = (int64_t)value_of(ids, i / k->d);
        expect_exactly(y, i, value_of(table, id * k->d + i % k->d));
    }
}

static swd_status make_bias(fixture *f, const void *c, swd_err *err)
{
    const bias_case *k = c;
    (void)err;
    operand_add(f, "bias", OUT, SWD_F32, PLAIN, FILL_UNIFORM, SHAPE(k->heads, k->n, k->n));
    operand_add(f, "table", IN, SWD_F32, PLAIN, FILL_UNIFORM, SHAPE(k->buckets, k->heads));
    return SWD_OK;
}

static swd_status run_bias(const fixture *f, const void *c, swd_exec *ex)
{
    const bias_case *k = c;
    return op_relative_bias(tensor_of(f, "bias"), tensor_of(f, "table"), k->max_distance, ex);
}

// exact + floor(log(a / exact) / log(max / exact) * (half - exact)) in whole numbers: the largest k with
// (a / exact)^(half - exact) >= (max / exact)^k.
static int64_t bucket_of(int64_t query, int64_t key, const bias_case *c)
{
    int64_t half = c->buckets / 2, exact = half / 2, a = llabs(key - query), k = 0,
            n = half - exact;
    if (a >= exact) {
        while (k < n - 1 &&
               powl((long double)a / (long double)exact, (long double)n) >=
                   powl((long double)c->max_distance / (long double)exact, (long double)(k + 1)))
            k++;
        a = exact + k;
    }
    return a + (key > query ? half : 0);
}

static void reference_bias(fixture *f, const void *c)
{
    const bias_case *k = c;
    operand *bias = operand_of(f, "bias"), *table = operand_of(f, "table");
    for (int64_t q = 0; q < k->n; q++)
        for (int64_t key = 0; key < k->n; key++) {
            int64_t bucket = bucket_of(q, key, k);
            for (int64_t h = 0; h < k->heads; h++)
                expect_exactly(bias, (h * k->n + q) * k->n + key,
                               value_of(table, bucket * k->heads + h));
        }
}

static swd_status make_sinusoid(fixture *f, const void *c, swd_err *err)
{
    static const double times[] = {500.25, 0, 1, 999.9, 1000};
    const sinusoid_case *k = c;
    (void)err;
    operand_add(f, "y", OUT, type_of(f, 0), k->view, FILL_UNIFORM, SHAPE(k->b, k->d));
    operand *t = operand_add(f, "t", IN, SWD_F32, PLAIN, FILL_ZERO, SHAPE(k->b));
    for (int64_t i = 0; i < k->b; i++) operand_set(t, i, times[i % 5]);
    return SWD_OK;
}

static swd_status run_sinusoid(const fixture *f, const void *c, swd_exec *ex)
{
    (void)c;
    return op_timestep_sinusoid(tensor_of(f, "y"), tensor_of(f, "t"), ex);
}

static void reference_sinusoid(fixture *f, const void *c)
{
    const sinusoid_case *k = c;
    operand *y = operand_of(f, "y"), *t = operand_of(f, "t");
    for (int64_t i = 0; i < k->b * k->d; i++) {
        int64_t half = k->d / 2, j = i % half;
        double angle = value_of(t, i / k->d) * exp(-log(10000) * (double)j / (double)half);
        // the exponent, up to 9.2, is rounded before exp: the angle is off by that many units
        expect_near(y, i, i % k->d < half ? cos(angle) : sin(angle), 2 + 12 * angle, 1);
    }
}

const op_family embed_family = {.op = "embed",
                                .letters = "table y",
                                CASES(embed_cases),
                                .make = make_embed,
                                .run = run_embed,
                                .reference = reference_embed};
const op_family relative_bias_family = {.op = "relative_bias",
                                        .letters = "",
                                        CASES(bias_cases),
                                        .make = make_bias,
                                        .run = run_bias,
                                        .reference = reference_bias};
const op_family sinusoid_family = {.op = "timestep_sinusoid",
                                   .letters = "y",
                                   CASES(sinusoid_cases),
                                   .make = make_sinusoid,
                                   .run = run_sinusoid,
                                   .reference = reference_sinusoid};
