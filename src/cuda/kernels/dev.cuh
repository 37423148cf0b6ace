// SPDX-License-Identifier: MIT
// The only header through which kernels reach what a plain C++ compiler cannot run: shared memory, PTX, launches.
// It has two halves, one of PTX for nvcc and one for the emulator of the tests (tests/emu/include/emu/dev.h); what stands
// behind both is written once. docs/emulator.md says what a kernel may use.
//
// Lanes and fragments are those of PTX: in ldmatrix lane 8 i + r names row r of the 8 x 8 matrix i; in mma m16n8k16
// lane l holds, with g = l / 4 and t = l % 4, a[i] = A[g + 8 (i & 1)][2 t + 8 (i >> 1) ..+1], b_i = B[2 t + 8 i ..+1][g],
// d[i] = D[g + 8 (i >> 1)][2 t + (i & 1)]; in m16n8k32, of bytes, the same with 4 t and 16 for 2 t and 8 along k.
#ifndef SWD_CUDA_KERNELS_DEV_CUH
#define SWD_CUDA_KERNELS_DEV_CUH
#include <cuda_runtime.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>
#include <utility>

#define DEV __device__ __forceinline__

constexpr int WARP = 32;
constexpr uint32_t FULL_MASK = 0xffffffffu;
constexpr size_t SMEM_FREE = 48 * 1024; // dynamic shared memory that needs no attribute

#ifdef __CUDACC__
// Where the emulator names the caller's line in its messages, nvcc sees nothing. SITE_ARG ends a list of parameters,
// SITE_PASS a list of arguments; the _ONLY forms stand where they are alone in theirs.
#define SITE_ARG
#define SITE_ONLY
#define SITE_PASS
#define SITE_PASS_ONLY
#define DEV_ALIGNED(p, bytes)

#define DYN_SMEM(name) extern __shared__ __align__(128) unsigned char name[]
#define SMEM_ARRAY(T, name, n) __shared__ __align__(16) T name[n]

DEV uint32_t smem_u32(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

// 16 bytes from global to shared memory, both aligned to 16; zeros where !pred (src must still be a valid address).
DEV void cp_async16(void *dst, const void *src, bool pred)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(smem_u32(dst)), "l"(src),
                 "r"(pred ? 16 : 0)
                 : "memory");
}

DEV void cp_async_commit()
{
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}

// Until at most the N youngest groups of this thread are under way.
template <int N> DEV void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

DEV void ldsm_x4(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(smem_u32(row))
                 : "memory");
}

DEV void ldsm_x4_t(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(smem_u32(row))
                 : "memory");
}

// Two matrices: lanes 0..15 name the rows, the others' addresses are not read.
DEV void ldsm_x2(uint32_t (&r)[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];\n"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(smem_u32(row))
                 : "memory");
}

DEV void ldsm_x2_t(uint32_t (&r)[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\n"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(smem_u32(row))
                 : "memory");
}

// d += A B: A 16 x 16, B 16 x 8, of bf16 or fp16; float32 accumulation.
template <typename T>
DEV void mma_16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    static_assert(std::is_same<T, __nv_bfloat16>::value || std::is_same<T, __half>::value, "");
    if (std::is_same<T, __half>::value)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                     "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                     "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// d += A B: A 16 x 32, B 32 x 8 of signed bytes; exact.
DEV void mma_16832_s8(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The same of e4m3, which is there from sm_89 on (HAS_E4M3): elsewhere it must not be reached.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
#define HAS_E4M3 1
#else
#define HAS_E4M3 0
#endif
DEV void mma_16832_e4m3(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
#if HAS_E4M3
    asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 "
                 "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    __trap();
#endif
}

// 2^x within 2 ulp, 1 / x within 1 ulp; subnormal results and arguments are flushed to zero on a device.
DEV float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEV float rcp_fast(float x)
{
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// A barrier of n threads (a multiple of 32), id 1..15 (0 is __syncthreads).
DEV void named_barrier_sync(int id, int n)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(n) : "memory");
}

