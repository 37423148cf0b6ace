/* SPDX-License-Identifier: MIT */
/* What the tests of training share: a tiny SD3 or SD3.5-M (tests/goldens/models) with a student, a fake model and a head as the goldens
 * of tools/reference/make_distill_goldens.py (tests/goldens/train) have them. All of it fails the test that calls. */
#ifndef TESTS_UNIT_TRAIN_BENCH_H
#define TESTS_UNIT_TRAIN_BENCH_H
#include "../distill_goldens.h"
#include <criterion/criterion.h>

typedef struct bench {
    swd_backend *be;
    swd_err err;
    char *model, *golden;
    config_denoiser config;
    denoiser *net;
    params *student, *fake, *full;
    head *head;
    tape *t;
    safetensors *io;
    distill d;
} bench;

/* Of functions that have a bench *b. */
#define OK(call) cr_assert_eq(call, SWD_OK, "%s", b->err.message)

void bench_open(bench *b, const char *name, swd_dtype compute);
void bench_close(bench *b);
void bench_zero(bench *b); /* all gradients */
weights *bench_weights(bench *b);
char *bench_join(const char *a, const char *b); /* of a path; freed by the caller */
/* The gradients of the student by all losses at once. */
distill_losses bench_everything(bench *b, const distill_batch *batch);

const float *golden_values(const safetensors *io, const char *name, int64_t *n);

/* What a set holds (its gradients, or values), one tensor after the other in order of their names; freed by the caller. */
float *flattened(const params *p, bool gradients);
/* Of two vectors, by the length of what was wanted. */
double distance(const float *got, const float *want, int64_t n);
/* torch's defaults but for the decay: SwD's; a rate of 0. */
optimizer_config adamw(void);
#endif
