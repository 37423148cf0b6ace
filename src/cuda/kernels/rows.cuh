// SPDX-License-Identifier: MIT
// What the kernels over rows share: vectors of 8 elements whose storage is known only at the launch, and the index of a row.
#ifndef SWD_CUDA_KERNELS_ROWS_CUH
#define SWD_CUDA_KERNELS_ROWS_CUH
#include "storage.cuh"

template <typename T> struct dtype_of {
    static constexpr k_dtype value = std::is_same<T, float>::value           ? K_F32
                                     : std::is_same<T, __nv_bfloat16>::value ? K_BF16
                                                                             : K_F16;
};

// i = quotient * n + remainder, 0 <= i. Nearly all divisions fit 32 bits, which is four times cheaper.
DEV void split(int64_t i, int64_t n, int64_t &quotient, int64_t &remainder)
{
    if (((i | n) >> 32) == 0) {
        quotient = (uint32_t)i / (uint32_t)n;
        remainder = (uint32_t)i - (uint32_t)quotient * (uint32_t)n;
    } else {
        quotient = i / n;
        remainder = i - quotient * n;
    }
}

// 8 elements as they lie in memory: 16 bytes, 32 of float. Loading and widening are apart so that a kernel can have all of its
// loads under way before it looks at the first.
struct raw8 {
    uint4 lo, hi;
};

DEV raw8 fetch8(const void *p, k_dtype type, int64_t at SITE_ARG)
{
    raw8 r = {};
    if (type == K_F32) {
        const float *f = static_cast<const float *>(p) + at;
        DEV_ALIGNED(f, 16);
        r.lo = reinterpret_cast<const uint4 *>(f)[0];
        r.hi = reinterpret_cast<const uint4 *>(f)[1];
    } else {
        const uint16_t *h = static_cast<const uint16_t *>(p) + at;
        DEV_ALIGNED(h, 16);
        r.lo = *reinterpret_cast<const uint4 *>(h);
    }
    return r;
}

template <typename T> DEV void widen_halves(float (&v)[8], const uint4 &u)
{
    unpack2<T>(u.x, v[0], v[1]);
    unpack2<T>(u.y, v[2], v[3]);
    unpack2<T>(u.z, v[4], v[5]);
    unpack2<T>(u.w, v[6], v[7]);
}

DEV void widen8(float (&v)[8], const raw8 &r, k_dtype type)
{
    if (type == K_F32) {
        v[0] = __uint_as_float(r.lo.x), v[1] = __uint_as_float(r.lo.y);
        v[2] = __uint_as_float(r.lo.z), v[3] = __uint_as_float(r.lo.w);
        v[4] = __uint_as_float(r.hi.x), v[5] = __uint_as_float(r.hi.y);
        v[6] = __uint_as_float(r.hi.z), v[7] = __uint_as_float(r.hi.w);
    } else if (type == K_BF16) {
        widen_halves<__nv_bfloat16>(v, r.lo);
    } else {
        widen_halves<__half>(v, r.lo);
    }
}

// v as it reads after a store to T.
template <typename T> DEV float rounded(float v)
{
    return to_f(from_f<T>(v));
}

// ---- host ----

static inline int64_t div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

// Whether rows of `dims` outer dimensions of a view start on 16 bytes; an absent view is no obstacle. Strides of dimensions of
// one element must be 0 (row_view's are).
static inline bool vectors(const k_view &v, int dims)
{
    if (!v.data) return true;
    uintptr_t bits = reinterpret_cast<uintptr_t>(v.data);
    for (int i = 0; i < dims; i++) bits |= static_cast<uintptr_t>(v.stride[i]) * bytes_of(v.dtype);
    return bits % 16 == 0;
}

// bf16 to fp16 or back, which no model does: kernels have one simple variant for it.
template <typename TX, typename TY>
constexpr bool mixed_halves = sizeof(TX) == 2 && sizeof(TY) == 2 && !std::is_same<TX, TY>::value;

template <typename T> struct type_tag {
    typedef T type;
};

// Calls f(tag) with the storage type.
template <typename F> static cudaError_t with_type(k_dtype t, F f)
{
    switch (t) {
    case K_F32:
        return f(type_tag<float>());
    case K_BF16:
        return f(type_tag<__nv_bfloat16>());
    case K_F16:
        return f(type_tag<__half>());
    }
    return cudaErrorInvalidValue;
}

// Calls f(tag of x's storage, tag of y's).
template <typename F> static cudaError_t with_storage(k_dtype tx, k_dtype ty, F f)
{
    return with_type(tx, [&](auto x) { return with_type(ty, [&](auto y) { return f(x, y); }); });
}
#endif
