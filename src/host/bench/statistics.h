/* SPDX-License-Identifier: MIT */
/* Median and quantiles of samples. */
#ifndef SWD_BENCH_STATISTICS_H
#define SWD_BENCH_STATISTICS_H

typedef struct bench_stats {
    int runs;
    double median, p10, p90, min;
} bench_stats;

/* Sorts samples [n], n >= 1. Quantiles between two samples are interpolated linearly. */
bench_stats bench_statistics(double *samples, int n);
#endif
