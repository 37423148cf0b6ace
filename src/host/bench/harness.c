// SPDX-License-Identifier: MIT
#include "bench/harness.h"
#include "base/clock.h"
#include "base/memory.h"
#include "bench/machine.h"
#include <stdio.h>
#include <string.h>

enum { ROTATION_CACHES = 2 };

struct bench {
    const bench_clock *clock;
    int threads;
    bench_wish wish;
    bench_limits limits;
    json_t *machine;
    bench_entry *entries;
    size_t n, capacity;
    void (*on_entry)(void *user, const bench_entry *e);
    void *user;
    int (*on_run)(void *user, const char *name);
    void *run_user;
    const char *running; // name of the case; NULL: none yet
};

static double wall_now(void *ctx)
{
    (void)ctx;
    return clock_now_s();
}

static double cpu_now(void *ctx)
{
    (void)ctx;
    return clock_cpu_now_s();
}

static const bench_clock clock_default = {wall_now, cpu_now, NULL};

swd_status bench_create(bench **out, int threads, const bench_wish *wish, const bench_clock *clock,
                        swd_err *err)
{
    bench *b;
    *out = NULL;
    SWD_TRY(swd_calloc(&b, 1, sizeof *b, "a measurement", err), err);
    b->clock = clock ? clock : &clock_default;
    b->threads = threads;
    if (wish) b->wish = *wish;
    b->limits = (bench_limits){1, 5, BENCH_RUNS_MAX, 1, 0};
    b->machine = machine_describe(threads);
    if (!b->machine) {
        free(b);
        return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for the machine's description");
    }
    *out = b;
    return SWD_OK;
}

void bench_destroy(bench **b)
{
    if (!*b) return;
    json_decref((*b)->machine);
    free((*b)->entries);
    free(*b);
    *b = NULL;
}

void bench_on_entry(bench *b, void (*fn)(void *user, const bench_entry *e), void *user)
{
    b->on_entry = fn;
    b->user = user;
}

void bench_on_run(bench *b, int (*fn)(void *user, const char *name), void *user)
{
    b->on_run = fn;
    b->run_user = user;
}

int bench_stopped(const bench *b)
{
    return b->on_run ? b->on_run(b->run_user, b->running ? b->running : "") : 0;
}

int bench_rotation(size_t bytes, int max)
{
    size_t cache = machine_last_cache_bytes(), n = bytes ? ROTATION_CACHES * cache / bytes + 1 : 2;
    return n < 2 ? 2 : n > (size_t)max ? max : (int)n;
}

int bench_threads(const bench *b)
{
    return b->threads;
}

bool bench_quick(const bench *b)
{
    return b->wish.quick;
}

bool bench_wanted(const bench *b, const char *name)
{
    return !b->wish.filter || strstr(name, b->wish.filter);
}

void bench_set_limits(bench *b, bench_limits limits)
{
    b->limits = limits;
}

bench_limits bench_limits_in_force(const bench *b)
{
    bench_limits l = b->limits;
    if (b->wish.quick) l = (bench_limits){l.warmup ? 1 : 0, 1, 1, 0, 0};
    if (b->wish.budget_s > 0) l.budget_s = b->wish.budget_s;
    if (b->wish.runs > 0) l.runs_min = b->wish.runs, l.patience_s = 0;
    if (l.runs_min < 1) l.runs_min = 1;
    if (l.runs_max > BENCH_RUNS_MAX) l.runs_max = BENCH_RUNS_MAX;
    if (l.runs_max < l.runs_min) l.runs_max = l.runs_min;
    return l;
}

void bench_fact(bench *b, const char *key, const char *value)
{
    json_object_set_new(b->machine, key, json_string(value));
}

void bench_fact_number(bench *b, const char *key, double value)
{
    json_object_set_new(b->machine, key, json_real(value));
}

json_t *bench_machine(const bench *b)
{
    return b->machine;
}

