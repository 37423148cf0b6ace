/* SPDX-License-Identifier: MIT */
/* api_eval.c defines what swd/plot.h declares. */
#ifndef SWD_API_EVAL_H
#define SWD_API_EVAL_H
#include <swd/plot.h>
#endif
