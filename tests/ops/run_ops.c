// SPDX-License-Identifier: MIT
// Runs the op cases on a backend and prints TAP: every op against its oracle, then every op with damaged arguments.
#include "check.h"
#include "refuse.h"
#include "base/clock.h"
#ifdef RUN_OPS_CUDA
#include "backend_cuda.h"
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILTERS_MAX = 16 };

typedef struct options {
    const char *backend, *filter[FILTERS_MAX];
    int n_filters;
    case_size size;
    uint64_t seed;
    int threads;
    bool list, ops, once, times;
} options;

static const char usage[] =
    "usage: run_ops [options] [BACKEND]\n"
    "Checks every op case on a backend (cpu if none is named, or cuda); TAP on stdout.\n"
    "  --filter TEXT   only cases whose name has TEXT in it (\"linear.odd\", \".bb\"), or one of "
    "several such texts\n"
    "  --size SIZE     up to small, medium (the default) or real\n"
    "  --seed N        other random numbers\n"
    "  --threads N     of the cpu\n"
    "  --once          do not run each case a second time\n"
    "  --times         with the seconds of each case\n"
    "  --list          the names of the cases; --ops: the ops that have some\n";

static bool parse_size(case_size *size, const char *name)
{
    static const char *const names[] = {[SMALL] = "small", [MEDIUM] = "medium", [REAL] = "real"};
    for (int i = SMALL; i <= REAL; i++)
        if (strcmp(name, names[i]) == 0) {
            *size = (case_size)i;
            return true;
        }
    return false;
}

static bool parse(options *o, int argc, char **argv)
{
    *o = (options){.backend = "cpu", .size = MEDIUM, .threads = 2};
    for (int i = 1; i < argc; i++) {
        const char *flag = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        bool *const switches[] = {&o->list, &o->ops, &o->once, &o->times};
        static const char *const names[] = {"--list", "--ops", "--once", "--times"};
        bool known = false;
        for (int k = 0; k < 4; k++)
            if (strcmp(flag, names[k]) == 0) *switches[k] = known = true;
        if (known) continue;
        if (flag[0] != '-') {
            o->backend = flag;
            continue;
        }
        if (!value) return false;
        i++;
        if (strcmp(flag, "--filter") == 0 && o->n_filters < FILTERS_MAX)
            o->filter[o->n_filters++] = value;
        else if (strcmp(flag, "--seed") == 0)
            o->seed = strtoull(value, NULL, 0);
        else if (strcmp(flag, "--threads") == 0)
            o->threads = atoi(value);
        else if (strcmp(flag, "--size") != 0 || !parse_size(&o->size, value))
            return false;
    }
    return true;
}

static bool passes(const options *o, const char *id)
{
    for (int i = 0; i < o->n_filters; i++)
        if (strstr(id, o->filter[i])) return true;
    return o->n_filters == 0;
}

static bool wanted(const options *o, const case_walk *w)
{
    return w->c->size <= o->size && passes(o, w->id);
}

static void list(const options *o)
{
    case_walk w = {0};
    const char *op = "";
    while (case_next(&w)) {
        if (!o->ops && wanted(o, &w)) puts(w.id);
        if (o->ops && strcmp(op, w.family->op) != 0) printf("op_%s\n", op = w.family->op);
    }
}

static int count_cases(const options *o)
{
    case_walk w = {0};
    int n = 0;
    char id[CASE_ID_MAX];
    while (case_next(&w)) n += wanted(o, &w);
    for (int i = 0; i < refuse_count(); i++) {
        refuse_name(id, i);
        n += passes(o, id);
    }
    return n;
}

static swd_status open_backend(swd_backend **b, const options *o, swd_err *err)
{
    if (strcmp(o->backend, "cpu") == 0) return backend_cpu_create(b, o->threads, err);
#ifdef RUN_OPS_CUDA
    if (strcmp(o->backend, "cuda") == 0) return backend_cuda_create(b, 0, err);
#endif
    return SWD_FAIL(err, SWD_ERR_ARGUMENT, "no backend is called \"%s\"", o->backend);
}

static int run(const options *o, swd_backend *b)
{
    case_walk w = {0};
    int number = 0, failed = 0;
    char message[CHECK_MESSAGE_MAX];
    printf("1..%d\n# %s: %s\n", count_cases(o), b->name, b->device);
    while (case_next(&w)) {
        if (!wanted(o, &w)) continue;
        double start = clock_now_s();
        bool good = check_case(message, &w, b, o->seed, o->once);
        printf("%s %d - %s on %s\n", good ? "ok" : "not ok", ++number, w.id, b->name);
        if (!good) printf("# %s\n", message);
        if (o->times) printf("# %.3f s\n", clock_now_s() - start);
        fflush(stdout);
        failed += !good;
    }
    for (int i = 0; i < refuse_count(); i++) {
        char id[CASE_ID_MAX];
        refuse_name(id, i);
        if (!passes(o, id)) continue;
        bool good = refuse_check(message, i, b);
        printf("%s %d - %s\n", good ? "ok" : "not ok", ++number, id);
        if (!good) printf("# %s\n", message);
        failed += !good;
    }
    return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    options o;
    if (!parse(&o, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    if (o.list || o.ops) {
        list(&o);
        return 0;
    }
    swd_err err = {0};
    swd_backend *b;
    if (open_backend(&b, &o, &err) != SWD_OK) {
        printf("Bail out! %s\n", err.message);
        return 2;
    }
    int status = run(&o, b);
    backend_destroy(&b);
    return status;
}