/* ---- entries ---- */

int bench_count(const bench *b)
{
    return (int)b->n;
}

bench_entry *bench_at(const bench *b, int i)
{
    return &b->entries[i];
}

bench_entry *bench_find(const bench *b, const char *name, const char *precision)
{
    for (size_t i = 0; i < b->n; i++)
        if (strcmp(b->entries[i].name, name) == 0 &&
            strcmp(b->entries[i].precision, precision) == 0)
            return &b->entries[i];
    return NULL;
}

double bench_flop_s(const bench_entry *e)
{
    return e->wall.median > 0 ? e->flop / e->wall.median : 0;
}

double bench_byte_s(const bench_entry *e)
{
    return e->wall.median > 0 ? e->bytes / e->wall.median : 0;
}

double bench_share(const bench_entry *e)
{
    double by_flop = e->peak_flop_s > 0 ? bench_flop_s(e) / e->peak_flop_s : 0,
           by_byte = e->peak_byte_s > 0 ? bench_byte_s(e) / e->peak_byte_s : 0;
    return by_flop > by_byte ? by_flop : by_byte;
}

void bench_value(bench *b, int i, const char *key, double value)
{
    bench_entry *e = &b->entries[i];
    if (e->n_values == BENCH_VALUES_MAX) return;
    snprintf(e->values[e->n_values].key, sizeof e->values[0].key, "%s", key);
    e->values[e->n_values++].x = value;
}

double bench_value_of(const bench_entry *e, const char *key)
{
    for (int i = 0; i < e->n_values; i++)
        if (strcmp(e->values[i].key, key) == 0) return e->values[i].x;
    return 0;
}

void bench_work(bench *b, int i, double flop, double bytes)
{
    b->entries[i].flop = flop;
    b->entries[i].bytes = bytes;
}

void bench_peak(bench *b, int i, double flop_s, double byte_s, const char *what)
{
    bench_entry *e = &b->entries[i];
    e->peak_flop_s = flop_s;
    e->peak_byte_s = byte_s;
    snprintf(e->peak, sizeof e->peak, "%s", what);
}

static bench_entry entry_of(const bench_case *c, bench_stats wall)
{
    bench_entry e = {.wall = wall,
                     .flop = c->flop,
                     .bytes = c->bytes,
                     .peak_flop_s = c->peak_flop_s,
                     .peak_byte_s = c->peak_byte_s};
    snprintf(e.name, sizeof e.name, "%s", c->name);
    snprintf(e.precision, sizeof e.precision, "%s", c->precision ? c->precision : "");
    if (c->peak_flop_s > 0 || c->peak_byte_s > 0) snprintf(e.peak, sizeof e.peak, "measured");
    return e;
}

static swd_status keep(bench *b, const bench_entry *e, swd_err *err)
{
    SWD_TRY(swd_grow(&b->entries, &b->capacity, b->n + 1, sizeof *e, "results", err), err);
    b->entries[b->n++] = *e;
    if (b->on_entry) b->on_entry(b->user, e);
    return SWD_OK;
}

swd_status bench_report(bench *b, const bench_case *c, double *samples, int n, swd_err *err)
{
    bench_entry e = entry_of(c, bench_statistics(samples, n));
    return keep(b, &e, err);
}

/* ---- the loop ---- */

// Samples of one group, [case][round].
typedef struct samples {
    double *wall, *cpu, *ratio;
    int runs[BENCH_GROUP_MAX];
    double spent[BENCH_GROUP_MAX];
} samples;

static double *row(double *all, int i)
{
    return all + (size_t)i * BENCH_RUNS_MAX;
}

