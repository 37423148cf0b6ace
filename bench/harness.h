/* SPDX-License-Identifier: MIT */
/* The harness of every bench program: a time-boxed loop, contestants interleaved in one run, a table for people on stderr and
 * one JSON document (docs/benchmarks.md has its schema) on stdout.
 *
 *     rounds: a0 b0 c0, c1 b1 a1, a2 b2 c2, ...        each case runs once a round, the order turns round every time
 *     time = median, p10, p90 over rounds              ratio = median over rounds of time(case) / time(first case)
 *
 * A ratio is taken inside a round, so a machine that slows down for a while slows both sides of it. */
#ifndef SWD_BENCH_HARNESS_H
#define SWD_BENCH_HARNESS_H
#include "base/status.h"
#include "statistics.h"
#include <stdbool.h>
#include <stddef.h>

enum { BENCH_SCHEMA = 1, BENCH_GROUP_MAX = 8, BENCH_RUNS_MAX = 1000 };

typedef struct bench bench;

/* Where time comes from: seconds since some moment. The default is the monotonic clock and the process's processor time. */
typedef struct bench_clock {
    double (*wall_s)(void *ctx);
    double (*cpu_s)(void *ctx);
    void *ctx;
} bench_clock;

/* When the loop of a group ends: after runs_max rounds, or once runs_min rounds are done and budget_s per case is spent. */
typedef struct bench_limits {
    int warmup; /* rounds before that are not counted */
    int runs_min, runs_max;
    double budget_s;
} bench_limits;

typedef struct bench_case {
    const char *name;      /* unique in its program; --filter looks into it */
    const char *precision; /* "f32", "bf16"; NULL: has none */
    swd_status (*run)(void *arg, swd_err *err);
    /* Before each run (warm-up counts too), not timed: the next of several sets of buffers, so that none is in a cache. */
    void (*before)(void *arg, int run);
    /* Seconds of the last run by its own account (one stage of it, a device's events). NULL: the wall clock around it. */
    double (*own_s)(void *arg);
    void *arg;
    double flop, bytes;              /* work of one run; 0: no rate */
    double peak_flop_s, peak_byte_s; /* measured in this run, for the share; 0: no share */
} bench_case;

typedef struct bench_result {
    bool measured;                /* false: --filter left it out, all else is 0 */
    bench_stats wall, ratio;      /* seconds; to the first case of its group */
    double cpu_s;                 /* median of the processor time of a run, all threads */
    double flop_s, byte_s, share; /* at the median; share of the higher of both peaks */
} bench_result;

/* An option of one program, beside the harness's own. */
typedef struct bench_option {
    const char *flag;  /* "-m" or "--model" */
    const char *value; /* what --help calls its value; NULL: a switch, out is set to "" */
    const char *help;
    const char **out; /* untouched where the option is absent */
} bench_option;

typedef struct bench_program {
    const char *name, *about;
    const bench_option *options;
    int n_options;
    swd_status (*body)(bench *b, swd_err *err);
    const bench_clock *clock; /* NULL: the default */
} bench_program;

/* Parses --filter TEXT, --threads N, --quick, --budget S, --runs N, --json FILE, --help and the program's own options, runs the body
 * and writes the JSON: to FILE, else to stdout. Returns the exit status: 0 done, 1 failed, 2 the call is wrong. */
int bench_main(const bench_program *p, int argc, char **argv);

/* ---- for the body ---- */

int bench_threads(const bench *b); /* asked for, else as many as the process may use */
bool bench_quick(const bench *b);  /* --quick: a look at whether it works, no figures to quote */
bool bench_wanted(const bench *b, const char *name);
/* Limits of the groups that follow; the command line's --budget and --runs win, and --quick means one short round. */
void bench_set_limits(bench *b, bench_limits limits);
/* A fact of the machine block ("device", "isa"); the newest of a key wins. */
void bench_fact(bench *b, const char *key, const char *value);

/* Measures 1 to BENCH_GROUP_MAX cases side by side and reports them. results [n] may be NULL. With --filter the group runs where
 * one of its cases is wanted, as a whole, so that ratios keep their first case. */
swd_status bench_run(bench_result *results, bench *b, const bench_case *cases, int n, swd_err *err);
/* A case that was timed elsewhere, once (a stage of a longer run); reported like the others. */
void bench_report(bench *b, const bench_case *c, double wall_s);
/* One more number under "values" of the last reported case of that name ("peak_memory_bytes"); no such case: nothing. */
void bench_value(bench *b, const char *name, const char *key, double value);

/* ---- parts, for tests and for programs with loops of their own ---- */

/* How many sets of `bytes` overflow the last cache twice over: buffers to rotate; at least 2, at most max. */
int bench_rotation(size_t bytes, int max);
#endif
