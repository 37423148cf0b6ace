/* SPDX-License-Identifier: MIT */
/* What is done for a batch, r->at, in order. Work that is enqueued here may still be under way afterwards, unless r->live; with a dry
 * exec nothing is computed and the stage's slab is measured. */
#ifndef SWD_PIPELINE_STAGES_H
#define SWD_PIPELINE_STAGES_H
#include "pipeline/request.h"

/* Steps whose modulations are computed together: the same for every batch of a request, also for the last one, which may be smaller. */
int64_t stage_steps_at_once(const request_plan *plan);

swd_status stage_encode_prompts(request *r, swd_exec *ex);
swd_status stage_encode_init(request *r, swd_exec *ex);
swd_status stage_denoise(request *r, swd_exec *ex);
swd_status stage_decode(request *r, swd_exec *ex);
#endif
