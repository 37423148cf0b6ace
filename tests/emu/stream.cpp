// SPDX-License-Identifier: MIT
// Streams and events. Nothing runs until something waits for it (EMU_STREAMS=eager: at once); then any stream that can go on
// may be next, picked by EMU_SEED, so that a missing wait or event shows as a wrong result.
#include "engine.h"
#include "runtime.h"
#include <random>
#include <stdlib.h>
#include <string.h>
#include <time.h>

namespace emu
{
std::recursive_mutex &runtime_lock = *new std::recursive_mutex;

static CUstream_st &default_stream = *new CUstream_st{};
static std::set<CUstream_st *> &streams = *new std::set<CUstream_st *>{&default_stream};
static uint64_t sequence;
static bool running; // an operation: no call may come from within

bool operation_runs()
{
    return running;
}

static bool eager()
{
    static const char *e = getenv("EMU_STREAMS");
    static bool v = e && strcmp(e, "eager") == 0;
    return v;
}

uint64_t runtime_random()
{
    static std::mt19937_64 generator(seed());
    return generator();
}

static double now_ms()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
}

void event_passes(CUevent_st *e, uint64_t number)
{
    e->done = number;
    e->at = now_ms();
}

CUstream_st *stream_of(cudaStream_t s)
{
    if (!s || s == cudaStreamLegacy || s == cudaStreamPerThread) return &default_stream;
    if (!streams.count(s)) fail("stream %p does not exist", static_cast<void *>(s));
    return s;
}

// ---- running ----

static bool older_in(const CUstream_st *s, uint64_t number)
{
    return !s->queue.empty() && s->queue.front().sequence < number;
}

static bool runnable(CUstream_st *s)
{
    if (s->queue.empty()) return false;
    const Operation &op = s->queue.front();
    if (op.wait && op.wait->done < op.wait_number) return false;
    if (s == &default_stream) { // waits for what the blocking streams were given before
        for (CUstream_st *other : streams)
            if (other != s && other->blocking && older_in(other, op.sequence)) return false;
    } else if (s->blocking && older_in(&default_stream, op.sequence)) {
        return false;
    }
    return true;
}

static void step(CUstream_st *s)
{
    Operation op = std::move(s->queue.front());
    s->queue.pop_front();
    if (!op.body) return;
    running = true;
    op.body();
    running = false;
}

template <class F> static void drain(F until)
{
    if (until()) return;
    memory_open();
    while (!until()) {
        std::vector<CUstream_st *> ready;
        for (CUstream_st *s : streams)
            if (runnable(s)) ready.push_back(s);
        if (ready.empty()) fail("streams wait for each other: no operation can run");
        step(ready[runtime_random() % ready.size()]);
    }
    memory_close();
}

void drain_stream(CUstream_st *s)
{
    drain([s] { return s->queue.empty(); });
}

void drain_all()
{
    drain([] {
        for (CUstream_st *s : streams)
            if (!s->queue.empty()) return false;
        return true;
    });
}

static cudaError_t push(CUstream_st *s, Operation op)
{
    op.sequence = ++sequence;
    s->queue.push_back(std::move(op));
    if (eager()) drain_stream(s);
    return cudaSuccess;
}

cudaError_t enqueue(cudaStream_t stream, Body body, const void *kernel)
{
    CUstream_st *s = stream_of(stream);
    if (cudaError_t e = lasting()) return e;
    if (s->capture) {
        if (s->origin->invalidated) return cudaErrorStreamCaptureInvalidated;
        s->capture->nodes.push_back(GraphNode{std::move(body), kernel, s->frontier});
        s->frontier = {static_cast<int>(s->capture->nodes.size()) - 1};
        return cudaSuccess;
    }
    if (s == &default_stream)
        if (cudaError_t e = unsafe_in_capture()) return e;
    return push(s, Operation{std::move(body), nullptr, 0, 0});
}

