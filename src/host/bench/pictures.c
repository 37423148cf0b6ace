// SPDX-License-Identifier: MIT
#include "bench/pictures.h"
#include "base/memory.h"
#include "bench/tables.h"
#include "image/plot.h"
#include <stdio.h>
#include <string.h>

enum { STAGES = 4, MANY = 64 };
static const double ROOM = 1.2; // for the number at the end of the longest bar

static const char *device(const bench *b)
{
    const char *s = json_string_value(json_object_get(bench_machine(b), "device"));
    return s ? s : "";
}

static const char *model(const bench *b)
{
    const char *s = json_string_value(json_object_get(bench_machine(b), "model"));
    return s ? s : "";
}

static swd_status bars(const bench *b, int side, const char *file, swd_err *err)
{
    static const char *const keys[STAGES] = {"text_ms", "denoise_ms", "decode_ms", "write_ms"},
                             *const names[STAGES] = {"text", "denoising", "decoding", "file"};
    const char *labels[MANY], *what;
    double y[STAGES][MANY];
    char title[192];
    double longest = 0;
    int n = 0;
    for (int i = 0; i < bench_count(b) && n < MANY; i++) {
        const bench_entry *e = bench_at(b, i);
        double sum = 0;
        if (tables_side(&what, e) != side) continue;
        for (int k = 0; k < STAGES; k++) sum += y[k][n] = bench_value_of(e, keys[k]) * 1e-3;
        if (sum > longest) longest = sum;
        labels[n++] = what;
    }
    swd_plot_series series[STAGES];
    for (int k = 0; k < STAGES; k++)
        series[k] = (swd_plot_series){.name = names[k], .y = y[k], .n = n};
    snprintf(title, sizeof title, "where the time of a picture goes: %s, %dx%d", model(b), side,
             side);
    return plot_write(file,
                      &(swd_plot){.size = sizeof(swd_plot),
                                  .title = title,
                                  .subtitle = device(b),
                                  .x = {.label = "seconds", .to = ROOM * longest},
                                  .series = series,
                                  .n_series = STAGES,
                                  .bars = labels,
                                  .n_bars = n,
                                  .bar_unit = "s"},
                      err);
}

typedef struct line {
    const char *what;
    bool guided;
    double x[MANY], y[MANY];
    int n;
} line;

static swd_status lines(const bench *b, const char *file, swd_err *err)
{
    line *l;
    int n = 0;
    char title[192];
    const char *what;
    swd_plot_series series[MANY];
    SWD_TRY(swd_calloc(&l, MANY, sizeof *l, "a plot", err), err);
    for (int i = 0; i < bench_count(b); i++) {
        const bench_entry *e = bench_at(b, i);
        int side = tables_side(&what, e), k = 0;
        while (k < n && strcmp(l[k].what, what) != 0) k++;
        if (k == MANY || l[k].n == MANY) continue;
        if (k == n) l[n++] = (line){.what = what, .guided = bench_value_of(e, "guided") > 0};
        l[k].x[l[k].n] = side;
        l[k].y[l[k].n++] = e->wall.median;
    }
    for (int k = 0; k < n; k++)
        series[k] =
            (swd_plot_series){.name = l[k].what,
                              .x = l[k].x,
                              .y = l[k].y,
                              .n = l[k].n,
                              .style = l[k].guided ? SWD_PLOT_DASHED : SWD_PLOT_LINE_POINTS};
    snprintf(title, sizeof title, "time of a picture against its size: %s", model(b));
    swd_status s = plot_write(file,
                              &(swd_plot){.size = sizeof(swd_plot),
                                          .title = title,
                                          .subtitle = device(b),
                                          .x = {.label = "side in pixels"},
                                          .y = {.label = "seconds", .log = 1},
                                          .series = series,
                                          .n_series = n},
                              err);
    free(l);
    return s;
}

swd_status pictures_write(const bench *b, const char *file, swd_err *err)
{
    int largest = 0, smallest = 0;
    const char *what;
    char *second = NULL;
    for (int i = 0; i < bench_count(b); i++) {
        int side = tables_side(&what, bench_at(b, i));
        if (!side || !bench_value_of(bench_at(b, i), "denoise_flop"))
            return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "only e2e has a picture");
        if (side > largest) largest = side;
        if (!smallest || side < smallest) smallest = side;
    }
    if (!largest) return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "nothing was measured: no picture");
    SWD_TRY(bars(b, largest, file, err), err);
    if (smallest == largest) return SWD_OK;
    const char *dot = strrchr(file, '.'), *slash = strrchr(file, '/');
    if (dot && slash && slash > dot) dot = NULL;
    int stem = (int)(dot ? (size_t)(dot - file) : strlen(file));
    SWD_TRY(swd_asprintf(&second, err, "%.*s-sizes%s", stem, file, dot ? dot : ""), err);
    swd_status s = lines(b, second, err);
    free(second);
    return s;
}
