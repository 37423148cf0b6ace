/* SPDX-License-Identifier: MIT */
/* A table of what lies on a device while a request runs. */
#ifndef SWD_PIPELINE_MEMORY_PLAN_H
#define SWD_PIPELINE_MEMORY_PLAN_H
#include "pipeline/assemble.h"

/* What a request takes on a device, in bytes; learnt without loading anything. */
typedef struct memory_plan {
    size_t weights[PIPELINE_PARTS]; /* 0: not used */
    size_t t5_streamed;             /* instead of weights[PART_T5], where layers come one by one */
    size_t activations, all;        /* everything there: the slab, and the whole */
    size_t text, pictures;          /* offloading: the peak of each phase ... */
    size_t denoise, decode;         /* ... and where the second one is divided as well */
    size_t streamed; /* denoise, where the transformer's modulations come one by one */
} memory_plan;
#endif
