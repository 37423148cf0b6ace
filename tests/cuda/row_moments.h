/* SPDX-License-Identifier: MIT */
/* Moments of a row in double, and how far those of a kernel may be from them. */
#ifndef SWD_TESTS_CUDA_ROW_MOMENTS_H
#define SWD_TESTS_CUDA_ROW_MOMENTS_H
#include "launch_support.h"

typedef struct moments {
    double mean, inverse, off, relative; /* errors of the mean and, relatively, of the inverse */
} moments;

/* depth: the longest chain of additions, of a thread's elements and of the tree above. The mean is exact to a rounding and that chain's
 * error; distances from the pivot are at most twice the spread. The variance has the error of its own chain, and the mean's. */
static inline moments moments_of(const float *x, int64_t d, double eps, bool rms, double depth)
{
    moments m = {0};
    double spread = 0, square = 0;
    for (int64_t i = 0; i < d && !rms; i++) m.mean += (double)x[i] / (double)d;
    for (int64_t i = 0; i < d; i++) {
        spread = fmax(spread, fabs((double)x[i] - m.mean));
        square += pow((double)x[i] - m.mean, 2) / (double)d;
    }
    m.inverse = 1 / sqrt(square + eps);
    m.off = rms ? 0 : ldexp(fabs(m.mean) + 2 * depth * spread, -24);
    m.relative = ldexp(depth + 4, -24) + pow(m.off * m.inverse, 2);
    return m;
}
#endif
