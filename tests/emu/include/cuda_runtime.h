/* SPDX-License-Identifier: MIT */
/* Stands in front of the toolkit's <cuda_runtime.h> where a C++ compiler builds kernels for the emulator: what nvcc knows by
 * itself (built-in variables and functions of device code) comes from here, everything else from the toolkit's plain headers. */
#ifndef SWD_TESTS_EMU_CUDA_RUNTIME_H
#define SWD_TESTS_EMU_CUDA_RUNTIME_H
#ifndef __CUDA_INCLUDE_COMPILER_INTERNAL_HEADERS__
#define __CUDA_INCLUDE_COMPILER_INTERNAL_HEADERS__
#define EMU_UNDEF_INTERNAL
#endif
#include <builtin_types.h>
#include <library_types.h>
#include <cuda_runtime_api.h>
#include <vector_functions.h>
#ifdef EMU_UNDEF_INTERNAL
#undef __CUDA_INCLUDE_COMPILER_INTERNAL_HEADERS__
#undef EMU_UNDEF_INTERNAL
#endif
#ifdef __cplusplus
#include <algorithm>
#include <math.h>
#include <string.h>
#include <tuple>
#include <type_traits>
#include <utility>
#include "emu/ops.h"

#undef __launch_bounds__
#undef __shared__
#undef __grid_constant__
#undef __forceinline__
#define __launch_bounds__(...)
#define __grid_constant__
#define __forceinline__ inline
#define __shared__ static_assert(false, "shared memory is declared by DYN_SMEM and SMEM_ARRAY");

// Variables, not macros: the fields of cudaLaunchConfig_t have such names.
extern __thread uint3 threadIdx, blockIdx;
extern __thread dim3 blockDim, gridDim;
static constexpr int warpSize = 32;

#define EMU_SITE emu::Site site_ = emu::Site::here()
#define EMU_DEVICE static inline

// ---- barriers ----

EMU_DEVICE void __syncthreads(EMU_SITE)
{
    emu::barrier(0, 0, site_, nullptr);
}

EMU_DEVICE int __syncthreads_count(int pred, EMU_SITE)
{
    pred = pred != 0;
    emu::barrier(0, 0, site_, &pred);
    return pred;
}

EMU_DEVICE int __syncthreads_or(int pred, EMU_SITE)
{
    return __syncthreads_count(pred, site_) != 0;
}

EMU_DEVICE int __syncthreads_and(int pred, EMU_SITE)
{
    return __syncthreads_count(!pred, site_) == 0;
}

EMU_DEVICE void __syncwarp(unsigned mask = 0xffffffffu, EMU_SITE)
{
    emu::warp_collective(mask, emu::op_none, nullptr, "__syncwarp", site_, true);
}

EMU_DEVICE void __threadfence()
{
    emu::fence();
}

EMU_DEVICE void __threadfence_block()
{
    emu::fence();
}

// ---- shuffles, votes, match ----

namespace emu
{
template <class T> T shuffle(uint32_t mask, T v, int source, const char *name, Site site)
{
    static_assert(sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    Shuffle s = {0, source};
    memcpy(&s.value, &v, sizeof v);
    warp_collective(mask, op_shuffle, &s, name, site, false);
    memcpy(&v, &s.value, sizeof v);
    return v;
}
EMU_DEVICE int segment(int width) // the first lane of the calling lane's segment
{
    return static_cast<int>(cur->lane) & ~(width - 1);
}
} // namespace emu

template <class T>
EMU_DEVICE T __shfl_sync(unsigned mask, T v, int source, int width = 32, EMU_SITE)
{
    return emu::shuffle(mask, v, emu::segment(width) | (source & (width - 1)), "__shfl_sync",
                        site_);
}

template <class T>
EMU_DEVICE T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32, EMU_SITE)
{
    int s = static_cast<int>(emu::cur->lane) ^ lanes;
    return emu::shuffle(mask, v, s >= emu::segment(width) + width ? -1 : s, "__shfl_xor_sync",
                        site_);
}

