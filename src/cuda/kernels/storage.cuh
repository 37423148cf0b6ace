// SPDX-License-Identifier: MIT
// Loads and stores whose storage type is an argument of the launch: the branch is the same for all threads, and one
// kernel serves every type where a template would multiply it. at: in elements, from p.
#ifndef SWD_CUDA_KERNELS_STORAGE_CUH
#define SWD_CUDA_KERNELS_STORAGE_CUH
#include "dev.cuh"
#include "kernels.h"

DEV float load_as(const void *p, k_dtype dtype, int64_t at)
{
    if (dtype == K_BF16) return to_f(static_cast<const __nv_bfloat16 *>(p)[at]);
    if (dtype == K_F16) return to_f(static_cast<const __half *>(p)[at]);
    return static_cast<const float *>(p)[at];
}

DEV void store_as(void *p, k_dtype dtype, int64_t at, float v)
{
    if (dtype == K_BF16)
        static_cast<__nv_bfloat16 *>(p)[at] = from_f<__nv_bfloat16>(v);
    else if (dtype == K_F16)
        static_cast<__half *>(p)[at] = from_f<__half>(v);
    else
        static_cast<float *>(p)[at] = v;
}

// 8 elements in accesses of 16 bytes; p + at is aligned to 16.
DEV void load8_as(float (&v)[8], const void *p, k_dtype dtype, int64_t at SITE_ARG)
{
    if (dtype == K_BF16)
        load8(v, static_cast<const __nv_bfloat16 *>(p) + at SITE_PASS);
    else if (dtype == K_F16)
        load8(v, static_cast<const __half *>(p) + at SITE_PASS);
    else
        load8(v, static_cast<const float *>(p) + at SITE_PASS);
}

DEV void store8_as(void *p, k_dtype dtype, int64_t at, const float (&v)[8] SITE_ARG)
{
    if (dtype == K_BF16)
        store8(static_cast<__nv_bfloat16 *>(p) + at, v SITE_PASS);
    else if (dtype == K_F16)
        store8(static_cast<__half *>(p) + at, v SITE_PASS);
    else
        store8(static_cast<float *>(p) + at, v SITE_PASS);
}

static inline int64_t bytes_of(k_dtype dtype)
{
    return dtype == K_F32 ? 4 : 2;
}

static inline bool aligned16(const void *p)
{
    return (reinterpret_cast<uintptr_t>(p) & 15) == 0;
}
#endif
