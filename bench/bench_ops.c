// SPDX-License-Identifier: MIT
// Times the op cases of real shapes (tests/ops), each beside a yardstick that does as much work, in the same rounds:
//
//     linear              oneDNN's product of its shape and arithmetic, every operand in the layout oneDNN likes best
//     conv, attention     such a product of as many FLOP
//     all others          memcpy of as many bytes on as many threads
//
// share_of_onednn or share_of_memcpy = time of the yardstick / time of the op. Operands and packed weights rotate through the cache.
#include "case.h"
#include "bench/document.h"
#include "bench/harness.h"
#include "bench/machine.h"
#include "bench/tables.h"
#include "bench/vendor.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SETS_MAX = 8, COPY_CHUNK = 1 << 16 };

typedef struct contest {
    const case_walk *walk;
    fixture set[SETS_MAX];
    int n, current;
    swd_exec ex;
    // the yardstick: one of the two
    vendor_product *product;
    unsigned char *memory; // n sets of 2 * half bytes
    size_t half;
    int threads, copied;
} contest;

static swd_status run_op(void *arg, swd_err *err)
{
    contest *c = arg;
    c->ex.err = err;
    return c->walk->family->run(&c->set[c->current], c->walk->c, &c->ex);
}

static void next_set(void *arg, int run)
{
    contest *c = arg;
    c->current = run % c->n;
}

static swd_status run_product(void *arg, swd_err *err)
{
    return vendor_product_run(((contest *)arg)->product, err);
}

static void next_copy(void *arg, int run)
{
    contest *c = arg;
    c->copied = run % c->n;
}

static swd_status run_copy(void *arg, swd_err *err)
{
    const contest *c = arg;
    unsigned char *from = c->memory + (size_t)c->copied * 2 * c->half, *to = from + c->half;
    int64_t chunks = (int64_t)((c->half + COPY_CHUNK - 1) / COPY_CHUNK);
    (void)err;
#pragma omp parallel for num_threads(c->threads)
    for (int64_t i = 0; i < chunks; i++) {
        size_t at = (size_t)i * COPY_CHUNK, left = c->half - at;
        memcpy(to + at, from + at, left < COPY_CHUNK ? left : COPY_CHUNK);
    }
    return SWD_OK;
}

// Arithmetic of the op's products; of an attention it's as its operands are stored, where the processor has that.
static swd_dtype arithmetic(const contest *c)
{
    const fixture *f = &c->set[0];
    if (f->linear) return linear_facts(f->linear)->compute;
    if (f->conv) return conv_facts(f->conv)->compute;
    return f->n_types && f->type[0] != SWD_F32 && f->backend->native_bf16 ? SWD_BF16 : SWD_F32;
}

static swd_status make_yardstick(contest *c, double flop, double bytes, swd_err *err)
{
    const fixture *f = &c->set[0];
    if (flop == 0) {
        c->half = (size_t)(bytes / 2) + 1;
        c->memory = calloc((size_t)c->n * 2, c->half);
        return c->memory
                   ? SWD_OK
                   : SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for copies of %zu bytes", c->half);
    }
    int64_t side = flop > 1e9 ? 1536 : 256, k = side, n = side;
    if (f->linear) k = linear_facts(f->linear)->k, n = linear_facts(f->linear)->n;
    int64_t m = (int64_t)(flop / 2 / (double)k / (double)n + 0.5);
    return vendor_product_create(&c->product, m < 1 ? 1 : m, k, n, arithmetic(c), err);
}

static swd_status make_sets(contest *c, swd_backend *b, swd_err *err)
{
    size_t left, slab;
    int wanted = 1;
    for (; c->n < wanted; c->n++) {
        fixture *f = &c->set[c->n];
        swd_status s = case_make(f, c->walk, b, (uint64_t)c->n, err);
        if (s == SWD_OK) s = fixture_upload(f, err);
        if (s != SWD_OK) {
            fixture_close(f);
            return s;
        }
        fixture_forget_host(f);
        if (c->n == 0) wanted = bench_rotation((size_t)fixture_bytes(f), SETS_MAX);
    }
    SWD_TRY(case_measure(&slab, &left, &c->set[0], c->walk, err), err);
    c->ex = (swd_exec){.backend = b, .slab = b->alloc(b, slab), .slab_bytes = slab};
    return c->ex.slab ? SWD_OK
                      : SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a slab of %zu bytes", slab);
}

