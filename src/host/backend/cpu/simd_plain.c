// SPDX-License-Identifier: MIT
// Inner loops on any processor: 4 lanes, no fused multiply-add.
#include "backend/cpu/dnn.h"
#include "backend/cpu/simd.h"
#include <math.h>
#include <string.h>

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
    static _Atomic(const simd_table *) picked;
    const simd_table *table = picked;
    if (!table) {
        table = &simd_plain;
#if defined(__x86_64__)
        dnn_isa_level isa = dnn_isa();
        if (isa >= DNN_ISA_AVX2) table = isa >= DNN_ISA_AVX512 ? &simd_avx512 : &simd_avx2;
#endif
        picked = table;
    }
    return table;
}

const simd_attention *simd_pick_bf16(void)
{
#if defined(__x86_64__)
    dnn_isa_level isa = dnn_isa();
    if (isa == DNN_ISA_AMX_BF16 && simd_amx_usable()) return &simd_amx_bf16;
    if (isa >= DNN_ISA_AVX512_BF16) return &simd_avx512_bf16;
#endif
    return NULL;
}
