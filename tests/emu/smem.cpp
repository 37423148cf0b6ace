// SPDX-License-Identifier: MIT
// Shared memory of a block: 0xff at its start (NaN), between red zones that ASan knows and that are looked at afterwards.
#include "engine.h"
#include "fault.h"
#include "runtime.h"
#include <sys/mman.h>
#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

namespace emu
{
enum { PAGE = 4096, RED_ZONE = 64, ZONE_BYTE = 0xa5, ARRAYS_MAX = 80 };
static const size_t STATIC_MAX = 48 << 10, DYNAMIC_AREA = 256 << 10,
                    STATIC_AREA = STATIC_MAX + 4 * PAGE; // and red zones

// An area that ends at a page that nobody may touch.
static char *area(size_t bytes)
{
    void *map =
        mmap(nullptr, bytes + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) fail("no memory for shared memory");
    char *p = static_cast<char *>(map);
    mprotect(p + bytes, PAGE, PROT_NONE);
    ASAN_POISON_MEMORY_REGION(p, bytes);
    return p;
}

static size_t slack(size_t bytes) // from the end of dynamic memory to the guard page
{
    return -bytes & 127;
}

void smem_explain(const char *p)
{
    if (!cur) return;
    const Block &b = W->block;
    const char *end = b.dynamic + b.dynamic_bytes + slack(b.dynamic_bytes);
    if (p >= end && p < end + PAGE)
        fail("access past the %zu bytes of dynamic shared memory, at byte %td", b.dynamic_bytes,
             p - b.dynamic);
    if (p >= b.statics + STATIC_AREA && p < b.statics + STATIC_AREA + PAGE)
        fail("access past the arrays in shared memory");
}

void smem_create(Block &b)
{
    b.statics = area(STATIC_AREA);
    b.arrays.reserve(ARRAYS_MAX);
    b.dynamic = area(DYNAMIC_AREA) + DYNAMIC_AREA;
}

// Not memset: ThreadSanitizer, which knows that one, would see a thread write here.
static void fill(char *p, int byte, size_t n)
{
#if defined(__x86_64__)
    asm volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(byte) : "memory");
#else
    for (size_t i = 0; i < n; i++) static_cast<volatile char *>(p)[i] = static_cast<char>(byte);
#endif
}

static bool zone_intact(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (static_cast<unsigned char>(p[i]) != ZONE_BYTE) return false;
    return true;
}

void smem_begin_grid(Block &b, size_t bytes)
{
    if (bytes > DYNAMIC_AREA - RED_ZONE) fail("%zu bytes of dynamic shared memory", bytes);
    char *end = b.dynamic + b.dynamic_bytes + slack(b.dynamic_bytes); // of the area
    b.dynamic_bytes = bytes;
    b.dynamic = end - slack(bytes) - bytes;
    ASAN_UNPOISON_MEMORY_REGION(b.dynamic, bytes);
}

static void check_zones(const Block &b)
{
    if (!zone_intact(b.dynamic - RED_ZONE, RED_ZONE) ||
        !zone_intact(b.dynamic + b.dynamic_bytes, slack(b.dynamic_bytes)))
        fail("the block wrote outside its dynamic shared memory");
    for (const StaticArray &a : b.arrays)
        if (!zone_intact(a.p + a.bytes, RED_ZONE))
            fail("the block wrote past an array of %zu bytes in shared memory", a.bytes);
}

// Pages that ThreadSanitizer takes for new: what the block before did there is no concern of this one.
static void renew(char *from, char *to)
{
#ifdef EMU_TSAN
    char *page = from - reinterpret_cast<uintptr_t>(from) % PAGE;
    if (from < to && mmap(page, static_cast<size_t>(to - page), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        fail("no memory for shared memory");
#else
    (void)from, (void)to;
#endif
}

void smem_begin_block(Block &b)
{
    char *end = b.dynamic + b.dynamic_bytes + slack(b.dynamic_bytes);
    renew(b.dynamic - RED_ZONE, end);
    renew(b.statics, b.statics + b.statics_end);
    fill(b.dynamic - RED_ZONE, ZONE_BYTE, RED_ZONE);
    fill(b.dynamic, 0xff, b.dynamic_bytes);
    fill(b.dynamic + b.dynamic_bytes, ZONE_BYTE, slack(b.dynamic_bytes));
    for (const StaticArray &a : b.arrays) ASAN_POISON_MEMORY_REGION(a.p, a.bytes);
    b.arrays.clear();
    b.statics_end = b.statics_bytes = 0;
}

void smem_end_block(Block &b)
{
    check_zones(b);
}

void smem_end_grid(Block &b)
{
    ASAN_POISON_MEMORY_REGION(b.dynamic, b.dynamic_bytes);
}

void *smem_dynamic()
{
    return W->block.dynamic;
}

void *smem_static(const void *site, size_t bytes, size_t align)
{
    Block &b = W->block;
    for (const StaticArray &a : b.arrays)
        if (a.site == site) return a.p;
    size_t offset = (b.statics_end + align - 1) & ~(align - 1);
    b.statics_bytes += bytes;
    if (b.statics_bytes > STATIC_MAX || b.arrays.size() == ARRAYS_MAX)
        fail("more than 48 KiB or %d arrays of static shared memory", int(ARRAYS_MAX));
    size_t limit = W->smem_granted ? SMEM_OPTIN : SMEM_DEFAULT;
    if (b.statics_bytes + b.dynamic_bytes > limit)
        fail("static (%zu) and dynamic (%zu bytes) shared memory exceed %zu", b.statics_bytes,
             b.dynamic_bytes, limit);
    b.statics_end = offset + bytes + RED_ZONE;
    char *p = b.statics + offset;
    ASAN_UNPOISON_MEMORY_REGION(p, bytes);
    fill(p, 0xff, bytes);
    fill(p + bytes, ZONE_BYTE, RED_ZONE);
    b.arrays.push_back(StaticArray{site, p, bytes});
    return p;
}
} // namespace emu
