// SPDX-License-Identifier: MIT
// Where gradients live. Every allocation that needs one gets a shadow of its own layout, from a first-fit pool that the dry run measures;
// a view's gradient is the same view of the shadow. The first writer of some elements writes, later ones add.
#include "base/memory.h"
#include "train/tape_parts.h"
#include <assert.h>
#include <string.h>

enum { ALIGN = 64 };

/* ---- regions ---- */

// The last region that begins at or before p, if p is in it.
static region *find(region *list, size_t n, const unsigned char *p)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (list[mid].base <= p)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo && p < list[lo - 1].base + list[lo - 1].bytes ? &list[lo - 1] : NULL;
}

region *tape_region(tape *t, const void *p)
{
    if (!p) return NULL;
    region *r = find(t->inner, t->n_inner, p);
    return r ? r : find(t->outer, t->n_outer, p);
}

bool tape_needs(tape *t, swd_tensor x)
{
    region *r = tensor_present(x) ? tape_region(t, x.data) : NULL;
    return r && r->needs;
}

/* ---- the pool ---- */

void tape_pool_reset(tape *t)
{
    t->n_blocks = 0;
    t->pool_end = 0;
}

static swd_status pool_take(unsigned char **out, tape *t, size_t bytes)
{
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    size_t i = 0;
    while (i < t->n_blocks && (t->block[i].used || t->block[i].bytes < bytes)) i++;
    SWD_TRY(swd_grow(&t->block, &t->block_room, t->n_blocks + 1, sizeof *t->block,
                     "the list of gradients", t->err),
            t->err);
    if (i == t->n_blocks) {
        t->block[t->n_blocks++] = (pool_block){t->pool_end, bytes, true};
        t->pool_end += bytes;
        if (t->pool_end > t->pool_peak) t->pool_peak = t->pool_end;
        assert((t->dry || t->pool_end <= t->pool_bytes) && "the step was measured otherwise");
    } else if (t->block[i].bytes == bytes) {
        t->block[i].used = true;
    } else {
        memmove(t->block + i + 1, t->block + i, (t->n_blocks - i) * sizeof *t->block);
        t->n_blocks++;
        t->block[i] = (pool_block){t->block[i].offset, bytes, true};
        t->block[i + 1].offset += bytes;
        t->block[i + 1].bytes -= bytes;
    }
    *out = t->pool + t->block[i].offset;
    return SWD_OK;
}

static void pool_join(tape *t, size_t i)
{
    if (i + 1 >= t->n_blocks || t->block[i].used || t->block[i + 1].used) return;
    t->block[i].bytes += t->block[i + 1].bytes;
    t->n_blocks--;
    memmove(t->block + i + 1, t->block + i + 2, (t->n_blocks - i - 1) * sizeof *t->block);
}

static void pool_give(tape *t, const unsigned char *p)
{
    size_t i = 0, offset = (size_t)(p - t->pool);
    while (t->block[i].offset != offset) i++;
    t->block[i].used = false;
    pool_join(t, i);
    if (i) pool_join(t, i - 1);
    pool_block *last = t->n_blocks ? &t->block[t->n_blocks - 1] : NULL;
    if (last && !last->used) {
        t->pool_end = last->offset;
        t->n_blocks--;
    }
}

/* ---- gradients ---- */

static swd_tensor shadow(const region *r, swd_tensor x)
{
    if (tensor_present(r->parameter)) {
        assert(x.data == r->base && "a parameter is used as a whole");
        return tensor_make(r->parameter.data, SWD_F32, x.shape, x.ndim);
    }
    size_t at = (size_t)((unsigned char *)x.data - r->base) / dtype_size(r->dtype);
    x.dtype = grad_dtype(r->dtype);
    x.data = r->grad + at * dtype_size(x.dtype);
    return x;
}

static size_t shadow_bytes(const region *r)
{
    return r->bytes / dtype_size(r->dtype) * dtype_size(grad_dtype(r->dtype));
}

static swd_status zero(const region *r, swd_exec *ex)
{
    swd_dtype dtype = grad_dtype(r->dtype);
    int64_t n = (int64_t)(shadow_bytes(r) / dtype_size(dtype));
    return op_fill(tensor1(r->grad, dtype, n), 0, ex);
}

static bool covers(const region *r, swd_tensor x)
{
    return (size_t)tensor_numel(x) * dtype_size(r->dtype) == r->bytes;
}

swd_status tape_grad(swd_grad *out, tape *t, swd_tensor x, swd_exec *ex)
{
    *out = (swd_grad){0};
    region *r = tensor_present(x) ? tape_region(t, x.data) : NULL;
    if (!r || (!r->needs && !tensor_present(r->parameter))) return SWD_OK;
    if (tensor_present(r->parameter)) { // the call's own bits know whether it was trained then
        *out = (swd_grad){shadow(r, x), true};
        return SWD_OK;
    }
    if (!r->grad) {
        SWD_TRY(pool_take(&r->grad, t, shadow_bytes(r)), ex->err);
        r->whole = covers(r, x);
        r->n_parts = 0;
        if (!r->whole) SWD_TRY(zero(r, ex), ex->err);
        if (!r->whole) r->part[r->n_parts++] = x;
        *out = (swd_grad){shadow(r, x), false};
        return SWD_OK;
    }
    *out = (swd_grad){shadow(r, x), r->whole};
    for (int i = 0; i < r->n_parts && !out->add; i++) out->add = tensor_overlap(r->part[i], x);
    if (r->whole) return SWD_OK;
    if (r->n_parts == REGION_PARTS_MAX) {
        r->whole = true; // what has no value yet is zero: from now on all add
        out->add = true;
        return SWD_OK;
    }
    r->part[r->n_parts++] = x;
    return SWD_OK;
}