template <class T>
EMU_DEVICE T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, EMU_SITE)
{
    int s = static_cast<int>(emu::cur->lane + delta);
    return emu::shuffle(mask, v, s >= emu::segment(width) + width ? -1 : s, "__shfl_down_sync",
                        site_);
}

template <class T>
EMU_DEVICE T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, EMU_SITE)
{
    int s = static_cast<int>(emu::cur->lane) - static_cast<int>(delta);
    return emu::shuffle(mask, v, s < emu::segment(width) ? -1 : s, "__shfl_up_sync", site_);
}

EMU_DEVICE unsigned __ballot_sync(unsigned mask, int pred, EMU_SITE)
{
    emu::Vote v = {pred != 0, 0};
    emu::warp_collective(mask, emu::op_vote, &v, "__ballot_sync", site_, false);
    return v.ballot;
}

EMU_DEVICE int __any_sync(unsigned mask, int pred, EMU_SITE)
{
    return __ballot_sync(mask, pred, site_) != 0;
}

EMU_DEVICE int __all_sync(unsigned mask, int pred, EMU_SITE)
{
    return __ballot_sync(mask, !pred, site_) == 0;
}

template <class T> EMU_DEVICE unsigned __match_any_sync(unsigned mask, T v, EMU_SITE)
{
    static_assert(sizeof(T) <= 8, "");
    emu::Match m = {0, 0};
    memcpy(&m.value, &v, sizeof v);
    emu::warp_collective(mask, emu::op_match, &m, "__match_any_sync", site_, false);
    return m.mask;
}

template <class T> EMU_DEVICE unsigned __match_all_sync(unsigned mask, T v, int *pred, EMU_SITE)
{
    unsigned same = __match_any_sync(mask, v, site_);
    *pred = same == mask;
    return same == mask ? mask : 0;
}

// ---- atomics: relaxed, as on a device; another thread may run before each ----

namespace emu
{
template <class T, class F> T atomic_update(T *p, F f)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "");
    typedef typename std::conditional<sizeof(T) == 4, uint32_t, uint64_t>::type Bits;
    yield_point();
    Bits *u = reinterpret_cast<Bits *>(p), old = __atomic_load_n(u, __ATOMIC_RELAXED), wanted;
    T before, after;
    do {
        memcpy(&before, &old, sizeof old);
        after = f(before);
        memcpy(&wanted, &after, sizeof wanted);
    } while (
        !__atomic_compare_exchange_n(u, &old, wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return before;
}
} // namespace emu

#define EMU_ATOMIC(name, type, expression)                                                         \
    EMU_DEVICE type name(type *p, type v)                                                          \
    {                                                                                              \
        return emu::atomic_update(p, [v](type old) -> type { return expression; });                \
    }
EMU_ATOMIC(atomicAdd, float, old + v)
EMU_ATOMIC(atomicAdd, double, old + v)
EMU_ATOMIC(atomicAdd, int, static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(v)))
EMU_ATOMIC(atomicAdd, unsigned, old + v)
EMU_ATOMIC(atomicAdd, unsigned long long, old + v)
EMU_ATOMIC(atomicSub, int, static_cast<int>(static_cast<unsigned>(old) - static_cast<unsigned>(v)))
EMU_ATOMIC(atomicSub, unsigned, old - v)
EMU_ATOMIC(atomicMax, int, old < v ? v : old)
EMU_ATOMIC(atomicMax, unsigned, old < v ? v : old)
EMU_ATOMIC(atomicMax, unsigned long long, old < v ? v : old)
EMU_ATOMIC(atomicMin, int, v < old ? v : old)
EMU_ATOMIC(atomicMin, unsigned, v < old ? v : old)
EMU_ATOMIC(atomicMin, unsigned long long, v < old ? v : old)
EMU_ATOMIC(atomicExch, int, ((void)old, v))
EMU_ATOMIC(atomicExch, unsigned, ((void)old, v))
EMU_ATOMIC(atomicExch, unsigned long long, ((void)old, v))
EMU_ATOMIC(atomicExch, float, ((void)old, v))
EMU_ATOMIC(atomicAnd, unsigned, old &v)
EMU_ATOMIC(atomicOr, unsigned, old | v)
EMU_ATOMIC(atomicXor, unsigned, old ^ v)
EMU_ATOMIC(atomicInc, unsigned, old >= v ? 0u : old + 1u)
EMU_ATOMIC(atomicDec, unsigned, old == 0 || old > v ? v : old - 1u)
#undef EMU_ATOMIC

