// SPDX-License-Identifier: MIT
// Rows in and out of float32 whatever their storage, and where rows lie.
#include "backend/cpu/cpu.h"
#include "backend/cpu/simd.h"
#include <string.h>

const float *cpu_row_load(float *tmp, const void *p, swd_dtype dtype, int64_t offset, int64_t n)
{
    if (dtype == SWD_F32) return (const float *)p + offset;
    const uint16_t *h = (const uint16_t *)p + offset;
    if (dtype == SWD_BF16)
        simd_pick()->widen_bf16(tmp, h, n);
    else
        for (int64_t i = 0; i < n; i++) tmp[i] = f16_to_f32(h[i]);
    return tmp;
}

void cpu_row_store(void *p, swd_dtype dtype, int64_t offset, const float *src, int64_t n)
{
    uint16_t *h = (uint16_t *)p + offset;
    if (dtype == SWD_BF16)
        simd_pick()->narrow_bf16(h, src, n);
    else if (dtype == SWD_F16)
        for (int64_t i = 0; i < n; i++) h[i] = f32_to_f16(src[i]);
    else if ((float *)p + offset != src)
        memcpy((float *)p + offset, src, (size_t)n * 4);
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
        float tmp[CPU_SPAN];
        for (int64_t i = 0, m; i < n; i += m) {
            m = n - i < CPU_SPAN ? n - i : CPU_SPAN;
            cpu_row_store(to, to_dtype, to_offset + i,
                          cpu_row_load(tmp, from, dtype, offset + i, m), m);
        }
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

void cpu_activate(float *y, int64_t n, swd_act act)
{
    simd_pick()->activate(y, n, act);
}