swd_tensor tape_grad_read(tape *t, swd_tensor y)
{
    region *r = tensor_present(y) ? tape_region(t, y.data) : NULL;
    return r && r->grad ? shadow(r, y) : tensor_none();
}

void tape_grad_release(tape *t, region *r)
{
    if (r->grad) pool_give(t, r->grad);
    r->grad = NULL;
    r->whole = false;
    r->n_parts = 0;
}

swd_status tape_grad_clear(tape *t, swd_tensor y, swd_exec *ex)
{
    region *r = tape_region(t, y.data);
    if (!r || !r->grad || tensor_present(r->parameter)) return SWD_OK;
    if (covers(r, y)) {
        tape_grad_release(t, r);
        return SWD_OK;
    }
    SWD_TRY(op_fill(shadow(r, y), 0, ex), ex->err);
    for (int i = r->n_parts; i-- > 0;)
        if (tensor_same_view(r->part[i], y)) r->part[i] = r->part[--r->n_parts];
    return SWD_OK;
}

/* ---- values that are read later ---- */

swd_status tape_save(tape *t, swd_tensor *slot, swd_tensor x)
{
    *slot = x;
    region *r = tensor_present(x) ? tape_region(t, x.data) : NULL;
    if (!r) return SWD_OK;
    SWD_TRY(swd_grow(&t->saves, &t->save_room, t->n_saves + 1, sizeof *t->saves,
                     "the list of kept values", t->err),
            t->err);
    t->saves[t->n_saves] = (save){slot, r->last_save};
    r->last_save = (int)t->n_saves++;
    return SWD_OK;
}

// A contiguous copy in the slab.
static swd_status copy_aside(swd_tensor *out, swd_tensor x, swd_exec *ex)
{
    *out = exec_alloc(ex, x.dtype, x.shape, x.ndim);
    return op_copy(*out, x, ex);
}

// A kept value that lies where y will be; NULL: none.
static const swd_tensor *threatened(const tape *t, const region *r, swd_tensor y)
{
    for (int i = r->last_save; i >= 0; i = t->saves[i].before)
        if (tensor_overlap(*t->saves[i].slot, y)) return t->saves[i].slot;
    return NULL;
}

// All who keep x look at the copy from now on, and are safe there.
static void redirect(tape *t, region *r, swd_tensor x, swd_tensor copy)
{
    for (int *link = &r->last_save; *link >= 0;) {
        save *at = &t->saves[*link];
        if (!tensor_same_view(*at->slot, x)) {
            link = &at->before;
            continue;
        }
        *at->slot = copy;
        *link = at->before;
    }
}

swd_status tape_writes(tape *t, swd_tensor y, swd_exec *ex)
{
    region *r = tape_region(t, y.data);
    const swd_tensor *slot;
    swd_hook *hook = tape_off(ex);
    swd_status s = SWD_OK;
    while (r && s == SWD_OK && (slot = threatened(t, r, y)) != NULL) {
        swd_tensor x = *slot, copy;
        s = copy_aside(&copy, x, ex);
        redirect(t, r, x, copy);
    }
    ex->hook = hook;
    return s;
}

void tape_drop_saves(tape *t, size_t n)
{
    if (t->n_saves == n) return;
    for (size_t i = 0; i < t->n_inner; i++)
        while (t->inner[i].last_save >= (int)n)
            t->inner[i].last_save = t->saves[t->inner[i].last_save].before;
    for (size_t i = 0; i < t->n_outer; i++)
        while (t->outer[i].last_save >= (int)n)
            t->outer[i].last_save = t->saves[t->outer[i].last_save].before;
    t->n_saves = n;
}

/* ---- frozen weights ---- */

swd_status tape_plain_weight(swd_tensor *out, tape *t, const swd_linear *w)
{
    const struct swd_linear_facts *f = linear_facts(w);
    if (t->be->linear_view && t->be->linear_view(t->be, out, w)) return SWD_OK;
    for (size_t i = 0; i < t->n_plain; i++)
        if (t->plain[i].w == w) {
            *out = t->plain[i].t;
            return SWD_OK;
        }
    SWD_TRY(swd_grow(&t->plain, &t->plain_room, t->n_plain + 1, sizeof *t->plain,
                     "the list of frozen weights", t->err),
            t->err);
    *out = tensor2(NULL, f->compute, f->n, f->k);
    t->plain_bytes += tensor_bytes(*out);
    if (!t->dry) {
        out->data = t->be->alloc(t->be, tensor_bytes(*out));
        if (!out->data)
            return SWD_FAIL(t->err, SWD_ERR_MEMORY, "no memory for a frozen weight [%lld, %lld]",
                            (long long)f->n, (long long)f->k);
        swd_status s = t->be->linear_plain(t->be, *out, w, t->err);
        if (s != SWD_OK) {
            t->be->release(t->be, out->data);
            return s;
        }
    }
    t->plain[t->n_plain++] = (plain_weight){w, *out};
    return SWD_OK;
}
