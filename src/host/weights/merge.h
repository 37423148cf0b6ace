/* SPDX-License-Identifier: MIT */
/* The product of a low-rank adapter, added to a weight. */
#ifndef SWD_WEIGHTS_MERGE_H
#define SWD_WEIGHTS_MERGE_H
#include <stdint.h>

/* w [n, k] += scale * b [n, r] a [r, k]; all float32, contiguous, not overlapping. */
void merge_low_rank(float *w, const float *a, const float *b, float scale, int64_t n, int64_t k,
                    int64_t r);
#endif
