// SPDX-License-Identifier: MIT
// Rows in and out of float32, activations: the inner loops that every element-wise CPU op shares.
#include "backend/cpu/cpu.h"
#include <math.h>
#include <string.h>

const float *cpu_row_load(float *tmp, const void *p, swd_dtype dtype, int64_t offset, int64_t n)
{
    if (dtype == SWD_F32) return (const float *)p + offset;
    const uint16_t *h = (const uint16_t *)p + offset;
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = (uint32_t)h[i] << 16;
        memcpy(tmp + i, &u, 4);
    }
    return tmp;
}

void cpu_row_store(void *p, swd_dtype dtype, int64_t offset, const float *src, int64_t n)
{
    if (dtype == SWD_F32) {
        if ((float *)p + offset != src) memcpy((float *)p + offset, src, (size_t)n * 4);
        return;
    }
    uint16_t *h = (uint16_t *)p + offset;
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, src + i, 4);
        uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16, quiet = (u >> 16) | 0x40;
        h[i] = (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
    }
}

void cpu_convert(void *to, swd_dtype to_dtype, int64_t to_offset, const void *from, swd_dtype dtype,
                 int64_t offset, int64_t n)
{
    if (to_dtype == dtype) {
        size_t size = dtype_size(dtype);
        memcpy((char *)to + (size_t)to_offset * size, (const char *)from + (size_t)offset * size,
               (size_t)n * size);
    } else if (to_dtype == SWD_F32) {
        cpu_row_load((float *)to + to_offset, from, dtype, offset, n);
    } else {
        cpu_row_store(to, to_dtype, to_offset, (const float *)from + offset, n);
    }
}

int64_t cpu_rows(swd_tensor t)
{
    int64_t n = 1;
    for (int i = 0; i + 1 < t.ndim; i++) n *= t.shape[i];
    return n;
}

int64_t cpu_row_offset(swd_tensor t, int64_t r)
{
    int64_t offset = 0;
    for (int i = t.ndim - 2; i >= 0; i--) {
        offset += r % t.shape[i] * t.stride[i];
        r /= t.shape[i];
    }
    return offset;
}

// 2^k * p(r), |r| <= ln2 / 2; the two-part ln2 keeps r exact.
static inline float exp_inline(float x)
{
    x = x < -87.3f ? -87.3f : x > 88.7f ? 88.7f : x;
    float k = x * 1.44269504f + 12582912.0f;
    int32_t bits;
    memcpy(&bits, &k, 4);
    k -= 12582912.0f;
    float r = x - k * 0.693145752f - k * 1.42860677e-6f;
    float p = 1.9875691e-4f;
    p = p * r + 1.3981999e-3f;
    p = p * r + 8.3334519e-3f;
    p = p * r + 4.1665795e-2f;
    p = p * r + 1.6666665e-1f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    int32_t pb;
    memcpy(&pb, &p, 4);
    pb += (int32_t)((uint32_t)bits << 23);
    memcpy(&p, &pb, 4);
    return p;
}

float cpu_expf(float x)
{
    return exp_inline(x);
}

// Written over 1 - exp(-2|x|) so that small x keep their relative accuracy through the odd series.
static inline float tanh_inline(float x)
{
    float a = fabsf(x), e = exp_inline(-2.0f * a), big = (1.0f - e) / (1.0f + e), x2 = x * x;
    float small =
        a * (1.0f + x2 * (-0.333333333f +
                          x2 * (0.133333333f + x2 * (-0.0539682540f + x2 * 0.0218694885f))));
    return copysignf(a < 0.15f ? small : big, x);
}

// exp() stops growing at 88.7: below -88 the quotient is no longer a sigmoid but 3e-39 for ever, which a large factor brings back.
static inline float sigmoid_inline(float x)
{
    return x < -88.0f ? 0.0f : 1.0f / (1.0f + exp_inline(-x));
}

void cpu_activate(float *y, int64_t n, swd_act act)
{
    switch (act) {
    case SWD_ACT_NONE:
        break;
    case SWD_ACT_SILU:
        for (int64_t i = 0; i < n; i++) y[i] = y[i] * sigmoid_inline(y[i]);
        break;
    case SWD_ACT_GELU_TANH:
        for (int64_t i = 0; i < n; i++) {
            float x = y[i];
            y[i] = 0.5f * x * (1.0f + tanh_inline(0.797884561f * (x + 0.044715f * x * x * x)));
        }
        break;
    case SWD_ACT_GELU_ERF:
        for (int64_t i = 0; i < n; i++) y[i] = 0.5f * y[i] * (1.0f + erff(y[i] * 0.707106781f));
        break;
    case SWD_ACT_QUICK_GELU:
        for (int64_t i = 0; i < n; i++) y[i] = y[i] * sigmoid_inline(1.702f * y[i]);
        break;
    case SWD_ACT_RELU:
        for (int64_t i = 0; i < n; i++) y[i] = y[i] > 0 ? y[i] : y[i] != y[i] ? y[i] : 0;
        break;
    case SWD_ACT_TANH:
        for (int64_t i = 0; i < n; i++) y[i] = tanh_inline(y[i]);
        break;
    }
}
