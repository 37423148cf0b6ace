// SPDX-License-Identifier: MIT
#include "model/relay.h"
#include "backend/async.h"
#include "backend/slab.h"
#include "base/memory.h"
#include <string.h>

typedef struct place {
    holdings held;
    void *layer;
    int at; // which layer; -1: none
    swd_slab *slab;
    swd_event *written, *used;
} place;

struct relay {
    relay_source source;
    swd_backend *be;
    place place[2];
};

swd_status relay_create(relay **out, const relay_source *source, swd_backend *be, swd_err *err)
{
    relay *p;
    *out = NULL;
    SWD_TRY(swd_calloc(&p, 1, sizeof *p, "places of layers", err), err);
    p->source = *source;
    p->be = be;
    swd_status s = SWD_OK;
    for (int i = 0; i < 2; i++) {
        p->place[i].at = -1;
        if (s == SWD_OK)
            s = swd_calloc(&p->place[i].layer, 1, source->layer_bytes, "a place of layers", err);
    }
    if (s != SWD_OK) relay_destroy(&p);
    *out = p;
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

void relay_destroy(relay **p)
{
    if (!*p) return;
    for (int i = 0; i < 2; i++) {
        place *at = &(*p)->place[i];
        holdings_release(&at->held);
        slab_destroy(&at->slab, (*p)->be);
        event_destroy(&at->written, (*p)->be);
        event_destroy(&at->used, (*p)->be);
        free(at->layer);
    }
    free(*p);
    *p = NULL;
}

static swd_status fill(place *at, int i, relay *p, swd_err *err)
{
    const relay_source *source = &p->source;
    holdings_release(&at->held);
    at->at = -1;
    memset(at->layer, 0, source->layer_bytes);
    slab_use(at->slab, p->be);
    loader l = loader_begin(&at->held, source->w, p->be, source->compute, err);
    source->load(&l, at->layer, i, source->of);
    slab_use(NULL, p->be);
    if (l.status == SWD_OK) at->at = i;
    return l.status;
}

// Of the largest layer.
static swd_status measure(size_t *bytes, relay *p, swd_err *err)
{
    place *at = &p->place[0];
    swd_status s = SWD_OK;
    bool dry = weights_set_dry(p->source.w, true);
    *bytes = 0;
    plan_begin(p->be);
    size_t before = backend_held(p->be);
    for (int i = 0; i < p->source.n && s == SWD_OK; i++) {
        s = fill(at, i, p, err);
        size_t now = backend_held(p->be) - before;
        if (now > *bytes) *bytes = now;
        holdings_release(&at->held);
    }
    at->at = -1;
    plan_end(p->be);
    weights_set_dry(p->source.w, dry);
    return s;
}

swd_status relay_make_room(relay *p, swd_err *err)
{
    size_t bytes = 0;
    if (slab_has(p->be)) SWD_TRY(measure(&bytes, p, err), err);
    for (int i = 0; i < 2; i++) {
        place *at = &p->place[i];
        SWD_TRY(slab_create(&at->slab, bytes, p->be, err), err);
        SWD_TRY(event_create(&at->written, p->be, err), err);
        SWD_TRY(event_create(&at->used, p->be, err), err);
    }
    return SWD_OK;
}

static swd_status bring(relay *p, int i, swd_exec *ex)
{
    place *at = &p->place[i % 2];
    if (at->at == i) return SWD_OK;
    RUN(stream_wait(NULL, at->used, ex->backend, ex->err));
    RUN(fill(at, i, p, ex->err));
    return event_record(at->written, NULL, ex->backend, ex->err);
}

swd_status relay_take(void **layer, relay *p, int i, swd_exec *ex)
{
    if (ex->dry) i = 0;
    place *at = &p->place[i % 2];
    RUN(bring(p, i, ex));
    *layer = at->layer;
    return ex->dry ? SWD_OK : stream_wait(ex->stream, at->written, ex->backend, ex->err);
}

swd_status relay_done(relay *p, int i, swd_exec *ex)
{
    if (ex->dry) return SWD_OK;
    RUN(event_record(p->place[i % 2].used, ex->stream, ex->backend, ex->err));
    return i + 1 < p->source.n ? bring(p, i + 1, ex) : SWD_OK;
}
