/* SPDX-License-Identifier: MIT */
/* What was checked and measured, as one JSON document (docs/gpu-check.md; results as in docs/benchmarks.md) and as a page of
 * markdown. Lines for people go to stdout as things happen. */
#ifndef SWD_TOOLS_GPU_CHECK_REPORT_H
#define SWD_TOOLS_GPU_CHECK_REPORT_H
#include "base/status.h"
#include "bench/statistics.h"
#include <stdbool.h>

typedef struct report report;

/* program: its name, static; of the report's files too. */
swd_status report_open(report **out, const char *program, bool quick, swd_err *err);
void report_close(report **r); /* writes NULL; accepts it */

/* A fact of the machine; the newest of a key wins. */
void report_fact(report *r, const char *key, const char *value);
void report_number(report *r, const char *key, double value);

/* One check of a section ("wrappers", "ops", "sanitizers"). message: what is wrong first; NULL: all is well. */
void report_check(report *r, const char *section, const char *name, const char *message);
/* A section, or a part of it, that could not be done, and why; it counts as neither good nor bad. */
void report_skip(report *r, const char *section, const char *why);
/* Prints the section's count. */
void report_summary(const report *r, const char *section);
int report_checks(const report *r); /* of all sections */
int report_failures(const report *r);

/* One case of a bench. Rates, shares and peaks that are 0 are left out. */
typedef struct report_time {
    const char *name, *precision; /* precision NULL: none */
    bench_stats s;                /* seconds */
    double flop, bytes, peak_flop_s, peak_byte_s;
    const char *beside; /* ratio to this case, run by run; NULL: none */
    bench_stats ratio;
} report_time;
void report_result(report *r, const report_time *t);
/* One more number under "values" of the result that was reported last. */
void report_value(report *r, const char *key, double value);
int report_results(const report *r);

/* PROGRAM.json and PROGRAM.md in the folder, which is made where it is missing; each file appears whole or not at all. */
swd_status report_write(const report *r, const char *folder, swd_err *err);
#endif
