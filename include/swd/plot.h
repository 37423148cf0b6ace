/* SPDX-License-Identifier: MIT */
/* Plots as SVG: text, sharp at every size, shown by browsers, by code hosts and inside HTML. Lines and points over linear or
 * logarithmic axes, or horizontal stacked bars:
 *
 *     double step[] = {1, 2, 3}, loss[] = {.9, .4, .2};
 *     swd_plot_series line = {.name = "loss", .x = step, .y = loss, .n = 3};
 *     swd_plot p = {.size = sizeof(p), .title = "training", .x.label = "step", .y = {.label = "loss", .log = 1},
 *                   .series = &line, .n_series = 1};
 *     swd_plot_write("loss.svg", &p, NULL);
 *
 * The same plot gives the same bytes. Numbers that are not finite, or not positive on a logarithmic axis, are left out: a line is
 * interrupted there. Strings are UTF-8; what is not becomes '?'. Thread-safe: nothing is shared. */
#ifndef SWD_PLOT_H
#define SWD_PLOT_H
#include <swd/swd.h>
#ifdef __cplusplus
extern "C" {
#endif

/* More than these is SWD_ERR_ARGUMENT. */
enum { SWD_PLOT_SERIES_MAX = 64, SWD_PLOT_POINTS_MAX = 1 << 20, SWD_PLOT_BARS_MAX = 256 };

typedef enum swd_plot_style {
    SWD_PLOT_LINE,
    SWD_PLOT_DASHED,
    SWD_PLOT_POINTS,     /* dots alone */
    SWD_PLOT_LINE_POINTS /* and joined */
} swd_plot_style;

typedef struct swd_plot_axis {
    const char *label; /* NULL: none */
    int log;           /* nonzero: logarithmic */
    double from,
        to; /* both 0 (or equal): what the data need; a log axis takes positive ones only */
} swd_plot_axis;

typedef struct swd_plot_series {
    const char *name; /* in the legend; NULL: not there */
    const double *x;  /* [n]; bars: not used */
    const double *y;  /* [n]; bars: a length (0 or more) per bar */
    int n;
    swd_plot_style style;
    const char *
        color; /* "#rrggbb"; NULL: the next of eight that people with colour-blindness tell apart */
} swd_plot_series;

/* A thin dashed line across the plot. */
typedef struct swd_plot_mark {
    double at;
    int vertical;      /* nonzero: at x = at, its label along it; else at y = at */
    const char *label; /* NULL: none */
} swd_plot_mark;

typedef struct swd_plot {
    size_t size; /* sizeof(swd_plot) */
    const char *title, *subtitle;
    int width, height; /* 0: 860 wide; 520 high, or what the bars need */
    swd_plot_axis x, y;
    const swd_plot_series *series;
    int n_series;
    const swd_plot_mark *marks; /* bars: the vertical ones are drawn */
    int n_marks;
    const char *const *
        bars; /* names of n_bars horizontal bars, first on top; then every series is one piece of each bar, stacked
                                from the left, along the x axis, and the sum stands at the bar's end. NULL: lines and points */
    int n_bars;
    const char *bar_unit; /* after that sum: "ms"; NULL: none */
} swd_plot;

/* Writes path (complete or not at all). ctx keeps the message of a failure; NULL: the status alone. */
SWD_API swd_status swd_plot_write(const char *path, const swd_plot *plot, swd_context *ctx);

#ifdef __cplusplus
}
#endif
#endif
