// SPDX-License-Identifier: MIT
// Times the large CPU ops: median, p10 and p90 of a time-boxed loop, one JSON line per case. Linear layers are set beside
// the same packed product called without the op ("share": what the op itself costs; it says nothing of oneDNN's best layout).
#include "backend/cpu/dnn.h"
#include "backend/ops.h"
#include "base/clock.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS_MAX = 400, RUNS_MIN = 5, BUDGET_MS = 400 };

static swd_err error;
static swd_backend *backend;
static swd_exec ex;

typedef swd_status (*body)(void *);
typedef struct timing {
    double median, p10, p90;
    int runs;
} timing;

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static swd_status measure(timing *t, body run, void *arg)
{
    double ms[RUNS_MAX], spent = 0;
    int n = 0;
    SWD_TRY(run(arg), &error);
    while (n < RUNS_MAX && (n < RUNS_MIN || spent < BUDGET_MS)) {
        double start = (clock_now_s() * 1e3);
        SWD_TRY(run(arg), &error);
        spent += ms[n++] = (clock_now_s() * 1e3) - start;
    }
    qsort(ms, (size_t)n, sizeof *ms, ascending);
    *t = (timing){ms[n / 2], ms[n / 10], ms[n - 1 - n / 10], n};
    return SWD_OK;
}

static void report(const char *name, timing t, double flops, double share)
{
    printf("{\"case\": \"%s\", \"median_ms\": %.4f, \"p10_ms\": %.4f, \"p90_ms\": %.4f, \"runs\": "
           "%d, \"gflops\": %.1f",
           name, t.median, t.p10, t.p90, t.runs, flops / t.median / 1e6);
    if (share > 0) printf(", \"share_of_packed_product\": %.3f", share);
    printf("}\n");
    fflush(stdout);
}

static swd_tensor random_tensor(swd_dtype dtype, const int64_t *shape, int ndim)
{
    swd_tensor t = tensor_make(NULL, dtype, shape, ndim);
    t.data = backend->alloc(backend, tensor_bytes(t));
    for (int64_t i = 0; i < tensor_numel(t); i++) {
        float x = (float)(rand() % 2001 - 1000) * 1e-3f;
        if (dtype == SWD_F32)
            ((float *)t.data)[i] = x;
        else
            ((uint16_t *)t.data)[i] = f32_to_bf16(x);
    }
    return t;
}

typedef struct linear_run {
    swd_tensor x, y;
    swd_linear *w;
    dnn_weight *raw;
    int64_t m, n, k;
} linear_run;

static swd_status run_linear(void *arg)
{
    linear_run *r = arg;
    return op_linear(r->y, r->x, r->w, SWD_ACT_NONE, &ex);
}

static swd_status run_raw(void *arg)
{
    linear_run *r = arg;
    return dnn_matmul(r->raw, NULL, r->m, r->y.data, r->n, r->y.dtype, r->x.data, r->k, NULL,
                      SWD_ACT_NONE, &error);
}

static swd_status bench_linear(dnn_engine *e, int64_t m, int64_t k, int64_t n, swd_dtype act,
                               swd_dtype weight, swd_dtype compute)
{
    linear_run r = {.m = m, .n = n, .k = k};
    swd_tensor w = random_tensor(weight, (int64_t[]){n, k}, 2);
    r.x = random_tensor(act, (int64_t[]){m, k}, 2);
    r.y = random_tensor(act, (int64_t[]){m, n}, 2);
    SWD_TRY(backend->linear_create(backend, &r.w, w, tensor_none(), compute, &error), &error);
    SWD_TRY(dnn_linear_create(&r.raw, e, n, k, w.data, weight, compute, &error), &error);
    timing ours = {0}, vendor = {0};
    SWD_TRY(measure(&vendor, run_raw, &r), &error);
    SWD_TRY(measure(&ours, run_linear, &r), &error);
    char name[128];
    snprintf(name, sizeof name, "linear m%lld k%lld n%lld w_%s %s", (long long)m, (long long)k,
             (long long)n, dtype_name(weight), dtype_name(compute));
    report(name, ours, 2.0 * (double)m * (double)n * (double)k, vendor.median / ours.median);
    backend->linear_destroy(backend, &r.w);
    dnn_weight_destroy(&r.raw);
    backend->release(backend, w.data), backend->release(backend, r.x.data),
        backend->release(backend, r.y.data);
    return SWD_OK;
}

