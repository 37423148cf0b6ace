/* SPDX-License-Identifier: MIT */
/* Inner loops compiled for several instruction sets (simd_*.c) and picked at run time: tiles of attention, rows of the other ops. A tile is held transposed, queries along the vector: every step of the softmax is vertical, keys and values are read
 * one element (or bf16 pair) broadcast at a time. Pointers of tiles are 64-byte aligned. */
#ifndef SWD_BACKEND_CPU_SIMD_H
#define SWD_BACKEND_CPU_SIMD_H
#include "backend/ops_types.h"
#include <stdbool.h>
#include <stdint.h>

enum { SIMD_QUERIES_MAX = 48 };

/* Attention over operands of one type E: float32, or bf16 with float32 sums. Keys are rows [n][d]; n and d come padded with zeros to
 * multiples of key_step and d_step, so that products need no borders; only softmax is told how many keys there are. */
typedef struct simd_attention {
    const char *name;
    bool bf16;
    int queries; /* Q: width of a tile */
    int d_step, key_step;
    /* Around the calls of one thread: state that the processor wants set up and given back (AMX tiles). NULL: none. */
    void (*begin)(void);
    void (*end)(void);
    /* tile <- E [n][d], n <= Q; lanes past n are zero */
    void (*pack_q)(void *tile, const void *rows, int64_t n, int64_t d);
    /* values as accumulate reads them <- E [n][d]. NULL: as they lie */
    void (*pack_v)(void *packed, const void *rows, int64_t n, int64_t d);
    /* s[n][Q] = k[n][d] q */
    void (*scores)(float *s, const void *q, const void *k, int64_t n, int64_t d);
    /* p = exp(scale s - m) for the n keys, zero for those up to the next multiple of key_step; m[Q]: the running maximum of
     * scale s (in units of this engine's own), l[Q]: the running sum; factor[Q]: what earlier sums are multiplied by. p may be s. */
    void (*softmax)(void *p, float *s, int64_t n, float scale, float *m, float *l, float *factor);
    /* o[d][Q] = o * factor + v^T p */
    void (*accumulate)(float *o, const void *p, const void *v, int64_t n, int64_t d,
                       const float *factor);
    /* Backward, of scores s and of dp = v do^T, [n][Q] both: p = exp(scale s - lse), ds = p (dp - delta), zero up to the next multiple of
     * key_step, as accumulate reads them. lse and delta are of columns [Q], or by_row of rows [n]. p may be NULL. */
    void (*weigh)(void *p, void *ds, const float *s, const float *dp, int64_t n, float scale,
                  const float *lse, const float *delta, bool by_row);
} simd_attention;

/* Rows of n floats, or `rows` rows of c channels; they may be any of the same memory. */
typedef struct simd_table {
    const char *name;
    const simd_attention *attention;
    /* sum of x[n] w[n], w in bf16; no alignment */
    float (*dot_bf16)(const float *x, const uint16_t *w, int64_t n);
    void (*widen_bf16)(float *to, const uint16_t *from, int64_t n);
    void (*narrow_bf16)(uint16_t *to, const float *from, int64_t n); /* to nearest even */
    void (*activate)(float *y, int64_t n, swd_act act);              /* in place */
    /* dx = dy act'(x) */
    void (*activate_backward)(float *dx, const float *x, const float *dy, int64_t n, swd_act act);
    /* dx = r (g - sum(g) / n - xhat sum(g xhat) / n), xhat = (x - mean) r; centred false: without the first sum */
    void (*norm_backward)(float *dx, const float *x, const float *g, int64_t n, float mean, float r,
                          bool centred);
    void (*moments)(const float *x, int64_t n, double *mean, double *var);
    double (*sum_squares)(const float *x, int64_t n);
    /* y = (x - mean) k (one + scale) + shift; absent scale: k alone, absent shift: none */
    void (*normalise)(float *y, const float *x, int64_t n, float mean, float k, float one,
                      const float *scale, const float *shift);
    /* of x - pivot, added to sum[c] and square[c] */
    void (*channel_sums)(double *sum, double *square, const float *x, const float *pivot, int64_t c,
                         int64_t rows);
    /* y = x scale[c] + shift[c] */
    void (*affine)(float *y, const float *x, const float *scale, const float *shift, int64_t c,
                   int64_t rows);
} simd_table;

extern const simd_table simd_plain;
#if defined(__x86_64__)
extern const simd_table simd_avx2, simd_avx512;
extern const simd_attention simd_avx512_bf16, simd_amx_bf16;
bool simd_amx_usable(void); /* asks the system for the tile registers */
#endif

const simd_table *
simd_pick(void); /* the fastest of this processor, within what ONEDNN_MAX_CPU_ISA allows */
const simd_attention *simd_pick_bf16(void); /* NULL: bf16 operands are widened to float32 */
#endif
