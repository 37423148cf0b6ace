// SPDX-License-Identifier: MIT
#include "peers.h"
#include "backend_cuda.h"
#include "base/memory.h"
#include "peer_cublaslt.h"
#include "peer_cudnn.h"
#include <stdlib.h>
#include <string.h>

struct peers {
    cublaslt *lt;
    cudnn *dnn;
};

swd_status peers_open(peers **out, report *r, const char *where, swd_err *err)
{
    peers *p;
    *out = NULL;
    SWD_TRY(swd_calloc(&p, 1, sizeof *p, "libraries", err), err);
    if (where && strcmp(where, "none") == 0) {
        report_fact(r, "cublaslt", "not looked for");
        report_fact(r, "cudnn", "not looked for");
        *out = p;
        return SWD_OK;
    }
    char found[1200];
    swd_status st = cublaslt_open(&p->lt, found, sizeof found, where, err); // first: cuDNN wants it
    if (st == SWD_OK) report_fact(r, "cublaslt", found);
    if (st == SWD_OK) st = cudnn_open(&p->dnn, found, sizeof found, where, err);
    if (st == SWD_OK) report_fact(r, "cudnn", found);
    if (st != SWD_OK) peers_close(&p);
    *out = p;
    return st;
}

void peers_close(peers **p)
{
    if (!*p) return;
    cudnn_close(&(*p)->dnn);
    cublaslt_close(&(*p)->lt);
    free(*p);
    *p = NULL;
}

swd_status peers_make(peer **out, peers *p, const job *j, timer *t, swd_err *err)
{
    *out = NULL;
    if (p->lt && j->linear) return peer_cublaslt_make(out, p->lt, j, t, err);
    if (p->dnn && j->conv) return peer_cudnn_conv(out, p->dnn, j, t, err);
    if (p->dnn && strcmp(j->shape->kind->op, "attention") == 0)
        return peer_cudnn_attention(out, p->dnn, j, t, err);
    return SWD_OK;
}

// On the stream that the work is queued on: another one is not ordered with it.
swd_status peer_upload(void **out, const void *host, size_t bytes, cudaStream_t stream,
                       swd_err *err)
{
    SWD_CUDA(cudaMalloc(out, bytes), err);
    SWD_CUDA(cudaMemcpyAsync(*out, host, bytes, cudaMemcpyHostToDevice, stream), err);
    SWD_CUDA(cudaStreamSynchronize(stream), err);
    return SWD_OK;
}
