/* SPDX-License-Identifier: MIT */
/* Which pictures, at which scale, each step takes: a pure function of (seed, step), so that a session that goes on takes what it would
 * have taken.
 *
 *     scale of step t: t mod scales, for every batch of the step (SwD's updates of the fake model and the student's)
 *     batch j of step t holds samples (t batches_per_step + j) batch + i of an endless row of permutations of the data, one an epoch
 */
#ifndef SWD_TRAIN_BATCHES_H
#define SWD_TRAIN_BATCHES_H
#include "base/status.h"
#include <stdint.h>

typedef struct batches {
    int64_t n; /* pictures */
    int batch, per_step, n_scales;
    uint64_t seed;
    int64_t epoch; /* that order is of; -1: none */
    int64_t *order;
} batches;

swd_status batches_create(batches *b, int64_t n, int batch, int per_step, int n_scales,
                          uint64_t seed, swd_err *err);
void batches_destroy(batches *b); /* accepts a zeroed one */
int batches_scale(const batches *b, int64_t step);
/* Picture i of batch j of a step. Steps are cheapest in order. */
int64_t batches_at(batches *b, int64_t step, int j, int i);
/* The draw of cache_sample for a sample: its place in the endless row; no two uses of a picture share one before 2^32 samples. */
uint32_t batches_draw(const batches *b, int64_t step, int j, int i);
/* 64 random bits for that sample; each stream, from 1, has its own. */
uint64_t batches_bits(const batches *b, int64_t step, int j, int i, int stream);
/* The same as a number in [0, 1). */
double batches_uniform(const batches *b, int64_t step, int j, int i, int stream);
#endif