// spent: by the clock, whatever the case says of itself.
static swd_status run_once(double *wall, double *cpu, double *spent, bench *b, const bench_case *c,
                           int run, swd_err *err)
{
    const bench_clock *k = b->clock;
    b->running = c->name;
    if (bench_stopped(b)) return SWD_FAIL(err, SWD_ERR_CANCELLED, "cancelled");
    if (c->before) c->before(c->arg, run);
    double cpu_start = k->cpu_s(k->ctx), start = k->wall_s(k->ctx);
    SWD_TRY(c->run(c->arg, err), err);
    *spent = *wall = k->wall_s(k->ctx) - start;
    *cpu = k->cpu_s(k->ctx) - cpu_start;
    if (c->own_s) *wall = c->own_s(c->arg);
    return SWD_OK;
}

// Round r of those that are still in it.
static swd_status run_round(samples *s, bench *b, const bench_case *cases, int n, int r,
                            double patience_s, int run, swd_err *err)
{
    double spent;
    for (int j = 0; j < n; j++) {
        int i = r % 2 ? n - 1 - j : j;
        if (patience_s > 0 && s->spent[i] >= patience_s) continue;
        SWD_TRY(run_once(&row(s->wall, i)[r], &row(s->cpu, i)[r], &spent, b, &cases[i], run, err),
                err);
        s->spent[i] += spent;
        s->runs[i] = r + 1;
    }
    for (int i = 0; i < n; i++)
        if (s->runs[i] == r + 1) row(s->ratio, i)[r] = row(s->wall, i)[r] / row(s->wall, 0)[r];
    return SWD_OK;
}

static swd_status run_rounds(samples *s, bench *b, const bench_case *cases, int n, swd_err *err)
{
    bench_limits l = bench_limits_in_force(b);
    double spent = 0, wall, cpu;
    int run = 0;
    for (; run < l.warmup; run++)
        for (int i = 0; i < n; i++)
            SWD_TRY(run_once(&wall, &cpu, &spent, b, &cases[i], run, err), err);
    for (int r = 0; r < l.runs_max && (r < l.runs_min || spent < l.budget_s * n); r++, run++) {
        if (l.patience_s > 0 && s->spent[0] >= l.patience_s) break;
        SWD_TRY(run_round(s, b, cases, n, r, l.patience_s, run, err), err);
        spent = 0;
        for (int i = 0; i < n; i++) spent += s->spent[i];
    }
    return SWD_OK;
}

static swd_status keep_group(bench *b, samples *s, const bench_case *cases, int n, swd_err *err)
{
    for (int i = 0; i < n; i++) {
        if (cases[i].unlisted) continue;
        bench_entry e = entry_of(&cases[i], bench_statistics(row(s->wall, i), s->runs[i]));
        e.cpu_s = bench_statistics(row(s->cpu, i), s->runs[i]).median;
        e.ratio = bench_statistics(row(s->ratio, i), s->runs[i]);
        if (i) snprintf(e.first, sizeof e.first, "%s", cases[0].name);
        SWD_TRY(keep(b, &e, err), err);
    }
    return SWD_OK;
}

swd_status bench_run(int *first, bench *b, const bench_case *cases, int n, swd_err *err)
{
    bool wanted = false;
    if (first) *first = -1;
    if (n < 1 || n > BENCH_GROUP_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a group of %d cases; 1 to %d are measured together",
                        n, BENCH_GROUP_MAX);
    for (int i = 0; i < n; i++)
        wanted |= cases[i].always || (!cases[i].unlisted && bench_wanted(b, cases[i].name));
    if (!wanted) return SWD_OK;
    size_t block = (size_t)n * BENCH_RUNS_MAX;
    int at = bench_count(b);
    samples s = {0};
    SWD_TRY(swd_calloc(&s.wall, 3 * block, sizeof(double), "samples", err), err);
    s.cpu = s.wall + block;
    s.ratio = s.cpu + block;
    swd_status status = run_rounds(&s, b, cases, n, err);
    if (status == SWD_OK) status = keep_group(b, &s, cases, n, err);
    free(s.wall);
    b->running = NULL;
    if (status == SWD_OK && first) *first = at;
    return status;
}
