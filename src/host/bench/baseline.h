/* SPDX-License-Identifier: MIT */
/* A run beside an earlier one of the same name and precision:
 *
 *     change = now / then - 1
 *     noise = (p90 - p10) / (2 median) of both, added; at least 2 %        what does not exceed it is no change */
#ifndef SWD_BENCH_BASELINE_H
#define SWD_BENCH_BASELINE_H
#include "bench/harness.h"

/* file: a document of schema 1. Fills `before` of every entry. */
swd_status baseline_read(bench *b, const char *file, swd_err *err);
/* What makes the two no comparison at all (another model, processor or device, other threads), or "". */
const char *baseline_warning(const bench *b);
#endif
