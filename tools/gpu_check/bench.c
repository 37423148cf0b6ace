// SPDX-License-Identifier: MIT
#include "bench.h"
#include "backend_cuda.h"
#include "jobs.h"
#include "peers.h"
#include "timer.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { WARMUP = 3 };
static const double wake_s = 0.5;
static const double difference_max = 1.0 / 64; // of the largest value: a few roundings to bf16

typedef struct contest {
    report *r;
    const options *o;
    const device *d;
    timer t;
    peers *peers;
} contest;

static swd_status run_job(void *arg, swd_err *err)
{
    return job_run(arg, err);
}

/* ---- beside a library ---- */

static swd_status download(uint16_t **out, swd_backend *b, void *from, int64_t n, swd_err *err)
{
    *out = malloc((size_t)n * sizeof **out);
    if (!*out) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a result");
    SWD_TRY(b->download(b, *out, tensor1(from, SWD_BF16, n), NULL, err), err);
    return b->synchronize(b, NULL, err);
}

// Largest difference over the largest value; NaN where one is.
static double difference(const uint16_t *a, const uint16_t *b, int64_t n)
{
    double off = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = (double)bf16_to_f32(a[i]), y = (double)bf16_to_f32(b[i]);
        if (isnan(x) || isnan(y)) return NAN;
        off = fmax(off, fabs(x - y));
        size = fmax(size, fabs(y));
    }
    return size > 0 ? off / size : off;
}

static swd_status compare(report *r, const job *j, const peer *p, swd_err *err)
{
    swd_backend *b = j->ex.backend;
    int64_t n = tensor_numel(j->t[0]);
    uint16_t *ours = NULL, *theirs = NULL;
    char message[128];
    swd_status st = download(&ours, b, j->t[0].data, n, err);
    if (st == SWD_OK) st = download(&theirs, b, p->y, n, err);
    if (st == SWD_OK) {
        double off = difference(ours, theirs, n);
        if (!isnan(off)) report_value(r, "difference", off);
        snprintf(message, sizeof message, "differs from %s by %.3g of the largest value, not %.3g",
                 p->name, off, difference_max);
        if (!(off <= difference_max)) report_check(r, "bench", j->shape->name, message);
    }
    free(ours), free(theirs);
    return st;
}

/* ---- one shape ---- */

static report_time time_of(const contest *c, const job *j, bench_stats s)
{
    return (report_time){.precision = plan_precision(&j->plan),
                         .s = s,
                         .flop = j->plan.flop,
                         .bytes = plan_bytes(&j->plan),
                         .peak_flop_s = c->d->peak.flop_s,
                         .peak_byte_s = c->d->peak.byte_s};
}

static swd_status measure(contest *c, job *j, peer *p, swd_err *err)
{
    char beside[SHAPE_NAME_MAX + 16];
    bench_stats s[2], ratio[2];
    contestant both[2] = {{run_job, j}};
    int n = 1;
    if (p) {
        both[1] = both[0];
        both[0] = (contestant){p->run, p};
        n = 2;
    }
    const timer_limits limits = {WARMUP, c->o->runs, c->o->budget_s};
    SWD_TRY(timer_rounds(s, ratio, &c->t, both, n, limits, err), err);
    report_time ours = time_of(c, j, s[n - 1]);
    ours.name = j->shape->name;
    if (p) {
        snprintf(beside, sizeof beside, "%s / %s", j->shape->name, p->name);
        report_time theirs = time_of(c, j, s[0]);
        theirs.name = ours.beside = beside;
        ours.ratio = ratio[1];
        report_result(c->r, &theirs);
    }
    report_result(c->r, &ours);
    double mhz = device_sm_mhz(c->d);
    if (mhz > 0) report_value(c->r, "sm_clock_mhz", mhz);
    return p && p->same ? compare(c->r, j, p, err) : SWD_OK;
}

static swd_status one_shape(contest *c, const shape *s, swd_backend *b, swd_err *err)
{
    job j;
    peer *p = NULL;
    swd_status st = job_open(&j, s, b, err);
    if (st == SWD_OK) st = peers_make(&p, c->peers, &j, &c->t, err);
    if (st == SWD_OK) st = measure(c, &j, p, err);
    if (p) p->close(p);
    job_close(&j);
    return st;
}

static void all_shapes(contest *c, swd_backend *b)
{
    int n;
    const shape *s = shapes_list(&n, c->o->tiny);
    for (int i = 0; i < n; i++, s++) {
        swd_err err = {0};
        if (!options_pass(c->o, s->name)) continue;
        swd_status st = one_shape(c, s, b, &err);
        report_check(c->r, "bench", s->name, st == SWD_OK ? NULL : err.message);
        if (st != SWD_OK && !device_alive()) {
            report_skip(c->r, "bench", "the device was lost: the shapes after it were not run");
            return;
        }
    }
}

static swd_status open(contest *c, swd_backend *b, swd_err *err)
{
    double overhead;
    SWD_TRY(timer_open(&c->t, cuda_stream(b, NULL), c->d->l2_bytes, err), err);
    SWD_TRY(timer_wake(&c->t, c->o->tiny ? 0 : wake_s, err), err);
    SWD_TRY(timer_overhead(&overhead, &c->t, err), err);
    report_number(c->r, "event_overhead_us", overhead * 1e6);
    return peers_open(&c->peers, c->r, c->o->vendor, err);
}

void bench_shapes(report *r, const options *o, const device *d, swd_backend *b)
{
    contest c = {.r = r, .o = o, .d = d};
    swd_err err = {0};
    if (open(&c, b, &err) == SWD_OK)
        all_shapes(&c, b);
    else
        report_check(r, "bench", "setup", err.message);
    peers_close(&c.peers);
    timer_close(&c.t);
    report_summary(r, "bench");
}
