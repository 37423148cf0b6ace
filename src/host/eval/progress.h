/* SPDX-License-Identifier: MIT */
/* What long measurements tell the caller, and whether it wants to stop. */
#ifndef SWD_EVAL_PROGRESS_H
#define SWD_EVAL_PROGRESS_H
#include "pipeline/assemble.h"

/* File i (from 0) of n is about to be measured. */
static inline swd_status eval_progress(pipeline *p, int i, int n, swd_err *err)
{
    swd_progress now = {.size = sizeof(now),
                        .stage = SWD_STAGE_MEASURE,
                        .step = i + 1,
                        .n_steps = n,
                        .image = i,
                        .n_images = n};
    if (p->progress && p->progress(p->progress_user, &now) != 0)
        return SWD_FAIL(err, SWD_ERR_CANCELLED, "stopped by the progress callback");
    return SWD_OK;
}
#endif
