/* SPDX-License-Identifier: MIT */
/* The harness of every measurement: a time-boxed loop, contestants interleaved in one run, results kept with the machine they are of.
 *
 *     rounds: a0 b0 c0, c1 b1 a1, a2 b2 c2, ...        each case runs once a round, the order turns round every time
 *     time = median, p10, p90 over rounds              ratio = median over rounds of time(case) / time(first case)
 *
 * A ratio is taken inside a round, so a machine that slows down for a while slows both sides of it. */
#ifndef SWD_BENCH_HARNESS_H
#define SWD_BENCH_HARNESS_H
#include "base/status.h"
#include "bench/statistics.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    BENCH_GROUP_MAX = 24,
    BENCH_RUNS_MAX = 1000,
    BENCH_NAME_MAX = 128,
    BENCH_KEY_MAX = 40,
    BENCH_VALUES_MAX = 24
};

typedef struct bench bench;

/* Where time comes from: seconds since some moment. The default is the monotonic clock and the process's processor time. */
typedef struct bench_clock {
    double (*wall_s)(void *ctx);
    double (*cpu_s)(void *ctx);
    void *ctx;
} bench_clock;

/* When the loop of a group ends, by the clock around its runs: after runs_max rounds, or once runs_min rounds are done and the group has
 * taken budget_s per case. A case that has taken patience_s by itself is left out of further rounds, the first case ends the group. */
typedef struct bench_limits {
    int warmup; /* rounds before that are not counted */
    int runs_min, runs_max;
    double budget_s;
    double patience_s; /* 0: no end to it */
} bench_limits;

/* What the user said about it; zeros: nothing. */
typedef struct bench_wish {
    int runs; /* exactly runs_min, and no end to patience */
    double budget_s;
    bool quick;         /* one short round, no figures to quote */
    const char *filter; /* only groups with a case whose name holds this */
} bench_wish;

typedef struct bench_case {
    const char *name;      /* unique in its document */
    const char *precision; /* "f32", "bf16"; NULL: has none */
    swd_status (*run)(void *arg, swd_err *err);
    /* Before each run (warm-up counts too), not timed: the next of several sets of buffers, so that none is in a cache. */
    void (*before)(void *arg, int run);
    /* Seconds of the last run by its own account (one stage of it, a device's events). NULL: the wall clock around it. */
    double (*own_s)(void *arg);
    void *arg;
    double flop, bytes;              /* work of one run; 0: no rate */
    double peak_flop_s, peak_byte_s; /* for the share; 0: none */
    bool unlisted; /* a yardstick that takes its turns but is no result; not the first of a group */
    bool always;   /* wanted whatever the filter says: a part of it may be what is asked for */
} bench_case;

typedef enum bench_verdict { BENCH_NEW, BENCH_SAME, BENCH_FASTER, BENCH_SLOWER } bench_verdict;

/* Beside an earlier run (bench/baseline.h); BENCH_NEW: that one did not have it. */
typedef struct bench_before {
    bench_verdict verdict;
    double median_s, change, noise; /* change = now / then - 1; noise: what it must exceed */
} bench_before;

/* A case that was measured. */
typedef struct bench_entry {
    char name[BENCH_NAME_MAX], precision[8];
    char first[BENCH_NAME_MAX]; /* the case that ratio is to; "": it is the first itself */
    bench_stats wall, ratio;    /* seconds */
    double cpu_s;               /* median of the processor time of a run, all threads */
    double flop, bytes, peak_flop_s, peak_byte_s;
    char peak[48]; /* what the peak is: "measured", "nominal"; "": none */
    int n_values;
    struct {
        char key[BENCH_KEY_MAX];
        double x;
    } values[BENCH_VALUES_MAX]; /* what else was measured of it */
    bench_before before;
} bench_entry;

/* Rates at the median; the share is of the higher of both peaks. 0: not known. */
double bench_flop_s(const bench_entry *e);
double bench_byte_s(const bench_entry *e);
double bench_share(const bench_entry *e);

/* threads: for the machine's description. clock NULL: the default. wish NULL: none. */
swd_status bench_create(bench **out, int threads, const bench_wish *wish, const bench_clock *clock,
                        swd_err *err);
void bench_destroy(bench **b); /* writes NULL; accepts it */
/* Called with each entry when it is there; its values may follow later. */
void bench_on_entry(bench *b, void (*fn)(void *user, const bench_entry *e), void *user);

/* Asked before each run of a case, warm-up too, and with the same case by bench_stopped; nonzero: the run fails with
 * SWD_ERR_CANCELLED. */
void bench_on_run(bench *b, int (*fn)(void *user, const char *name), void *user);
int bench_stopped(const bench *b);

int bench_threads(const bench *b);
bool bench_quick(const bench *b);
bool bench_wanted(const bench *b, const char *name);
/* Limits of the groups that follow, before the user's wish. */
void bench_set_limits(bench *b, bench_limits limits);
bench_limits bench_limits_in_force(const bench *b);
/* A fact of the machine block ("device", "isa"); the newest of a key wins. */
void bench_fact(bench *b, const char *key, const char *value);
void bench_fact_number(bench *b, const char *key, double value);
json_t *bench_machine(const bench *b); /* borrowed */

int bench_count(const bench *b);
/* Entry i; valid until the next one is made. */
bench_entry *bench_at(const bench *b, int i);
bench_entry *bench_find(const bench *b, const char *name, const char *precision); /* or NULL */

/* Measures 1 to BENCH_GROUP_MAX cases side by side. *first (may be NULL): index of the entry of the first case, the others follow; -1:
 * the filter left the group out. */
swd_status bench_run(int *first, bench *b, const bench_case *cases, int n, swd_err *err);
/* A case that was timed elsewhere (a part of longer runs): samples [n] in seconds, which it sorts. */
swd_status bench_report(bench *b, const bench_case *c, double *samples, int n, swd_err *err);
/* One more number of entry i; beyond the limit it is left out. */
void bench_value(bench *b, int i, const char *key, double value);
double bench_value_of(const bench_entry *e, const char *key); /* 0: not there */
/* Work and peaks that are known only afterwards. */
void bench_work(bench *b, int i, double flop, double bytes);
void bench_peak(bench *b, int i, double flop_s, double byte_s, const char *what);

/* How many sets of `bytes` overflow the last cache twice over: buffers to rotate; at least 2, at most max. */
int bench_rotation(size_t bytes, int max);
#endif
