/* SPDX-License-Identifier: MIT */
/* A request's images among the processes of a group. The batches are those that one process would make, so the pictures are the same
 * bits; whoever is free takes the next one. Where networks take turns in a device's memory each process has a part of the
 * list from the start: every so many-th batch, so that it encodes its own prompts ahead. Alone, all of this does nothing. */
#ifndef SWD_PIPELINE_SHARE_H
#define SWD_PIPELINE_SHARE_H
#include "pipeline/request.h"

/* After request_open(), whose status is s: all have the same seed and the same list. */
swd_status share_begin(request *r, swd_status s, swd_err *err);
/* Once each knows what its memory holds: how the list is shared. */
swd_status share_out(request *r, swd_err *err);
/* Of a list that is shared as it goes all images are at work from the start; text encoders come where a prompt is not known. */
swd_status share_whole(request *r, swd_err *err);
/* Of todo: the first image of the batch to begin with now; -1: none is left. */
swd_status share_next(int *first, request *r, swd_err *err);
/* This process has failed: nobody begins another batch. */
void share_stop(request *r);
/* s: how it went here. Process 0's result becomes that of all: pictures (without pixels, where others made them), times added up. */
swd_status share_end(request *r, swd_status s, swd_err *err);
#endif
