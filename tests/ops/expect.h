/* SPDX-License-Identifier: MIT */
/* What the oracles share: expectations, how far float32 arithmetic may be from them, sampling of large results.
 *
 *     a result y of storage S must lie in [round_S(want - slack), round_S(want + slack)]
 *
 * slack is the error of the float32 arithmetic before the store, from the number and the size of the values that are rounded on
 * the way; the store itself rounds a number of that interval, and rounding is monotone. So there is no tolerance for the
 * storage type, infinities and subnormals come out right, and slack 0 means: this very number, its sign included. */
#ifndef SWD_TESTS_OPS_EXPECT_H
#define SWD_TESTS_OPS_EXPECT_H
#include "fixture.h"

#define UNIT 0x1p-24 /* largest relative error of one float32 rounding */
/* Numbers below the smallest normal float32 may be flushed to zero by arithmetic (not by copies). */
#define FLUSHED 0x1p-126

void expect(operand *o, int64_t i, double want, double slack);
void expect_exactly(operand *o, int64_t i, double want);
/* want, where float32 arithmetic rounds k times values of this magnitude. */
void expect_near(operand *o, int64_t i, double want, double magnitude, double k);

/* Whether element i of n, each of which costs `work` steps of the oracle, is to be looked at: all of them while the oracle takes
 * less than a tenth of a second or so, else some, evenly spread. */
bool sampled(fixture *f, int64_t i, int64_t n, int64_t work);

/* Error of a sum of n products, of sizes that add up to `size`, in the given arithmetic, whatever its order. A chain of roundings is a
 * random walk, sqrt(n); matrix units of 16-bit types cut instead of rounding, once per 16 products, which adds up. */
double sum_slack(int64_t n, double size, swd_dtype compute);
/* Error of a mean or a sum over rows and maps: trees, or chains of 256 at most. */
double tree_slack(int64_t n, double size);

double act_exact(double x, swd_act act);
/* Error of an activation of an exact x in float32, and the growth of an error of x: |act'| <= ACT_SLOPE. */
double act_slack(double x, swd_act act);
#define ACT_SLOPE 1.13
#endif
