// SPDX-License-Identifier: MIT
// The activation slab of a request: a bump allocator that is run twice, first dry to measure, then for real.
#include "backend/ops.h"
#include <assert.h>

enum { EXEC_ALIGN = 64 };

swd_tensor exec_alloc(swd_exec *ex, swd_dtype dtype, const int64_t *shape, int ndim)
{
    swd_tensor t = tensor_make(NULL, dtype, shape, ndim);
    size_t bytes = (tensor_bytes(t) + EXEC_ALIGN - 1) / EXEC_ALIGN * EXEC_ALIGN;
    if (!ex->dry) {
        assert(ex->used + bytes <= ex->slab_bytes && "the plan was measured with other shapes");
    }
    if (!ex->dry || ex->hook) t.data = ex->slab + ex->used;
    ex->used += bytes;
    if (ex->used > ex->peak) ex->peak = ex->used;
    if (ex->hook) ex->hook->allocated(ex->hook, t);
    return t;
}

swd_tensor exec1(swd_exec *ex, swd_dtype dtype, int64_t a)
{
    return exec_alloc(ex, dtype, (int64_t[]){a}, 1);
}

swd_tensor exec2(swd_exec *ex, swd_dtype dtype, int64_t a, int64_t b)
{
    return exec_alloc(ex, dtype, (int64_t[]){a, b}, 2);
}

swd_tensor exec3(swd_exec *ex, swd_dtype dtype, int64_t a, int64_t b, int64_t c)
{
    return exec_alloc(ex, dtype, (int64_t[]){a, b, c}, 3);
}

swd_tensor exec4(swd_exec *ex, swd_dtype dtype, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return exec_alloc(ex, dtype, (int64_t[]){a, b, c, d}, 4);
}

size_t exec_mark(const swd_exec *ex)
{
    return ex->used;
}

void exec_rewind(swd_exec *ex, size_t mark)
{
    assert(mark <= ex->used);
    if (ex->hook && !ex->hook->rewind(ex->hook, ex->slab + mark)) return;
    ex->used = mark;
}

swd_status exec_segment(swd_exec *ex, swd_segment fn, const void *args, size_t bytes,
                        const swd_tensor *inout, int n)
{
    if (ex->hook) return ex->hook->segment(ex->hook, fn, args, bytes, inout, n, ex);
    return fn(args, ex);
}
