/* SPDX-License-Identifier: MIT */
/* Shapes of the list as work on a backend: memory, operands full of random numbers, packed weights, a slab. */
#ifndef SWD_TOOLS_GPU_CHECK_JOBS_H
#define SWD_TOOLS_GPU_CHECK_JOBS_H
#include "shapes.h"

/* Close it also after a failure. s stays with the caller. */
swd_status job_open(job *j, const shape *s, swd_backend *b, swd_err *err);
void job_close(job *j);
/* Queues it once. */
swd_status job_run(job *j, swd_err *err);
/* The values of a PART_WEIGHT or PART_BIAS part, as they were packed; the caller frees them. */
swd_status job_weight(void **out, const plan *p, int i, swd_err *err);
#endif
