/* SPDX-License-Identifier: MIT */
/* What the files of the engine share: a block as a set of fibers, and how a fiber waits. None of it is instrumented. */
#ifndef SWD_TESTS_EMU_ENGINE_H
#define SWD_TESTS_EMU_ENGINE_H
#include "emu/emu.h"
#include "fiber.h"
#include <vector>

extern __thread uint3 threadIdx, blockIdx;
extern __thread dim3 blockDim, gridDim;

namespace emu
{
enum { NEW, PARKED, RUNNING, DONE }; // Thread::state
enum { WARP_LANES = 32, BLOCK_MAX = 1024, WARPS_MAX = 32, BARRIERS = 16, COLLECTIVES_MAX = 8 };
enum { CP_ASYNC_MAX = 1024 }; // copies of a thread under way, a power of two
enum Policy { ORDER, REVERSE, RANDOM, PCT };

struct Collective { // under way in a warp, or over: then nobody has arrived
    uint32_t mask, arrived;
    WarpOp op;
    const char *name;
    Site site;
    void *arg[WARP_LANES];
};

struct Warp {
    uint32_t exist, ready, done; // lanes
    int n_collectives;
    Collective collective[COLLECTIVES_MAX];
    unsigned phase; // which of the two points of order for ThreadSanitizer is in use
    char order[2];
};

struct Barrier {
    unsigned arrived, need, sum, phase;
    bool whole; // __syncthreads, not a named one
    Site site;  // of the first to arrive
    std::vector<Thread *> waiting;
    int *pred[BLOCK_MAX];
    char order[2];
};

struct StaticArray {
    const void *site;
    char *p;
    size_t bytes;
};

struct Block {
    Warp warps[WARPS_MAX];
    Thread threads[BLOCK_MAX];
    Barrier barriers[BARRIERS];
    uint32_t ready_warps;
    unsigned n_threads, n_warps, live, cur_warp;
    uint8_t priority[WARPS_MAX]; // of PCT: warps, the first that can run does
    char *dynamic;
    size_t dynamic_bytes;
    char *statics;
    size_t statics_bytes, statics_end; // end: with red zones
    std::vector<StaticArray> arrays;
};

// Under ThreadSanitizer a CUDA thread has a stack and a context of its own, and not the one that the same thread of the
// block before had, so that blocks race with each other, too.
struct Context {
    Fiber *fiber;
    void *tsan;
};

struct Worker { // an OS thread that runs blocks
    Block block;
    Context context[2][BLOCK_MAX];
    unsigned parity;
    Fiber home;
    std::vector<Fiber *> idle;
    size_t n_fibers;
    Fiber *running;
    Thread *starting; // what the fiber that is entered next shall run
    const Body *body;
    const char *kernel; // its name
    bool smem_granted;  // it has the attribute of more than 48 KiB
    uint64_t random;
    void *home_tsan;
};

extern __thread Worker *W;

// Prints where the calling thread is: kernel, block, thread, order of execution.
void report_place();

// Of the worker; xorshift.
inline uint32_t rnd()
{
    uint64_t x = W->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    W->random = x;
    return static_cast<uint32_t>(x >> 32);
}

Policy policy();
uint64_t seed();

void set_ready(Thread *t);
// The calling thread waits until set_ready() and its turn.
void park(const char *where, Site site);
void thread_exits(Thread *t); // sync.cpp: fatal where others wait for it
void block_sync_reset(Block &b);

// Shared memory (smem.cpp).
void smem_create(Block &b); // once a worker
void smem_begin_grid(Block &b, size_t dynamic_bytes);
void smem_begin_block(Block &b);
void smem_end_block(Block &b); // fatal where a red zone was written
void smem_end_grid(Block &b);

struct Launch {
    dim3 grid, block;
    size_t dynamic_bytes;
    bool smem_granted;
    const char *kernel; // its name
    const Body *body;
};
void run_grid(const Launch &launch);
} // namespace emu
#endif
