/* SPDX-License-Identifier: MIT */
/* swd_spectrum_measure and swd_spectrum_free, below the public API. */
#ifndef SWD_EVAL_SPECTRUM_RUN_H
#define SWD_EVAL_SPECTRUM_RUN_H
#include "pipeline/assemble.h"
#include <swd/eval.h>

/* p: for its autoencoder and its progress callback; only latents: it need not hold a model. */
swd_status spectrum_run(swd_spectrum **out, const swd_spectrum_params *a, pipeline *p,
                        swd_err *err);
void spectrum_result_free(swd_spectrum **s);
#endif
