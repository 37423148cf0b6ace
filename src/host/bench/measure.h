/* SPDX-License-Identifier: MIT */
/* A measurement from its parameters to its results. */
#ifndef SWD_BENCH_MEASURE_H
#define SWD_BENCH_MEASURE_H
#include "bench/harness.h"
#include <swd/bench.h>

/* "e2e"; NULL: unknown. */
const char *measure_name(swd_bench_what what);
/* params are complete; clock NULL: the default. On failure *out is NULL. */
swd_status measure_run(bench **out, const swd_bench_params *params, const bench_clock *clock,
                       swd_err *err);
#endif
