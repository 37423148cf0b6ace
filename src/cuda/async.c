// SPDX-License-Identifier: MIT
// Streams, events, graphs and pinned memory: the runtime's own, behind the table of backend/backend.h.
#include "async.h"
#include "backend_cuda.h"
#include "vendor/vendor.h"

static cudaEvent_t event_of(swd_event *e)
{
    return (cudaEvent_t)e;
}

static swd_status create_stream(swd_backend *b, swd_stream **out, swd_err *err)
{
    (void)b;
    SWD_CUDA(cudaStreamCreateWithFlags((cudaStream_t *)out, cudaStreamNonBlocking), err);
    return SWD_OK;
}

static void destroy_stream(swd_backend *b, swd_stream **s)
{
    (void)cudaStreamSynchronize(cuda_stream(b, *s));
    (void)cudaStreamDestroy(cuda_stream(b, *s));
}

static swd_status create_event(swd_backend *b, swd_event **out, swd_err *err)
{
    (void)b;
    SWD_CUDA(cudaEventCreate((cudaEvent_t *)out), err);
    return SWD_OK;
}

static void destroy_event(swd_backend *b, swd_event **e)
{
    (void)b;
    (void)cudaEventDestroy(event_of(*e));
}

static swd_status record(swd_backend *b, swd_event *e, swd_stream *s, swd_err *err)
{
    // within a graph: each launch of it records the event anew
    unsigned flags =
        cuda_of(b)->vendor->capturing ? cudaEventRecordExternal : cudaEventRecordDefault;
    SWD_CUDA(cudaEventRecordWithFlags(event_of(e), cuda_stream(b, s), flags), err);
    return SWD_OK;
}

static swd_status stream_waits(swd_backend *b, swd_stream *s, swd_event *e, swd_err *err)
{
    SWD_CUDA(cudaStreamWaitEvent(cuda_stream(b, s), event_of(e), 0), err);
    return SWD_OK;
}

static swd_status host_waits(swd_backend *b, swd_event *e, swd_err *err)
{
    (void)b;
    SWD_CUDA(cudaEventSynchronize(event_of(e)), err);
    return SWD_OK;
}

static swd_status elapsed(swd_backend *b, double *ms, swd_event *from, swd_event *to, swd_err *err)
{
    (void)b;
    float between = 0;
    SWD_CUDA(cudaEventElapsedTime(&between, event_of(from), event_of(to)), err);
    *ms = (double)between;
    return SWD_OK;
}

// Other threads may do as they like meanwhile; what this one must not call is in backend/async.h.
static swd_status capture(swd_backend *b, swd_stream *s, swd_err *err)
{
    SWD_CUDA(cudaStreamBeginCapture(cuda_stream(b, s), cudaStreamCaptureModeThreadLocal), err);
    cuda_of(b)->vendor->capturing = true;
    return SWD_OK;
}

static swd_status capture_end(swd_backend *b, swd_graph **out, swd_stream *s, swd_err *err)
{
    cudaGraph_t nodes = NULL;
    cudaGraphExec_t exec = NULL;
    cuda_of(b)->vendor->capturing = false;
    SWD_CUDA(cudaStreamEndCapture(cuda_stream(b, s), &nodes), err);
    swd_status st = cuda_status(cudaGraphInstantiate(&exec, nodes, 0), "cudaGraphInstantiate", err);
    (void)cudaGraphDestroy(nodes);
    if (st == SWD_OK) *out = (swd_graph *)exec;
    return st;
}

static swd_status launch(swd_backend *b, swd_graph *g, swd_stream *s, swd_err *err)
{
    SWD_CUDA(cudaGraphLaunch((cudaGraphExec_t)g, cuda_stream(b, s)), err);
    return SWD_OK;
}

static void destroy_graph(swd_backend *b, swd_graph **g)
{
    (void)b;
    (void)cudaGraphExecDestroy((cudaGraphExec_t)*g);
}

static void *pinned_alloc(swd_backend *b, size_t bytes)
{
    (void)b;
    void *p = NULL;
    if (cudaHostAlloc(&p, bytes, cudaHostAllocDefault) == cudaSuccess) return p;
    (void)cudaGetLastError();
    return NULL;
}

static void pinned_release(swd_backend *b, void *p)
{
    (void)b;
    (void)cudaFreeHost(p);
}

const swd_async cuda_async = {
    .stream_create = create_stream,
    .stream_destroy = destroy_stream,
    .event_create = create_event,
    .event_destroy = destroy_event,
    .record = record,
    .stream_wait = stream_waits,
    .host_wait = host_waits,
    .elapsed = elapsed,
    .capture = capture,
    .capture_end = capture_end,
    .launch = launch,
    .graph_destroy = destroy_graph,
    .host_alloc = pinned_alloc,
    .host_release = pinned_release,
};
