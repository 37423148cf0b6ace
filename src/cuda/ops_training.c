// SPDX-License-Identifier: MIT
// Slots of training that are rows, elements and the optimizer: tensors to the launchers of kernels/training.h.
#include "views.h"
#include <math.h>
#include <string.h>

static swd_status activation(swd_backend *b, swd_grad dx, swd_tensor x, swd_tensor dy, swd_act act,
                             swd_stream *s, swd_err *err)
{
    const swd_tensor t[] = {dx.t, x, dy};
    const cuda_views v = cuda_views_of(t, 3, 4);
    for (int64_t i = 0; i < v.n_launches; i++)
        SWD_CUDA(k_activation_backward((k_grad){cuda_views_at(&v, 0, i), dx.add},
                                       cuda_views_at(&v, 1, i), cuda_views_at(&v, 2, i), (k_act)act,
                                       v.shape, cuda_stream(b, s)),
                 err);
    return SWD_OK;
}

static size_t sums_workspace(swd_backend *b, swd_tensor d, bool per_sample)
{
    (void)b;
    const cuda_views v = per_sample ? cuda_views_by_sample(&d, 1) : cuda_views_of(&d, 1, 4);
    return k_row_sums_workspace(v.shape, per_sample);
}

static swd_status gate(swd_backend *b, swd_grad dy, swd_grad dgate, swd_tensor d, swd_tensor y,
                       swd_tensor gate, void *ws, swd_stream *s, swd_err *err)
{
    if (!tensor_present(gate) && !tensor_present(dgate.t)) // d may have any number of dimensions
        return tensor_present(dy.t) ? activation(b, dy, d, d, SWD_ACT_NONE, s, err) : SWD_OK;
    const swd_tensor t[] = {d, dy.t, tensor_present(dgate.t) ? y : tensor_none()};
    const cuda_views v = cuda_views_by_sample(t, 3);
    k_row_sums_args k = {.d = cuda_views_at(&v, 0, 0),
                         .out = {cuda_views_at(&v, 1, 0), dy.add},
                         .y = cuda_views_at(&v, 2, 0),
                         .sums = cuda_grad(dgate),
                         .gate = cuda_view(gate),
                         .out_scale = 1,
                         .sums_scale = 1,
                         .per_sample = true};
    memcpy(k.shape, v.shape, sizeof k.shape);
    SWD_CUDA(k_row_sums(&k, ws, cuda_stream(b, s)), err);
    return SWD_OK;
}

static swd_status column_sums(swd_backend *b, swd_grad sums, swd_tensor d, void *ws, swd_stream *s,
                              swd_err *err)
{
    const cuda_views v = cuda_views_of(&d, 1, 4);
    k_row_sums_args k = {.sums = cuda_grad(sums), .sums_scale = 1};
    memcpy(k.shape, v.shape, sizeof k.shape);
    for (int64_t i = 0; i < v.n_launches; i++) {
        k.d = cuda_views_at(&v, 0, i);
        SWD_CUDA(k_row_sums(&k, ws, cuda_stream(b, s)), err);
        k.sums.add = true;
    }
    return SWD_OK;
}

static swd_status mean_tokens(swd_backend *b, swd_tensor y, swd_tensor x, void *ws, swd_stream *s,
                              swd_err *err)
{
    const cuda_views v = cuda_views_by_sample(&x, 1);
    k_row_sums_args k = {.sums = {cuda_view(y), false},
                         .d = cuda_views_at(&v, 0, 0),
                         .sums_scale = 1.0f / (float)x.shape[1],
                         .per_sample = true};
    memcpy(k.shape, v.shape, sizeof k.shape);
    SWD_CUDA(k_row_sums(&k, ws, cuda_stream(b, s)), err);
    return SWD_OK;
}

static swd_status mean_tokens_backward(swd_backend *b, swd_grad dx, swd_tensor dy, swd_stream *s,
                                       swd_err *err)
{
    const cuda_views v = cuda_views_by_sample(&dx.t, 1);
    k_row_sums_args k = {.out = {cuda_views_at(&v, 0, 0), dx.add},
                         .gate = cuda_view(dy),
                         .out_scale = 1.0f / (float)dx.t.shape[1],
                         .per_sample = true};
    memcpy(k.shape, v.shape, sizeof k.shape);
    SWD_CUDA(k_row_sums(&k, NULL, cuda_stream(b, s)), err);
    return SWD_OK;
}