cudaError_t submit_host(cudaStream_t s, Body body)
{
    Lock lock(runtime_lock);
    if (cudaError_t e = broken()) return ret(e);
    return ret(enqueue(s, std::move(body)));
}

cudaError_t unsafe_in_capture()
{
    for (CUstream_st *s : streams)
        if (s->capture && s->origin == s && s->mode != cudaStreamCaptureModeRelaxed) {
            s->invalidated = true;
            return cudaErrorStreamCaptureUnsupported;
        }
    return cudaSuccess;
}

// The streams that take part in the capture that began in origin leave it.
static bool capture_leave(CUstream_st *origin)
{
    bool joined = true;
    for (CUstream_st *s : streams) {
        if (s->origin != origin) continue;
        for (int node : s->frontier) { // of a fork: must lie behind the frontier of the origin
            bool seen = s == origin;
            std::vector<int> stack = origin->frontier;
            std::set<int> visited;
            while (!seen && !stack.empty()) {
                int n = stack.back();
                stack.pop_back();
                if (!visited.insert(n).second) continue;
                seen = n == node;
                for (int m : origin->capture->nodes[static_cast<size_t>(n)].after)
                    stack.push_back(m);
            }
            joined = joined && seen;
        }
        if (s == origin) continue;
        s->origin = nullptr;
        s->capture = nullptr;
        s->frontier.clear();
    }
    return joined;
}
} // namespace emu

using namespace emu;

