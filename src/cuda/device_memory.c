// SPDX-License-Identifier: MIT
#include "device_memory.h"
#include "backend_cuda.h"
#include "base/memory.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- the account ---- */

void *cuda_account_alloc(cuda_account *a, size_t bytes)
{
    void *p = NULL;
    if (swd_grow(&a->blocks, &a->capacity, a->n + 1, sizeof *a->blocks, "a list", NULL) != SWD_OK)
        return NULL;
    if (cudaMalloc(&p, bytes ? bytes : 1) != cudaSuccess) {
        (void)cudaGetLastError(); // the caller says it in its own words
        return NULL;
    }
    a->blocks[a->n++] = (struct cuda_block){p, bytes};
    a->held += bytes;
    if (a->held > a->peak) a->peak = a->held;
    return p;
}

void cuda_account_release(cuda_account *a, void *p)
{
    if (!p) return;
    size_t i = a->n;
    while (i > 0 && a->blocks[i - 1].p != p) i--;
    assert(i > 0 && "memory that was not allocated here");
    a->held -= a->blocks[i - 1].bytes;
    a->blocks[i - 1] = a->blocks[--a->n];
    (void)cudaFree(p);
}

void cuda_account_close(cuda_account *a)
{
    assert(a->n == 0 && "what was allocated outlives its backend");
    free(a->blocks);
    *a = (cuda_account){0};
}

/* ---- staging ---- */

swd_status cuda_staging_open(cuda_staging *g, swd_err *err)
{
    for (int i = 0; i < 2; i++) {
        struct cuda_stage *s = &g->stage[i];
        SWD_CUDA(cudaHostAlloc((void **)&s->memory, CUDA_STAGE_BYTES, cudaHostAllocDefault), err);
        SWD_CUDA(cudaEventCreateWithFlags(&s->read, cudaEventDisableTiming), err);
    }
    return SWD_OK;
}

// The other buffer, once the device has read what was in it.
static swd_status turn(cuda_staging *g, swd_err *err)
{
    struct cuda_stage *next = &g->stage[!g->at];
    if (next->used) SWD_CUDA(cudaEventSynchronize(next->read), err);
    next->used = 0;
    g->at = !g->at;
    return SWD_OK;
}

// Behind the copies so far. Where that fails they are waited for here: the stream may be gone when the buffer has its next turn.
static swd_status mark(struct cuda_stage *s, cudaStream_t stream, swd_err *err)
{
    cudaError_t e = cudaEventRecord(s->read, stream);
    if (e == cudaSuccess) return SWD_OK;
    (void)cudaStreamSynchronize(stream);
    s->used = 0;
    return cuda_status(e, "cudaEventRecord", err);
}

swd_status cuda_staging_copy(cuda_staging *g, void *dst, const void *src, size_t bytes,
                             cudaStream_t stream, swd_err *err)
{
    enum { ALIGN = 256 };
    char *to = dst;
    const char *from = src;
    while (bytes > 0) {
        struct cuda_stage *s = &g->stage[g->at];
        if (s->used == CUDA_STAGE_BYTES || (s->used && s->stream != stream)) {
            SWD_TRY(turn(g, err), err);
            s = &g->stage[g->at];
        }
        size_t room = CUDA_STAGE_BYTES - s->used, n = bytes < room ? bytes : room;
        unsigned char *place = s->memory + s->used;
        memcpy(place, from, n);
        SWD_CUDA(cudaMemcpyAsync(to, place, n, cudaMemcpyHostToDevice, stream), err);
        s->used += (n + ALIGN - 1) / ALIGN * ALIGN;
        s->stream = stream;
        SWD_TRY(mark(s, stream, err), err);
        to += n;
        from += n;
        bytes -= n;
    }
    return SWD_OK;
}

void cuda_staging_close(cuda_staging *g)
{
    for (int i = 0; i < 2; i++) {
        if (g->stage[i].read) (void)cudaEventDestroy(g->stage[i].read);
        (void)cudaFreeHost(g->stage[i].memory);
    }
    *g = (cuda_staging){0};
}
