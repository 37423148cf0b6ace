// SPDX-License-Identifier: MIT
#include "timer.h"
#include "backend_cuda.h"
#include "base/clock.h"
#include "base/memory.h"
#include "flush.h"
#include <stdlib.h>

enum { FLUSH_TIMES = 3, OVERHEAD_RUNS = 21 }; // of the L2's size

swd_status timer_open(timer *t, cudaStream_t stream, size_t l2_bytes, swd_err *err)
{
    *t = (timer){.stream = stream, .n = l2_bytes * FLUSH_TIMES / sizeof(float)};
    if (t->n < 1) t->n = 1;
    SWD_CUDA(cudaMalloc((void **)&t->buffer, (t->n + 1) * sizeof(float)), err);
    SWD_CUDA(cudaMemsetAsync(t->buffer, 0, (t->n + 1) * sizeof(float), stream), err);
    SWD_CUDA(cudaEventCreate(&t->start), err);
    SWD_CUDA(cudaEventCreate(&t->stop), err);
    return SWD_OK;
}

void timer_close(timer *t)
{
    if (t->start) (void)cudaEventDestroy(t->start);
    if (t->stop) (void)cudaEventDestroy(t->stop);
    (void)cudaFree(t->buffer);
    *t = (timer){0};
}

swd_status timer_run(double *seconds, timer *t, const contestant *c, swd_err *err)
{
    float ms;
    SWD_CUDA(flush_read(t->buffer, t->n, t->buffer + t->n, t->stream), err);
    SWD_CUDA(cudaEventRecord(t->start, t->stream), err);
    SWD_TRY(c->run(c->arg, err), err);
    SWD_CUDA(cudaEventRecord(t->stop, t->stream), err);
    SWD_CUDA(cudaEventSynchronize(t->stop), err);
    SWD_CUDA(cudaEventElapsedTime(&ms, t->start, t->stop), err);
    *seconds = (double)ms * 1e-3;
    return SWD_OK;
}

// Rounds into samples [n][TIMER_RUNS_MAX]; *done: how many.
static swd_status all_rounds(double *samples, int *done, timer *t, const contestant *c, int n,
                             timer_limits limits, swd_err *err)
{
    double ignored, start = clock_now_s();
    for (int r = 0; r < limits.warmup; r++)
        for (int i = 0; i < n; i++) SWD_TRY(timer_run(&ignored, t, &c[i], err), err);
    for (*done = 0; *done < TIMER_RUNS_MAX; ++*done) {
        if (*done >= limits.runs_min && clock_now_s() - start > limits.budget_s) break;
        for (int j = 0; j < n; j++) {
            int i = *done % 2 ? n - 1 - j : j;
            SWD_TRY(timer_run(&samples[i * TIMER_RUNS_MAX + *done], t, &c[i], err), err);
        }
    }
    return SWD_OK;
}

swd_status timer_rounds(bench_stats *stats, bench_stats *ratio, timer *t, const contestant *c,
                        int n, timer_limits limits, swd_err *err)
{
    double *samples, shares[TIMER_RUNS_MAX];
    int runs = 0;
    SWD_TRY(swd_calloc(&samples, (size_t)n * TIMER_RUNS_MAX, sizeof *samples, "samples", err), err);
    swd_status st = all_rounds(samples, &runs, t, c, n, limits, err);
    for (int i = n - 1; i >= 0 && st == SWD_OK; i--) { // statistics sort: the first one's come last
        double *own = samples + i * TIMER_RUNS_MAX;
        for (int r = 0; r < runs; r++) shares[r] = samples[r] > 0 ? own[r] / samples[r] : 0;
        ratio[i] = bench_statistics(shares, runs);
        stats[i] = bench_statistics(own, runs);
    }
    free(samples);
    return st;
}

static swd_status do_nothing(void *arg, swd_err *err)
{
    (void)arg, (void)err;
    return SWD_OK;
}

swd_status timer_wake(timer *t, double seconds, swd_err *err)
{
    const contestant nobody = {do_nothing, NULL};
    double ignored, end = clock_now_s() + seconds;
    while (clock_now_s() < end) SWD_TRY(timer_run(&ignored, t, &nobody, err), err);
    return SWD_OK;
}

swd_status timer_overhead(double *seconds, timer *t, swd_err *err)
{
    const contestant nobody = {do_nothing, NULL};
    bench_stats s, ratio;
    SWD_TRY(timer_rounds(&s, &ratio, t, &nobody, 1, (timer_limits){1, OVERHEAD_RUNS, 0}, err), err);
    *seconds = s.median;
    return SWD_OK;
}