DEV float warp_sum(float v)
{
#pragma unroll
    for (int o = WARP / 2; o > 0; o >>= 1) v += __shfl_xor_sync(FULL_MASK, v, o);
    return v;
}

DEV float warp_max(float v)
{
#pragma unroll
    for (int o = WARP / 2; o > 0; o >>= 1) v = fmaxf(v, __shfl_xor_sync(FULL_MASK, v, o));
    return v;
}
#else
#include "emu/dev.h"
#endif

// ---- storage types: bf16 and fp16 are only stored, arithmetic is float32 ----

template <typename T> DEV float to_f(T v)
{
    if constexpr (std::is_same<T, __nv_bfloat16>::value)
        return __bfloat162float(v);
    else if constexpr (std::is_same<T, __half>::value)
        return __half2float(v);
    else
        return v;
}

// Rounds to nearest even.
template <typename T> DEV T from_f(float v)
{
    if constexpr (std::is_same<T, __nv_bfloat16>::value)
        return __float2bfloat16(v);
    else if constexpr (std::is_same<T, __half>::value)
        return __float2half(v);
    else
        return v;
}

// Two values of a 2-byte type in a register, the first in the low half.
template <typename T> DEV uint32_t pack2(float lo, float hi)
{
    uint32_t u;
    if constexpr (std::is_same<T, __nv_bfloat16>::value) {
        __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
        memcpy(&u, &v, sizeof u);
    } else {
        static_assert(std::is_same<T, __half>::value, "a 2-byte type");
        __half2 v = __floats2half2_rn(lo, hi);
        memcpy(&u, &v, sizeof u);
    }
    return u;
}

template <typename T> DEV void unpack2(uint32_t u, float &lo, float &hi)
{
    if constexpr (std::is_same<T, __nv_bfloat16>::value) {
        lo = __uint_as_float(u << 16);
        hi = __uint_as_float(u & 0xffff0000u);
    } else {
        static_assert(std::is_same<T, __half>::value, "a 2-byte type");
        __half2 v;
        memcpy(static_cast<void *>(&v), &u, sizeof v);
        float2 f = __half22float2(v);
        lo = f.x;
        hi = f.y;
    }
}

// ---- vector loads and stores: p is aligned to the access ----

// 8 elements: one access of 16 bytes, two for float.
template <typename T> DEV void load8(float (&v)[8], const T *p SITE_ARG)
{
    DEV_ALIGNED(p, 16);
    if constexpr (sizeof(T) == 2) {
        uint4 u = *reinterpret_cast<const uint4 *>(p);
        unpack2<T>(u.x, v[0], v[1]);
        unpack2<T>(u.y, v[2], v[3]);
        unpack2<T>(u.z, v[4], v[5]);
        unpack2<T>(u.w, v[6], v[7]);
    } else {
        float4 a = reinterpret_cast<const float4 *>(p)[0],
               b = reinterpret_cast<const float4 *>(p)[1];
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
        v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    }
}

template <typename T> DEV void store8(T *p, const float (&v)[8] SITE_ARG)
{
    DEV_ALIGNED(p, 16);
    if constexpr (sizeof(T) == 2) {
        *reinterpret_cast<uint4 *>(p) = make_uint4(pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]),
                                                   pack2<T>(v[4], v[5]), pack2<T>(v[6], v[7]));
    } else {
        reinterpret_cast<float4 *>(p)[0] = make_float4(v[0], v[1], v[2], v[3]);
        reinterpret_cast<float4 *>(p)[1] = make_float4(v[4], v[5], v[6], v[7]);
    }
}

// 4 elements: one access of 8 bytes, 16 for float.
template <typename T> DEV void load4(float (&v)[4], const T *p SITE_ARG)
{
    DEV_ALIGNED(p, 4 * sizeof(T));
    if constexpr (sizeof(T) == 2) {
        uint2 u = *reinterpret_cast<const uint2 *>(p);
        unpack2<T>(u.x, v[0], v[1]);
        unpack2<T>(u.y, v[2], v[3]);
    } else {
        float4 a = *reinterpret_cast<const float4 *>(p);
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    }
}

