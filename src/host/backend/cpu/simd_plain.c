// SPDX-License-Identifier: MIT
// Attention tiles on any processor: 4 lanes, no fused multiply-add.
#include "backend/cpu/simd.h"

#define LANES 4
#define ROWS 4
#define COLUMNS 2
#define TABLE simd_plain
#define NAME "plain"
typedef float vf __attribute__((vector_size(16), may_alias));
static inline vf vf_fma(vf a, vf b, vf c)
{
    return a * b + c;
}
#include "backend/cpu/simd_kernels.inc"

const simd_table *simd_pick(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        return &simd_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &simd_avx2;
#endif
    return &simd_plain;
}
