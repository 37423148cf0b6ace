// SPDX-License-Identifier: MIT
// The attention slots on CUDA: one launch, no scratch, both streams where they lie; or cuDNN's.
#include "backend_cuda.h"
#include "vendor/attention.h"

static int longest(const attention_samples *s, int stream)
{
    int n = 0;
    for (int b = 0; b < s->n; b++) {
        int rows = s->starts[stream][b + 1] - s->starts[stream][b];
        if (rows > n) n = rows;
    }
    return n;
}

static k_attention_args args_of(const attention_args *a)
{
    k_attention_args k = {.n_streams = a->n_streams,
                          .batch = (int)a->k[0].shape[0],
                          .heads = (int)a->k[0].shape[2],
                          .head_dim = (int)a->k[0].shape[3],
                          .scale = a->scale,
                          .causal = a->causal,
                          .bias = tensor_present(a->bias) ? a->bias.data : NULL};
    const attention_samples *s = a->samples;
    if (s) k.batch = s->n;
    for (int i = 0; i < a->n_streams; i++) {
        if (s) k.cu[i] = s->on_device[i].data;
        k.k[i] = cuda_view(a->k[i]);
        k.v[i] = cuda_view(a->v[i]);
        k.n_k[i] = s ? longest(s, i) : (int)a->k[i].shape[1];
        if (!tensor_present(a->q[i])) continue;
        k.q[i] = cuda_view(a->q[i]);
        k.o[i] = cuda_view(a->o[i]);
        k.n_q[i] = s ? k.n_k[i] : (int)a->q[i].shape[1];
        if (tensor_present(a->lse[i])) k.lse[i] = a->lse[i].data;
    }
    return k;
}

// What may have no memory yet is not told by a pointer.
static bool only_ours(const attention_args *a)
{
    return tensor_present(a->bias) || a->samples || tensor_present(a->lse[0]);
}

static size_t attention_workspace(swd_backend *b, const attention_args *a)
{
    const k_attention_args k = args_of(a);
    if (only_ours(a)) return 0;
    if (cuda_planning(b)) return vendor_attention_planned(&k, b);
    const graph_choice *o = vendor_attention_choice(&k, b);
    return o ? graph_choice_workspace(o) : 0;
}

static swd_status attention(swd_backend *b, const attention_args *a, void *ws, swd_stream *stream,
                            swd_err *err)
{
    const k_attention_args k = args_of(a);
    const graph_choice *o = only_ours(a) ? NULL : vendor_attention_choice(&k, b);
    SWD_TRY(vendor_told(b, err), err);
    if (o && vendor_attention_takes(&k))
        return vendor_attention_run(o, &k, ws, cuda_stream(b, stream), err);
    SWD_CUDA(k_attention(&k, cuda_stream(b, stream)), err);
    return SWD_OK;
}

void cuda_attention_slots(swd_ops *ops)
{
    ops->attention_workspace = attention_workspace;
    ops->attention = attention;
}
