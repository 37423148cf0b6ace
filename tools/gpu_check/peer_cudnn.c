// SPDX-License-Identifier: MIT
// bf16, float32 sums; maps NHWC, weights [O, kh, kw, I].
#include "peer_cudnn.h"
#include "backend_cuda.h"
#include "base/memory.h"
#include <math.h>
#include <stdlib.h>

enum { TRIALS = 3 };
static const size_t workspace_max = (size_t)1 << 30;

typedef struct piece {
    peer peer; // first
    dnn_work *work;
    int way;
    void *pointers[DNN_POINTERS], *mine[4], *workspace; // mine: to be freed
    size_t workspace_bytes;
    cudaStream_t stream;
} piece;

static swd_status run(void *arg, swd_err *err)
{
    const piece *p = arg;
    return dnn_work_run(p->work, p->way, p->pointers, p->workspace, p->stream, err);
}

static void close_piece(peer *base)
{
    piece *p = (piece *)base;
    dnn_work_destroy(&p->work);
    for (int i = 0; i < 4; i++) (void)cudaFree(p->mine[i]);
    (void)cudaFree(p->workspace);
    (void)cudaFree(p->peer.y);
    free(p);
}

// Keeps the fastest way; *any false where there is none.
static swd_status choose(bool *any, piece *p, timer *t, swd_err *err)
{
    double fastest = 0;
    int best = 0;
    *any = false;
    for (int i = 0; i < dnn_work_ways(p->work); i++) {
        if (dnn_work_may(p->work, i, true)) dnn_work_prepare(p->work, i, workspace_max);
        if (dnn_work_ready(p->work, i) && dnn_work_workspace(p->work, i) > p->workspace_bytes)
            p->workspace_bytes = dnn_work_workspace(p->work, i);
    }
    SWD_CUDA(cudaMalloc(&p->workspace, p->workspace_bytes + 1), err);
    for (int i = 0; i < dnn_work_ways(p->work); i++) {
        bench_stats s, ratio;
        const contestant c = {run, p};
        swd_err refused = {0};
        p->way = i;
        if (!dnn_work_ready(p->work, i) ||
            timer_rounds(&s, &ratio, t, &c, 1, (timer_limits){1, TRIALS, 0}, &refused) != SWD_OK ||
            (*any && s.median >= fastest))
            continue;
        fastest = s.median;
        best = i;
        *any = true;
    }
    p->way = best;
    return SWD_OK;
}

typedef swd_status (*make_fn)(piece *p, const cudnn *dnn, const job *j, swd_err *err);

// make leaves no work where cuDNN does not want it.
static swd_status make_piece(peer **out, make_fn make, bool same, const cudnn *dnn, const job *j,
                             timer *t, swd_err *err)
{
    piece *p;
    bool any = false;
    *out = NULL;
    SWD_TRY(swd_calloc(&p, 1, sizeof *p, "a piece of work of cuDNN", err), err);
    p->stream = t->stream;
    p->peer = (peer){.name = "cudnn", .run = run, .close = close_piece, .same = same};
    swd_status st = make(p, dnn, j, err);
    if (st == SWD_OK && p->work) st = choose(&any, p, t, err);
    if (st == SWD_OK && any)
        *out = &p->peer;
    else
        close_piece(&p->peer);
    return st;
}

/* ---- convolutions ---- */

// [O, I, kh, kw] of the job as [O, kh, kw, I] on the device.
static swd_status upload_filter(void **out, const job *j, cudaStream_t stream, swd_err *err)
{
    const part *o = &j->plan.part[2];
    const int64_t n = o->shape[0], in = o->shape[1], taps = o->shape[2] * o->shape[3];
    void *from;
    uint16_t *to = NULL;
    size_t bytes = (size_t)(n * in * taps) * sizeof *to;
    SWD_TRY(job_weight(&from, &j->plan, 2, err), err);
    swd_status st = swd_malloc(&to, bytes, 1, "a filter", err);
    for (int64_t k = 0; st == SWD_OK && k < n * in * taps; k++)
        to[(k / in / taps * taps + k % taps) * in + k / taps % in] = ((uint16_t *)from)[k];
    if (st == SWD_OK) st = peer_upload(out, to, bytes, stream, err);
    free(from), free(to);
    return st;
}

static swd_status upload_bias(void **out, const job *j, cudaStream_t stream, swd_err *err)
{
    void *host;
    SWD_TRY(job_weight(&host, &j->plan, 3, err), err);
    swd_status st = peer_upload(out, host, (size_t)j->plan.part[3].shape[0] * 4, stream, err);
    free(host);
    return st;
}

