// SPDX-License-Identifier: MIT
// Inner loops for AVX2, chosen at run time: only this file is compiled for it.
#include "backend/cpu/simd.h"
#include <math.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define LANES 8
#define ROWS 4
#define COLUMNS 3
#define TABLE simd_avx2
#define NAME "avx2"
typedef float vf __attribute__((vector_size(32), may_alias));
static inline vf vf_fma(vf a, vf b, vf c)
{
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
#include "backend/cpu/simd_kernels.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
