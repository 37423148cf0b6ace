/* SPDX-License-Identifier: MIT */
/* Device memory with its account, and the way of host memory to the device. */
#ifndef SWD_CUDA_DEVICE_MEMORY_H
#define SWD_CUDA_DEVICE_MEMORY_H
#include "base/status.h"
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One allocation that pieces are cut from. */
typedef struct cuda_slab {
    char *p;
    size_t bytes, used;
} cuda_slab;

enum { CUDA_SLABS_MAX = 16, CUDA_ALIGN = 256 };

/* What was allocated and by how much it grew; zeroed at the start. */
typedef struct cuda_account {
    struct cuda_block {
        void *p;
        size_t bytes;
        bool planned; /* an address alone */
    } * blocks;
    size_t n, capacity;
    size_t held, peak;                     /* bytes */
    size_t planned;                        /* bytes, not held */
    cuda_slab *slabs[CUDA_SLABS_MAX], *at; /* at: where pieces come from; NULL: each for itself */
    int planning;                          /* plans under way, one within another */
    uintptr_t next; /* address of the next planned block, where there are any */
} cuda_account;

/* NULL where there is no memory left. */
void *cuda_account_alloc(cuda_account *a, size_t bytes);
void cuda_account_release(cuda_account *a, void *p); /* accepts NULL; waits for the device */
void cuda_account_close(cuda_account *a);            /* everything is released */
/* NULL likewise. at: not the one that is destroyed. */
cuda_slab *cuda_slab_create(cuda_account *a, size_t bytes);
void cuda_slab_destroy(cuda_account *a, cuda_slab *s);

/* Two pinned buffers that take turns: while the device reads one the next bytes are copied (for a mapped file: read) into the other.
 * Small pieces share a buffer. */
enum { CUDA_STAGE_BYTES = 4 << 20 };
typedef struct cuda_staging {
    struct cuda_stage {
        unsigned char *memory;
        size_t used;
        cudaStream_t stream; /* of the copies from it; compared, no more */
        cudaEvent_t read;    /* behind the last of them */
    } stage[2];
    int at;
} cuda_staging;

/* Close it on failure too. */
swd_status cuda_staging_open(cuda_staging *g, swd_err *err);
/* dst in the order of stream; src is free again when this returns. */
swd_status cuda_staging_copy(cuda_staging *g, void *dst, const void *src, size_t bytes,
                             cudaStream_t stream, swd_err *err);
void cuda_staging_close(cuda_staging *g); /* no copy is under way; accepts a zeroed one */
#endif
