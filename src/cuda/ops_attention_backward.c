// SPDX-License-Identifier: MIT
// The slots of attention's backward pass: tensors to k_attention_backward.
#include "backend_cuda.h"

static k_attention_backward_args args_of(const attention_backward_args *a)
{
    const attention_args *f = &a->forward;
    k_attention_backward_args k = {.forward = {.n_streams = f->n_streams,
                                               .batch = (int)f->k[0].shape[0],
                                               .heads = (int)f->k[0].shape[2],
                                               .head_dim = (int)f->k[0].shape[3],
                                               .scale = f->scale}};
    for (int i = 0; i < f->n_streams; i++) {
        k.forward.k[i] = cuda_view(f->k[i]);
        k.forward.v[i] = cuda_view(f->v[i]);
        k.forward.n_k[i] = (int)f->k[i].shape[1];
        k.dk[i] = cuda_grad(a->dk[i]);
        k.dv[i] = cuda_grad(a->dv[i]);
        if (!tensor_present(f->q[i])) continue;
        k.forward.q[i] = cuda_view(f->q[i]);
        k.forward.o[i] = cuda_view(f->o[i]);
        k.forward.lse[i] = f->lse[i].data;
        k.forward.n_q[i] = (int)f->q[i].shape[1];
        k.d_o[i] = cuda_view(a->d_o[i]);
        k.dq[i] = cuda_grad(a->dq[i]);
    }
    return k;
}

// Of shapes alone: while sizes are added up nothing has an address.
static size_t attention_workspace(swd_backend *b, const attention_backward_args *a)
{
    (void)b;
    const attention_args *f = &a->forward;
    int n[2] = {0, 0};
    for (int i = 0; i < f->n_streams; i++)
        if (tensor_present(f->q[i])) n[i] = (int)f->q[i].shape[1];
    return k_attention_backward_workspace((int)f->k[0].shape[0], (int)f->k[0].shape[2], n);
}

static swd_status attention(swd_backend *b, const attention_backward_args *a, void *ws,
                            swd_stream *stream, swd_err *err)
{
    const k_attention_backward_args k = args_of(a);
    SWD_CUDA(k_attention_backward(&k, ws, cuda_stream(b, stream)), err);
    return SWD_OK;
}

void cuda_attention_backward_slots(swd_backend *b)
{
    swd_backward *t = &cuda_of(b)->backward;
    t->attention_workspace = attention_workspace;
    t->attention = attention;
}
