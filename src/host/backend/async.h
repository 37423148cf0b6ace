/* SPDX-License-Identifier: MIT */
/* Streams, events and graphs of a backend that has them. On one whose calls are done when they return (the CPU) every stream and event
 * is NULL and nothing can be recorded as a graph. Of a NULL event recording and waiting do nothing: callers need not tell the two apart. */
#ifndef SWD_BACKEND_ASYNC_H
#define SWD_BACKEND_ASYNC_H
#include "backend/backend.h"

static inline bool async_has(const swd_backend *b)
{
    return b->async != NULL;
}

/* A further order of execution; ordered with others by events alone. */
swd_status stream_create(swd_stream **out, swd_backend *b, swd_err *err);
void stream_destroy(swd_stream **s, swd_backend *b); /* waits for what it was given; accepts NULL */

/* Two events may be measured against each other. */
swd_status event_create(swd_event **out, swd_backend *b, swd_err *err);
void event_destroy(swd_event **e, swd_backend *b);
/* e is passed when all that s was given so far is done. Recorded again, it forgets the time before. Recorded while a
 * graph is captured it belongs to the graph: each launch records it, and it must outlive the graph. */
swd_status event_record(swd_event *e, swd_stream *s, swd_backend *b, swd_err *err);
/* What s is given from now on comes after e as last recorded. Never recorded: at once. */
swd_status stream_wait(swd_stream *s, swd_event *e, swd_backend *b, swd_err *err);
/* The calling thread waits. */
swd_status event_wait(swd_event *e, swd_backend *b, swd_err *err);
/* Between two passed events; 0 where one is NULL. */
swd_status event_elapsed(double *ms, swd_event *from, swd_event *to, swd_backend *b, swd_err *err);

/* What s is given between the two is not run but kept as a graph: no allocation, upload, download or synchronize() among it. Only where
 * async_has(). *out is NULL on failure, and s takes work as before. */
swd_status graph_capture(swd_stream *s, swd_backend *b, swd_err *err);
swd_status graph_capture_end(swd_graph **out, swd_stream *s, swd_backend *b, swd_err *err);
void graph_capture_drop(swd_stream *s, swd_backend *b); /* after a failure between the two */
swd_status graph_launch(swd_graph *g, swd_stream *s, swd_backend *b, swd_err *err);
void graph_destroy(swd_graph **g, swd_backend *b); /* launches of it are done; accepts NULL */

/* Host memory that copies reach at full speed and without a wait of the calling thread; NULL when there is none left. */
void *host_alloc(swd_backend *b, size_t bytes);
void host_release(swd_backend *b, void *p); /* accepts NULL */
#endif
