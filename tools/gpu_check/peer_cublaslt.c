// SPDX-License-Identifier: MIT
#include "peer_cublaslt.h"
#include "backend_cuda.h"
#include "base/memory.h"
#include <stdlib.h>

enum { TRIALS = 3 };
static const size_t workspace_max = (size_t)64 << 20;

typedef struct product {
    peer peer; // first
    lt_product *lt;
    lt_algorithm algorithm;
    const void *x;
    void *w, *bias, *workspace;
    cudaStream_t stream;
} product;

static swd_status run(void *arg, swd_err *err)
{
    const product *p = arg;
    return lt_product_run(p->lt, &p->algorithm, p->peer.y, NULL, p->x, p->w, p->workspace,
                          p->stream, err);
}

static void close_product(peer *base)
{
    product *p = (product *)base;
    lt_product_destroy(&p->lt);
    void *const memory[] = {p->w, p->bias, p->workspace, p->peer.y};
    for (int i = 0; i < 4; i++) (void)cudaFree(memory[i]);
    free(p);
}

// A weight or a bias on the device, as bf16.
static swd_status upload(void **out, const job *j, int i, swd_err *err)
{
    const part *o = &j->plan.part[i];
    int64_t n = tensor_numel(tensor_make(NULL, o->dtype, o->shape, o->ndim));
    void *host;
    SWD_TRY(job_weight(&host, &j->plan, i, err), err);
    for (int64_t k = 0; o->dtype == SWD_F32 && k < n; k++)
        ((uint16_t *)host)[k] = f32_to_bf16(((float *)host)[k]); // in place: narrower, in order
    cudaStream_t stream = cuda_stream(j->ex.backend, NULL);
    swd_status st = peer_upload(out, host, (size_t)n * sizeof(uint16_t), stream, err);
    free(host);
    return st;
}

// Keeps the fastest of what is proposed; false where none of that runs.
static bool choose(product *p, timer *t)
{
    lt_algorithm found[LT_PROPOSALS_MAX], best = {0};
    double fastest = 0;
    bool any = false;
    int n = lt_product_propose(found, p->lt, workspace_max);
    for (int i = 0; i < n; i++) {
        bench_stats s, ratio;
        const contestant c = {run, p};
        swd_err refused = {0};
        p->algorithm = found[i];
        if (timer_rounds(&s, &ratio, t, &c, 1, (timer_limits){1, TRIALS, 0}, &refused) != SWD_OK ||
            (any && s.median >= fastest))
            continue;
        fastest = s.median;
        best = found[i];
        any = true;
    }
    p->algorithm = best;
    return any;
}

static swd_status make(bool *any, product *p, const cublaslt *lt, const job *j, timer *t,
                       swd_err *err)
{
    const int64_t m = j->shape->d[0], k = j->shape->d[1], n = j->shape->d[2];
    swd_err refused = {0};
    *any = false;
    SWD_TRY(upload(&p->w, j, 2, err), err);
    SWD_TRY(upload(&p->bias, j, 3, err), err);
    SWD_CUDA(cudaMalloc(&p->workspace, workspace_max), err);
    SWD_CUDA(cudaMalloc(&p->peer.y, (size_t)(m * n) * 2), err);
    const lt_problem problem = {.rows = m,
                                .n = n,
                                .k = k,
                                .ldx = k,
                                .ldw = k,
                                .ldy = n,
                                .operand = K_BF16,
                                .result = K_BF16,
                                .act = (k_act)j->shape->d[3],
                                .bias = p->bias};
    if (lt_product_make(&p->lt, lt, &problem, &refused) != SWD_OK) return SWD_OK;
    *any = choose(p, t);
    return SWD_OK;
}

swd_status peer_cublaslt_make(peer **out, const cublaslt *lt, const job *j, timer *t, swd_err *err)
{
    product *p;
    bool any;
    *out = NULL;
    SWD_TRY(swd_calloc(&p, 1, sizeof *p, "a product of cuBLASLt", err), err);
    p->x = j->t[1].data;
    p->stream = t->stream;
    p->peer = (peer){.name = "cublaslt",
                     .run = run,
                     .close = close_product,
                     .same = j->plan.part[0].role == PART_WRITTEN}; // else it adds to a residual
    swd_status st = make(&any, p, lt, j, t, err);
    if (st == SWD_OK && any)
        *out = &p->peer;
    else
        close_product(&p->peer);
    return st;
}
