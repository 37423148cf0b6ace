// SPDX-License-Identifier: MIT
#include "harness.h"
#include "base/clock.h"
#include "base/memory.h"
#include "bench_version.h"
#include "machine.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROTATION_CACHES = 2, NAME_WIDTH = 46 };

struct bench {
    const bench_program *program;
    const bench_clock *clock;
    const char *filter, *json_path;
    int threads, runs; // runs, budget_s: from the command line; 0: not given
    double budget_s;
    bool quick, helped, table_begun;
    bench_limits limits;
    json_t *machine, *results;
};

static const bench_limits limits_default = {1, 5, BENCH_RUNS_MAX, 1.0};

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

int bench_rotation(size_t bytes, int max)
{
    size_t cache = machine_last_cache_bytes(), n = bytes ? ROTATION_CACHES * cache / bytes + 1 : 2;
    return n < 2 ? 2 : n > (size_t)max ? max : (int)n;
}

/* ---- the loop ---- */

int bench_threads(const bench *b)
{
    return b->threads;
}

bool bench_quick(const bench *b)
{
    return b->quick;
}

bool bench_wanted(const bench *b, const char *name)
{
    return !b->filter || strstr(name, b->filter);
}

void bench_set_limits(bench *b, bench_limits limits)
{
    b->limits = limits;
}

static bench_limits limits_in_force(const bench *b)
{
    bench_limits l = b->limits;
    if (b->quick) l = (bench_limits){l.warmup ? 1 : 0, 1, 1, 0};
    if (b->budget_s > 0) l.budget_s = b->budget_s;
    if (b->runs > 0) l.runs_min = b->runs;
    if (l.runs_min < 1) l.runs_min = 1;
    if (l.runs_max > BENCH_RUNS_MAX) l.runs_max = BENCH_RUNS_MAX;
    if (l.runs_max < l.runs_min) l.runs_max = l.runs_min;
    return l;
}

// Samples of one group, [case][round].
typedef struct samples {
    double *wall, *cpu, *ratio;
    int rounds;
} samples;

static double *row(double *all, int i)
{
    return all + (size_t)i * BENCH_RUNS_MAX;
}

static swd_status run_once(double *wall, double *cpu, const bench *b, const bench_case *c, int run,
                           swd_err *err)
{
    const bench_clock *k = b->clock;
    if (c->before) c->before(c->arg, run);
    double cpu_start = k->cpu_s(k->ctx), start = k->wall_s(k->ctx);
    SWD_TRY(c->run(c->arg, err), err);
    *wall = k->wall_s(k->ctx) - start;
    *cpu = k->cpu_s(k->ctx) - cpu_start;
    if (c->own_s) *wall = c->own_s(c->arg);
    return SWD_OK;
}

static swd_status run_rounds(samples *s, const bench *b, const bench_case *cases, int n,
                             swd_err *err)
{
    bench_limits l = limits_in_force(b);
    double spent = 0, wall, cpu;
    int run = 0;
    for (; run < l.warmup; run++)
        for (int i = 0; i < n; i++) SWD_TRY(run_once(&wall, &cpu, b, &cases[i], run, err), err);
    for (int r = 0; r < l.runs_max && (r < l.runs_min || spent < l.budget_s * n); r++, run++) {
        for (int j = 0; j < n; j++) {
            int i = r % 2 ? n - 1 - j : j;
            SWD_TRY(run_once(&row(s->wall, i)[r], &row(s->cpu, i)[r], b, &cases[i], run, err), err);
            spent += row(s->wall, i)[r];
        }
        for (int i = 0; i < n; i++) row(s->ratio, i)[r] = row(s->wall, i)[r] / row(s->wall, 0)[r];
        s->rounds = r + 1;
    }
    return SWD_OK;
}

static bench_result result_of(const bench_case *c, bench_stats wall, bench_stats ratio,
                              double cpu_s)
{
    bench_result r = {.measured = true, .wall = wall, .ratio = ratio, .cpu_s = cpu_s};
    if (wall.median > 0) {
        r.flop_s = c->flop / wall.median;
        r.byte_s = c->bytes / wall.median;
    }
    if (c->peak_flop_s > 0) r.share = r.flop_s / c->peak_flop_s;
    if (c->peak_byte_s > 0 && r.byte_s / c->peak_byte_s > r.share)
        r.share = r.byte_s / c->peak_byte_s;
    return r;
}

/* ---- reports ---- */

// A column of the table; blank where there is nothing to say.
static void cell(const char *fmt, double x)
{
    char text[32] = "";
    if (x > 0) snprintf(text, sizeof text, fmt, x);
    fprintf(stderr, " %10s", text);
}

