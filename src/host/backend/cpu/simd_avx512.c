// SPDX-License-Identifier: MIT
// Inner loops for AVX512, chosen at run time: only this file is compiled for it.
#include "backend/cpu/simd.h"
#include <math.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq")
#endif

#define LANES 16
#define ROWS 8
#define COLUMNS 3
#define TABLE simd_avx512
#define NAME "avx512"
typedef float vf __attribute__((vector_size(64), may_alias));
static inline vf vf_fma(vf a, vf b, vf c)
{
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
#include "backend/cpu/simd_kernels.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
