/* SPDX-License-Identifier: MIT */
/* Distances between sets of feature vectors, and what single pictures score. Features are F32 [n, d], row after row; sums are in double,
 * in a fixed order.
 *
 * Frechet distance   |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), C over n - 1
 * MMD^2              unbiased, k(x, y) = (x.y / d + 1)^3 as KID's: mean k(x, x') + mean k(y, y') - 2 mean k(x, y), x != x', y != y'
 * diversity          mean 1 - cos over pairs of different pictures
 *
 * Intervals are value -+ 1.96 deviations, of the values that `resamples` bootstrap samples give. Frechet's (at least ten) are taken by
 * computing it anew; the others are means, or close to one: their influence values are resampled, which does not count a picture drawn
 * twice as two that are alike. */
#ifndef SWD_EVAL_METRICS_H
#define SWD_EVAL_METRICS_H
#include "base/status.h"
#include <stdint.h>

typedef struct feature_set {
    const float *rows; /* [n, d] */
    int n, d;
} feature_set;

typedef struct estimate {
    double value, low, high;
} estimate;

typedef struct bootstrap {
    uint64_t seed;
    int resamples; /* 0: no intervals, low = high = value */
} bootstrap;

/* At least two rows each, of the same d: else SWD_ERR_ARGUMENT. */
swd_status metric_frechet(estimate *out, feature_set x, feature_set y, bootstrap b, swd_err *err);
swd_status metric_mmd(estimate *out, feature_set x, feature_set y, bootstrap b, swd_err *err);
swd_status metric_diversity(estimate *out, feature_set x, bootstrap b, swd_err *err);
/* Of n > 0 scores. */
swd_status metric_mean(estimate *out, const double *scores, int n, bootstrap b, swd_err *err);

/* Of two rows; 0 where one is all zero. */
double metric_cosine(const float *x, const float *y, int d);
/* own[i]: the prompt (row of text, all of them different) of picture i, -1: none. rank[i] = how many other prompts picture i is closer to than
 * to its own; -1. */
void metric_ranks(int *rank, feature_set pictures, feature_set text, const int *own);
#endif
