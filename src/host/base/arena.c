// SPDX-License-Identifier: MIT
#include "base/arena.h"
#include "base/memory.h"
#include <string.h>

enum { ALIGNMENT = 64, BLOCK_BYTES_DEFAULT = 1 << 20 };

typedef struct block {
    struct block *next;
    unsigned char *data;
    size_t size, used;
} block;

struct swd_arena {
    block *first, *current; // blocks after current are empty and kept for reuse
    size_t block_bytes, bytes;
};

swd_status arena_create(swd_arena **out, size_t block_bytes, swd_err *err)
{
    SWD_TRY(swd_calloc(out, 1, sizeof **out, "an arena", err), err);
    (*out)->block_bytes = block_bytes ? block_bytes : BLOCK_BYTES_DEFAULT;
    return SWD_OK;
}

void arena_destroy(swd_arena **a)
{
    if (!*a) return;
    for (block *b = (*a)->first, *next; b; b = next) {
        next = b->next;
        free(b->data);
        free(b);
    }
    free(*a);
    *a = NULL;
}

// A block behind the current one that holds bytes: a kept one, or a new one put in front of those that are too small.
static swd_status next_block(swd_arena *a, size_t bytes, swd_err *err)
{
    block **at = a->current ? &a->current->next : &a->first;
    if (!*at || (*at)->size < bytes) {
        block *b;
        size_t size = bytes > a->block_bytes ? bytes : a->block_bytes;
        SWD_TRY(swd_calloc(&b, 1, sizeof *b, "an arena block", err), err);
        swd_status s = swd_malloc(&b->data, size, 1, "an arena block", err);
        if (s != SWD_OK) {
            free(b);
            return s;
        }
        b->size = size;
        b->next = *at;
        *at = b;
        a->bytes += size;
    }
    a->current = *at;
    a->current->used = 0;
    return SWD_OK;
}

swd_status arena_alloc(void *out_pointer, swd_arena *a, size_t n, size_t size, swd_err *err)
{
    size_t bytes;
    if (!size_mul(&bytes, n, size) || !size_add(&bytes, bytes, ALIGNMENT - 1))
        return SWD_FAIL(err, SWD_ERR_MEMORY, "out of memory: %zu x %zu bytes of scratch", n, size);
    bytes = bytes / ALIGNMENT * ALIGNMENT;
    if (!a->current || a->current->size - a->current->used < bytes)
        SWD_TRY(next_block(a, bytes, err), err);
    void *p = a->current->data + a->current->used;
    a->current->used += bytes;
    memcpy(out_pointer, &p, sizeof p);
    return SWD_OK;
}

arena_mark arena_get_mark(const swd_arena *a)
{
    return (arena_mark){.block = a->current, .used = a->current ? a->current->used : 0};
}

void arena_rewind(swd_arena *a, arena_mark mark)
{
    a->current = mark.block;
    if (a->current) a->current->used = mark.used;
}

size_t arena_bytes(const swd_arena *a)
{
    return a->bytes;
}
