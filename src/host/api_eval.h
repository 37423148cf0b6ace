/* SPDX-License-Identifier: MIT */
/* api_eval.c defines what swd/plot.h and swd/eval.h declare. */
#ifndef SWD_API_EVAL_H
#define SWD_API_EVAL_H
#include <swd/eval.h>
#include <swd/plot.h>
#endif
