/* SPDX-License-Identifier: MIT */
/* A model of a published shape without a folder: its weights are random values, made while it is loaded, its token ids are made up. For
 * measuring: pipeline.random is set before pipeline_open. */
#ifndef SWD_PIPELINE_RANDOM_H
#define SWD_PIPELINE_RANDOM_H
#include "pipeline/assemble.h"

/* What the small files of a folder would say. Adapters are refused. */
swd_status random_open(pipeline *p, int n_loras, swd_err *err);
/* The weights of one of its networks, by the name its folder would have. */
swd_status random_weights(weights **out, const pipeline *p, const char *folder, swd_err *err);
/* n ids for text encoder i (0, 1: CLIP; 2: T5): a start, some tokens, the end, and padding. */
void random_ids(int32_t *ids, int n, int i, const pipeline *p);
#endif
