// SPDX-License-Identifier: MIT
// Device memory: an arena of its own in the address space. An allocation ends at a page that nobody may touch, starts after
// another, holds 0xff (NaN) when fresh, and its addresses are not used again. While no operation runs the whole arena is out
// of reach, so that host code which touches device memory is stopped, in every build. Pinned memory is the host's.
#include "emu/control.h"
#include "fault.h"
#include "runtime.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

namespace emu
{
enum { ZONE_BYTE = 0xa5 };
static const size_t PAGE = 4096, ALIGN = 256;

struct Allocation {
    size_t bytes;
    char *pages; // first accessible page
    size_t pages_bytes;
    bool born; // in the order of its stream
};

static std::map<const char *, Allocation> &live = *new std::map<const char *, Allocation>;
static std::map<const char *, Allocation> &freed = *new std::map<const char *, Allocation>;
static std::map<const char *, size_t> &pinned = *new std::map<const char *, size_t>;
static char *arena, *arena_end, *arena_next;
static size_t bytes_live;
static int open_count;

static size_t bytes_max() // EMU_MEMORY_MAX: what the device pretends to have
{
    static const char *e = getenv("EMU_MEMORY_MAX");
    static size_t n = e ? strtoull(e, nullptr, 0) : static_cast<size_t>(8) << 30;
    return n;
}

// ---- faults ----

static const std::pair<const char *const, Allocation> *
nearest(const std::map<const char *, Allocation> &m, const char *p)
{
    auto it = m.upper_bound(p);
    return it == m.begin() ? nullptr : &*--it;
}

void memory_explain(const char *p)
{
    if (p < arena || p >= arena_end) return;
    auto *a = nearest(live, p), *f = nearest(freed, p);
    if (f && (!a || f->first > a->first) && p < f->second.pages + f->second.pages_bytes)
        fail("device memory is used after its free: %p, byte %td of %zu", p, p - f->first,
             f->second.bytes);
    if (!a) fail("access outside of device memory: %p", p);
    if (p >= a->first + a->second.bytes)
        fail("access outside of device memory: %p, byte %td of an allocation of %zu", p,
             p - a->first, a->second.bytes);
    if (!a->second.born)
        fail("device memory is used before its allocation, which another stream does: %p, byte %td "
             "of %zu",
             p, p - a->first, a->second.bytes);
    fail("host code touches device memory: %p, byte %td of an allocation of %zu", p, p - a->first,
         a->second.bytes);
}

// Not through mmap(): ThreadSanitizer would clear the shadow of the whole arena.
static bool arena_reserve()
{
    for (size_t bytes = static_cast<size_t>(256) << 30; bytes >= static_cast<size_t>(1) << 30;
         bytes /= 4) {
        long r = syscall(SYS_mmap, nullptr, bytes, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (r == -1) continue;
        arena = reinterpret_cast<char *>(r);
        arena_end = arena + bytes;
        arena_next = arena + PAGE;
        fault_handler_install();
        return true;
    }
    return false;
}

// ---- allocations ----

static int fail_in;     // emu_fail_allocation
static int allocations; // emu_allocations

static bool fails_now()
{
    if (fail_in <= 0 || --fail_in > 0) return false;
    failed("an allocation");
    return true;
}

static void protect(const Allocation &a, int how)
{
    if (mprotect(a.pages, a.pages_bytes, how) != 0) fail("mprotect failed");
}

cudaError_t memory_device_alloc(void **out, size_t bytes, bool born)
{
    *out = nullptr;
    if (!bytes) return cudaSuccess;
    allocations++;
    if (!arena && !arena_reserve()) return cudaErrorMemoryAllocation;
    if (fails_now() || bytes > bytes_max() - bytes_live) return cudaErrorMemoryAllocation;
    size_t rounded = (bytes + ALIGN - 1) / ALIGN * ALIGN,
           pages = (rounded + PAGE - 1) / PAGE * PAGE;
    if (pages + PAGE > static_cast<size_t>(arena_end - arena_next))
        fail("the arena of device memory is used up");
    Allocation a = {bytes, arena_next, pages, born};
    arena_next += pages + PAGE;
    char *p = a.pages + pages - rounded;
    protect(a, PROT_READ | PROT_WRITE);
    ASAN_UNPOISON_MEMORY_REGION(a.pages, pages);
    memset(a.pages, ZONE_BYTE, static_cast<size_t>(p - a.pages));
    memset(p, 0xff, bytes);
    memset(p + bytes, ZONE_BYTE, rounded - bytes);
    ASAN_POISON_MEMORY_REGION(a.pages - PAGE, PAGE + static_cast<size_t>(p - a.pages));
    ASAN_POISON_MEMORY_REGION(p + bytes, rounded - bytes + PAGE);
    if (!open_count || !born) protect(a, PROT_NONE);
    live[p] = a;
    bytes_live += bytes;
    *out = p;
    return cudaSuccess;
}

void memory_device_born(void *p)
{
    Allocation &a = live.at(static_cast<char *>(p));
    a.born = true;
    if (open_count) protect(a, PROT_READ | PROT_WRITE);
}

static void check_zone(const char *from, const char *to, const char *p, size_t bytes)
{
    for (; from < to; from++)
        if (static_cast<unsigned char>(*from) != ZONE_BYTE)
            fail("device memory was written outside: byte %td of an allocation of %zu", from - p,
                 bytes);
}

void memory_device_free(void *pointer)
{
    if (!pointer) return;
    char *p = static_cast<char *>(pointer);
    auto it = live.find(p);
    if (it == live.end())
        fail("free of %p, which is %s", pointer,
             freed.count(p) ? "freed already" : "no allocation of the device");
    Allocation a = it->second;
    live.erase(it);
    protect(a, PROT_READ | PROT_WRITE);
    ASAN_UNPOISON_MEMORY_REGION(a.pages, a.pages_bytes);
    check_zone(a.pages, p, p, a.bytes);
    check_zone(p + a.bytes, a.pages + a.pages_bytes, p, a.bytes);
    ASAN_POISON_MEMORY_REGION(a.pages, a.pages_bytes);
    madvise(a.pages, a.pages_bytes, MADV_DONTNEED);
    protect(a, PROT_NONE);
    freed[p] = a;
    bytes_live -= a.bytes;
}

void memory_open()
{
    if (open_count++) return;
    for (auto &a : live)
        if (a.second.born) protect(a.second, PROT_READ | PROT_WRITE);
}

void memory_close()
{
    if (--open_count) return;
    for (auto &a : live) protect(a.second, PROT_NONE);
}

static bool pinned_holds(const char *p, size_t bytes)
{
    auto it = pinned.upper_bound(p);
    if (it == pinned.begin()) return false;
    --it;
    return p + bytes <= it->first + it->second && p < it->first + it->second;
}

MemoryKind memory_kind(const void *pointer)
{
    const char *p = static_cast<const char *>(pointer);
    if (p >= arena && p < arena_end) return MEMORY_DEVICE;
    return pinned_holds(p, 0) ? MEMORY_PINNED : MEMORY_PAGEABLE;
}

void memory_check_range(const void *pointer, size_t bytes, const char *what)
{
    const char *p = static_cast<const char *>(pointer);
    MemoryKind kind = memory_kind(p);
    if (!bytes || kind == MEMORY_PAGEABLE) return;
    if (kind == MEMORY_PINNED) {
        if (!pinned_holds(p, bytes))
            fail("%s: %zu bytes at %p leave their pinned allocation", what, bytes, p);
        return;
    }
    auto *a = nearest(live, p);
    if (!a || p + bytes > a->first + a->second.bytes)
        fail("%s: %zu bytes at %p are not within an allocation of the device", what, bytes, p);
}

void check_device_pointer(const void *pointer, const char *what)
{
    const char *p = static_cast<const char *>(pointer);
    if (!p) return;
    Lock lock(runtime_lock);
    auto *a = nearest(live, p);
    if (!a || p > a->first + a->second.bytes) {
        auto *f = nearest(freed, p);
        fail("%s, %p, is %s", what, pointer,
             f && p < f->first + f->second.bytes ? "device memory that was freed"
                                                 : "no memory of the device");
    }
}
// Mapped, and so not an odd number that looks like an address.
static bool mapped(uintptr_t word)
{
    unsigned char resident;
    return syscall(SYS_mincore, word / PAGE * PAGE, PAGE, &resident) == 0;
}

void check_words(const void *bytes, size_t n)
{
    for (size_t i = 0; i + sizeof(uintptr_t) <= n; i += sizeof(uintptr_t)) {
        uintptr_t word;
        memcpy(&word, static_cast<const char *>(bytes) + i, sizeof word);
        // Below lie the shadows of the sanitizers and what two small integers look like; a small integer beside one that was
        // never set, with half of an old pointer in it, has few bits in its lower half.
        if (word < UINT64_C(0x550000000000) || word >> 47 || (word & 0xffffffff) < 1 << 24)
            continue;
        const char *p = reinterpret_cast<const char *>(word);
        if (p >= arena && p < arena_next)
            check_device_pointer(p, "a pointer in a kernel's argument");
        else if (memory_kind(p) != MEMORY_DEVICE && mapped(word))
            fail("a pointer in a kernel's argument, %p, is host memory",
                 static_cast<const void *>(p));
    }
}
} // namespace emu

using namespace emu;

extern "C" {
void emu_fail_allocation(int n)
{
    Lock lock(runtime_lock);
    fail_in = n;
    failed("");
}

int emu_allocations(void)
{
    Lock lock(runtime_lock);
    return allocations;
}

size_t emu_live_bytes(void)
{
    Lock lock(runtime_lock);
    drain_all();
    size_t n = bytes_live;
    for (auto &p : pinned) n += p.second;
    return n;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    Lock lock(runtime_lock);
    if (cudaError_t e = broken()) return ret(e);
    if (cudaError_t e = unsafe_in_capture()) return ret(e);
    return ret(memory_device_alloc(p, bytes, true));
}

cudaError_t cudaFree(void *p)
{
    Lock lock(runtime_lock);
    if (cudaError_t e = lasting()) return ret(e);
    if (cudaError_t e = unsafe_in_capture()) return ret(e);
    allocations += p != nullptr;
    drain_all();
    memory_device_free(p);
    return ret(broken());
}

cudaError_t cudaMallocAsync(void **p, size_t bytes, cudaStream_t s)
{
    Lock lock(runtime_lock);
    if (cudaError_t e = broken()) return ret(e);
    if (stream_of(s)->capture) return ret(cudaErrorStreamCaptureUnsupported);
    cudaError_t e = memory_device_alloc(p, bytes, false);
    if (e != cudaSuccess || !*p) return ret(e);
    return ret(enqueue(s, [q = *p] { memory_device_born(q); }));
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t s)
{
    Lock lock(runtime_lock);
    if (cudaError_t e = lasting()) return ret(e);
    if (stream_of(s)->capture) return ret(cudaErrorStreamCaptureUnsupported);
    check_device_pointer(p, "cudaFreeAsync's argument");
    allocations++;
    if (cudaError_t e = enqueue(s, [p] { memory_device_free(p); })) return ret(e);
    return ret(broken());
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    Lock lock(runtime_lock);
    if (cudaError_t e = broken()) return ret(e);
    if (cudaError_t e = unsafe_in_capture()) return ret(e);
    *p = nullptr;
    if (!bytes) return cudaSuccess;
    allocations++;
    if (!fails_now()) *p = aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
    if (!*p) return ret(cudaErrorMemoryAllocation);
    memset(*p, 0xff, bytes);
    pinned[static_cast<char *>(*p)] = bytes;
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return cudaHostAlloc(p, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *p)
{
    Lock lock(runtime_lock);
    if (cudaError_t e = lasting()) return ret(e);
    if (!p) return cudaSuccess;
    allocations++;
    drain_all();
    if (!pinned.erase(static_cast<char *>(p)))
        fail("cudaFreeHost of %p, which cudaMallocHost did not give", p);
    free(p);
    return ret(broken());
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    Lock lock(runtime_lock);
    *total = bytes_max();
    *free_bytes = bytes_max() - bytes_live;
    return ret(broken());
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *p)
{
    Lock lock(runtime_lock);
    MemoryKind kind = memory_kind(p);
    memset(a, 0, sizeof *a);
    a->type = kind == MEMORY_DEVICE   ? cudaMemoryTypeDevice
              : kind == MEMORY_PINNED ? cudaMemoryTypeHost
                                      : cudaMemoryTypeUnregistered;
    a->devicePointer = kind == MEMORY_PAGEABLE ? nullptr : const_cast<void *>(p);
    a->hostPointer = kind == MEMORY_DEVICE ? nullptr : const_cast<void *>(p);
    return ret(broken());
}
}
