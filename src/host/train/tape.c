// SPDX-License-Identifier: MIT
// The tape: a step from begin to end, segments, and the walk back.
#include "train/tape.h"
#include "base/memory.h"
#include "train/tape_parts.h"
#include <stdlib.h>
#include <string.h>

/* ---- the hook ---- */

static void allocated(swd_hook *h, swd_tensor x)
{
    tape *t = (tape *)(void *)h;
    if (t->status == SWD_OK)
        t->status = swd_grow(&t->inner, &t->inner_room, t->n_inner + 1, sizeof *t->inner,
                             "the list of activations", t->err);
    if (t->status != SWD_OK) return;
    t->inner[t->n_inner++] = (region){.base = x.data,
                                      .bytes = tensor_bytes(x),
                                      .dtype = x.dtype,
                                      .born = t->n_records,
                                      .last_save = -1};
}

static void drop_inner(tape *t, size_t n)
{
    while (t->n_inner > n) tape_grad_release(t, &t->inner[--t->n_inner]);
}

static bool rewind_hook(swd_hook *h, unsigned char *to)
{
    tape *t = (tape *)(void *)h;
    if (t->mode == TAPE_ON) return false;
    size_t n = t->n_inner;
    while (n && t->inner[n - 1].base >= to) n--;
    drop_inner(t, n);
    return true;
}

static swd_status note_segment(record **out, tape *t, swd_segment fn, const void *args,
                               size_t bytes, const swd_tensor *inout, int n, swd_exec *ex)
{
    segment *g;
    SWD_TRY(tape_push(out, t, &(op_call){.op = OP_KINDS}), ex->err);
    SWD_TRY(arena_alloc(&g, t->arena, 1, sizeof *g, ex->err), ex->err);
    *g = (segment){.fn = fn, .n = n};
    SWD_TRY(arena_alloc(&g->args, t->arena, 1, bytes, ex->err), ex->err);
    memcpy(g->args, args, bytes);
    (*out)->kind = RECORD_SEGMENT;
    (*out)->segment = g;
    (*out)->n_active = t->n_active;
    memcpy((*out)->active, t->active, sizeof t->active);
    for (int i = 0; i < n; i++) {
        g->inout[i] = inout[i];
        g->needs[i] = tape_needs(t, inout[i]);
        SWD_TRY(tape_writes(t, inout[i], ex), ex->err);
        swd_hook *hook = tape_off(ex);
        g->value[i] = exec_alloc(ex, inout[i].dtype, inout[i].shape, inout[i].ndim);
        swd_status s = op_copy(g->value[i], inout[i], ex);
        ex->hook = hook;
        SWD_TRY(s, ex->err);
    }
    return SWD_OK;
}

static swd_status run_segment(swd_hook *h, swd_segment fn, const void *args, size_t bytes,
                              const swd_tensor *inout, int n, swd_exec *ex)
{
    tape *t = (tape *)(void *)h;
    if (t->mode != TAPE_ON || !t->checkpoint) return fn(args, ex);
    if (n > SEGMENT_TENSORS_MAX)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "a segment that changes %d tensors", n);
    record *r;
    SWD_TRY(note_segment(&r, t, fn, args, bytes, inout, n, ex), ex->err);
    t->mode = TAPE_AGAIN;
    swd_status s = fn(args, ex);
    t->mode = TAPE_ON;
    return s;
}

/* ---- backward ---- */

static swd_status walk(tape *t, size_t floor, size_t floor_inner, swd_exec *ex);

// The segment once more, now recorded, from what its tensors held; then back through it.
static swd_status segment_backward(tape *t, const record *r, swd_exec *ex)
{
    const segment *g = r->segment;
    size_t mark = exec_mark(ex), records = t->n_records, inner = t->n_inner;
    arena_mark arena = arena_get_mark(t->arena);
    for (int i = 0; i < g->n; i++) {
        SWD_TRY(op_copy(g->inout[i], g->value[i], ex), ex->err);
        region *at = tape_region(t, g->inout[i].data);
        if (at) at->needs = g->needs[i];
    }
    tape_use_none(t);
    for (int i = 0; i < r->n_active; i++) tape_use(t, r->active[i].set, r->active[i].train);
    t->mode = TAPE_ON;
    t->checkpoint = false; // a segment within it is kept
    ex->hook = &t->hook;
    swd_status s = g->fn(g->args, ex);
    ex->hook = NULL;
    t->checkpoint = true;
    t->mode = TAPE_OFF;
    if (s == SWD_OK) s = walk(t, records, inner, ex);
    drop_inner(t, inner);
    exec_rewind(ex, mark);
    arena_rewind(t->arena, arena);
    return s;
}

