/* SPDX-License-Identifier: MIT */
/* What was measured as plots. */
#ifndef SWD_BENCH_PICTURES_H
#define SWD_BENCH_PICTURES_H
#include "bench/harness.h"

/* Stacked bars to file: the stages of pictures of the largest size, the classes of ops of networks, else the times. Where pictures of several
 * sizes were measured, also time against resolution, to file with -sizes before its suffix. SWD_ERR_UNSUPPORTED: there is no entry. */
swd_status pictures_write(const bench *b, const char *file, swd_err *err);
#endif