template <typename T> DEV void store4(T *p, const float (&v)[4] SITE_ARG)
{
    DEV_ALIGNED(p, 4 * sizeof(T));
    if constexpr (sizeof(T) == 2)
        *reinterpret_cast<uint2 *>(p) = make_uint2(pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]));
    else
        *reinterpret_cast<float4 *>(p) = make_float4(v[0], v[1], v[2], v[3]);
}

// ---- arithmetic ----

// tanh x = 1 - 2 / (e^2x + 1): absolute error under 3e-7, right at both ends; not for |x| where relative error counts.
DEV float tanh_fast(float x)
{
    return fmaf(-2.0f, rcp_fast(exp2_fast(x * 2.8853900817779268f) + 1.0f), 1.0f);
}

// ---- reductions over a block of THREADS threads along x; every thread gets the result, in a fixed order of additions ----

// a and b summed together.
template <int THREADS> DEV void block_sum2(float &a, float &b SITE_ARG)
{
    static_assert(THREADS % WARP == 0 && THREADS <= 1024, "whole warps");
    a = warp_sum(a SITE_PASS);
    b = warp_sum(b SITE_PASS);
    if constexpr (THREADS > WARP) {
        SMEM_ARRAY(float, part, 2 * THREADS / WARP);
        if (threadIdx.x % WARP == 0) {
            part[2 * (threadIdx.x / WARP)] = a;
            part[2 * (threadIdx.x / WARP) + 1] = b;
        }
        __syncthreads(SITE_PASS_ONLY);
        a = b = 0.0f;
#pragma unroll
        for (int w = 0; w < THREADS / WARP; w++) {
            a += part[2 * w];
            b += part[2 * w + 1];
        }
        __syncthreads(SITE_PASS_ONLY); // part may be written again at once
    }
}

template <int THREADS> DEV float block_sum(float v SITE_ARG)
{
    static_assert(THREADS % WARP == 0 && THREADS <= 1024, "whole warps");
    v = warp_sum(v SITE_PASS);
    if constexpr (THREADS > WARP) {
        SMEM_ARRAY(float, part, THREADS / WARP);
        if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = v;
        __syncthreads(SITE_PASS_ONLY);
        v = 0.0f;
#pragma unroll
        for (int w = 0; w < THREADS / WARP; w++) v += part[w];
        __syncthreads(SITE_PASS_ONLY);
    }
    return v;
}

template <int THREADS> DEV float block_max(float v SITE_ARG)
{
    static_assert(THREADS % WARP == 0 && THREADS <= 1024, "whole warps");
    v = warp_max(v SITE_PASS);
    if constexpr (THREADS > WARP) {
        SMEM_ARRAY(float, part, THREADS / WARP);
        if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = v;
        __syncthreads(SITE_PASS_ONLY);
        v = part[0];
#pragma unroll
        for (int w = 1; w < THREADS / WARP; w++) v = fmaxf(v, part[w]);
        __syncthreads(SITE_PASS_ONLY);
    }
    return v;
}

// ---- launches, from the host ----

// kernel<<<grid, block, smem, stream>>>(args...), with the attribute that more than 48 KiB of dynamic shared memory needs.
template <class... P, class... A>
static inline cudaError_t launch_kernel(void (*kernel)(P...), dim3 grid, dim3 block, size_t smem,
                                        cudaStream_t stream, A &&...args)
{
    if (smem > SMEM_FREE) {
        cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                             static_cast<int>(smem));
        if (e != cudaSuccess) return e;
    }
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = smem;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, std::forward<A>(args)...);
}

#ifdef __CUDACC__
#define launch(...) launch_kernel(__VA_ARGS__)
#else // the emulator's messages begin with the kernel's name
#define launch(...) (emu::name_next_kernel(#__VA_ARGS__), launch_kernel(__VA_ARGS__))
#endif
#endif