template <class T> EMU_DEVICE T atomicCAS(T *p, T compare, T v)
{
    return emu::atomic_update(p, [compare, v](T old) -> T { return old == compare ? v : old; });
}

// ---- arithmetic and bits; glibc declares functions of the first names, hence macros ----

#define __expf(x) expf(x)
#define __exp10f(x) exp10f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __powf(x, y) powf(x, y)
EMU_DEVICE float __fdividef(float a, float b)
{
    return a / b;
}
EMU_DEVICE float __frcp_rn(float a)
{
    return 1.0f / a;
}
EMU_DEVICE float __fsqrt_rn(float a)
{
    return sqrtf(a);
}
EMU_DEVICE float __fadd_rn(float a, float b)
{
    return a + b;
}
EMU_DEVICE float __fsub_rn(float a, float b)
{
    return a - b;
}
EMU_DEVICE float __fmul_rn(float a, float b)
{
    return a * b;
}
EMU_DEVICE float __fdiv_rn(float a, float b)
{
    return a / b;
}
EMU_DEVICE float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
EMU_DEVICE float __saturatef(float x)
{
    return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;
}
EMU_DEVICE float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}
EMU_DEVICE int __popc(unsigned x)
{
    return __builtin_popcount(x);
}
EMU_DEVICE int __clz(int x)
{
    return x ? __builtin_clz(static_cast<unsigned>(x)) : 32;
}
EMU_DEVICE int __ffs(int x)
{
    return __builtin_ffs(x);
}
EMU_DEVICE unsigned __umulhi(unsigned a, unsigned b)
{
    return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
EMU_DEVICE unsigned __float_as_uint(float f)
{
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}
EMU_DEVICE float __uint_as_float(unsigned u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
EMU_DEVICE int __float_as_int(float f)
{
    int i;
    memcpy(&i, &f, 4);
    return i;
}
EMU_DEVICE float __int_as_float(int i)
{
    float f;
    memcpy(&f, &i, 4);
    return f;
}
EMU_DEVICE int __float2int_rn(float f)
{
    return static_cast<int>(nearbyintf(f));
}
EMU_DEVICE int __float2int_rd(float f)
{
    return static_cast<int>(floorf(f));
}
template <class T> EMU_DEVICE T __ldg(const T *p)
{
    return *p;
}
template <class T> EMU_DEVICE T __ldcs(const T *p)
{
    return *p;
}
template <class T> EMU_DEVICE void __stcs(T *p, T v)
{
    *p = v;
}
using std::max;
using std::min;

// ---- launches ----

template <class T>
static inline cudaError_t cudaFuncSetAttribute(T *kernel, cudaFuncAttribute attribute, int value)
{
    return ::cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel), attribute, value);
}

namespace emu
{
template <class P> inline void check_argument(const P &p)
{
    if constexpr (std::is_pointer_v<P>) {
        check_device_pointer(static_cast<const void *>(p), "a kernel's argument");
    } else {
#if defined(__GNUC__) && !defined(__clang__) // padding holds anything, parts of old pointers too
        P copy = p;
        __builtin_clear_padding(&copy);
        check_words(&copy, sizeof copy);
#endif
    }
}
} // namespace emu

template <class... P, class... A>
static inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(P...),
                                             A &&...arguments)
{
    std::tuple<P...> values(static_cast<P>(std::forward<A>(arguments))...);
    std::apply([](const P &...p) { (emu::check_argument(p), ...); }, values);
    return emu::submit_kernel(config, reinterpret_cast<const void *>(kernel),
                              [kernel, values] { std::apply(kernel, values); });
}
#endif
#endif
