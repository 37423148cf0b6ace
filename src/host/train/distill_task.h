/* SPDX-License-Identifier: MIT */
/* The task of a session (task.h) that distils a student or fine-tunes a model: data from the cache, SwD's order of updates, optimizers, what
 * is written in the end.
 *
 *     a step at scale k of N (k = step mod N):
 *         full:   fake_updates times, each on a fresh batch:   fake model and head by distill_fake()
 *         then, on another batch:                              student by distill_generator()
 *         flow-matching:                                       student by distill_flow() at scale k
 *     a batch is taken in micro-batches, whose gradients are added, those of other processes too: each takes the next of them in order, as many
 *     as the others. All noise is Philox's, by (seed, place of the sample, purpose). */
#ifndef SWD_TRAIN_DISTILL_TASK_H
#define SWD_TRAIN_DISTILL_TASK_H
#include "train/batches.h"
#include "train/cache.h"
#include "train/distill.h"
#include "train/optimizer.h"
#include "train/sheet.h"
#include "train/task.h"
#include <swd/train.h>

typedef struct distill_setup {
    const swd_train_params *params;
    const cache *cache;
    swd_backend *be;
    swd_dtype compute;
    const denoiser *teacher; /* frozen */
    const denoiser *
        student; /* the same, or where all weights of a student learn beside a teacher, one of its own */
    weights *
        files; /* of the student, where all its weights learn; else NULL. Borrowed until the task is there */
    int channels, n_scales;
    const int *scales;
    const double *sigmas; /* where each scale's student starts; NULL for flow matching */
    int block;            /* features come from behind it */
    double guidance;      /* of the teacher */
    int64_t context_rows, context_width, pooled_width;
    uint64_t identity; /* of the frozen weights */
    const char *model; /* folder, for the adapter's config */
    const char
        *transformer; /* its folder with config.json, for what is written where all weights learn */
    const char *schedule_json; /* swd.json of the student */
    const sheet_setup *sheet;  /* NULL: no sheets */
} distill_setup;

typedef struct distill_task distill_task;

/* Each process of the group takes as much of a batch as the others: that it can be divided so. */
swd_status distill_task_check_share(const swd_train_params *p, swd_err *err);
/* All of setup is borrowed until distill_task_destroy but for files. */
swd_status distill_task_create(distill_task **out, const distill_setup *setup, swd_err *err);
void distill_task_destroy(distill_task **t); /* writes NULL; accepts it */
const task *distill_task_of(const distill_task *t);
/* What a step will take at most, of all scales, beside the networks, the parameters and their moments: nothing of it is there before the
 * first. A backend that finds its kernels by trying them does so here, while there is room for that. */
swd_status distill_task_measure(tape_memory *out, distill_task *t, swd_err *err);
/* For people: what learns, in how much memory. Returns buf. */
char *distill_task_describe(char *buf, size_t n, const distill_task *t, const tape_memory *m);
#endif
