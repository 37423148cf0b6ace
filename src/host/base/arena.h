/* SPDX-License-Identifier: MIT */
/* Scratch memory with mark and rewind: what a request allocates on the host goes away in one step.
 * Blocks are kept over a rewind, so a second request of the same shape allocates nothing. One thread at a time. */
#ifndef SWD_BASE_ARENA_H
#define SWD_BASE_ARENA_H
#include "base/status.h"
#include <stddef.h>

typedef struct swd_arena swd_arena;
typedef struct arena_mark {
    void *block;
    size_t used;
} arena_mark;

/* block_bytes: the least size of a block (0: 1 MB). */
swd_status arena_create(swd_arena **out, size_t block_bytes, swd_err *err);
void arena_destroy(swd_arena **a); /* writes NULL; accepts it */

/* n * size bytes, 64-byte aligned, uninitialised, owned by the arena; lives until a rewind behind it. */
swd_status arena_alloc(void *out_pointer, swd_arena *a, size_t n, size_t size, swd_err *err);
arena_mark arena_get_mark(const swd_arena *a);
void arena_rewind(swd_arena *a, arena_mark mark); /* everything allocated since mark is gone */
size_t arena_bytes(const swd_arena *a);           /* held from the system */
#endif
