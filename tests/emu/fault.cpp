// SPDX-License-Identifier: MIT
// Faults: a touch of a guard page is told with kernel, block, thread and source line; a sanitizer's report is followed by them.
#include "fault.h"
#include "engine.h"
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <mutex>
#include <sys/mman.h>
#include <ucontext.h>

extern "C" {
// Of the sanitizers' runtime, where one is linked.
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));
void __sanitizer_symbolize_pc(void *pc, const char *format, char *out, size_t size)
    __attribute__((weak));
}

namespace emu
{
static struct sigaction before_us[2];

static void print_line(void *pc)
{
    char text[512];
    Dl_info info;
    if (__sanitizer_symbolize_pc) {
        __sanitizer_symbolize_pc(pc, "%f %s:%l", text, sizeof text);
        fprintf(stderr, "EMU: fault in %s\n", text);
    } else if (dladdr(pc, &info) && info.dli_fname) {
        fprintf(stderr, "EMU: fault at: addr2line -e %s %#tx\n", info.dli_fname,
                static_cast<char *>(pc) - static_cast<char *>(info.dli_fbase));
    }
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    const char *p = static_cast<const char *>(info->si_addr);
    // A fault that is not ours happens again, in front of the handler before us.
    sigaction(number, &before_us[number == SIGBUS], nullptr);
#if defined(__x86_64__)
    void *pc =
        reinterpret_cast<void *>(static_cast<ucontext_t *>(context)->uc_mcontext.gregs[REG_RIP]);
    if (cur) print_line(pc);
#else
    (void)context;
#endif
    memory_explain(p);
    smem_explain(p);
    if (cur && fiber_below(static_cast<Fiber *>(cur->fiber), p))
        fail("a thread of a kernel needs more stack than the emulator gives it");
    if (cur) fail("a kernel touches %p, which is no memory of the device", p);
}

void fault_handler_install()
{
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction sa = {};
        sa.sa_sigaction = on_fault;
        sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        sigaction(SIGSEGV, &sa, &before_us[0]);
        sigaction(SIGBUS, &sa, &before_us[1]);
        if (__sanitizer_set_death_callback) __sanitizer_set_death_callback([] { report_place(); });
    });
}

void fault_stack_install()
{
    stack_t now;
    const size_t size = 256 << 10;
    if (sigaltstack(nullptr, &now) != 0 || (!(now.ss_flags & SS_DISABLE) && now.ss_size >= size))
        return;
    void *map = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return;
    now.ss_sp = map;
    now.ss_size = size;
    now.ss_flags = 0;
    sigaltstack(&now, nullptr);
}
} // namespace emu
