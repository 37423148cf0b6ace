/* SPDX-License-Identifier: MIT */
/* What is done, or can be known, before a request comes. */
#ifndef SWD_PIPELINE_AHEAD_H
#define SWD_PIPELINE_AHEAD_H
#include "pipeline/memory_plan.h"

/* All that swd_load promises. */
swd_status ahead_load(pipeline *p, swd_err *err);
/* The activations of one picture of the default size in bytes, where the networks are loaded; or all that a request (NULL: that picture)
 * takes on a device, where nothing needs to be (backend/slab.h). */
swd_status ahead_measure(size_t *bytes, pipeline *p, swd_err *err);
swd_status ahead_plan(memory_plan *out, const swd_generate_params *params, pipeline *p,
                      swd_err *err);
#endif
