// SPDX-License-Identifier: MIT
#include "bench/statistics.h"
#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, int n, double q)
{
    double at = q * (n - 1);
    int i = (int)at;
    return i + 1 < n ? sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

bench_stats bench_statistics(double *samples, int n)
{
    qsort(samples, (size_t)n, sizeof *samples, ascending);
    return (bench_stats){n, quantile(samples, n, 0.5), quantile(samples, n, 0.1),
                         quantile(samples, n, 0.9), samples[0]};
}
