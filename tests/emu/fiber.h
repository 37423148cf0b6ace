/* SPDX-License-Identifier: MIT */
/* Fibers: a stack each, switched without the kernel's help (19 ns), known to the sanitizers. */
#ifndef SWD_TESTS_EMU_FIBER_H
#define SWD_TESTS_EMU_FIBER_H
#include <stddef.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emu
{
struct Fiber {
    char *stack; // of an OS thread's own stack: learnt when a fiber first leaves it
    size_t size;
    void *fake; // ASan's fake stack while away
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
};

// A fiber that runs entry(), which never returns. number spreads the stacks over the sets of the caches.
Fiber *fiber_create(size_t number, void (*entry)());
// from -> to; returns when somebody jumps back to from. tsan: the target's fiber of ThreadSanitizer.
void fiber_jump(Fiber *from, Fiber *to, void *tsan);
// The first thing a new fiber calls: from is the fiber that jumped to it.
void fiber_landed(Fiber *self);

// p lies in the guard page at the end of f's stack.
bool fiber_below(const Fiber *f, const char *p);

// ThreadSanitizer, where it is in the build.
void *tsan_create_fiber();
void *tsan_current_fiber();
void tsan_acquire(void *p);
void tsan_release(void *p);
} // namespace emu
#endif
