/* SPDX-License-Identifier: MIT */
/* What is in the device's memory when: everything, or one after the other what is at work. */
#ifndef SWD_PIPELINE_OFFLOAD_H
#define SWD_PIPELINE_OFFLOAD_H
#include "pipeline/memory_plan.h"
#include "pipeline/request.h"

/* Only where slab_has(); r is prepared, its prompts are decided. streamed: out->streamed is asked for as well. */
swd_status memory_plan_make(memory_plan *out, const request *r, bool streamed, swd_err *err);

/* Decides whether the networks take turns (p->offloading), and whether denoising and decoding do (r->apart). */
swd_status offload_choose(request *r, swd_err *err);
/* Sees to the embeddings of the images from r->first on, and sets r->end. Where all of them are known no text encoder is loaded, offloading they
 * are encoded now and the encoders go: then at most as many images go to work as there is room for their prompts. Else the encoders are there
 * and stay. */
swd_status offload_prompts(request *r, swd_err *err);
#endif