static void print_result(bench *b, const bench_case *c, const bench_result *r, bool first)
{
    if (!b->table_begun)
        fprintf(stderr, "%-*s %5s %10s %10s %10s %5s %10s %10s %10s %10s\n", NAME_WIDTH, "case", "",
                "median ms", "p10", "p90", "runs", "GFLOP/s", "GB/s", "share", "x first");
    b->table_begun = true;
    fprintf(stderr, "%-*s %5s", NAME_WIDTH, c->name, c->precision ? c->precision : "");
    cell("%.3f", r->wall.median * 1e3);
    cell("%.3f", r->wall.p10 * 1e3);
    cell("%.3f", r->wall.p90 * 1e3);
    fprintf(stderr, " %5d", r->wall.runs);
    cell("%.1f", r->flop_s * 1e-9);
    cell("%.1f", r->byte_s * 1e-9);
    cell("%.3f", r->share);
    cell("%.3f", first ? 0 : r->ratio.median);
    fputc('\n', stderr);
}

static void set_number(json_t *object, const char *key, double x)
{
    if (x > 0) json_object_set_new(object, key, json_real(x));
}

static void set_stats(json_t *object, const char *key, const char *unit, bench_stats s,
                      double scale)
{
    char name[64];
    const struct {
        const char *what;
        double x;
    } parts[] = {{"median", s.median}, {"p10", s.p10}, {"p90", s.p90}, {"min", s.min}};
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s%s%s", key, parts[i].what, unit);
        json_object_set_new(object, name, json_real(parts[i].x * scale));
    }
}

static void keep_result(bench *b, const bench_case *c, const bench_result *r, const char *first)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(c->name));
    if (c->precision) json_object_set_new(o, "precision", json_string(c->precision));
    json_object_set_new(o, "runs", json_integer(r->wall.runs));
    set_stats(o, "", "_ms", r->wall, 1e3);
    set_number(o, "cpu_ms", r->cpu_s * 1e3);
    set_number(o, "flop", c->flop);
    set_number(o, "bytes", c->bytes);
    set_number(o, "gflop_s", r->flop_s * 1e-9);
    set_number(o, "gbyte_s", r->byte_s * 1e-9);
    set_number(o, "peak_gflop_s", c->peak_flop_s * 1e-9);
    set_number(o, "peak_gbyte_s", c->peak_byte_s * 1e-9);
    set_number(o, "share_of_peak", r->share);
    if (first) {
        json_t *ratio = json_object();
        json_object_set_new(ratio, "to", json_string(first));
        set_stats(ratio, "", "", r->ratio, 1);
        json_object_set_new(o, "ratio", ratio);
    }
    json_array_append_new(b->results, o);
}

swd_status bench_run(bench_result *results, bench *b, const bench_case *cases, int n, swd_err *err)
{
    bool wanted = false;
    if (results) memset(results, 0, (size_t)n * sizeof *results);
    if (n < 1 || n > BENCH_GROUP_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a group of %d cases; 1 to %d are measured together",
                        n, BENCH_GROUP_MAX);
    for (int i = 0; i < n; i++) wanted |= bench_wanted(b, cases[i].name);
    if (!wanted) return SWD_OK;
    size_t block = (size_t)n * BENCH_RUNS_MAX;
    samples s = {0};
    SWD_TRY(swd_calloc(&s.wall, 3 * block, sizeof(double), "samples", err), err);
    s.cpu = s.wall + block;
    s.ratio = s.cpu + block;
    swd_status status = run_rounds(&s, b, cases, n, err);
    for (int i = 0; i < n && status == SWD_OK; i++) {
        bench_stats cpu = bench_statistics(row(s.cpu, i), s.rounds);
        bench_result r = result_of(&cases[i], bench_statistics(row(s.wall, i), s.rounds),
                                   bench_statistics(row(s.ratio, i), s.rounds), cpu.median);
        print_result(b, &cases[i], &r, i == 0);
        keep_result(b, &cases[i], &r, i ? cases[0].name : NULL);
        if (results) results[i] = r;
    }
    free(s.wall);
    return status;
}

void bench_report(bench *b, const bench_case *c, double wall_s)
{
    bench_stats wall = {1, wall_s, wall_s, wall_s, wall_s};
    bench_result r = result_of(c, wall, (bench_stats){0}, 0);
    print_result(b, c, &r, true);
    keep_result(b, c, &r, NULL);
}

void bench_value(bench *b, const char *name, const char *key, double value)
{
    for (size_t i = json_array_size(b->results); i-- > 0;) {
        json_t *o = json_array_get(b->results, i), *values = json_object_get(o, "values");
        if (strcmp(json_string_value(json_object_get(o, "name")), name) != 0) continue;
        if (!values) json_object_set_new(o, "values", values = json_object());
        json_object_set_new(values, key, json_real(value));
        return;
    }
}

void bench_fact(bench *b, const char *key, const char *value)
{
    json_object_set_new(b->machine, key, json_string(value));
}

