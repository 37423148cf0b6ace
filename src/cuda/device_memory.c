// SPDX-License-Identifier: MIT
#include "device_memory.h"
#include "backend_cuda.h"
#include "base/memory.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- the account ---- */

static size_t rounded(size_t bytes)
{
    return (bytes + !bytes + CUDA_ALIGN - 1) / CUDA_ALIGN * CUDA_ALIGN;
}

static void *block_alloc(cuda_account *a, size_t bytes)
{
    void *p = NULL;
    if (swd_grow(&a->blocks, &a->capacity, a->n + 1, sizeof *a->blocks, "a list", NULL) != SWD_OK)
        return NULL;
    if (a->planning) {
        if (!a->planned) a->next = CUDA_ALIGN; // nobody has one: from the start again
        bytes = rounded(bytes);
        p = (void *)a->next;
        a->next += bytes;
        a->planned += bytes;
    } else if (cudaMalloc(&p, bytes ? bytes : 1) != cudaSuccess) {
        (void)cudaGetLastError(); // the caller says it in its own words
        return NULL;
    } else {
        a->held += bytes;
        if (a->held > a->peak) a->peak = a->held;
    }
    a->blocks[a->n++] = (struct cuda_block){p, bytes, a->planning > 0};
    return p;
}

static void block_release(cuda_account *a, void *p)
{
    size_t i = a->n;
    while (i > 0 && a->blocks[i - 1].p != p) i--;
    assert(i > 0 && "memory that was not allocated here");
    struct cuda_block b = a->blocks[i - 1];
    a->blocks[i - 1] = a->blocks[--a->n];
    *(b.planned ? &a->planned : &a->held) -= b.bytes;
    if (!b.planned) (void)cudaFree(p);
}

void *cuda_account_alloc(cuda_account *a, size_t bytes)
{
    cuda_slab *s = a->at;
    if (!s) return block_alloc(a, bytes);
    if (rounded(bytes) > s->bytes - s->used) return NULL;
    void *p = s->p + s->used;
    s->used += rounded(bytes);
    return p;
}

void cuda_account_release(cuda_account *a, void *p)
{
    if (!p) return;
    for (int i = 0; i < CUDA_SLABS_MAX; i++) {
        uintptr_t start = a->slabs[i] ? (uintptr_t)a->slabs[i]->p : 0;
        if (start && (uintptr_t)p - start < a->slabs[i]->bytes) return;
    }
    block_release(a, p);
}

cuda_slab *cuda_slab_create(cuda_account *a, size_t bytes)
{
    int i = 0;
    while (i < CUDA_SLABS_MAX && a->slabs[i]) i++;
    cuda_slab *s = i < CUDA_SLABS_MAX ? calloc(1, sizeof *s) : NULL;
    if (!s) return NULL;
    s->bytes = rounded(bytes);
    s->p = block_alloc(a, s->bytes);
    if (!s->p) {
        free(s);
        return NULL;
    }
    return a->slabs[i] = s;
}

void cuda_slab_destroy(cuda_account *a, cuda_slab *s)
{
    int i = 0;
    while (a->slabs[i] != s) i++;
    a->slabs[i] = NULL;
    block_release(a, s->p);
    free(s);
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
        s->used += rounded(n);
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
