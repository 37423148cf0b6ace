/* SPDX-License-Identifier: MIT */
/* Reverse mode over op_*() calls: forward code runs unchanged on an exec that has the tape as its hook, then tape_backward() walks the
 * calls in reverse.
 *
 *     static swd_status step(void *ctx, tape *t, swd_exec *ex)
 *     {
 *         tape_use(t, student, true);                    // parameters; their gradients are added to
 *         ... op_*(), denoiser_forward() ...             // recorded where a parameter or a variable is behind them
 *         SWD_TRY(tape_seed(t, y, dy, ex), ex->err);     // dL/dy
 *         return tape_backward(t, ex);
 *     }
 *     tape_run(t, step, ctx, SWD_F32, err);
 *
 * A step runs twice: dry, to learn how much memory it wants, then in earnest; what it does besides ops (losses on the host) looks at
 * ex->dry. Gradients have the storage of their activations (float32 for F16). A value that a backward pass needs is kept where it lies,
 * and copied aside only when an op is about to write over it. Memory outside the slab that ops read is constant during a step, unless it
 * is a variable. One thread calls. */
#ifndef SWD_TRAIN_TAPE_H
#define SWD_TRAIN_TAPE_H
#include "backend/backward.h"
#include "train/layers.h"

typedef struct tape tape;
typedef swd_status (*tape_step)(void *ctx, tape *t, swd_exec *ex);

swd_status tape_create(tape **out, swd_backend *be, swd_err *err);
void tape_destroy(tape **t); /* writes NULL; accepts it */

/* Segments (blocks of transformers) are computed again in the backward pass instead of kept. Off at first; the gradients are the same
 * bit for bit. */
void tape_checkpoint(tape *t, bool on);

typedef struct tape_memory {
    size_t slab;      /* activations, what is kept of them, scratch */
    size_t gradients; /* of activations, at most */
    size_t weights;   /* copies of frozen weights, where the backend does not lend its own */
} tape_memory;
/* Each part of *out becomes m's where that is larger. */
void tape_memory_most(tape_memory *out, const tape_memory *m);
/* What a step would take: nothing is computed, no tensor's data is touched. */
swd_status tape_measure(tape_memory *out, tape *t, tape_step step, void *ctx, swd_dtype act,
                        swd_err *err);
/* act: storage of activations between ops (swd_exec). Memory is kept for the next step. */
swd_status tape_run(tape *t, tape_step step, void *ctx, swd_dtype act, swd_err *err);
tape_memory tape_held(const tape *t);

/* ---- within a step ---- */

enum { TAPE_SETS_MAX = 4 };
/* From here on ops compute with the set's layers, too; train: they get gradients. Calls with a set in use change train. A step begins
 * without any; tape_use_none() goes back there: the frozen model (the teacher). */
void tape_use(tape *t, const layer_set *set, bool train);
void tape_use_none(tape *t);
/* Whether calls are recorded: on when a step begins. What ran while it was off is constant. */
void tape_record(tape *t, bool on);
/* A tensor outside the slab whose gradient is wanted: tape_gradient() until the step ends, the same shape and strides, zero if nothing
 * depends on it (absent when dry). */
swd_status tape_variable(tape *t, swd_tensor x);
swd_tensor tape_gradient(tape *t, swd_tensor x);
/* A tensor outside the slab that ops write: without this, a result that learns may not lie there. */
swd_status tape_track(tape *t, swd_tensor y);
/* Adds dy, any float type, to the gradient of y. Nothing happens where y depends on nothing that learns. */
swd_status tape_seed(tape *t, swd_tensor y, swd_tensor dy, swd_exec *ex);
/* Once per step, after all seeds. */
swd_status tape_backward(tape *t, swd_exec *ex);
#endif
