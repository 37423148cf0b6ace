/* SPDX-License-Identifier: MIT */
/* swd_eval_measure and swd_eval_free, below the public API. */
#ifndef SWD_EVAL_EVAL_RUN_H
#define SWD_EVAL_EVAL_RUN_H
#include "pipeline/assemble.h"
#include <swd/eval.h>

/* p: for its backend, precision and progress callback. */
swd_status eval_run(swd_eval **out, const swd_eval_params *a, pipeline *p, swd_err *err);
void eval_result_free(swd_eval **e);
#endif
