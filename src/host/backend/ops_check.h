/* SPDX-License-Identifier: MIT */
/* What the op_*() check with: predicates over tensors, refusals, the way to a slot. */
#ifndef SWD_BACKEND_OPS_CHECK_H
#define SWD_BACKEND_OPS_CHECK_H
#include "backend/ops.h"
#include "backend/trace.h"

#define REQUIRE(cond, ...)                                                                         \
    do {                                                                                           \
        if (!(cond)) return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, __VA_ARGS__);                      \
    } while (0)
/* Gives the call to the hook, if there is one: RECORDED(.op = OP_COPY, .plain = {.y = y, .x = x}) */
#define RECORDED(...)                                                                              \
    do {                                                                                           \
        if (ex->hook) return ex->hook->call(ex->hook, &(op_call){__VA_ARGS__}, ex);                \
    } while (0)
/* Calls a slot unless only the plan is being measured. */
#define SLOT(name, ...)                                                                            \
    (ex->hook  ? SWD_FAIL(ex->err, SWD_ERR_UNSUPPORTED, "op_" #name " has no gradient")            \
     : ex->dry ? SWD_OK                                                                            \
               : (range_begin(ex->backend, RANGE_OP, #name),                                       \
                  range_ended(ex->backend, ex->backend->ops.name(ex->backend, __VA_ARGS__,         \
                                                                 ex->stream, ex->err))))
static inline swd_status range_ended(swd_backend *b, swd_status s)
{
    range_end(b);
    return s;
}

/* The result shares no memory with another operand ... */
#define APART(op, out, in) REQUIRE(!tensor_overlap(out, in), op ": %s lies over %s", #out, #in)
/* ... or is the very same view. */
#define APART_OR_SAME(op, out, in)                                                                 \
    REQUIRE(!tensor_overlap(out, in) || tensor_same_view(out, in), op ": %s lies over part of %s", \
            #out, #in)

/* Activations: F32, BF16 or F16, innermost stride 1, no empty dimension. */
static inline bool is_act(swd_tensor t)
{
    if (t.ndim < 1 || t.ndim > SWD_MAX_DIMS ||
        (t.dtype != SWD_F32 && t.dtype != SWD_BF16 && t.dtype != SWD_F16))
        return false;
    for (int i = 0; i < t.ndim; i++)
        if (t.shape[i] < 1) return false;
    return t.stride[t.ndim - 1] == 1 || t.shape[t.ndim - 1] == 1;
}

static inline bool is_f32(swd_tensor t, int ndim)
{
    return is_act(t) && t.dtype == SWD_F32 && t.ndim == ndim && tensor_contiguous(t);
}

static inline bool is_vector(swd_tensor t, int64_t n)
{
    return is_f32(t, 1) && t.shape[0] == n;
}

/* The shapes and types of attention, as op_attention() takes them (ops_products.c). */
swd_status attention_check(const attention_args *a, swd_exec *ex);

/* [B, D] rows that go with [B, n, D] */
static inline bool is_per_sample(swd_tensor t, swd_tensor x)
{
    return is_act(t) && t.ndim == 2 && x.ndim == 3 && t.shape[0] == x.shape[0] &&
           t.shape[1] == x.shape[2];
}

static inline int64_t last(swd_tensor t)
{
    return t.shape[t.ndim - 1];
}

/* Scratch for one call, given back after it. */
static inline void *scratch(swd_exec *ex, size_t bytes)
{
    return bytes ? exec1(ex, SWD_U8, (int64_t)bytes).data : NULL;
}
#endif
