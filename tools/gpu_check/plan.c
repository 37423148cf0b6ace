// SPDX-License-Identifier: MIT
#include "plan.h"
#include <assert.h>

part *plan_add(plan *p, const char *name, part_role role, swd_dtype dtype, const int64_t *dims,
               int ndim)
{
    assert(p->n < PARTS_MAX && ndim <= SWD_MAX_DIMS);
    part *o = &p->part[p->n++];
    *o = (part){.name = name, .role = role, .dtype = dtype, .ndim = ndim, .share = 1};
    for (int i = 0; i < ndim; i++) o->shape[i] = dims[i];
    return o;
}

double plan_bytes(const plan *p)
{
    double sum = 0;
    for (int i = 0; i < p->n; i++) {
        const part *o = &p->part[i];
        double n = (double)dtype_size(o->dtype) * o->share * (o->role == PART_UPDATED ? 2 : 1);
        for (int k = 0; k < o->ndim; k++) n *= (double)o->shape[k];
        sum += n;
    }
    return sum;
}

const char *plan_precision(const plan *p)
{
    return p->flop > 0 ? "bf16" : dtype_name(p->part[0].dtype);
}

swd_tensor plan_third(swd_tensor qkv, int i)
{
    swd_tensor t = tensor_slice(qkv, 2, i, 1);
    t.ndim = 4;
    t.shape[2] = qkv.shape[3], t.stride[2] = qkv.stride[3];
    t.shape[3] = qkv.shape[4], t.stride[3] = qkv.stride[4];
    return t;
}