static swd_status patchify(swd_backend *b, swd_grad dx, swd_tensor dy, int patch, swd_stream *s,
                           swd_err *err)
{
    const int64_t *n = dx.t.shape;
    SWD_CUDA(k_patchify_backward(dx.t.data, dx.add, cuda_view(dy), patch, n[0], n[1], n[2], n[3],
                                 cuda_stream(b, s)),
             err);
    return SWD_OK;
}

static swd_status unpatchify(swd_backend *b, swd_grad dy, swd_tensor dx, int patch, swd_stream *s,
                             swd_err *err)
{
    const int64_t *n = dx.shape;
    SWD_CUDA(k_unpatchify_backward(cuda_grad(dy), dx.data, patch, n[0], n[1], n[2], n[3],
                                   cuda_stream(b, s)),
             err);
    return SWD_OK;
}

static swd_status resize(swd_backend *b, swd_grad dx, swd_grad dv, const resize_renoise_args *a,
                         swd_tensor dy, swd_stream *s, swd_err *err)
{
    const k_resize_backward_args k = {.dx = dx.t.data,
                                      .dv = dv.t.data,
                                      .add_x = dx.add,
                                      .add_v = dv.add,
                                      .dy = dy.data,
                                      .steps = a->steps.data,
                                      .batch = a->x.shape[0],
                                      .c = a->x.shape[1],
                                      .h = (int)a->x.shape[2],
                                      .w = (int)a->x.shape[3],
                                      .out_h = (int)dy.shape[2],
                                      .out_w = (int)dy.shape[3]};
    SWD_CUDA(k_resize_backward(&k, cuda_stream(b, s)), err);
    return SWD_OK;
}

// The moments' corrections in double, as torch has them.
static swd_status adamw(swd_backend *b, const adamw_args *a, swd_stream *s, swd_err *err)
{
    const k_adamw_args k = {
        .p = a->p.data,
        .m = a->m.data,
        .v = a->v.data,
        .g = a->g.data,
        .n = tensor_numel(a->p),
        .g_scale = (float)a->g_scale,
        .b1 = (float)a->beta1,
        .c1 = (float)(1 - a->beta1),
        .b2 = (float)a->beta2,
        .c2 = (float)(1 - a->beta2),
        .decay = (float)(1 - a->lr * a->weight_decay),
        .size = (float)(a->lr / (1 - pow(a->beta1, (double)a->step))),
        .root = (float)(1 / sqrt(1 - pow(a->beta2, (double)a->step))),
        .eps = (float)a->eps,
    };
    SWD_CUDA(k_adamw(&k, cuda_stream(b, s)), err);
    return SWD_OK;
}

// Waits: a stream that is being captured refuses it. Whatever fails, nothing is under way to *out any more.
static swd_status sum_squares(swd_backend *b, double *out, swd_tensor x, swd_stream *s,
                              swd_err *err)
{
    double *squares = cuda_of(b)->squares;
    cudaStream_t stream = cuda_stream(b, s);
    SWD_CUDA(k_sum_squares(squares, x.data, tensor_numel(x), stream), err);
    cudaError_t asked = cudaMemcpyAsync(out, squares, sizeof *out, cudaMemcpyDeviceToHost, stream);
    SWD_CUDA(cudaStreamSynchronize(stream), err);
    return cuda_status(asked, "cudaMemcpyAsync", err);
}

void cuda_training_slots(swd_backend *b)
{
    swd_backward *slots = &cuda_of(b)->backward;
    slots->activation = activation;
    slots->sums_workspace = sums_workspace;
    slots->gate = gate;
    slots->column_sums = column_sums;
    slots->mean_tokens = mean_tokens;
    slots->mean_tokens_backward = mean_tokens_backward;
    slots->patchify = patchify;
    slots->unpatchify = unpatchify;
    slots->resize = resize;
    slots->adamw = adamw;
    slots->sum_squares = sum_squares;
}
