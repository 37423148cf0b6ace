/* SPDX-License-Identifier: MIT */
/* Faults of the processor and deaths by a sanitizer, told in the emulator's terms. */
#ifndef SWD_TESTS_EMU_FAULT_H
#define SWD_TESTS_EMU_FAULT_H

namespace emu
{
// Once a process; every worker also needs a stack for the handler.
void fault_handler_install();
void fault_stack_install();

// What lies at an address that nobody may touch: fatal with a message where it is theirs, else they return.
void memory_explain(const char *p);
void smem_explain(const char *p);
} // namespace emu
#endif
