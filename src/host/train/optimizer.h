/* SPDX-License-Identifier: MIT */
/* AdamW over a set of parameters: masters and moments in float32, clipping by the norm of all gradients, a constant or cosine rate, the
 * mean of micro-batches, a running mean of the masters (EMA). One thread. */
#ifndef SWD_TRAIN_OPTIMIZER_H
#define SWD_TRAIN_OPTIMIZER_H
#include "train/params.h"

typedef enum rate_kind { RATE_CONSTANT, RATE_COSINE } rate_kind;

typedef struct optimizer_config {
    double rate, beta1, beta2, eps, weight_decay;
    double clip; /* largest norm of the gradient; 0: any */
    rate_kind kind;
    int64_t warmup; /* steps over which the rate rises from 0 to `rate` */
    int64_t steps;  /* cosine: the rate is 0 behind that many */
    double ema;     /* 0: none; else ema = ema * ema + (1 - ema) * master after each step */
} optimizer_config;

/* The rate of a step, counted from 1. */
double optimizer_rate(const optimizer_config *c, int64_t step);

typedef struct optimizer optimizer;

/* Borrows p. */
swd_status optimizer_create(optimizer **out, params *p, const optimizer_config *c, swd_err *err);
void optimizer_destroy(optimizer **o); /* writes NULL; accepts it */

/* One step by the gradients of n micro-batches (their mean), which are zero afterwards; then params_publish(). *size (may be NULL): of the
 * mean gradient (its norm) before it was clipped. One that is no number changes nothing but the gradients and is SWD_ERR_DEVICE. */
swd_status optimizer_step(optimizer *o, int n, double *size, swd_err *err);
/* The same for n_sets that learn from one loss: size and clipping are of all their gradients together, by the clip of the first. */
swd_status optimizer_step_together(optimizer *const *o, int n_sets, int n, double *size,
                                   swd_err *err);

/* Its state, for checkpoints: F32 [n] as params_values(), backend memory; ema absent where there is none. */
typedef struct optimizer_state {
    swd_tensor m, v, ema;
    int64_t *step;
} optimizer_state;
optimizer_state optimizer_state_of(optimizer *o);
#endif
