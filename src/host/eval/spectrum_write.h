/* SPDX-License-Identifier: MIT */
/* swd_spectrum_write, below the public API. */
#ifndef SWD_EVAL_SPECTRUM_WRITE_H
#define SWD_EVAL_SPECTRUM_WRITE_H
#include "base/status.h"
#include <swd/eval.h>

swd_status spectrum_write(const char *path, const swd_spectrum *s, swd_err *err);
#endif