/* ---- the program around it ---- */

static void print_help(const bench_program *p)
{
    printf("%s: %s\n\n", p->name, p->about);
    printf("  %-22s %s\n", "--filter TEXT", "only cases whose name holds TEXT");
    printf("  %-22s %s\n", "--threads N", "(default: all the process may use)");
    printf("  %-22s %s\n", "--budget S", "seconds a case is measured for, at least --runs runs");
    printf("  %-22s %s\n", "--runs N", "fewest runs of a case");
    printf("  %-22s %s\n", "--quick", "one run each: does it work?");
    printf("  %-22s %s\n", "--json FILE", "the results go there instead of stdout");
    for (int i = 0; i < p->n_options; i++) {
        char left[64];
        const bench_option *o = &p->options[i];
        snprintf(left, sizeof left, "%s %s", o->flag, o->value ? o->value : "");
        printf("  %-22s %s\n", left, o->help);
    }
}

static bool number(double *out, const char *text, double lo, double hi)
{
    char *end;
    *out = strtod(text, &end);
    return *text && !*end && *out >= lo && *out <= hi;
}

// One of the harness's own options: 1 taken with its value, 0 not known, -1 a wrong value.
static int own_option(bench *b, const char *flag, const char *value)
{
    double x;
    if (strcmp(flag, "--filter") == 0) {
        b->filter = value;
    } else if (strcmp(flag, "--json") == 0) {
        b->json_path = value;
    } else if (strcmp(flag, "--threads") == 0) {
        if (!number(&x, value, 1, 1024) || x != (int)x) return -1;
        b->threads = (int)x;
    } else if (strcmp(flag, "--runs") == 0) {
        if (!number(&x, value, 1, BENCH_RUNS_MAX) || x != (int)x) return -1;
        b->runs = (int)x;
    } else if (strcmp(flag, "--budget") == 0) {
        if (!number(&b->budget_s, value, 1e-6, 1e6)) return -1;
    } else {
        return 0;
    }
    return 1;
}

static const bench_option *program_option(const bench_program *p, const char *flag)
{
    for (int i = 0; i < p->n_options; i++)
        if (strcmp(p->options[i].flag, flag) == 0) return &p->options[i];
    return NULL;
}

static bool parse(bench *b, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const bench_option *o = program_option(b->program, argv[i]);
        if (strcmp(argv[i], "--help") == 0) {
            print_help(b->program);
            return b->helped = true;
        }
        if (strcmp(argv[i], "--quick") == 0) {
            b->quick = true;
        } else if (o && !o->value) {
            *o->out = "";
        } else if (o && i + 1 < argc) {
            *o->out = argv[++i];
        } else {
            int taken = own_option(b, argv[i], i + 1 < argc ? argv[i + 1] : "");
            if (taken != 1 || i + 1 >= argc) {
                fprintf(stderr, "%s: error: %s %s; see --help\n", b->program->name, argv[i],
                        taken ? "needs another value" : "is not known or lacks its value");
                return false;
            }
            i++;
        }
    }
    return true;
}

static swd_status write_json(const bench *b, swd_err *err)
{
    json_t *doc = json_pack("{s:i, s:s, s:s, s:b, s:O, s:O}", "schema", BENCH_SCHEMA, "program",
                            b->program->name, "revision", BENCH_REVISION, "quick", b->quick,
                            "machine", b->machine, "results", b->results);
    size_t flags = JSON_INDENT(1) | JSON_REAL_PRECISION(6);
    int bad = !doc           ? -1
              : b->json_path ? json_dump_file(doc, b->json_path, flags)
                             : json_dumpf(doc, stdout, flags);
    if (!bad && !b->json_path) bad = puts("") < 0 || fflush(stdout) != 0;
    json_decref(doc);
    if (!bad) return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_FILE, "%s: the results cannot be written",
                    b->json_path ? b->json_path : "stdout");
}

int bench_main(const bench_program *p, int argc, char **argv)
{
    swd_err err = {0};
    bench b = {.program = p,
               .clock = p->clock ? p->clock : &clock_default,
               .threads = machine_threads(),
               .limits = limits_default};
    if (!parse(&b, argc, argv)) return 2;
    if (b.helped) return 0;
    b.machine = machine_describe(b.threads);
    b.results = json_array();
    swd_status s = b.machine && b.results ? SWD_OK : SWD_FAIL(&err, SWD_ERR_MEMORY, "no memory");
    if (s == SWD_OK) s = p->body(&b, &err);
    if (s == SWD_OK) s = write_json(&b, &err);
    if (s != SWD_OK) fprintf(stderr, "%s: error: %s\n", p->name, err.message);
    json_decref(b.machine);
    json_decref(b.results);
    return s == SWD_OK ? 0 : 1;
}