// Records from the last one down to `floor`, and with each the activations that are younger.
static swd_status walk(tape *t, size_t floor, size_t floor_inner, swd_exec *ex)
{
    while (t->n_records > floor) {
        const record *r = t->record[t->n_records - 1];
        if (r->kind == RECORD_SEGMENT)
            SWD_TRY(segment_backward(t, r, ex), ex->err);
        else if (r->kind == RECORD_FORGET)
            SWD_TRY(tape_grad_clear(t, r->call.plain.y, ex), ex->err);
        else
            SWD_TRY(tape_backward_call(t, r, ex), ex->err);
        tape_drop_saves(t, (size_t)r->n_saves);
        t->n_records--;
        size_t n = t->n_inner;
        while (n > floor_inner && t->inner[n - 1].born >= t->n_records) n--;
        drop_inner(t, n);
    }
    return SWD_OK;
}

swd_status tape_seed(tape *t, swd_tensor y, swd_tensor dy, swd_exec *ex)
{
    swd_hook *hook = tape_off(ex);
    swd_status s = tape_needs(t, y) ? tape_pass(t, y, 1, dy, ex) : SWD_OK;
    ex->hook = hook;
    return s;
}

swd_status tape_backward(tape *t, swd_exec *ex)
{
    SWD_TRY(t->status, ex->err);
    swd_hook *hook = tape_off(ex);
    t->mode = TAPE_OFF;
    swd_status s = walk(t, 0, 0, ex);
    for (size_t i = 0; i < t->n_outer && s == SWD_OK; i++) { // what nothing depends on: zero
        region *r = &t->outer[i];
        swd_grad g;
        if (r->grad || !r->needs || tensor_present(r->parameter)) continue;
        int64_t n = (int64_t)(r->bytes / dtype_size(r->dtype));
        s = tape_grad(&g, t, tensor1(r->base, r->dtype, n), ex);
        if (s == SWD_OK) s = op_fill(g.t, 0, ex);
    }
    ex->hook = hook;
    return s;
}

/* ---- what learns ---- */

static swd_status add_outer(tape *t, const region *r)
{
    SWD_TRY(swd_grow(&t->outer, &t->outer_room, t->n_outer + 1, sizeof *t->outer,
                     "the list of variables", t->err),
            t->err);
    size_t at = t->n_outer;
    while (at && t->outer[at - 1].base > r->base) at--;
    memmove(t->outer + at + 1, t->outer + at, (t->n_outer - at) * sizeof *t->outer);
    t->outer[at] = *r;
    t->n_outer++;
    return SWD_OK;
}

static region region_of(swd_tensor x)
{
    int64_t elements = 1;
    for (int i = 0; i < x.ndim; i++) elements += (x.shape[i] - 1) * x.stride[i];
    return (region){.base = x.data,
                    .bytes = (size_t)elements * dtype_size(x.dtype),
                    .dtype = x.dtype,
                    .last_save = -1};
}

swd_status tape_variable(tape *t, swd_tensor x)
{
    region r = region_of(x);
    r.needs = true;
    return add_outer(t, &r);
}

swd_status tape_track(tape *t, swd_tensor y)
{
    region r = region_of(y);
    return add_outer(t, &r);
}

swd_tensor tape_gradient(tape *t, swd_tensor x)
{
    return t->dry ? tensor_none() : tape_grad_read(t, x);
}

// A vector's region comes with the first use that trains it, and stays.
static void use_vectors(tape *t, const layer_set *set, bool train)
{
    for (int i = 0; i < set->n_vectors && t->status == SWD_OK; i++) {
        const trained_vector *v = &set->vector[i];
        region *r = tape_region(t, v->value.data);
        if (r)
            r->needs = train;
        else if (train)
            t->status = add_outer(t, &(region){.base = v->value.data,
                                               .bytes = tensor_bytes(v->value),
                                               .dtype = SWD_F32,
                                               .needs = true,
                                               .last_save = -1,
                                               .parameter = v->grad});
    }
}

void tape_use(tape *t, const layer_set *set, bool train)
{
    int i = 0;
    while (i < t->n_active && t->active[i].set != set) i++;
    if (i == TAPE_SETS_MAX) {
        t->status = SWD_FAIL(t->err, SWD_ERR_ARGUMENT, "more than %d sets of layers in use",
                             (int)TAPE_SETS_MAX);
        return;
    }
    t->active[i] = (active_set){set, train};
    if (i == t->n_active) t->n_active++;
    use_vectors(t, set, train);
}

