/* SPDX-License-Identifier: MIT */
/* One request: prompts to pictures. */
#ifndef SWD_PIPELINE_GENERATE_H
#define SWD_PIPELINE_GENERATE_H
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

/* All that swd_generate promises. *out (may be NULL) is freed by swd_result_free = result_free. */
swd_status generate(swd_result **out, const swd_generate_params *params, pipeline *p, swd_err *err);
/* All that swd_load promises. */
swd_status generate_load(pipeline *p, swd_err *err);
/* The activations of one picture of the default size in bytes, where the networks are loaded; or all that a request (NULL: that picture)
 * takes on a device, where nothing needs to be (backend/slab.h). */
swd_status generate_measure(size_t *bytes, pipeline *p, swd_err *err);
swd_status generate_plan(memory_plan *out, const swd_generate_params *params, pipeline *p,
                         swd_err *err);
void result_free(swd_result **result);
#endif
