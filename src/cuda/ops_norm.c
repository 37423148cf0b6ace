// SPDX-License-Identifier: MIT
// Slots of the row norms: tensors to k_norm and k_qk_norm_rope.
#include "views.h"

// A weight [D] that all rows share, or the absent view.
static k_view shared(swd_tensor t)
{
    k_view v = cuda_view(t);
    v.stride[0] = 0;
    return v;
}

static swd_status run(swd_backend *b, const norm_args *a, bool rms, swd_stream *s, swd_err *err)
{
    const swd_tensor t[] = {a->y, a->x};
    cuda_views v = cuda_views_of(t, 2, 3);
    k_norm_args k = {.scale = shared(a->weight),
                     .shift = shared(a->bias),
                     .rms = rms,
                     .eps = a->eps,
                     .batch = v.shape[0],
                     .rows = v.shape[1],
                     .dim = (int)v.shape[2]};
    for (int64_t i = 0; i < v.n_launches; i++) {
        k.y = cuda_views_at(&v, 0, i);
        k.x = cuda_views_at(&v, 1, i);
        SWD_CUDA(k_norm(&k, cuda_stream(b, s)), err);
    }
    return SWD_OK;
}

static swd_status layernorm(swd_backend *b, const norm_args *a, swd_stream *s, swd_err *err)
{
    return run(b, a, false, s, err);
}

static swd_status rms_norm(swd_backend *b, const norm_args *a, swd_stream *s, swd_err *err)
{
    return run(b, a, true, s, err);
}

static swd_status layernorm_modulate(swd_backend *b, const modulate_args *a, swd_stream *s,
                                     swd_err *err)
{
    k_norm_args k = {.y = cuda_view(a->y[0]),
                     .y2 = cuda_view(a->y[1]),
                     .x = cuda_view(a->x),
                     .scale = cuda_view(a->scale[0]),
                     .shift = cuda_view(a->shift[0]),
                     .scale2 = cuda_view(a->scale[1]),
                     .shift2 = cuda_view(a->shift[1]),
                     .plus_one = true,
                     .eps = a->eps,
                     .batch = a->x.shape[0],
                     .rows = a->x.shape[1],
                     .dim = (int)a->x.shape[2]};
    SWD_CUDA(k_norm(&k, cuda_stream(b, s)), err);
    return SWD_OK;
}

static swd_status qk_norm_rope(swd_backend *b, const qk_norm_args *a, swd_stream *s, swd_err *err)
{
    k_qk_norm_args k = {.q = cuda_view(a->q),
                        .k = cuda_view(a->k),
                        .weight_q = a->weight_q.data,
                        .weight_k = a->weight_k.data,
                        .cos = a->cos.data,
                        .sin = a->sin.data,
                        .eps = a->eps,
                        .batch = a->q.shape[0],
                        .tokens = a->q.shape[1],
                        .heads = a->q.shape[2],
                        .d = (int)a->q.shape[3]};
    SWD_CUDA(k_qk_norm_rope(&k, cuda_stream(b, s)), err);
    return SWD_OK;
}

void cuda_norm_slots(swd_ops *ops)
{
    ops->layernorm = layernorm;
    ops->layernorm_modulate = layernorm_modulate;
    ops->rms_norm = rms_norm;
    ops->qk_norm_rope = qk_norm_rope;
}
