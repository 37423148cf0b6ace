/* SPDX-License-Identifier: MIT */
/* What the tests of ops share: a backend, an exec, random tensors between guard bytes. Include it after ops.h and criterion. */
#ifndef SWD_TESTS_OP_SUPPORT_H
#define SWD_TESTS_OP_SUPPORT_H
#include "backend/ops.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64 };

static uint64_t state = 1;
static inline double uniform(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 40) / (1 << 23) - 1.0;
}

static inline float get(swd_tensor t, int64_t i)
{
    return t.dtype == SWD_F32 ? ((float *)t.data)[i] : bf16_to_f32(((uint16_t *)t.data)[i]);
}

static inline void set(swd_tensor t, int64_t i, float x)
{
    if (t.dtype == SWD_F32)
        ((float *)t.data)[i] = x;
    else
        ((uint16_t *)t.data)[i] = f32_to_bf16(x);
}

/* A contiguous tensor with guard bytes on both sides; fill: random in [-1, 1), else every byte 0xa5. */
static inline swd_tensor make(swd_dtype dtype, const int64_t *shape, int ndim, bool fill)
{
    swd_tensor t = tensor_make(NULL, dtype, shape, ndim);
    size_t bytes = tensor_bytes(t);
    unsigned char *p = aligned_alloc(64, (bytes + 2 * GUARD + 63) / 64 * 64);
    memset(p, 0xa5, bytes + 2 * GUARD);
    t.data = p + GUARD;
    for (int64_t i = 0; fill && i < tensor_numel(t); i++) set(t, i, (float)uniform());
    return t;
}

#define MAKE(dtype, fill, ...)                                                                     \
    make(dtype, (int64_t[]){__VA_ARGS__},                                                          \
         (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), fill)

static inline void drop(swd_tensor t)
{
    unsigned char *p = (unsigned char *)t.data - GUARD;
    size_t bytes = tensor_bytes(t);
    for (int i = 0; i < GUARD; i++) {
        cr_assert_eq(p[i], 0xa5, "written before the tensor");
        cr_assert_eq(p[GUARD + bytes + (size_t)i], 0xa5, "written past the tensor");
    }
    free(p);
}

static swd_err error;
static swd_backend *backend;
static swd_exec *ex;

static inline void setup(void)
{
    cr_assert_eq(backend_cpu_create(&backend, 2, &error), SWD_OK, "%s", error.message);
    ex = calloc(1, sizeof *ex);
    ex->backend = backend;
    ex->err = &error;
    ex->slab_bytes = (size_t)256 << 20;
    ex->slab = backend->alloc(backend, ex->slab_bytes);
}

static inline void teardown(void)
{
    backend->release(backend, ex->slab);
    free(ex);
    backend_destroy(&backend);
}

#define OK(call) cr_assert_eq(call, SWD_OK, "%s", error.message)

static inline double act_ref(double x, swd_act act)
{
    switch (act) {
    case SWD_ACT_SILU:
        return x / (1 + exp(-x));
    case SWD_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case SWD_ACT_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case SWD_ACT_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    case SWD_ACT_RELU:
        return x > 0 ? x : 0;
    case SWD_ACT_TANH:
        return tanh(x);
    default:
        return x;
    }
}
#endif
