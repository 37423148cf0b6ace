/* SPDX-License-Identifier: MIT */
/* T5's bucket of a relative position key - query, bidirectional: negative distances and 0 in the lower half of the buckets,
 * positive ones in the upper; within a half the first distances have a bucket each, the rest share the others in proportion to
 * their logarithm, up to max_distance. */
#ifndef SWD_BACKEND_T5_BUCKET_H
#define SWD_BACKEND_T5_BUCKET_H
#include <math.h>
#include <stdint.h>

static inline int64_t t5_bucket(int64_t distance, int64_t n_buckets, int max_distance)
{
    int64_t half = n_buckets / 2, exact = half / 2, at = distance > 0 ? half : 0,
            a = distance < 0 ? -distance : distance;
    if (a < exact) return at + a;
    float scaled = logf((float)a / (float)exact) /
                   (float)log((double)max_distance / (double)exact) * (float)(half - exact);
    int64_t large = exact + (int64_t)scaled;
    return at + (large < half - 1 ? large : half - 1);
}
#endif