extern "C" {
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    Lock lock(runtime_lock);
    if (cudaError_t e = broken()) return ret(e);
    CUstream_st *s = new CUstream_st{};
    s->blocking = !(flags & cudaStreamNonBlocking);
    streams.insert(s);
    *out = s;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int)
{
    return cudaStreamCreateWithFlags(out, flags);
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    return cudaStreamCreateWithFlags(out, cudaStreamDefault);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    Lock lock(runtime_lock);
    CUstream_st *s = stream_of(stream);
    if (s == &default_stream || s->capture) return ret(cudaErrorInvalidResourceHandle);
    drain_stream(s);
    streams.erase(s);
    delete s;
    return ret(broken());
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    Lock lock(runtime_lock);
    if (cudaError_t e = lasting()) return ret(e);
    CUstream_st *s = stream_of(stream);
    if (s->capture) {
        s->origin->invalidated = true;
        return ret(cudaErrorStreamCaptureUnsupported);
    }
    drain_stream(s);
    return ret(broken());
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    Lock lock(runtime_lock);
    if (cudaError_t e = broken()) return ret(e);
    CUstream_st *s = stream_of(stream);
    if (s->queue.empty()) return cudaSuccess;
    size_t left = s->queue.size();
    drain([s, left] { return s->queue.size() < left; }); // who polls gets on
    return cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize(void)
{
    Lock lock(runtime_lock);
    if (cudaError_t e = lasting()) return ret(e);
    if (cudaError_t e = unsafe_in_capture()) return ret(e);
    drain_all();
    return ret(broken());
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t fn, void *user)
{
    return submit_host(stream, [fn, user] {
        memory_close(); // it is host code
        fn(user);
        memory_open();
    });
}

// ---- events ----

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
    Lock lock(runtime_lock);
    if (cudaError_t error = broken()) return ret(error);
    *e = new CUevent_st{};
    (*e)->timing = !(flags & cudaEventDisableTiming);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    return cudaEventCreateWithFlags(e, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    Lock lock(runtime_lock);
    // A stream may still wait for it: everything that was queued so far runs first.
    if (e->done < e->recorded) drain([e] { return e->done >= e->recorded; });
    for (CUstream_st *s : streams)
        for (Operation &op : s->queue)
            if (op.wait == e) op.wait = nullptr;
    delete e;
    return ret(broken());
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t stream)
{
    Lock lock(runtime_lock);
    if (cudaError_t error = broken()) return ret(error);
    CUstream_st *s = stream_of(stream);
    e->capture = s->capture;
    if (s->capture) {
        e->frontier = s->frontier;
        return cudaSuccess;
    }
    uint64_t number = ++e->recorded;
    return ret(enqueue(stream, [e, number] { event_passes(e, number); }));
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t stream, unsigned flags)
{
    if (!(flags & cudaEventRecordExternal)) return cudaEventRecord(e, stream);
    Lock lock(runtime_lock);
    if (cudaError_t error = broken()) return ret(error);
    CUstream_st *s = stream_of(stream);
    if (!s->capture) return ret(cudaErrorInvalidValue);
    s->capture->nodes.push_back(GraphNode{[] {}, nullptr, s->frontier, e});
    s->frontier = {static_cast<int>(s->capture->nodes.size()) - 1};
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t e, unsigned)
{
    Lock lock(runtime_lock);
    if (cudaError_t error = broken()) return ret(error);
    CUstream_st *s = stream_of(stream);
    if (e->capture) {
        if (s->capture && s->capture != e->capture) return ret(cudaErrorStreamCaptureMerge);
        if (!s->capture) { // the stream joins the capture
            for (CUstream_st *o : streams)
                if (o->capture == e->capture && o->origin == o) s->origin = o;
            s->capture = e->capture;
            s->frontier.clear();
        }
        for (int node : e->frontier) s->frontier.push_back(node);
        return cudaSuccess;
    }
    if (s->capture) return ret(cudaErrorStreamCaptureIsolation);
    return ret(push(s, Operation{Body(), e, e->recorded, 0}));
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    Lock lock(runtime_lock);
    if (cudaError_t error = lasting()) return ret(error);
    if (e->capture) return ret(cudaErrorCapturedEvent);
    drain([e] { return e->done >= e->recorded; });
    return ret(broken());
}

cudaError_t cudaEventQuery(cudaEvent_t e)
{
    Lock lock(runtime_lock);
    if (cudaError_t error = broken()) return ret(error);
    if (e->capture) return ret(cudaErrorCapturedEvent);
    if (e->done >= e->recorded) return cudaSuccess;
    int steps = 0;
    drain([&] { return steps++ || e->done >= e->recorded; });
    return cudaErrorNotReady;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b)
{
    Lock lock(runtime_lock);
    if (cudaError_t error = broken()) return ret(error);
    if (!a->timing || !b->timing || !a->recorded || !b->recorded)
        return ret(cudaErrorInvalidResourceHandle);
    if (a->done < a->recorded || b->done < b->recorded) return ret(cudaErrorNotReady);
    *ms = static_cast<float>(b->at - a->at);
    return cudaSuccess;
}

// ---- capture ----

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    Lock lock(runtime_lock);
    if (cudaError_t e = broken()) return ret(e);
    CUstream_st *s = stream_of(stream);
    if (s == &default_stream) return ret(cudaErrorStreamCaptureUnsupported);
    if (s->capture) return ret(cudaErrorIllegalState);
    s->capture = new CUgraph_st{};
    s->origin = s;
    s->mode = mode;
    s->invalidated = false;
    s->frontier.clear();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    Lock lock(runtime_lock);
    *graph = nullptr;
    if (cudaError_t e = lasting()) return ret(e);
    CUstream_st *s = stream_of(stream);
    if (!s->capture) return ret(cudaErrorIllegalState);
    if (s->origin != s) return ret(cudaErrorStreamCaptureUnmatched);
    bool joined = capture_leave(s), valid = !s->invalidated;
    CUgraph_st *g = s->capture;
    s->capture = nullptr;
    s->origin = nullptr;
    s->frontier.clear();
    cudaError_t injected = broken();
    if (valid && joined && !injected) {
        *graph = g;
        return cudaSuccess;
    }
    delete g;
    return ret(injected ? injected
               : valid  ? cudaErrorStreamCaptureUnjoined
                        : cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    Lock lock(runtime_lock);
    CUstream_st *s = stream_of(stream);
    *status = !s->capture              ? cudaStreamCaptureStatusNone
              : s->origin->invalidated ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
    return ret(broken());
}
}
