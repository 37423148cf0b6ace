/* SPDX-License-Identifier: MIT */
/* Ranges for a profiler (NVTX): a request, its stages, their steps, the ops. Where none listens they cost a test of a pointer. */
#ifndef SWD_BACKEND_TRACE_H
#define SWD_BACKEND_TRACE_H
#include "backend/backend.h"
#include <stdio.h>

/* name lasts until the call returns */
static inline void range_begin(swd_backend *b, swd_range kind, const char *name)
{
    if (b->range_push) b->range_push(b, kind, name);
}

static inline void range_end(swd_backend *b)
{
    if (b->range_pop) b->range_pop(b);
}

/* "step 3 of 6: 64x64, sigma 0.7904" */
static inline void range_begin_step(swd_backend *b, int step, int n_steps, int width, int height,
                                    double sigma)
{
    char name[96];
    if (!b->range_push) return;
    snprintf(name, sizeof name, "step %d of %d: %dx%d, sigma %.4f", step, n_steps, width, height,
             sigma);
    b->range_push(b, RANGE_STEP, name);
}
#endif
