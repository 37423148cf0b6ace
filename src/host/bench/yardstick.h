/* SPDX-License-Identifier: MIT */
/* What this processor can do, measured beside what is measured: oneDNN's own products on as many threads.
 *
 *     rate = sum over products of count * FLOP / sum over products of count * median time */
#ifndef SWD_BENCH_YARDSTICK_H
#define SWD_BENCH_YARDSTICK_H
#include "bench/meter.h"

typedef struct yardstick yardstick;

/* The products of the linear layers that m has seen, as often; without any: one of 1536 x 1536 x 1536 in dtype. */
swd_status yardstick_create(yardstick **out, const meter *m, swd_dtype dtype, swd_err *err);
void yardstick_destroy(yardstick **y); /* writes NULL; accepts it */
/* As a bench_case: arg is a yardstick. */
swd_status yardstick_run(void *arg, swd_err *err);
/* FLOP/s and seconds of one round of all of them, over the last runs of it; 0 before the first. */
double yardstick_rate(const yardstick *y, int runs);
double yardstick_seconds(const yardstick *y, int runs);
#endif
