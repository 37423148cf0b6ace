/* SPDX-License-Identifier: MIT */
/* Sheets of samples: pictures of fixed prompts and seeds by what was learnt so far, side by side in one file. */
#ifndef SWD_TRAIN_SHEET_H
#define SWD_TRAIN_SHEET_H
#include "sample/scalewise.h"
#include "train/distill.h"
#include "train/tape.h"

enum { SHEET_PROMPTS_MAX = 64, SHEET_STEPS_MAX = 64 };

typedef struct sheet_setup {
    int n;                             /* prompts */
    const float *context, *pooled;     /* [n, rows, width], [n, pooled] */
    const float *empty, *empty_pooled; /* of one empty prompt, for guidance */
    sample_step steps[SHEET_STEPS_MAX];
    int n_steps;
    bool euler;      /* else scale-wise */
    double guidance; /* > 1: two evaluations a step */
    uint64_t seed;   /* picture i has seed + i */
    int factor;      /* pixels per latent */
    /* latents [channels, h, w] -> rgb [factor h, factor w, 3] */
    swd_status (*decode)(void *user, uint8_t *rgb, const float *latents, int height, int width,
                         swd_err *err);
    void *user;
} sheet_setup;

/* text: shapes of the prompts' tensors, [1, rows, width] and [1, pooled]. */
swd_status sheet_write(const char *path, const sheet_setup *s, const distill *d, int channels,
                       const text_input *text, swd_err *err);
#endif
