/* SPDX-License-Identifier: MIT */
/* Pictures of requests by scales and at full resolution. */
#ifndef SWD_BENCH_PICTURES_H
#define SWD_BENCH_PICTURES_H
#include "bench/harness.h"

/* Stacked bars, a stage a piece, of the largest size to file; where several sizes were measured, time against resolution to file with
 * -sizes before its suffix. SWD_ERR_UNSUPPORTED where the entries are of something else. */
swd_status pictures_write(const bench *b, const char *file, swd_err *err);
#endif
