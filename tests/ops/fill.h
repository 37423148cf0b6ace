/* SPDX-License-Identifier: MIT */
/* What operands hold: random numbers and the worst cases of the arithmetic. */
#ifndef SWD_TESTS_OPS_FILL_H
#define SWD_TESTS_OPS_FILL_H
#include "tensor/tensor.h"

typedef enum fill {
    FILL_UNIFORM,       /* [-1, 1) */
    FILL_WIDE,          /* [-6, 6): the bends of the activations */
    FILL_LARGE,         /* [-1000, 1000) */
    FILL_OFFSET,        /* 1000 + [-1, 1): a spread that is small beside its mean */
    FILL_POSITIVE,      /* [0, 1): sums that never cancel */
    FILL_SCALES,        /* either sign, 2^-12 to 2^12 in size */
    FILL_CONSTANT_ROWS, /* each row of the last dimension holds one number of [-1, 1) */
    FILL_EQUAL,         /* 0.75 everywhere */
    FILL_ZERO,
    FILL_SUBNORMAL, /* below the smallest normal number of the storage type */
    FILL_SPECIAL, /* zeros of both signs, subnormals, bends, the far ends and a NaN, over and over */
    FILL_BITS     /* any pattern of bits: subnormals, infinities and NaNs among them */
} fill;

/* A stream of random numbers of its own for each case: what a case holds does not depend on the cases before it. */
typedef struct fill_rng {
    uint64_t state;
} fill_rng;

fill_rng fill_rng_of(const char *name, uint64_t seed);
uint64_t fill_bits(fill_rng *r);
double fill_uniform(fill_rng *r); /* [-1, 1), 24 bits */

/* value[n] of a tensor whose last dimension has `row` elements, each a member of the storage type. */
void fill_values(float *value, int64_t n, int64_t row, swd_dtype type, fill kind, fill_rng *r);
#endif