void tape_use_none(tape *t)
{
    for (int i = 0; i < t->n_active; i++) use_vectors(t, t->active[i].set, false);
    t->n_active = 0;
}

void tape_record(tape *t, bool on)
{
    t->mode = on ? TAPE_ON : TAPE_OFF;
}

void tape_checkpoint(tape *t, bool on)
{
    t->checkpoint = on;
}

/* ---- a step ---- */

swd_status tape_create(tape **out, swd_backend *be, swd_err *err)
{
    *out = NULL;
    tape *t;
    if (!be->backward)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "the backend %s does not train", be->name);
    SWD_TRY(swd_calloc(&t, 1, sizeof *t, "a tape", err), err);
    t->be = be;
    t->hook = (swd_hook){tape_call, allocated, rewind_hook, run_segment};
    swd_status s = arena_create(&t->arena, 0, err);
    if (s != SWD_OK) tape_destroy(&t);
    *out = t;
    return s;
}

void tape_destroy(tape **tp)
{
    tape *t = *tp;
    if (!t) return;
    for (size_t i = 0; i < t->n_plain; i++) t->be->release(t->be, t->plain[i].t.data);
    if (t->slab) t->be->release(t->be, t->slab);
    if (t->pool) t->be->release(t->be, t->pool);
    arena_destroy(&t->arena);
    free(t->outer), free(t->inner), free(t->record), free(t->saves), free(t->block);
    free(t->plain);
    free(t);
    *tp = NULL;
}

static swd_status pass(tape *t, tape_step step, void *ctx, swd_exec *ex)
{
    t->err = ex->err;
    t->dry = ex->dry;
    t->status = SWD_OK;
    t->mode = TAPE_ON;
    t->n_active = 0;
    t->n_outer = t->n_inner = t->n_records = t->n_saves = 0;
    t->pool_peak = 0;
    tape_pool_reset(t);
    arena_mark mark = arena_get_mark(t->arena);
    ex->hook = &t->hook;
    swd_status s = step(ctx, t, ex);
    if (s == SWD_OK) s = t->status;
    arena_rewind(t->arena, mark);
    return s;
}

// Addresses that nothing lies at: slab and gradients of a dry step.
static unsigned char *nowhere(int i)
{
    return (unsigned char *)((uintptr_t)(i + 1) << 44);
}

swd_status tape_measure(tape_memory *out, tape *t, tape_step step, void *ctx, swd_dtype act,
                        swd_err *err)
{
    size_t plain = t->n_plain, bytes = t->plain_bytes;
    unsigned char *slab = t->slab, *pool = t->pool;
    swd_exec ex = {.backend = t->be, .err = err, .dry = true, .act = act, .slab = nowhere(0)};
    t->pool = nowhere(1);
    swd_status s = pass(t, step, ctx, &ex);
    *out = (tape_memory){ex.peak, t->pool_peak, t->plain_bytes};
    t->slab = slab;
    t->pool = pool;
    t->n_plain = plain;
    t->plain_bytes = bytes;
    return s;
}

void tape_memory_most(tape_memory *out, const tape_memory *m)
{
    if (m->slab > out->slab) out->slab = m->slab;
    if (m->gradients > out->gradients) out->gradients = m->gradients;
    if (m->weights > out->weights) out->weights = m->weights;
}

static swd_status room(unsigned char **p, size_t *have, size_t want, tape *t, const char *what,
                       swd_err *err)
{
    if (*have >= want) return SWD_OK;
    if (*p) t->be->release(t->be, *p);
    *have = 0;
    *p = t->be->alloc(t->be, want);
    if (!*p)
        return SWD_FAIL(err, SWD_ERR_MEMORY,
                        "no memory for %s of a training step, %.0f MB; lower the batch or turn "
                        "checkpointing on",
                        what, (double)want / 1e6);
    *have = want;
    return SWD_OK;
}

swd_status tape_run(tape *t, tape_step step, void *ctx, swd_dtype act, swd_err *err)
{
    tape_memory need;
    SWD_TRY(tape_measure(&need, t, step, ctx, act, err), err);
    SWD_TRY(room(&t->slab, &t->slab_bytes, need.slab, t, "the activations", err), err);
    SWD_TRY(room(&t->pool, &t->pool_bytes, need.gradients, t, "the gradients", err), err);
    swd_exec ex = {
        .backend = t->be, .err = err, .slab = t->slab, .slab_bytes = t->slab_bytes, .act = act};
    return pass(t, step, ctx, &ex);
}

tape_memory tape_held(const tape *t)
{
    return (tape_memory){t->slab_bytes, t->pool_bytes, t->plain_bytes};
}