static swd_status run_attention(void *arg)
{
    return op_attention(arg, &ex);
}

static swd_status bench_attention(int64_t heads, int64_t d, int64_t n, int64_t text,
                                  swd_dtype dtype)
{
    attention_args a = {.n_streams = text ? 2 : 1, .scale = 1 / sqrtf((float)d)};
    int64_t count[] = {n, text};
    for (int i = 0; i < a.n_streams; i++) {
        int64_t shape[] = {1, count[i], heads, d};
        a.q[i] = random_tensor(dtype, shape, 4), a.k[i] = random_tensor(dtype, shape, 4);
        a.v[i] = random_tensor(dtype, shape, 4), a.o[i] = random_tensor(dtype, shape, 4);
    }
    timing t = {0};
    SWD_TRY(measure(&t, run_attention, &a), &error);
    char name[128];
    snprintf(name, sizeof name, "attention h%lld d%lld n%lld+%lld %s", (long long)heads,
             (long long)d, (long long)n, (long long)text, dtype_name(dtype));
    report(name, t, 4.0 * (double)heads * (double)d * (double)(n + text) * (double)(n + text), 0);
    for (int i = 0; i < a.n_streams; i++) {
        backend->release(backend, a.q[i].data), backend->release(backend, a.k[i].data);
        backend->release(backend, a.v[i].data), backend->release(backend, a.o[i].data);
    }
    return SWD_OK;
}

static swd_status all(dnn_engine *e)
{
    static const int64_t shapes[][3] = {{1, 1536, 9216},
                                        {333, 1536, 1536},
                                        {1024, 1536, 4608},
                                        {1024, 1536, 6144},
                                        {1024, 6144, 1536}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int64_t m = shapes[i][0], k = shapes[i][1], n = shapes[i][2];
        SWD_TRY(bench_linear(e, m, k, n, SWD_F32, SWD_F32, SWD_F32), &error);
        SWD_TRY(bench_linear(e, m, k, n, SWD_F32, SWD_BF16, SWD_F32), &error);
        if (backend->native_bf16)
            SWD_TRY(bench_linear(e, m, k, n, SWD_BF16, SWD_BF16, SWD_BF16), &error);
    }
    SWD_TRY(bench_attention(24, 64, 1024, 333, SWD_F32), &error);
    SWD_TRY(bench_attention(24, 64, 1024, 333, SWD_BF16), &error);
    SWD_TRY(bench_attention(12, 32, 64, 77, SWD_F32), &error);
    SWD_TRY(bench_attention(1, 512, 1024, 0, SWD_F32), &error);
    return SWD_OK;
}

int main(int argc, char **argv)
{
    dnn_engine *e = NULL;
    ex = (swd_exec){.err = &error, .slab_bytes = (size_t)256 << 20};
    swd_status s = backend_cpu_create(&backend, argc > 1 ? atoi(argv[1]) : 0, &error);
    if (s == SWD_OK) s = dnn_engine_create(&e, &error);
    if (s == SWD_OK) {
        ex.backend = backend;
        ex.slab = backend->alloc(backend, ex.slab_bytes);
        printf("{\"device\": \"%s\"}\n", backend->device);
        s = ex.slab ? all(e) : SWD_FAIL(&error, SWD_ERR_MEMORY, "no memory for scratch");
    }
    if (s != SWD_OK) fprintf(stderr, "bench_ops: %s\n", error.message);
    if (ex.slab) backend->release(backend, ex.slab);
    dnn_engine_destroy(&e);
    if (backend) backend_destroy(&backend);
    return s == SWD_OK ? 0 : 1;
}
