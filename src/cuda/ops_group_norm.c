// SPDX-License-Identifier: MIT
// group_norm of the op table, on kernels/group_norm.cu.
#include "backend_cuda.h"

enum { BATCH_MAX = 65535 }; // a dimension of the grid

static k_group_norm_args args_of(const group_norm_args *a)
{
    return (k_group_norm_args){.y = a->y.data,
                               .x = a->x.data,
                               .y_dtype = cuda_dtype(a->y.dtype),
                               .x_dtype = cuda_dtype(a->x.dtype),
                               .gamma = a->gamma.data,
                               .beta = a->beta.data,
                               .batch = a->x.shape[0],
                               .pixels = a->x.shape[1] * a->x.shape[2],
                               .channels = (int)a->x.shape[3],
                               .groups = a->groups,
                               .eps = a->eps,
                               .silu = a->silu};
}

static size_t group_norm_workspace(swd_backend *b, const group_norm_args *a)
{
    (void)b;
    k_group_norm_args k = args_of(a);
    return k_group_norm_workspace(&k);
}

static swd_status group_norm(swd_backend *b, const group_norm_args *a, void *ws, swd_stream *s,
                             swd_err *err)
{
    if (a->x.shape[0] > BATCH_MAX)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "a group norm of %lld maps; one call takes up to %d",
                        (long long)a->x.shape[0], (int)BATCH_MAX);
    k_group_norm_args k = args_of(a);
    SWD_CUDA(k_group_norm(&k, ws, cuda_stream(b, s)), err);
    return SWD_OK;
}

void cuda_group_norm_slots(swd_ops *ops)
{
    ops->group_norm_workspace = group_norm_workspace;
    ops->group_norm = group_norm;
}
