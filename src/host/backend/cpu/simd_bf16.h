/* SPDX-License-Identifier: MIT */
/* What the bf16 tiles of attention share. Only files compiled for AVX512-BF16 include it, after immintrin.h and BF16_QUERIES.
 *
 * Products take pairs of neighbours: of channels for scores, of keys for values. So queries lie as pairs [d/2][Q] and weights of
 * keys as pairs [n/2][Q], the even neighbour in the low half. The maximum is kept in units of log2: p = 2^(scale log2(e) s - m). */
#ifndef SWD_BACKEND_CPU_SIMD_BF16_H
#define SWD_BACKEND_CPU_SIMD_BF16_H
#include <string.h>

enum { BF16_COLUMNS = BF16_QUERIES / 16, BF16_KEYS = 32 };

/* 2^x within 3e-6, a hundredth of a bf16 rounding; 0 for -inf. 2^x = 2^floor(x) p(x - floor(x)). */
static inline __m512 bf16_exp2(__m512 x)
{
    __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);
    __m512 p = _mm512_set1_ps(0.0135341672f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.0520114638f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.241442755f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.693003833f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.00000262f));
    return _mm512_scalef_ps(p, x);
}

static void bf16_softmax(void *p, float *s, int64_t n, float scale, float *m, float *l,
                         float *factor)
{
    const __m512i weave =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512 by = _mm512_set1_ps(scale * 1.44269504f);
    const int64_t padded = (n + BF16_KEYS - 1) / BF16_KEYS * BF16_KEYS;
    for (int c = 0; c < BF16_COLUMNS; c++) {
        const float *at = s + 16 * c;
        uint32_t *to = (uint32_t *)p + 16 * c;
        __m512 old = _mm512_load_ps(m + 16 * c), top = old, sum = _mm512_setzero_ps();
        for (int64_t j = 0; j < n; j++)
            top = _mm512_max_ps(top, _mm512_mul_ps(_mm512_load_ps(at + j * BF16_QUERIES), by));
        for (int64_t j = 0; j < padded; j += 2) {
            __m512 e[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
            for (int i = 0; i < 2 && j + i < n; i++) {
                e[i] = bf16_exp2(
                    _mm512_fmsub_ps(_mm512_load_ps(at + (j + i) * BF16_QUERIES), by, top));
                sum = _mm512_add_ps(sum, e[i]);
            }
            __m512i both = (__m512i)_mm512_cvtne2ps_pbh(e[1], e[0]);
            _mm512_store_si512(to + j / 2 * BF16_QUERIES, _mm512_permutexvar_epi16(weave, both));
        }
        __m512 f = bf16_exp2(_mm512_sub_ps(old, top));
        _mm512_store_ps(l + 16 * c, _mm512_fmadd_ps(_mm512_load_ps(l + 16 * c), f, sum));
        _mm512_store_ps(m + 16 * c, top);
        _mm512_store_ps(factor + 16 * c, f);
    }
}

static void bf16_pack_q(void *tile, const void *rows, int64_t n, int64_t d)
{
    uint32_t *to = tile;
    for (int64_t i = 0; i < d / 2; i++)
        for (int64_t j = 0; j < BF16_QUERIES; j++) {
            uint32_t pair = 0;
            if (j < n) memcpy(&pair, (const char *)rows + (j * d + 2 * i) * 2, sizeof pair);
            to[i * BF16_QUERIES + j] = pair;
        }
}

/* Two rows of values, x0 and x1, as pairs: 16 channels from c on. */
static inline __m512i bf16_pairs(const uint16_t *x0, const uint16_t *x1, int64_t c)
{
    __m512i low =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(x0 + c)));
    __m512i high =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(x1 + c)));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}
#endif