static swd_status measure(bench *b, contest *c, swd_err *err)
{
    const op_family *family = c->walk->family;
    double flop = family->flops ? family->flops(&c->set[0], c->walk->c) : 0,
           bytes = fixture_bytes(&c->set[0]);
    char name[CASE_ID_MAX + 16];
    SWD_TRY(make_yardstick(c, flop, bytes, err), err);
    snprintf(name, sizeof name, "%s/%s", c->walk->id, c->product ? "onednn" : "memcpy");
    const char *precision = dtype_name(arithmetic(c));
    bench_case cases[] = {
        {.name = name, .precision = c->product ? precision : NULL, .arg = c, .flop = flop},
        {.name = c->walk->id, .precision = precision, .run = run_op, .before = next_set, .arg = c},
    };
    cases[0].run = c->product ? run_product : run_copy;
    cases[0].before = c->product ? NULL : next_copy;
    cases[0].bytes = c->product ? 0 : bytes;
    cases[1].flop = flop;
    cases[1].bytes = bytes;
    int at;
    SWD_TRY(bench_run(&at, b, cases, 2, err), err);
    bench_value(b, at + 1, c->product ? "share_of_onednn" : "share_of_memcpy",
                1 / bench_at(b, at + 1)->ratio.median);
    return SWD_OK;
}

static void close_contest(contest *c, swd_backend *b)
{
    for (int i = 0; i < c->n; i++) fixture_close(&c->set[i]);
    if (c->ex.slab) b->release(b, c->ex.slab);
    vendor_product_destroy(&c->product);
    free(c->memory);
}

static swd_status all_cases(bench *b, swd_backend *backend, swd_err *err)
{
    case_walk w = {0};
    while (case_next(&w)) {
        if (w.c->size != REAL || !bench_wanted(b, w.id)) continue;
        contest *c = test_alloc(1, sizeof *c);
        c->walk = &w;
        c->threads = bench_threads(b);
        swd_status s = make_sets(c, backend, err);
        if (s == SWD_OK) s = measure(b, c, err);
        close_contest(c, backend);
        free(c);
        SWD_TRY(s, err);
    }
    return SWD_OK;
}

/* ---- the program ---- */

static int usage(FILE *to)
{
    fputs("bench_ops [--filter TEXT] [--threads N] [--budget S] [--runs N] [--quick]\n\n"
          "Every op at shapes of published models, beside oneDNN or memcpy: lines as they come on "
          "stderr, the document on stdout.\n"
          "  --filter TEXT   only cases whose name holds TEXT\n"
          "  --budget S      seconds a case is measured for, at least --runs runs\n"
          "  --quick         one run each: does it work?\n",
          to);
    return 2;
}

static bool parse(bench_wish *wish, int *threads, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--quick") == 0) {
            wish->quick = true;
            continue;
        }
        if (!*value) return false;
        if (strcmp(argv[i], "--filter") == 0)
            wish->filter = value;
        else if (strcmp(argv[i], "--threads") == 0 && atoi(value) > 0)
            *threads = atoi(value);
        else if (strcmp(argv[i], "--runs") == 0 && atoi(value) > 0)
            wish->runs = atoi(value);
        else if (strcmp(argv[i], "--budget") == 0 && atof(value) > 0)
            wish->budget_s = atof(value);
        else
            return false;
        i++;
    }
    return true;
}

static void tell(void *user, const bench_entry *e)
{
    char line[512];
    (void)user;
    fprintf(stderr, "%s\n", tables_line(e, line, sizeof line));
}

static swd_status measure_all(bench *b, swd_err *err)
{
    swd_backend *backend;
    char *text = NULL;
    SWD_TRY(backend_cpu_create(&backend, bench_threads(b), err), err);
    bench_fact(b, "device", backend->device);
    bench_on_entry(b, tell, NULL);
    swd_status s = all_cases(b, backend, err);
    backend_destroy(&backend);
    if (s == SWD_OK) s = document_text(&text, b, "bench_ops", err);
    if (s == SWD_OK && (puts(text) < 0 || fflush(stdout) != 0))
        s = SWD_FAIL(err, SWD_ERR_FILE, "standard output cannot be written");
    free(text);
    return s;
}

int main(int argc, char **argv)
{
    swd_err err = {0};
    bench *b;
    bench_wish wish = {0};
    int threads = machine_threads();
    if (argc == 2 && strcmp(argv[1], "--help") == 0) return usage(stdout), 0;
    if (!parse(&wish, &threads, argc, argv)) return usage(stderr);
    swd_status s = bench_create(&b, threads, &wish, NULL, &err);
    if (s == SWD_OK) s = measure_all(b, &err);
    bench_destroy(&b);
    if (s == SWD_OK) return 0;
    fprintf(stderr, "bench_ops: error: %s\n", err.message);
    return 1;
}
