/* SPDX-License-Identifier: MIT */
/* Batches of one scale-wise schedule under way one behind the other, one at each step: a tick takes all of them a step further, so that one
 * pass of a network sees every scale at once. What a batch goes through is what scalewise_sample() does to it alone.
 *
 *     tick:   noise enters at step 0;   velocities of all steps (the caller's pass);   x0 of the last step leaves, step k goes to k + 1
 */
#ifndef SWD_SAMPLE_WAVE_H
#define SWD_SAMPLE_WAVE_H
#include "sample/scalewise.h"

enum { WAVE_STEPS_MAX = 16 };

typedef struct wave {
    const sample_step *steps;
    int n_steps;
    int64_t batch;                /* images at each step */
    swd_tensor x[WAVE_STEPS_MAX]; /* F32 [batch, C, h, w] of each step: latents ... */
    swd_tensor v[WAVE_STEPS_MAX]; /* ... and velocity */
    swd_tensor draws;             /* U8 [n_steps + 1, batch, sizeof(renoise_step)], of a tick */
} wave;

/* steps are borrowed; everything else is in the slab, the caller's to rewind. SWD_ERR_ARGUMENT for more steps than the limit. */
swd_status wave_alloc(wave *w, const sample_step *steps, int n_steps, int64_t batch,
                      int64_t channels, swd_exec *ex);
/* The images of this tick: seeds[k * batch + i] of image i at step k (any number where there is none). To be called before each tick, outside of
 * what is recorded: the calls below read the same memory every time. */
swd_status wave_seeds(const wave *w, const uint64_t *seeds, swd_exec *ex);
/* Noise for the batch at step 0. */
swd_status wave_enter(const wave *w, swd_exec *ex);
/* With the velocities of steps first to last: x0 F32 [batch, C, h, w] of the last step of all if that is among them, and every other batch
 * goes a step further. */
swd_status wave_advance(swd_tensor x0, const wave *w, int first, int last, swd_exec *ex);
#endif
