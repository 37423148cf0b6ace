// SPDX-License-Identifier: MIT
// Fibers: the x86-64 switch saves the six registers that a call preserves; elsewhere ucontext (330 ns instead of 19).
#include "fiber.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef EMU_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef EMU_TSAN
extern "C" {
void *__tsan_create_fiber(unsigned flags);
void *__tsan_get_current_fiber(void);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *p);
void __tsan_release(void *p);
}
#endif

namespace emu
{
static const size_t STACK = 128 << 10, PAGE = 4096;
static thread_local Fiber *left; // the fiber that the running one was entered from

#if defined(__x86_64__)
extern "C" void emu_switch(void **save, void *to);
asm(".text\n"
    ".globl emu_switch\n"
    ".type emu_switch,@function\n"
    "emu_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\n"
    "movq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\n"
    "ret\n"
    ".size emu_switch,.-emu_switch\n");
#endif

Fiber *fiber_create(size_t number, void (*entry)())
{
    Fiber *f = new Fiber();
    void *map = mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED || mprotect(map, PAGE, PROT_NONE) != 0) {
        perror("emulator: no memory for a stack");
        abort();
    }
    f->stack = static_cast<char *>(map) + PAGE;
    f->size = STACK;
#if defined(__x86_64__)
    // Equal offsets in their pages would put the tops of all stacks into the same sets of the caches.
    void **sp = reinterpret_cast<void **>(f->stack + STACK - (number * 448 & (PAGE - 1)));
    *--sp = nullptr;
    *--sp = reinterpret_cast<void *>(entry);
    sp -= 6;
    memset(sp, 0, 6 * sizeof *sp);
    f->sp = sp;
#else
    (void)number;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK;
    makecontext(&f->context, entry, 0);
#endif
    return f;
}

bool fiber_below(const Fiber *f, const char *p)
{
    return f && p < f->stack && p >= f->stack - PAGE;
}

void fiber_landed(Fiber *self)
{
#ifdef EMU_ASAN
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(self->fake, &bottom, &size);
    if (!left->stack) {
        left->stack = const_cast<char *>(static_cast<const char *>(bottom));
        left->size = size;
    }
#else
    (void)self;
#endif
}

void fiber_jump(Fiber *from, Fiber *to, void *tsan)
{
    left = from;
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(&from->fake, to->stack, to->size);
#endif
#ifdef EMU_TSAN
    __tsan_switch_to_fiber(tsan, 1);
#else
    (void)tsan;
#endif
#if defined(__x86_64__)
    emu_switch(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
    fiber_landed(from);
}

void *tsan_create_fiber()
{
#ifdef EMU_TSAN
    return __tsan_create_fiber(0);
#else
    return nullptr;
#endif
}

void *tsan_current_fiber()
{
#ifdef EMU_TSAN
    return __tsan_get_current_fiber();
#else
    return nullptr;
#endif
}

void tsan_acquire(void *p)
{
#ifdef EMU_TSAN
    __tsan_acquire(p);
#else
    (void)p;
#endif
}

void tsan_release(void *p)
{
#ifdef EMU_TSAN
    __tsan_release(p);
#else
    (void)p;
#endif
}
} // namespace emu
