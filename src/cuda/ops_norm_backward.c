// SPDX-License-Identifier: MIT
// Slots of the backward of row norms: tensors to k_norm_backward.
#include "views.h"
#include <string.h>

enum { X, DX, DY, N_OPERANDS = DY + 2 };

// Where factors are per sample the sample stays a dimension of its own.
static cuda_views views_of(const norm_backward_args *a)
{
    const swd_tensor t[N_OPERANDS] = {a->x, a->dx.t, a->dy[0], a->dy[1]};
    return a->per_sample ? cuda_views_by_sample(t, N_OPERANDS) : cuda_views_of(t, N_OPERANDS, 4);
}

static size_t workspace(swd_backend *b, const norm_backward_args *a)
{
    (void)b;
    int n_sums = 0;
    for (int i = 0; i < 2; i++)
        n_sums += tensor_present(a->dfactor[i].t) + tensor_present(a->dshift[i].t);
    return k_norm_backward_workspace(views_of(a).shape, a->per_sample, n_sums);
}

static swd_status norm(swd_backend *b, const norm_backward_args *a, void *ws, swd_stream *s,
                       swd_err *err)
{
    const cuda_views v = views_of(a);
    k_norm_backward_args k = {.rms = a->rms, .per_sample = a->per_sample, .eps = a->eps};
    memcpy(k.shape, v.shape, sizeof k.shape);
    for (int i = 0; i < 2; i++) {
        k.factor[i] = cuda_view(a->factor[i]);
        k.dfactor[i] = cuda_grad(a->dfactor[i]);
        k.dshift[i] = cuda_grad(a->dshift[i]);
    }
    for (int64_t i = 0; i < v.n_launches; i++) {
        k.x = cuda_views_at(&v, X, i);
        k.dx = (k_grad){cuda_views_at(&v, DX, i), a->dx.add};
        for (int j = 0; j < 2; j++) {
            k.dy[j] = cuda_views_at(&v, DY + j, i);
            if (i > 0) k.dfactor[j].add = k.dshift[j].add = true;
        }
        SWD_CUDA(k_norm_backward(&k, ws, cuda_stream(b, s)), err);
    }
    return SWD_OK;
}

void cuda_norm_backward_slots(swd_backend *b)
{
    swd_backward *slots = &cuda_of(b)->backward;
    slots->norm_workspace = workspace;
    slots->norm = norm;
}
