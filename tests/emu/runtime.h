/* SPDX-License-Identifier: MIT */
/* What the files of the emulated runtime share. One lock guards everything: operations run inside the calls that wait. */
#ifndef SWD_TESTS_EMU_RUNTIME_H
#define SWD_TESTS_EMU_RUNTIME_H
#include "emu/emu.h"
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

typedef std::vector<int> Frontier; // nodes of a graph under capture that the next one depends on

struct CUevent_st {
    uint64_t recorded, done; // number of the last record, and of the last one that ran
    bool timing;
    double at; // ms
    CUgraph_st *capture;
    Frontier frontier;
};

struct GraphNode {
    emu::Body body;
    const void *kernel; // NULL: a copy, a fill, a host function
    Frontier after;
    CUevent_st *records = nullptr; // an external event: each launch records it
};

struct CUgraph_st {
    std::vector<GraphNode> nodes;
};

struct CUgraphExec_st {
    std::vector<GraphNode> nodes;
};

struct Operation {
    emu::Body body; // none: a wait alone
    CUevent_st *wait;
    uint64_t wait_number;
    uint64_t sequence; // of all operations: orders the default stream and the blocking ones
};

struct CUstream_st {
    bool blocking; // ordered with the default stream
    std::deque<Operation> queue;
    CUgraph_st *capture;
    CUstream_st *origin; // of the capture; itself where it began here
    cudaStreamCaptureMode mode;
    bool invalidated;
    Frontier frontier;
};

namespace emu
{
// Shared memory of a block in bytes, as compute capability 8.6 has it, the least of all from 8.0 on.
static const size_t SMEM_DEFAULT = 48 << 10, SMEM_OPTIN = 99 << 10;

extern std::recursive_mutex &runtime_lock;
typedef std::lock_guard<std::recursive_mutex> Lock;

// Errors (device.cpp). Remembers e for cudaGetLastError.
cudaError_t ret(cudaError_t e);
// What every call asks: an error that stays, as a fault on a device does.
cudaError_t lasting();
// The same, and whether this is the call that a test lets fail. Before the work of a call; after it where a caller could not undo what was
// left undone (what waits, gives back or ends).
void failed(const char *call); // what emu_failed() says
cudaError_t broken(const char *call = __builtin_FUNCTION());
bool operation_runs();

// Memory (memory.cpp).
enum MemoryKind { MEMORY_PAGEABLE, MEMORY_PINNED, MEMORY_DEVICE };
MemoryKind memory_kind(const void *p);
// Not born: nobody may touch it before memory_device_born().
cudaError_t memory_device_alloc(void **p, size_t bytes, bool born);
void memory_device_born(void *p);
void memory_device_free(void *p);
// Fatal unless [p, p + bytes) lies in one allocation, where p is of the device or pinned.
void memory_check_range(const void *p, size_t bytes, const char *what);
// Device memory is accessible only between open and close (they nest): while operations run.
void memory_open();
void memory_close();

// Streams (stream.cpp).
CUstream_st *stream_of(cudaStream_t s);
bool stream_known(cudaStream_t s);
void event_passes(CUevent_st *e, uint64_t number); // its record of this number runs
// Queues body, or makes it a node of the stream's capture.
cudaError_t enqueue(cudaStream_t s, Body body, const void *kernel = nullptr);
void drain_all();
void drain_stream(CUstream_st *s);
// The error of a call that may not happen while this thread captures, which also spoils the capture.
cudaError_t unsafe_in_capture();
uint64_t runtime_random();
void run_nodes(const std::vector<GraphNode> &nodes);
} // namespace emu
#endif
