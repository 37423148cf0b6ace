/* SPDX-License-Identifier: MIT */
/* The command line of gpu_check. */
#ifndef SWD_TOOLS_GPU_CHECK_OPTIONS_H
#define SWD_TOOLS_GPU_CHECK_OPTIONS_H
#include "case.h"
#include <stdbool.h>

enum { OPTIONS_FILTERS_MAX = 16 };

typedef struct options {
    bool wrappers, ops, training, bench, sanitize; /* parts to do */
    bool expect;                                   /* print the table of docs/kernels.md and end */
    bool tiny;                                     /* benches on toy shapes: does it work? */
    const char *filter[OPTIONS_FILTERS_MAX];
    int n_filters;
    case_size size; /* of op cases */
    uint64_t seed;
    int device, runs;
    double budget_s;
    const char *out, *vendor, *sanitizer; /* NULL: not given */
} options;

typedef enum parsed { PARSED, PARSED_HELP, PARSED_WRONG } parsed;
/* Prints the help, or what is wrong with the call. emulated: defaults for the emulator. */
parsed options_parse(options *o, int argc, char **argv, bool emulated);
/* Whether a name passes the filters: it holds one of the texts, or there are none. */
bool options_pass(const options *o, const char *name);
#endif
