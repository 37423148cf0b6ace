/* SPDX-License-Identifier: MIT */
/* Times work on a stream: cold L2, one call between two events, contestants in turns.
 *
 * The call is queued while the flush still runs, so that the device never waits for the host between the events; what they
 * cost themselves is timer_overhead. */
#ifndef SWD_TOOLS_GPU_CHECK_TIMER_H
#define SWD_TOOLS_GPU_CHECK_TIMER_H
#include "base/status.h"
#include "bench/statistics.h"
#include <cuda_runtime_api.h>
#include <stddef.h>

enum { TIMER_CONTESTANTS_MAX = 2, TIMER_RUNS_MAX = 1000 };

typedef struct timer {
    cudaStream_t stream;
    cudaEvent_t start, stop;
    float *buffer; /* n floats, then one for flush_read's result */
    size_t n;
} timer;

typedef struct contestant {
    swd_status (*run)(void *arg, swd_err *err); /* queues the work on the timer's stream */
    void *arg;
} contestant;

typedef struct timer_limits {
    int warmup, runs_min;
    double budget_s; /* of wall time, for all contestants; runs_min are done in any case */
} timer_limits;

/* Close it also after a failure. */
swd_status timer_open(timer *t, cudaStream_t stream, size_t l2_bytes, swd_err *err);
void timer_close(timer *t);
/* Keeps the device busy for a while: an idle one has let its clocks fall. */
swd_status timer_wake(timer *t, double seconds, swd_err *err);
/* One run, waited for. */
swd_status timer_run(double *seconds, timer *t, const contestant *c, swd_err *err);
/* Rounds a0 b0, b1 a1, a2 b2, ...; ratio: of each to the first one, round by round. stats and ratio [n]. */
swd_status timer_rounds(bench_stats *stats, bench_stats *ratio, timer *t, const contestant *c,
                        int n, timer_limits limits, swd_err *err);
/* Median time between two events with nothing between them. */
swd_status timer_overhead(double *seconds, timer *t, swd_err *err);
#endif
