// SPDX-License-Identifier: MIT
// Attention tiles in bf16 for AMX: 32 x 32 results in four tile registers, two of each operand.
#include "backend/cpu/simd.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#if defined(__clang__)
#pragma clang attribute push(                                                                      \
    __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,amx-tile,amx-bf16"))),    \
    apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,amx-tile,amx-bf16")
#endif

enum { BF16_QUERIES = 32, STEP = 32 }; // STEP: of keys and of channels
#include "backend/cpu/simd_bf16.inc"

bool simd_amx_usable(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

// Every tile: 16 rows of 64 bytes. (Static: gcc 12 tells its optimiser of the first 8 bytes only that the instruction reads.)
static void begin(void)
{
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1,
                .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&config);
}

static void end(void)
{
    _tile_release();
}

// Tiles 0..3 += a[32][2 k] b[k][Q] over k in steps of 16 pairs; strides in bytes.
static inline void products(const char *a, int64_t a_stride, const char *b, int64_t pairs)
{
    enum { B_STRIDE = BF16_QUERIES * 4 };
    for (int64_t i = 0; i < pairs; i += 16) {
        _tile_loadd(4, a + i * 4, a_stride);
        _tile_loadd(6, b + i * B_STRIDE, B_STRIDE);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + i * B_STRIDE + 64, B_STRIDE);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a + i * 4 + 16 * a_stride, a_stride);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

static inline void store(float *to)
{
    enum { STRIDE = BF16_QUERIES * 4 };
    _tile_stored(0, to, STRIDE);
    _tile_stored(1, to + 16, STRIDE);
    _tile_stored(2, to + 16 * BF16_QUERIES, STRIDE);
    _tile_stored(3, to + 16 * BF16_QUERIES + 16, STRIDE);
}

static void scores(float *s, const void *q, const void *k, int64_t n, int64_t d)
{
    for (int64_t j = 0; j < n; j += STEP) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        products((const char *)k + j * d * 2, d * 2, q, d / 2);
        store(s + j * BF16_QUERIES);
    }
}

// Most blocks of keys leave the maxima as they are: nothing has to be rescaled then.
static void rescale(float *o, int64_t d, const float *factor)
{
    __m512 f0 = _mm512_load_ps(factor), f1 = _mm512_load_ps(factor + 16),
           one = _mm512_set1_ps(1.0f);
    if (!(_mm512_cmpneq_ps_mask(f0, one) | _mm512_cmpneq_ps_mask(f1, one))) return;
    for (int64_t i = 0; i < d; i++) {
        float *row = o + i * BF16_QUERIES;
        _mm512_store_ps(row, _mm512_mul_ps(_mm512_load_ps(row), f0));
        _mm512_store_ps(row + 16, _mm512_mul_ps(_mm512_load_ps(row + 16), f1));
    }
}

static void accumulate(float *o, const void *p, const void *v, int64_t n, int64_t d,
                       const float *factor)
{
    enum { STRIDE = BF16_QUERIES * 4 };
    rescale(o, d, factor);
    for (int64_t i = 0; i < d; i += STEP) {
        float *to = o + i * BF16_QUERIES;
        _tile_loadd(0, to, STRIDE);
        _tile_loadd(1, to + 16, STRIDE);
        _tile_loadd(2, to + 16 * BF16_QUERIES, STRIDE);
        _tile_loadd(3, to + 16 * BF16_QUERIES + 16, STRIDE);
        products((const char *)v + i * n * 2, n * 2, p, n / 2);
        store(to);
    }
}

// x[16] rows of 16 words -> columns
static inline void transpose16(__m512i x[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            x[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + j + 2]);
            x[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + j + 2]);
        }
    for (int i = 0; i < 4; i++) { // columns i, i + 4, i + 8, i + 12 in quarters
        __m512i a = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88),
                b = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd),
                c = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88),
                d = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
        t[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        t[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        t[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
    for (int i = 0; i < 16; i++) x[i] = t[i];
}

// [d][n]: pairs of keys, transposed
static void pack_v(void *packed, const void *rows, int64_t n, int64_t d)
{
    uint16_t *to = packed;
    const uint16_t *x = rows;
    for (int64_t j = 0; j < n; j += STEP)
        for (int64_t c = 0; c < d; c += 16) {
            __m512i t[16];
            for (int i = 0; i < 16; i++)
                t[i] = bf16_pairs(x + (j + 2 * i) * d, x + (j + 2 * i + 1) * d, c);
            transpose16(t);
            for (int i = 0; i < 16; i++) _mm512_store_si512(to + (c + i) * n + j, t[i]);
        }
}

const simd_attention simd_amx_bf16 = {.name = "amx_bf16",
                                      .bf16 = true,
                                      .queries = BF16_QUERIES,
                                      .d_step = STEP,
                                      .key_step = BF16_KEYS,
                                      .begin = begin,
                                      .end = end,
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
