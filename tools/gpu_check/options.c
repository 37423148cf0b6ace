// SPDX-License-Identifier: MIT
#include "options.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// clang-format off
static const char help[] =
    "gpu_check: are the CUDA kernels right, and fast, on this machine's GPU?\n"
    "\n"
    "  gpu_check --out report          all of it; the report lies in that folder\n"
    "  gpu_check --only wrappers,ops,training   is it right?\n"
    "  gpu_check --only bench --filter attention\n"
    "  gpu_check --sanitize            small op cases and training under compute-sanitizer's four tools\n"
    "  gpu_check --expect              what the roofline allows on three cards; needs no GPU\n"
    "\n"
    "Parts\n"
    "  --only PARTS     some of wrappers,ops,training,bench (default: all of them)\n"
    "                     wrappers   device building blocks beside what the emulator recorded\n"
    "                     ops        every op case beside its double-precision oracle\n"
    "                     training   gradients of op cases beside differences of the oracle\n"
    "                     bench      kernels on shapes of published models: cold L2, events, medians, share of\n"
    "                                the roofline, beside cuBLASLt and cuDNN where these are found\n"
    "  --sanitize       memcheck, racecheck, synccheck, initcheck instead of the parts above\n"
    "  --filter TEXT    only cases whose name holds TEXT; may be repeated\n"
    "\n"
    "Details\n"
    "  --out DIR        gpu_check.json and gpu_check.md go there, and the logs of the sanitizers\n"
    "  --device N       which GPU (default 0)\n"
    "  --size SIZE      op cases up to small, medium or real (default medium; for the real ones the oracles\n"
    "                   take minutes and up to 2 GB of the host's memory)\n"
    "  --seed N         other random numbers in the op cases\n"
    "  --runs N         fewest runs of a bench (default 20)\n"
    "  --budget S       seconds a bench is measured for, beyond its fewest runs (default 0.25)\n"
    "  --tiny           benches on toy shapes: does it work?\n"
    "  --vendor DIRS    where libcublasLt.so and libcudnn.so lie, separated by colons; \"none\": do not look.\n"
    "                   Without it: SWD_VENDOR_LIBS, the system, /usr/local/cuda/lib64, then\n"
    "                   site-packages/nvidia/*/lib of VIRTUAL_ENV, CONDA_PREFIX, ~/.local, /usr/local, /usr\n"
    "  --compute-sanitizer PATH\n"
    "                   (default: the one in PATH, then /usr/local/cuda/bin)\n"
    "\n"
    "Exit status: 0 all is well, 1 something failed, 2 the call is wrong or nothing passes the filter, 77 no GPU.\n";
// clang-format on

static bool number(double *out, const char *text, double lo, double hi)
{
    char *end;
    *out = strtod(text, &end);
    return *text && !*end && *out >= lo && *out <= hi;
}

static bool whole(int *out, const char *text, int lo, int hi)
{
    double x;
    if (!number(&x, text, lo, hi) || x != (int)x) return false;
    *out = (int)x;
    return true;
}

static bool parse_parts(options *o, const char *text)
{
    bool *const parts[] = {&o->wrappers, &o->ops, &o->training, &o->bench};
    static const char *const names[] = {"wrappers", "ops", "training", "bench"};
    o->wrappers = o->ops = o->training = o->bench = false;
    while (true) {
        size_t n = strcspn(text, ",");
        bool known = false;
        for (int i = 0; i < 4; i++)
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

static bool parse_switch(options *o, const char *flag)
{
    bool *const switches[] = {&o->sanitize, &o->expect, &o->tiny};
    static const char *const names[] = {"--sanitize", "--expect", "--tiny"};
    for (int i = 0; i < 3; i++)
        if (strcmp(flag, names[i]) == 0) return *switches[i] = true;
    return false;
}

static bool parse_value(options *o, const char *flag, const char *value)
{
    const char **const texts[] = {&o->out, &o->vendor, &o->sanitizer};
    static const char *const names[] = {"--out", "--vendor", "--compute-sanitizer"};
    for (int i = 0; i < 3; i++)
        if (strcmp(flag, names[i]) == 0) {
            *texts[i] = value;
            return *value != '\0';
        }
    if (strcmp(flag, "--only") == 0) return parse_parts(o, value);
    if (strcmp(flag, "--size") == 0) return parse_size(&o->size, value);
    if (strcmp(flag, "--device") == 0) return whole(&o->device, value, 0, 1023);
    if (strcmp(flag, "--runs") == 0) return whole(&o->runs, value, 1, 1000);
    if (strcmp(flag, "--budget") == 0) return number(&o->budget_s, value, 0, 3600);
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
    *o = (options){.wrappers = true,
                   .ops = true,
                   .training = true,
                   .bench = true,
                   .tiny = emulated,
                   .size = emulated ? SMALL : MEDIUM,
                   .runs = emulated ? 2 : 20,
                   .budget_s = emulated ? 0 : 0.25,
                   .vendor = emulated ? "none" : NULL};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return PARSED_HELP;
        }
        if (parse_switch(o, argv[i])) continue;
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
