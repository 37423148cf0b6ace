/* SPDX-License-Identifier: MIT */
/* What compiled kernels see of the emulator's engine: threads of a block are fibers of one OS thread, operations of a warp
 * and barriers park a fiber until the last participant arrives. docs/emulator.md is the manual. */
#ifndef SWD_TESTS_EMU_EMU_H
#define SWD_TESTS_EMU_EMU_H
#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>
#include <functional>

namespace emu
{
struct Site { // where in the kernel's source
    const char *file;
    int line;
    static constexpr Site here(const char *file = __builtin_FILE(), int line = __builtin_LINE())
    {
        return Site{file, line};
    }
};

struct CpAsync { // a copy under way: its source is read in the wait that covers it
    void *dst;
    const void *src;
    uint32_t group;
    bool pred;
};

struct Thread { // what a kernel knows of itself
    uint3 index;
    unsigned lane, warp;
    int state;
    void *fiber, *tsan;
    const char *where; // what it waits in
    Site site;
    CpAsync *cp; // copies under way: [cp_first, cp_end) of a ring
    uint32_t cp_first, cp_end, cp_group;
};
extern __thread Thread *cur;

// The work of a warp's collective, done once by the last lane that arrives: arg[lane] of every lane in mask.
typedef void (*WarpOp)(uint32_t mask, void **arg);
void warp_collective(uint32_t mask, WarpOp op, void *arg, const char *name, Site site,
                     bool orders_memory);

// A barrier of n threads, or of the whole block (n = 0). With pred, *pred becomes the sum over all threads.
void barrier(unsigned id, unsigned n, Site site, int *pred);

void *smem_dynamic();
// The array of this site in the running block, made (and filled with 0xff) on its first use.
void *smem_static(const void *site, size_t bytes, size_t align);

void cp_async_push(void *dst, const void *src, bool pred);
void cp_async_end_group();
// Takes the oldest copy that must be complete when n groups may be under way; false: there is none.
bool cp_async_take(uint32_t n, CpAsync *out);

void yield_point(); // another thread may run here (atomics)
void fence();

[[noreturn]] void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
[[noreturn]] void fail_at(Site site, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// Launches.
typedef std::function<void()> Body;
void name_next_kernel(const char *launch_arguments); // the text between the parentheses of launch()
cudaError_t submit_kernel(const cudaLaunchConfig_t *config, const void *kernel, Body body);
// Stand-ins of vendor libraries: any host code, in stream order, with access to device memory.
cudaError_t submit_host(cudaStream_t stream, Body body);
// Fatal unless p is NULL or device memory.
void check_device_pointer(const void *p, const char *what);
// Fatal where a word of a struct that is passed to a kernel is the address of host memory or of freed device memory.
void check_words(const void *p, size_t bytes);
} // namespace emu
#endif
