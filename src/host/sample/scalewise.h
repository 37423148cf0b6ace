/* SPDX-License-Identifier: MIT */
/* The sampling loops over a denoise callback; they know no model.
 *
 *     x_t = (1 - sigma) x0 + sigma eps      v = f(x_t, 1000 sigma)      x0 = x_t - sigma v
 *     scale-wise, next step:   x = (1 - sigma') bicubic(x0) + sigma' eps', eps' fresh at the new size (upscale first, then noise)
 *     euler, next step:        x = x + (sigma' - sigma) v
 */
#ifndef SWD_SAMPLE_SCALEWISE_H
#define SWD_SAMPLE_SCALEWISE_H
#include "backend/ops.h"
#include "sample/noise.h"

typedef struct sample_step {
    int height, width; /* latent sides, never smaller than the step before */
    float sigma;       /* in (0, 1], not increasing */
} sample_step;

/* A step's work; it reads and writes the same memory whenever it is run again for the same steps. */
typedef swd_status sample_body(void *loop, int step);

typedef struct sample_args {
    const sample_step *steps;
    int n_steps;
    swd_tensor
        init; /* F32 [B, C, h, w] of step 0: the clean latents to start from; absent: noise alone */
    noise_source *noise;
    swd_tensor draws; /* by sample_prepare() */
    void *user; /* of the callbacks; a status of theirs other than SWD_OK ends the loop with it */
    /* At step k (from 0): velocity, latents F32 [B, C, h, w]; also called while measuring (dry) */
    swd_status (*denoise)(void *user, int step, swd_tensor velocity, swd_tensor latents);
    /* Runs step k by calling body(loop, k) once, or what stands for it; NULL: just that. May be called while measuring. */
    swd_status (*run_step)(void *user, int step, sample_body *body, void *loop);
    /* After step k; x0 is this step's guess, valid during the call. May be NULL. */
    swd_status (*after_step)(void *user, int step, swd_tensor x0);
} sample_args;

/* Puts what the requests of a batch differ in, seeds and sigmas, into the backend's memory: a->draws, from the slab, the caller's to
 * rewind. What the loops then give the stream can be recorded as a graph and replayed over other such numbers, but for torch's noise,
 * an Euler sampler's sigmas and what the callbacks do. */
swd_status sample_prepare(sample_args *a, int64_t batch, swd_exec *ex);
/* x0 F32 [B, C, h, w] of the last step. Scratch comes from the slab and is returned. */
swd_status scalewise_sample(swd_tensor x0, const sample_args *a, swd_exec *ex);
/* All steps have the size of x0; only the start is noise. */
swd_status euler_sample(swd_tensor x0, const sample_args *a, swd_exec *ex);
#endif
