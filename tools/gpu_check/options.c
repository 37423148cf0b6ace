// SPDX-License-Identifier: MIT
#include "options.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "gpu_check: are the CUDA kernels right on this machine's GPU?\n"
    "\n"
    "  gpu_check --out report                 everything; the report lies in that folder\n"
    "  gpu_check --only ops --filter linear   the op cases of linear layers\n"
    "\n"
    "  --only PARTS     of wrappers, ops (default: both), separated by commas\n"
    "                     wrappers   device building blocks beside what the emulator recorded\n"
    "                     ops        every op case beside its double-precision oracle\n"
    "  --filter TEXT    only cases whose name holds TEXT; may be repeated\n"
    "  --out DIR        gpu_check.json and gpu_check.md go there\n"
    "  --device N       which GPU (default 0)\n"
    "  --size SIZE      op cases up to small, medium or real (default real)\n"
    "  --seed N         other random numbers in the op cases\n"
    "\n"
    "Exit status: 0 all is well, 1 something failed, 2 the call is wrong or nothing passes the "
    "filter, 77 no GPU.\n";

static bool whole(int *out, const char *text, int lo, int hi)
{
    char *end;
    double x = strtod(text, &end);
    if (!*text || *end || x < lo || x > hi || x != (int)x) return false;
    *out = (int)x;
    return true;
}

static bool parse_parts(options *o, const char *text)
{
    bool *const parts[] = {&o->wrappers, &o->ops};
    static const char *const names[] = {"wrappers", "ops"};
    o->wrappers = o->ops = false;
    while (true) {
        size_t n = strcspn(text, ",");
        bool known = false;
        for (int i = 0; i < 2; i++)
            if (strlen(names[i]) == n && strncmp(text, names[i], n) == 0) *parts[i] = known = true;
        if (!known) return false;
        if (!text[n]) return true;
        text += n + 1;
    }
}

static bool parse_size(case_size *size, const char *text)
{
    static const char *const names[] = {[SMALL] = "small", [MEDIUM] = "medium", [REAL] = "real"};
    for (int i = SMALL; i <= REAL; i++)
        if (strcmp(text, names[i]) == 0) {
            *size = (case_size)i;
            return true;
        }
    return false;
}

static bool parse_value(options *o, const char *flag, const char *value)
{
    if (strcmp(flag, "--out") == 0) {
        o->out = value;
        return *value != '\0';
    }
    if (strcmp(flag, "--only") == 0) return parse_parts(o, value);
    if (strcmp(flag, "--size") == 0) return parse_size(&o->size, value);
    if (strcmp(flag, "--device") == 0) return whole(&o->device, value, 0, 1023);
    if (strcmp(flag, "--seed") == 0) {
        char *end;
        o->seed = strtoull(value, &end, 0);
        return *value && !*end;
    }
    if (strcmp(flag, "--filter") != 0 || o->n_filters == OPTIONS_FILTERS_MAX) return false;
    o->filter[o->n_filters++] = value;
    return true;
}

parsed options_parse(options *o, int argc, char **argv, bool emulated)
{
    *o = (options){.wrappers = true, .ops = true, .size = emulated ? SMALL : REAL};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return PARSED_HELP;
        }
        if (i + 1 == argc || !parse_value(o, argv[i], argv[i + 1])) {
            fprintf(stderr,
                    "gpu_check: error: %s is not known, or needs another value; see --help\n",
                    argv[i]);
            return PARSED_WRONG;
        }
        i++;
    }
    return PARSED;
}

bool options_pass(const options *o, const char *name)
{
    for (int i = 0; i < o->n_filters; i++)
        if (strstr(name, o->filter[i])) return true;
    return o->n_filters == 0;
}
