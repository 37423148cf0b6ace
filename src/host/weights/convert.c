// SPDX-License-Identifier: MIT
// Blocks of constant length go through a small buffer: loads need no alignment, and the inner loops vectorise.
#include "weights/convert.h"
#include <assert.h>
#include <string.h>

enum { BLOCK = 1024, PARALLEL_MIN = 1 << 16 };

// Each returns nonzero if an element is NaN or infinite (all exponent bits set).
static uint32_t widen_f32(uint32_t *out, const void *src)
{
    uint32_t bad = 0;
    memcpy(out, src, BLOCK * sizeof *out);
    for (int i = 0; i < BLOCK; i++) bad |= (out[i] & 0x7f800000) == 0x7f800000;
    return bad;
}

static uint32_t widen_bf16(uint32_t *out, const void *src)
{
    uint16_t h[BLOCK];
    uint32_t bad = 0;
    memcpy(h, src, sizeof h);
    for (int i = 0; i < BLOCK; i++) {
        out[i] = (uint32_t)h[i] << 16;
        bad |= (h[i] & 0x7f80) == 0x7f80;
    }
    return bad;
}

// As f16_to_f32 for finite values: the exponent is moved by an exact product, which also normalises denormals.
static uint32_t widen_f16(uint32_t *out, const void *src)
{
    uint16_t h[BLOCK];
    float f[BLOCK];
    uint32_t bad = 0;
    memcpy(h, src, sizeof h);
    for (int i = 0; i < BLOCK; i++) {
        out[i] = (uint32_t)(h[i] & 0x7fff) << 13;
        bad |= (h[i] & 0x7c00) == 0x7c00;
    }
    memcpy(f, out, sizeof f);
    for (int i = 0; i < BLOCK; i++) f[i] *= 0x1p112f;
    memcpy(out, f, sizeof f);
    for (int i = 0; i < BLOCK; i++) out[i] |= (uint32_t)(h[i] & 0x8000) << 16;
    return bad;
}

static void narrow_bf16(uint16_t *out, const uint32_t *u)
{
    for (int i = 0; i < BLOCK; i++) out[i] = (uint16_t)((u[i] + 0x7fff + (u[i] >> 16 & 1)) >> 16);
}

static uint32_t widen(uint32_t *out, const void *src, swd_dtype dtype)
{
    if (dtype == SWD_F32) return widen_f32(out, src);
    if (dtype == SWD_BF16) return widen_bf16(out, src);
    assert(dtype == SWD_F16);
    return widen_f16(out, src);
}

// One block of n <= BLOCK elements; dst NULL: only the check.
static uint32_t convert_block(void *dst, swd_dtype dst_dtype, const void *src, swd_dtype src_dtype,
                              size_t n)
{
    unsigned char padded[BLOCK * 4] = {0};
    uint32_t wide[BLOCK];
    uint16_t narrow[BLOCK];
    if (n < BLOCK) {
        memcpy(padded, src, n * dtype_size(src_dtype));
        src = padded;
    }
    uint32_t bad = widen(wide, src, src_dtype);
    if (dst && dst_dtype == SWD_F32) memcpy(dst, wide, n * sizeof wide[0]);
    if (dst && dst_dtype == SWD_BF16) {
        narrow_bf16(narrow, wide);
        memcpy(dst, narrow, n * sizeof narrow[0]);
        // Rounding up the largest finite floats gives infinity; no weight is that large.
        for (size_t i = 0; i < n; i++) bad |= (narrow[i] & 0x7f80) == 0x7f80;
    }
    return bad;
}

bool convert_floats(void *dst, swd_dtype dst_dtype, const void *src, swd_dtype src_dtype, int64_t n)
{
    assert(dst_dtype == SWD_F32 || dst_dtype == SWD_BF16);
    const size_t from = dtype_size(src_dtype), to = dtype_size(dst_dtype);
    const int64_t n_blocks = (n + BLOCK - 1) / BLOCK;
    uint32_t bad = 0;
#ifdef _OPENMP
#pragma omp parallel for schedule(static) reduction(| : bad) if (n >= PARALLEL_MIN)
#endif
    for (int64_t b = 0; b < n_blocks; b++) {
        int64_t at = b * BLOCK, length = n - at < BLOCK ? n - at : BLOCK;
        void *out = dst ? (char *)dst + (size_t)at * to : NULL;
        bad |= convert_block(out, dst_dtype, (const char *)src + (size_t)at * from, src_dtype,
                             (size_t)length);
    }
    return bad == 0;
}

bool floats_finite(const void *src, swd_dtype dtype, int64_t n)
{
    return convert_floats(NULL, SWD_F32, src, dtype, n);
}
