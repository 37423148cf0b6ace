/* SPDX-License-Identifier: MIT */
/* What a test may ask of the emulated device, in C. */
#ifndef SWD_TESTS_EMU_CONTROL_H
#define SWD_TESTS_EMU_CONTROL_H
#include <cuda_runtime_api.h>
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif

/* The device fails from now on, as after a fault in a kernel: every call returns e. cudaSuccess: it is whole again. */
void emu_break_device(cudaError_t e);
/* The newest CUDA that the driver knows, 0: there is no driver. Below the runtime's every call that needs one fails. */
void emu_set_driver(int version);
/* The n-th allocation of device or pinned memory from now on fails (1: the next), once; 0: none. */
void emu_fail_allocation(int n);
/* Calls of the runtime so far that a device could have let fail (launches, copies, waits, ...), of all threads. */
int emu_calls(void);
/* The n-th such call from now on fails with cudaErrorUnknown, once; 0: none. */
void emu_fail_call(int n);
/* Which call that was ("an allocation" of the other kind of fault); "" if it has not come yet. Valid until the next fault. */
const char *emu_failed(void);
/* Pieces of device and pinned memory given and taken back so far. */
int emu_allocations(void);
/* Device and pinned memory that is not freed, after everything queued has run. */
size_t emu_live_bytes(void);

#ifdef __cplusplus
}
#endif
#endif
