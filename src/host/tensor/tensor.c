// SPDX-License-Identifier: MIT
#include "tensor/tensor.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

static const struct {
    size_t size;
    const char *name;
} dtypes[SWD_N_DTYPES] = {
    [SWD_F32] = {4, "f32"}, [SWD_BF16] = {2, "bf16"}, [SWD_F16] = {2, "f16"},
    [SWD_I32] = {4, "i32"}, [SWD_U8] = {1, "u8"},
};

size_t dtype_size(swd_dtype dtype)
{
    assert((unsigned)dtype < SWD_N_DTYPES);
    return dtypes[dtype].size;
}

const char *dtype_name(swd_dtype dtype)
{
    return (unsigned)dtype < SWD_N_DTYPES ? dtypes[dtype].name : "?";
}

swd_tensor tensor_make(void *data, swd_dtype dtype, const int64_t *shape, int ndim)
{
    assert(ndim >= 0 && ndim <= SWD_MAX_DIMS);
    swd_tensor t = {.data = data, .dtype = dtype, .ndim = ndim};
    int64_t stride = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        t.shape[i] = shape[i];
        t.stride[i] = stride;
        stride *= shape[i];
    }
    return t;
}

swd_tensor tensor1(void *data, swd_dtype dtype, int64_t a)
{
    return tensor_make(data, dtype, (int64_t[]){a}, 1);
}

swd_tensor tensor2(void *data, swd_dtype dtype, int64_t a, int64_t b)
{
    return tensor_make(data, dtype, (int64_t[]){a, b}, 2);
}

swd_tensor tensor3(void *data, swd_dtype dtype, int64_t a, int64_t b, int64_t c)
{
    return tensor_make(data, dtype, (int64_t[]){a, b, c}, 3);
}

swd_tensor tensor4(void *data, swd_dtype dtype, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return tensor_make(data, dtype, (int64_t[]){a, b, c, d}, 4);
}

int64_t tensor_numel(swd_tensor t)
{
    if (t.ndim == 0) return 0;
    int64_t n = 1;
    for (int i = 0; i < t.ndim; i++) n *= t.shape[i];
    return n;
}

size_t tensor_bytes(swd_tensor t)
{
    return (size_t)tensor_numel(t) * dtype_size(t.dtype);
}

bool tensor_contiguous(swd_tensor t)
{
    int64_t stride = 1;
    for (int i = t.ndim - 1; i >= 0; i--) {
        if (t.shape[i] != 1 && t.stride[i] != stride) return false;
        stride *= t.shape[i];
    }
    return true;
}

bool tensor_same_shape(swd_tensor a, swd_tensor b)
{
    if (a.ndim != b.ndim) return false;
    for (int i = 0; i < a.ndim; i++) {
        if (a.shape[i] != b.shape[i]) return false;
    }
    return true;
}

bool tensor_same_view(swd_tensor a, swd_tensor b)
{
    if (a.data != b.data || a.dtype != b.dtype || !tensor_same_shape(a, b)) return false;
    for (int i = 0; i < a.ndim; i++) {
        if (a.shape[i] != 1 && a.stride[i] != b.stride[i]) return false;
    }
    return true;
}

// Bytes from the first one of a tensor's inner dimensions, from `dim` on, to behind their last.
static int64_t extent(swd_tensor t, int dim)
{
    int64_t elements = 1;
    for (int i = dim; i < t.ndim; i++) elements += (t.shape[i] - 1) * t.stride[i];
    return elements * (int64_t)dtype_size(t.dtype);
}

// Bytes from one index of dimension dim to the next, if all outer strides are multiples of it; else 0.
static int64_t period(swd_tensor t, int dim)
{
    if (t.stride[dim] <= 0) return 0;
    for (int i = 0; i < dim; i++) {
        if (t.shape[i] != 1 && t.stride[i] % t.stride[dim] != 0) return 0;
    }
    return t.stride[dim] * (int64_t)dtype_size(t.dtype);
}

bool tensor_overlap(swd_tensor a, swd_tensor b)
{
    if (!a.data || !b.data || tensor_numel(a) == 0 || tensor_numel(b) == 0) return false;
    int64_t pa = (int64_t)(intptr_t)a.data, pb = (int64_t)(intptr_t)b.data;
    if (pa + extent(a, 0) <= pb || pb + extent(b, 0) <= pa) return false;
    // Both repeat every R bytes, in different columns of them.
    for (int i = 0; i + 1 < a.ndim; i++)
        for (int j = 0; j + 1 < b.ndim; j++) {
            int64_t r = period(a, i);
            if (r == 0 || r != period(b, j)) continue;
            int64_t ab = ((pb - pa) % r + r) % r; // where b's columns begin, seen from a's
            if (extent(a, i + 1) <= ab && ab + extent(b, j + 1) <= r) return false;
        }
    return true;
}

static void *advance(swd_tensor t, int64_t elements)
{
    return t.data ? (char *)t.data + elements * (int64_t)dtype_size(t.dtype) : NULL;
}

swd_tensor tensor_slice(swd_tensor t, int dim, int64_t start, int64_t length)
{
    assert(dim >= 0 && dim < t.ndim && start >= 0 && length >= 0 && start <= t.shape[dim] - length);
    t.data = advance(t, start * t.stride[dim]);
    t.shape[dim] = length;
    return t;
}

swd_tensor tensor_reshape(swd_tensor t, const int64_t *shape, int ndim)
{
    assert(tensor_contiguous(t));
    swd_tensor r = tensor_make(t.data, t.dtype, shape, ndim);
    assert(tensor_numel(r) == tensor_numel(t));
    return r;
}

swd_tensor tensor_split_last(swd_tensor t, int64_t b)
{
    assert(t.ndim >= 1 && t.ndim < SWD_MAX_DIMS && b > 0);
    int last = t.ndim - 1;
    assert(t.stride[last] == 1 && t.shape[last] % b == 0);
    t.shape[last + 1] = b;
    t.stride[last + 1] = 1;
    t.shape[last] /= b;
    t.stride[last] = b;
    t.ndim++;
    return t;
}

char *tensor_describe(swd_tensor t, char *buf, size_t n)
{
    size_t k = (size_t)snprintf(buf, n, "%s[", t.ndim ? dtype_name(t.dtype) : "absent");
    for (int i = 0; i < t.ndim && k < n; i++)
        k += (size_t)snprintf(buf + k, n - k, "%s%lld", i ? "," : "", (long long)t.shape[i]);
    if (k < n) snprintf(buf + k, n - k, "]");
    return buf;
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

float bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

uint16_t f32_to_bf16(float f)
{
    uint32_t u = bits_of(f);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40); // NaN: quiet, payload kept
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    if (magnitude >= 0x7c00) return float_of(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
    // As a float32 with the exponent moved, scaled by 2^112: denormals come out right, for the product is exact.
    return float_of(sign | bits_of(float_of(magnitude << 13) * 0x1p112f));
}

uint16_t f32_to_f16(float f)
{
    uint32_t u = bits_of(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00); // 65520 and more round to infinity
    if (a >= 0x38800000) return (uint16_t)(sign | ((a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13));
    // Below 2^-14 the result is a multiple of 2^-24: adding 1/2 leaves that multiple, rounded to even, in the low bits.
    return (uint16_t)(sign | (bits_of(float_of(a) + 0.5f) - 0x3f000000));
}