static swd_status make_conv(piece *p, const cudnn *dnn, const job *j, swd_err *err)
{
    const int64_t *d = j->shape->d, side = d[0];
    swd_err refused = {0};
    const bool residual = d[4] && j->t[4].data;
    SWD_CUDA(cudaMalloc(&p->peer.y, (size_t)(side * side * d[2]) * 2), err);
    SWD_TRY(upload_filter(&p->mine[0], j, p->stream, err), err);
    SWD_TRY(upload_bias(&p->mine[1], j, p->stream, err), err);
    void *x = j->t[1].data;
    if (j->plan.upsample) {
        const size_t bytes = (size_t)(side * side * d[1]) * 2;
        SWD_CUDA(cudaMalloc(&p->mine[2], bytes), err);
        SWD_CUDA(cudaMemsetAsync(p->mine[2], 0x3c, bytes, p->stream), err); // 0x3c3c is 0.0115
        SWD_CUDA(cudaStreamSynchronize(p->stream), err);
        x = p->mine[2];
    }
    void *const pointers[DNN_POINTERS] = {x, p->mine[0], p->peer.y, p->mine[1],
                                          residual ? j->t[4].data : NULL};
    for (int i = 0; i < DNN_POINTERS; i++) p->pointers[i] = pointers[i];
    const dnn_conv c = {.h = side,
                        .w = side,
                        .ho = side,
                        .wo = side,
                        .in = d[1],
                        .out = d[2],
                        .kh = d[3],
                        .kw = d[3],
                        .stride = 1,
                        .pad = d[3] / 2,
                        .operand = K_BF16,
                        .result = K_BF16,
                        .residual_dtype = K_BF16,
                        .bias = true,
                        .residual = residual};
    swd_status st = dnn_conv_make(&p->work, dnn, &c, &refused);
    return st == SWD_ERR_MEMORY ? SWD_FAIL(err, st, "%s", refused.message) : SWD_OK;
}

swd_status peer_cudnn_conv(peer **out, const cudnn *dnn, const job *j, timer *t, swd_err *err)
{
    const bool same = !j->plan.upsample && j->plan.part[0].dtype == SWD_BF16;
    return make_piece(out, make_conv, same, dnn, j, t, err);
}

/* ---- attention ---- */

// Rows [N, 3, H, d] of all streams.
static swd_status make_attention(piece *p, const cudnn *dnn, const job *j, swd_err *err)
{
    const int64_t *d = j->shape->d, n = d[2] + d[3], width = d[0] * d[1];
    swd_err refused = {0};
    if (d[4] || d[5]) return SWD_OK; // a mask or a bias: not asked for
    SWD_CUDA(cudaMalloc(&p->peer.y, (size_t)(n * width) * 2), err);
    SWD_CUDA(cudaMalloc(&p->mine[0], (size_t)(n * 3 * width) * 2), err);
    uint16_t *qkv = p->mine[0];
    for (int s = 0; s < (d[3] ? 2 : 1); s++)
        SWD_CUDA(cudaMemcpyAsync(qkv + s * d[2] * 3 * width, j->t[2 * s + 1].data,
                                 (size_t)(d[2 + s] * 3 * width) * 2, cudaMemcpyDeviceToDevice,
                                 p->stream),
                 err);
    SWD_CUDA(cudaStreamSynchronize(p->stream), err);
    for (int i = 0; i < 3; i++) p->pointers[i] = qkv + i * width;
    p->pointers[3] = p->peer.y;
    const struct dnn_rows packed = {3 * width, d[1]}, plain = {width, d[1]};
    const dnn_attention a = {.heads = d[0],
                             .head_dim = d[1],
                             .n_q = n,
                             .n_k = n,
                             .q = packed,
                             .k = packed,
                             .v = packed,
                             .o = plain,
                             .operand = K_BF16,
                             .result = K_BF16,
                             .scale = 1 / sqrtf((float)d[1])};
    swd_status st = dnn_attention_make(&p->work, dnn, &a, &refused);
    return st == SWD_ERR_MEMORY ? SWD_FAIL(err, st, "%s", refused.message) : SWD_OK;
}

swd_status peer_cudnn_attention(peer **out, const cudnn *dnn, const job *j, timer *t, swd_err *err)
{
    return make_piece(out, make_attention, true, dnn, j, t, err);
}
