/* SPDX-License-Identifier: MIT */
/* The slots of training on the CPU, and what their files share. */
#ifndef SWD_BACKEND_CPU_CPU_BACKWARD_H
#define SWD_BACKEND_CPU_CPU_BACKWARD_H
#include "backend/backward.h"
#include "backend/cpu/cpu.h"

enum { SUM_COLUMNS = 64 }; /* a task that sums rows owns this many columns */

/* n elements of g at an offset: written, or added to. src may be changed. */
void cpu_grad_store(swd_grad g, int64_t offset, float *src, int64_t n);

size_t cpu_norm_backward_workspace(swd_backend *b, const norm_backward_args *a);
swd_status cpu_norm_backward(swd_backend *b, const norm_backward_args *a, void *ws, swd_stream *s,
                             swd_err *err);
size_t cpu_attention_backward_workspace(swd_backend *b, const attention_backward_args *a);
swd_status cpu_attention_backward(swd_backend *b, const attention_backward_args *a, void *ws,
                                  swd_stream *s, swd_err *err);
void cpu_backward_slots(swd_backend *b);
#endif
