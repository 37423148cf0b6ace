/* SPDX-License-Identifier: MIT */
/* Options that only swd bench has. */
#ifndef TOOLS_SWD_BENCH_OPTIONS_H
#define TOOLS_SWD_BENCH_OPTIONS_H
#include <stdbool.h>
#include <swd/bench.h>

typedef struct bench_options {
    swd_bench_params params;
    int sides[SWD_BENCH_LIST_MAX], batches[SWD_BENCH_LIST_MAX], steps[SWD_BENCH_LIST_MAX];
    const char *presets[SWD_BENCH_PRESETS_MAX];
    char *preset_words; /* owned */
    const char *baseline, *plot;
    bool markdown, processes;
} bench_options;

void bench_options_default(bench_options *o);
void bench_options_free(bench_options *o);
/* One option and its value (NULL: it has none). Prints an error line and returns false if the value is wrong. */
bool bench_options_take(bench_options *o, const char *name, const char *value);
#endif
