// SPDX-License-Identifier: MIT
#include "vendor/graph_choice.h"
#include "base/memory.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

static_assert((int)DNN_WAYS_MAX < (int)MEASURE_MAX,
              "every way is a contestant, our kernel is one, too");

/* ---- the contest ---- */

// Built when it is first asked for: where the first way that works is taken the others need not be.
static swd_status make_ready(graph_trial *t, int way, swd_err *err)
{
    dnn_work *w = t->o->work;
    if (dnn_work_may(w, way, t->compile)) dnn_work_prepare(w, way, GRAPH_WORKSPACE_MAX);
    if (!dnn_work_ready(w, way))
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "cuDNN does not do it this way");
    size_t bytes = dnn_work_workspace(w, way);
    if (bytes <= t->workspace_bytes) return SWD_OK;
    t->b->release(t->b, t->memory[5]);
    t->workspace_bytes = 0;
    t->memory[5] = t->b->alloc(t->b, bytes);
    if (!t->memory[5]) return measure_no_memory(err);
    t->workspace_bytes = bytes;
    return SWD_OK;
}

swd_status graph_trial_run(graph_trial *t, int way, void *const pointers[DNN_POINTERS],
                           cudaStream_t stream, swd_err *err)
{
    if (!dnn_work_ready(t->o->work, way)) SWD_TRY(make_ready(t, way, err), err);
    return dnn_work_run(t->o->work, way, pointers, t->memory[5], stream, err);
}

// A trial with its family: what the contest hands around.
typedef struct entered {
    graph_trial trial; // first
    const graph_family *family;
} entered;

static swd_status prepare_entered(void *arg, swd_err *err)
{
    entered *e = arg;
    return e->family->operands(&e->trial, err);
}

static void clear(void *arg)
{
    graph_trial *t = arg;
    for (int i = 0; i < 6; i++) t->b->release(t->b, t->memory[i]);
}

static void keep(graph_choice *o, int winner, const char *name, swd_backend *b)
{
    o->way = winner - 1;
    if (winner) dnn_work_prepare(o->work, o->way, GRAPH_WORKSPACE_MAX);
    if (winner && dnn_work_ready(o->work, o->way)) {
        dnn_work_keep(o->work, o->way);
        return;
    }
    if (winner) vendor_say(b, "%s: cuDNN cannot build what was chosen; ours", name);
    dnn_work_destroy(&o->work);
}

static swd_status choose(graph_choice *o, const char *name, const graph_family *family,
                         const void *args, swd_backend *b, swd_err *err)
{
    const bool compile = vendor_compiles(b);
    entered e = {.trial = {.o = o, .b = b, .args = args, .compile = compile}, .family = family};
    vendor_contest c = {.prepare = prepare_entered, .run = family->run, .finish = clear, .arg = &e};
    int winner = 0, good = 0;
    c.n = 1 + dnn_work_ways(o->work);
    snprintf(c.key, sizeof c.key, "%.180s%s", name, compile ? ", compiled too" : "");
    snprintf(c.choice[0], TUNE_TEXT_MAX, "ours");
    for (int i = 1; i < c.n; i++) {
        snprintf(c.choice[i], TUNE_TEXT_MAX, "cuDNN %d", i - 1);
        good += dnn_work_may(o->work, i - 1, compile);
    }
    if (good) SWD_TRY(vendor_choose(&winner, &c, b, err), err);
    if (!good && c.n > 1 && !compile)
        vendor_say(b, "%s: ours; cuDNN would compile at every start (--tune thorough)", name);
    keep(o, winner, name, b);
    return SWD_OK;
}

/* ---- choices ---- */

static swd_status make_choice(graph_choice **out, const graph_key *key, const char *name,
                              const graph_family *family, const void *args, swd_backend *b,
                              swd_err *err)
{
    graph_choice *o;
    swd_err refused = {0};
    *out = NULL;
    SWD_TRY(swd_calloc(&o, 1, sizeof *o, "a choice", err), err);
    o->key = *key;
    swd_status s = family->make(&o->work, vendor_cudnn(b), args, &refused);
    if (s == SWD_OK) s = choose(o, name, family, args, b, &refused);
    if (s == SWD_OK || s == SWD_ERR_UNSUPPORTED) {
        if (s != SWD_OK) dnn_work_destroy(&o->work);
        *out = o;
        return SWD_OK;
    }
    graph_choices_free(&o);
    return SWD_FAIL(err, s, "%s", refused.message);
}

const graph_choice *graph_choice_of(const graph_key *key, const char *name,
                                    const graph_family *family, const void *args, swd_backend *b)
{
    graph_choice **list = &cuda_of(b)->vendor->graphs, *o = *list;
    while (o && memcmp(&o->key, key, sizeof *key) != 0) o = o->next;
    if (!o && vendor_may_choose(b)) {
        swd_err err = {0};
        if (make_choice(&o, key, name, family, args, b, &err) == SWD_OK) {
            o->next = *list;
            *list = o;
        } else {
            vendor_failed(b, &err);
        }
    }
    return o && o->work ? o : NULL;
}

void graph_choices_free(graph_choice **list)
{
    while (*list) {
        graph_choice *o = *list;
        *list = o->next;
        dnn_work_destroy(&o->work);
        free(o);
    }
}

size_t graph_choice_workspace(const graph_choice *o)
{
    size_t bytes = dnn_work_workspace(o->work, o->way);
    return bytes ? bytes + VENDOR_ALIGN : 0; // the slab is aligned to less
}

swd_status graph_choice_run(const graph_choice *o, void *const pointers[DNN_POINTERS],
                            void *workspace, cudaStream_t stream, swd_err *err)
{
    swd_err why = {0};
    void *at = vendor_scratch(workspace);
    swd_status s = dnn_work_run(o->work, o->way, pointers, at, stream, &why);
    if (s == SWD_OK) return SWD_OK;
    return SWD_FAIL(err, s == SWD_ERR_UNSUPPORTED ? SWD_ERR_DEVICE : s, "%s", why.message);
}
