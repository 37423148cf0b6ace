// SPDX-License-Identifier: MIT
#include "backend/async.h"
#include <stdlib.h>

swd_status stream_create(swd_stream **out, swd_backend *b, swd_err *err)
{
    *out = NULL;
    return b->async ? b->async->stream_create(b, out, err) : SWD_OK;
}

void stream_destroy(swd_stream **s, swd_backend *b)
{
    if (*s) b->async->stream_destroy(b, s);
    *s = NULL;
}

swd_status event_create(swd_event **out, swd_backend *b, swd_err *err)
{
    *out = NULL;
    return b->async ? b->async->event_create(b, out, err) : SWD_OK;
}

void event_destroy(swd_event **e, swd_backend *b)
{
    if (*e) b->async->event_destroy(b, e);
    *e = NULL;
}

swd_status event_record(swd_event *e, swd_stream *s, swd_backend *b, swd_err *err)
{
    return e ? b->async->record(b, e, s, err) : SWD_OK;
}

swd_status stream_wait(swd_stream *s, swd_event *e, swd_backend *b, swd_err *err)
{
    return e ? b->async->stream_wait(b, s, e, err) : SWD_OK;
}

swd_status event_wait(swd_event *e, swd_backend *b, swd_err *err)
{
    return e ? b->async->host_wait(b, e, err) : SWD_OK;
}

swd_status event_elapsed(double *ms, swd_event *from, swd_event *to, swd_backend *b, swd_err *err)
{
    *ms = 0;
    return from && to ? b->async->elapsed(b, ms, from, to, err) : SWD_OK;
}

swd_status graph_capture(swd_stream *s, swd_backend *b, swd_err *err)
{
    return b->async->capture(b, s, err);
}

swd_status graph_capture_end(swd_graph **out, swd_stream *s, swd_backend *b, swd_err *err)
{
    *out = NULL;
    return b->async->capture_end(b, out, s, err);
}

void graph_capture_drop(swd_stream *s, swd_backend *b)
{
    swd_graph *g = NULL;
    (void)b->async->capture_end(b, &g, s, NULL);
    graph_destroy(&g, b);
}

swd_status graph_launch(swd_graph *g, swd_stream *s, swd_backend *b, swd_err *err)
{
    return b->async->launch(b, g, s, err);
}

void graph_destroy(swd_graph **g, swd_backend *b)
{
    if (*g) b->async->graph_destroy(b, g);
    *g = NULL;
}

void *host_alloc(swd_backend *b, size_t bytes)
{
    return b->async ? b->async->host_alloc(b, bytes) : malloc(bytes);
}

void host_release(swd_backend *b, void *p)
{
    if (b->async)
        b->async->host_release(b, p);
    else
        free(p);
}
