// SPDX-License-Identifier: MIT
// Attention tiles in bf16 for AVX512-BF16: as the float32 ones, a pair of neighbours at a time.
#include "backend/cpu/simd.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>
#if defined(__clang__)
#pragma clang attribute push(                                                                      \
    __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16")
#endif

enum { BF16_QUERIES = 48, ROWS = 8 };
#include "backend/cpu/simd_bf16.inc"

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

// acc[r][Q] += sum over pairs i of a[r * step_r + i * step_i] . b[i][Q]
static inline __attribute__((always_inline)) void block(__m512 acc[ROWS][BF16_COLUMNS],
                                                        const int32_t *a, int64_t step_r,
                                                        int64_t step_i, const int32_t *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const int32_t *bv = b + i * BF16_QUERIES;
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            __m512bh x = (__m512bh)_mm512_set1_epi32(a[r * step_r + i * step_i]);
            UNROLL
            for (int c = 0; c < BF16_COLUMNS; c++)
                acc[r][c] =
                    _mm512_dpbf16_ps(acc[r][c], x, (__m512bh)_mm512_load_si512(bv + 16 * c));
        }
    }
}

static void scores(float *s, const void *q, const void *k, int64_t n, int64_t d)
{
    for (int64_t j = 0; j < n; j += ROWS) {
        __m512 acc[ROWS][BF16_COLUMNS];
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            UNROLL
            for (int c = 0; c < BF16_COLUMNS; c++) acc[r][c] = _mm512_setzero_ps();
        }
        block(acc, (const int32_t *)k + j * (d / 2), d / 2, 1, q, d / 2);
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            UNROLL
            for (int c = 0; c < BF16_COLUMNS; c++)
                _mm512_store_ps(s + (j + r) * BF16_QUERIES + 16 * c, acc[r][c]);
        }
    }
}

static void accumulate(float *o, const void *p, const void *v, int64_t n, int64_t d,
                       const float *factor)
{
    for (int64_t i = 0; i < d; i += ROWS) {
        __m512 acc[ROWS][BF16_COLUMNS];
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            UNROLL
            for (int c = 0; c < BF16_COLUMNS; c++)
                acc[r][c] = _mm512_mul_ps(_mm512_load_ps(o + (i + r) * BF16_QUERIES + 16 * c),
                                          _mm512_load_ps(factor + 16 * c));
        }
        block(acc, (const int32_t *)v + i, 1, d, p, n / 2);
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            UNROLL
            for (int c = 0; c < BF16_COLUMNS; c++)
                _mm512_store_ps(o + (i + r) * BF16_QUERIES + 16 * c, acc[r][c]);
        }
    }
}

// Pairs [n/2][d]
static void pack_v(void *packed, const void *rows, int64_t n, int64_t d)
{
    uint32_t *to = packed;
    const uint16_t *x = rows;
    for (int64_t j = 0; j < n; j += 2)
        for (int64_t c = 0; c < d; c += 16)
            _mm512_store_si512(to + j / 2 * d + c, bf16_pairs(x + j * d, x + (j + 1) * d, c));
}

const simd_attention simd_avx512_bf16 = {.name = "avx512_bf16",
                                         .bf16 = true,
                                         .queries = BF16_QUERIES,
                                         .d_step = 16,
                                         .key_step = BF16_KEYS,
                                         .pack_q = bf16_pack_q,
                                         .pack_v = pack_v,
                                         .scores = scores,
                                         .softmax = bf16_softmax,
                                         .accumulate = accumulate,
                                         .weigh = bf16_weigh};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
