// SPDX-License-Identifier: MIT
#include "bench/yardstick.h"
#include "base/clock.h"
#include "base/memory.h"
#include "bench/harness.h"
#include "bench/vendor.h"
#include <string.h>

enum { REPEATS = 3, PRODUCTS_MAX = 128, SIDE = 1536 };

struct yardstick {
    vendor_product *product[PRODUCTS_MAX];
    int count[PRODUCTS_MAX], n;
    double flop; // of a round, each product as often as it counts
    double samples[PRODUCTS_MAX][BENCH_RUNS_MAX];
    int rounds;
};

static swd_status add(yardstick *y, int64_t m, int64_t k, int64_t n, int count, swd_dtype dtype,
                      swd_err *err)
{
    if (y->n == PRODUCTS_MAX) return SWD_OK;
    SWD_TRY(vendor_product_create(&y->product[y->n], m, k, n, dtype, err), err);
    y->count[y->n] = count;
    y->flop += 2.0 * (double)m * (double)k * (double)n * count;
    return vendor_product_run(y->product[y->n++], err); // what it prepares at its first run
}

swd_status yardstick_create(yardstick **out, const meter *m, swd_dtype dtype, swd_err *err)
{
    yardstick *y;
    *out = NULL;
    SWD_TRY(swd_calloc(&y, 1, sizeof *y, "oneDNN's products", err), err);
    swd_status s = SWD_OK;
    for (int i = 0; m && i < m->n_calls && s == SWD_OK; i++) {
        const meter_call *c = &m->calls[i];
        if (c->class == METER_LINEAR)
            s = add(y, c->dims[0], c->dims[1], c->dims[2], c->count, c->dtype, err);
    }
    if (s == SWD_OK && y->n == 0) s = add(y, SIDE, SIDE, SIDE, 1, dtype, err);
    if (s != SWD_OK) yardstick_destroy(&y);
    *out = y;
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

void yardstick_destroy(yardstick **y)
{
    for (int i = 0; *y && i < (*y)->n; i++) vendor_product_destroy(&(*y)->product[i]);
    free(*y);
    *y = NULL;
}

// Each product a few times in a row, as fits beside one run of what is measured.
swd_status yardstick_run(void *arg, swd_err *err)
{
    yardstick *y = arg;
    for (int i = 0; i < y->n; i++) {
        double start = clock_now_s();
        for (int r = 0; r < REPEATS; r++) SWD_TRY(vendor_product_run(y->product[i], err), err);
        if (y->rounds < BENCH_RUNS_MAX)
            y->samples[i][y->rounds] = (clock_now_s() - start) / REPEATS;
    }
    if (y->rounds < BENCH_RUNS_MAX) y->rounds++;
    return SWD_OK;
}

double yardstick_seconds(const yardstick *y, int runs)
{
    double sum = 0, x[BENCH_RUNS_MAX];
    if (runs > y->rounds) runs = y->rounds;
    for (int i = 0; i < y->n && runs > 0; i++) {
        memcpy(x, y->samples[i] + y->rounds - runs, (size_t)runs * sizeof *x);
        sum += y->count[i] * bench_statistics(x, runs).median;
    }
    return sum;
}

double yardstick_rate(const yardstick *y, int runs)
{
    double seconds = yardstick_seconds(y, runs);
    return seconds > 0 ? y->flop / seconds : 0;
}
