/* SPDX-License-Identifier: MIT */
/* Batches that follow each other by one step, all of them in one pass of the transformer (sample/wave.h, model/mixed.h): the small scales,
 * which alone leave a device idle, share it with the large ones. The denoising of a request in this order; text, decoding and files are those
 * of stages.h. */
#ifndef SWD_PIPELINE_MIXED_BATCHES_H
#define SWD_PIPELINE_MIXED_BATCHES_H
#include "pipeline/request.h"

/* Whether the request can be done this way; why not, in words, if it was asked for and cannot (else ""). The transformer is loaded. */
bool mixed_possible(const request *r, char why[128]);
/* The batch at step k of a tick; batch i of the request enters at tick i. */
batch *mixed_batch_at(request *r, int tick, int k);
/* A stage: takes every batch under way at r->mixed.tick a step further, from the one that enters (if there is one more) to the one that leaves.
 * With a dry exec: the largest of all ticks. */
swd_status mixed_tick(request *r, swd_exec *ex);
#endif
