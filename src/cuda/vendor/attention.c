// SPDX-License-Identifier: MIT
#include "vendor/attention.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { TOKENS_MIN = 16, HEAD_DIM_MAX = 512, SEVERAL = 4, SEVERAL_TOKENS_MAX = 512 };

static bool whole(k_view v)
{
    return v.stride[0] % 8 == 0 && v.stride[1] % 8 == 0 && v.stride[2] % 8 == 0;
}

static bool library_can(const k_attention_args *a)
{
    const k_dtype dtype = a->k[0].dtype;
    return a->n_streams == 1 && !a->causal && !a->bias && !a->cu[0] && !a->lse[0] &&
           a->n_q[0] >= TOKENS_MIN && a->n_k[0] >= TOKENS_MIN && a->head_dim % 8 == 0 &&
           a->head_dim <= HEAD_DIM_MAX && dtype != K_F32 &&
           (a->o[0].dtype == dtype || a->o[0].dtype == K_F32) && whole(a->q[0]) && whole(a->k[0]) &&
           whole(a->v[0]) && whole(a->o[0]);
}

size_t vendor_attention_planned(const k_attention_args *a, swd_backend *b)
{
    return library_can(a) && vendor_cudnn(b) ? GRAPH_WORKSPACE_MAX + VENDOR_ALIGN : 0;
}

bool vendor_attention_takes(const k_attention_args *a)
{
    return vendor_aligned(a->q[0].data) && vendor_aligned(a->k[0].data) &&
           vendor_aligned(a->v[0].data) && vendor_aligned(a->o[0].data);
}

/* ---- the work ---- */

static swd_status make(dnn_work **out, const cudnn *dnn, const void *args, swd_err *err)
{
    const k_attention_args *a = args;
#define ROWS(x)                                                                                    \
    {                                                                                              \
        (x).stride[1], (x).stride[2]                                                               \
    }
    const dnn_attention d = {.heads = a->heads,
                             .head_dim = a->head_dim,
                             .n_q = a->n_q[0],
                             .n_k = a->n_k[0],
                             .q = ROWS(a->q[0]),
                             .k = ROWS(a->k[0]),
                             .v = ROWS(a->v[0]),
                             .o = ROWS(a->o[0]),
                             .operand = a->k[0].dtype,
                             .result = a->o[0].dtype,
                             .scale = a->scale};
#undef ROWS
    return dnn_attention_make(out, dnn, &d, err);
}

// Of one sample.
static void point(void *pointers[DNN_POINTERS], const k_attention_args *a, int64_t sample)
{
    const k_view v[4] = {a->q[0], a->k[0], a->v[0], a->o[0]};
    for (int i = 0; i < 4; i++)
        pointers[i] = (char *)v[i].data + sample * v[i].stride[0] * cuda_size_of(v[i].dtype);
    pointers[4] = NULL;
}

swd_status vendor_attention_run(const graph_choice *o, const k_attention_args *a, void *workspace,
                                cudaStream_t stream, swd_err *err)
{
    void *pointers[DNN_POINTERS];
    for (int64_t i = 0; i < a->batch; i++) {
        point(pointers, a, i);
        SWD_TRY(graph_choice_run(o, pointers, workspace, stream, err), err);
    }
    return SWD_OK;
}

/* ---- the contest ---- */

static int samples_of(const k_attention_args *a)
{
    return a->n_q[0] <= SEVERAL_TOKENS_MAX ? SEVERAL : 1;
}

// Rows of q, k, v and o lie as in the work, each tensor by itself.
static swd_status operands(graph_trial *t, swd_err *err)
{
    const k_attention_args *a = t->args;
    const k_view v[4] = {a->q[0], a->k[0], a->v[0], a->o[0]};
    for (int i = 0; i < 4; i++) {
        int64_t rows = i == 0 || i == 3 ? a->n_q[0] : a->n_k[0];
        SWD_TRY(measure_operand(&t->memory[i], v[i].dtype, samples_of(a) * rows * v[i].stride[1],
                                t->b, err),
                err);
    }
    return SWD_OK;
}

static k_view moved(k_view v, void *data, int64_t rows)
{
    v.data = data;
    v.stride[0] = rows * v.stride[1];
    return v;
}

// One sample, and where rows are few a batch: what is fast for one alone may be slow for several.
static swd_status compete(void *arg, int contestant, cudaStream_t stream, swd_err *err)
{
    graph_trial *t = arg;
    k_attention_args a = *(const k_attention_args *)t->args;
    a.q[0] = moved(a.q[0], t->memory[0], a.n_q[0]);
    a.k[0] = moved(a.k[0], t->memory[1], a.n_k[0]);
    a.v[0] = moved(a.v[0], t->memory[2], a.n_k[0]);
    a.o[0] = moved(a.o[0], t->memory[3], a.n_q[0]);
    for (a.batch = 1;; a.batch = samples_of(&a)) {
        void *pointers[DNN_POINTERS];
        if (contestant == 0) SWD_CUDA(k_attention(&a, stream), err);
        for (int64_t i = 0; contestant && i < a.batch; i++) {
            point(pointers, &a, i);
            SWD_TRY(graph_trial_run(t, contestant - 1, pointers, stream, err), err);
        }
        if (a.batch == samples_of(&a)) return SWD_OK;
    }
}

const graph_choice *vendor_attention_choice(const k_attention_args *a, swd_backend *b)
{
    static const graph_family family = {make, operands, compete};
    if (!library_can(a) || !vendor_cudnn(b)) return NULL;
    const k_view v[4] = {a->q[0], a->k[0], a->v[0], a->o[0]};
    graph_key key;
    char name[TUNE_TEXT_MAX];
    memset(&key, 0, sizeof key);
    int n = 0;
    key.word[n++] = 'a';
    key.word[n++] = a->heads;
    key.word[n++] = a->head_dim;
    key.word[n++] = a->n_q[0];
    key.word[n++] = a->n_k[0];
    key.word[n++] = (int64_t)a->k[0].dtype;
    key.word[n++] = (int64_t)a->o[0].dtype;
    memcpy(&key.word[n++], &a->scale, sizeof a->scale);
    for (int i = 0; i < 4; i++) {
        key.word[n++] = v[i].stride[1];
        key.word[n++] = v[i].stride[2];
    }
    snprintf(name, sizeof name,
             "attention %d x %d, %d heads of %d, %s%s, rows %" PRId64 " %" PRId64 " %" PRId64
             " %" PRId64 ", heads %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64,
             a->n_q[0], a->n_k[0], a->heads, a->head_dim, a->k[0].dtype == K_BF16 ? "bf16" : "f16",
             a->o[0].dtype == K_F32 ? " to f32" : "", v[0].stride[1], v[1].stride[1],
             v[2].stride[1], v[3].stride[1], v[0].stride[2], v[1].stride[2], v[2].stride[2],
             v[3].stride[2]);
    return graph_choice_of(&key, name, &family, a, b);
}
