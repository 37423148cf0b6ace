/* SPDX-License-Identifier: MIT */
/* Inner loops of attention for one tile of queries, and of products with few rows, compiled for several instruction sets (simd_*.c) and picked at run time.
 * A tile is held transposed, queries along the vector: every step of the softmax is vertical, keys and values are read as they
 * lie, one element broadcast at a time. All pointers of tiles are 64-byte aligned. */
#ifndef SWD_BACKEND_CPU_SIMD_H
#define SWD_BACKEND_CPU_SIMD_H
#include <stdbool.h>
#include <stdint.h>

typedef struct simd_table {
    const char *name;
    int queries; /* Q: width of a tile */
    /* s[n][Q] = scale * k[n][d] q[d][Q]; rows of k contiguous */
    void (*scores)(float *s, const float *q, const float *k, int64_t n, int64_t d, float scale);
    /* s -> exp(s - m) with m[Q] the running maximum, l[Q] the running sum; factor[Q]: what earlier sums are multiplied by */
    void (*softmax)(float *s, int64_t n, float *m, float *l, float *factor);
    /* o[d][Q] = o * factor + v[n][d]^T s[n][Q]; d a multiple of 8 */
    void (*accumulate)(float *o, const float *s, const float *v, int64_t n, int64_t d,
                       const float *factor);
    /* sum of x[n] w[n], w in bf16; no alignment */
    float (*dot_bf16)(const float *x, const uint16_t *w, int64_t n);
} simd_table;

enum { SIMD_QUERIES_MAX = 48 };
extern const simd_table simd_plain;
#if defined(__x86_64__)
extern const simd_table simd_avx2, simd_avx512;
#endif
const simd_table *simd_pick(void); /* the fastest this processor has */
#endif
