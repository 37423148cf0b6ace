// SPDX-License-Identifier: MIT
#include "bench/pictures.h"
#include "base/memory.h"
#include "bench/tables.h"
#include "image/plot.h"
#include <stdio.h>
#include <string.h>

enum { PIECES_MAX = 5, MANY = 64 };
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

// What the time of an entry is made of: names of pieces and their values, in ms.
typedef struct pieces {
    int n;
    const char *keys[PIECES_MAX], *names[PIECES_MAX];
    const char *of; // what the plot says of them
} pieces;

static const pieces stages = {4,
                              {"text_ms", "denoise_ms", "decode_ms", "write_ms"},
                              {"text", "denoising", "decoding", "file"},
                              "where the time of a picture goes"},
                    classes = {5,
                               {"linear_ms", "attention_ms", "conv_ms", "norm_ms", "other_ms"},
                               {"linear layers", "attention", "convolutions", "norms", "others"},
                               "where the time of a network goes"},
                    whole = {1, {""}, {"time"}, "time of each"};

static const pieces *pieces_of(const bench *b)
{
    const bench_entry *e = bench_at(b, 0);
    if (bench_value_of(e, "denoise_flop") > 0) return &stages;
    return bench_value_of(e, "calls") > 0 || bench_value_of(e, "other_ms") > 0 ? &classes : &whole;
}

// A piece of an entry in seconds.
static double piece_s(const bench_entry *e, const pieces *p, int k)
{
    return p == &whole ? e->wall.median : bench_value_of(e, p->keys[k]) * 1e-3;
}

// side: only entries of that size, which is left out of their names; 0: all. Single ops are not shown, what they are part of is.
static swd_status bars(const bench *b, int side, const char *file, swd_err *err)
{
    const pieces *p = pieces_of(b);
    const char *labels[MANY], *what;
    double y[PIECES_MAX][MANY], longest = 0;
    char title[192];
    int n = 0;
    for (int i = 0; i < bench_count(b) && n < MANY; i++) {
        const bench_entry *e = bench_at(b, i);
        double sum = 0;
        if ((side && tables_side(&what, e) != side) || bench_value_of(e, "calls") > 0) continue;
        for (int k = 0; k < p->n; k++) sum += y[k][n] = piece_s(e, p, k);
        if (sum > longest) longest = sum;
        labels[n++] = side ? what : e->name;
    }
    bool short_ones = longest < 1;
    swd_plot_series series[PIECES_MAX];
    for (int k = 0; k < p->n; k++) {
        for (int i = 0; i < n; i++) y[k][i] *= short_ones ? 1e3 : 1;
        series[k] = (swd_plot_series){.name = p->n > 1 ? p->names[k] : NULL, .y = y[k], .n = n};
    }
    int used = snprintf(title, sizeof title, "%s: %s", p->of, model(b));
    if (side) snprintf(title + used, sizeof title - (size_t)used, ", %dx%d", side, side);
    swd_plot plot = {.size = sizeof plot,
                     .title = title,
                     .subtitle = device(b),
                     .x = {.label = short_ones ? "milliseconds" : "seconds",
                           .to = ROOM * longest * (short_ones ? 1e3 : 1)},
                     .series = series,
                     .n_series = p->n,
                     .bars = labels,
                     .n_bars = n,
                     .bar_unit = short_ones ? "ms" : "s"};
    return plot_write(file, &plot, err);
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
    if (bench_count(b) == 0)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "nothing was measured: no picture");
    for (int i = 0; pieces_of(b) == &stages && i < bench_count(b); i++) {
        int side = tables_side(&what, bench_at(b, i));
        if (side > largest) largest = side;
        if (!smallest || side < smallest) smallest = side;
    }
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
