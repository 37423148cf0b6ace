/* SPDX-License-Identifier: MIT */
/* What the files of the tape share: regions of memory with their gradients, records of calls, values kept for the backward pass. */
#ifndef SWD_TRAIN_TAPE_PARTS_H
#define SWD_TRAIN_TAPE_PARTS_H
#include "base/arena.h"
#include "train/tape.h"

enum { REGION_PARTS_MAX = 12, SAVED_MAX = 8, SEGMENT_TENSORS_MAX = 4 };

/* One allocation, or a tensor outside the slab. */
typedef struct region {
    unsigned char *base;
    size_t bytes;
    swd_dtype dtype;
    bool needs;    /* a gradient: something that learns is behind it */
    size_t born;   /* records when it was allocated */
    int last_save; /* index into saves, -1: none */
    /* its gradient */
    swd_tensor parameter; /* present: added to here */
    unsigned char
        *grad;  /* NULL: none yet. Else the same layout as the region, elements of grad_dtype() */
    bool whole; /* all of it has a value; else the parts have, and the rest is zero */
    int n_parts;
    swd_tensor part[REGION_PARTS_MAX];
} region;

/* A value that record's slot points to; it is moved aside before it is overwritten. */
typedef struct save {
    swd_tensor *slot;
    int before; /* the region's previous one */
} save;

/* A piece of forward code that is run again in the backward pass. */
typedef struct segment {
    swd_segment fn;
    void *args;
    int n;
    swd_tensor inout[SEGMENT_TENSORS_MAX], value[SEGMENT_TENSORS_MAX];
    bool needs[SEGMENT_TENSORS_MAX];
} segment;

typedef struct active_set {
    const layer_set *set;
    bool train;
} active_set;

typedef struct record {
    op_call call; /* with the tensors as they were given: the gradients' addresses */
    enum { RECORD_CALL, RECORD_FORGET, RECORD_SEGMENT } kind;
    unsigned needs;              /* a bit per input, in the op's own order */
    swd_tensor saved[SAVED_MAX]; /* values, wherever they lie by now */
    const trained_layer *layer;
    bool train;
    segment *segment;
    active_set active[TAPE_SETS_MAX];
    int n_active, n_saves; /* saves before it */
} record;

typedef struct pool_block {
    size_t offset, bytes;
    bool used;
} pool_block;

typedef struct plain_weight {
    const swd_linear *w;
    swd_tensor t;
} plain_weight;

struct tape {
    swd_hook hook; /* first: a hook is a tape */
    swd_backend *be;
    swd_err *err;
    swd_status status; /* of what could not report: an allocation that was not noted */
    enum { TAPE_OFF, TAPE_ON, TAPE_AGAIN } mode; /* AGAIN: what runs now will run again */
    bool checkpoint, dry;
    active_set active[TAPE_SETS_MAX];
    int n_active;

    region *outer; /* sorted by address */
    size_t n_outer, outer_room;
    region *inner; /* of the slab, ascending */
    size_t n_inner, inner_room;
    record **record;
    size_t n_records, record_room;
    save *saves;
    size_t n_saves, save_room;
    swd_arena *arena; /* of records and segments */

    unsigned char *slab, *pool;
    size_t slab_bytes, pool_bytes, pool_end, pool_peak;
    pool_block *block;
    size_t n_blocks, block_room;
    plain_weight *plain;
    size_t n_plain, plain_room, plain_bytes;
};

static inline swd_dtype grad_dtype(swd_dtype value)
{
    return value == SWD_BF16 ? SWD_BF16 : SWD_F32;
}

/* tape_memory.c */
region *tape_region(tape *t, const void *p); /* NULL: memory that no gradient is wanted of */
bool tape_needs(tape *t, swd_tensor x);
/* Where the gradient of x goes; absent where it needs none. The next call for the same elements adds. */
swd_status tape_grad(swd_grad *out, tape *t, swd_tensor x, swd_exec *ex);
/* The gradient of y as it stands; absent: zero. */
swd_tensor tape_grad_read(tape *t, swd_tensor y);
/* y is about to be something else: what lies there in the gradient belongs to nobody. */
swd_status tape_grad_clear(tape *t, swd_tensor y, swd_exec *ex);
void tape_grad_release(tape *t, region *r);
void tape_pool_reset(tape *t);
/* Notes that *slot, whose value now lies at x, is read later. */
swd_status tape_save(tape *t, swd_tensor *slot, swd_tensor x);
/* An op is about to write y. */
swd_status tape_writes(tape *t, swd_tensor y, swd_exec *ex);
void tape_drop_saves(tape *t, size_t n);
swd_status tape_plain_weight(swd_tensor *out, tape *t, const swd_linear *w);

/* tape_forward.c: the hook. tape_off and tape_on bracket ops that go straight to the slots. */
swd_status tape_call(swd_hook *h, const op_call *c, swd_exec *ex);
swd_status tape_push(record **out, tape *t, const op_call *c);
static inline swd_hook *tape_off(swd_exec *ex)
{
    swd_hook *h = ex->hook;
    ex->hook = NULL;
    return h;
}
/* After the result is computed: y needs a gradient, or, written by something that does not learn, no longer. */
swd_status tape_wrote(tape *t, swd_tensor y, bool needs);

/* tape_linear.c */
swd_status tape_linear(tape *t, const op_call *c, swd_exec *ex);
swd_status tape_linear_backward(tape *t, const record *r, swd_exec *ex);

/* tape_backward.c: one record, on an exec without hook */
swd_status tape_backward_call(tape *t, const record *r, swd_exec *ex);
/* to (+)= k * d, in place if to is what d is the gradient of. */
swd_status tape_pass(tape *t, swd_tensor to, float k, swd_tensor d, swd_exec *ex);
#endif
