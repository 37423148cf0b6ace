// SPDX-License-Identifier: MIT
/* A plot as SVG: first the frame (ranges, ticks, margins), then ticks, marks, series, legend, each a few elements of text.
 * Colours: Okabe and Ito's palette, darkened where it would be faint on white. */
#include "image/plot.h"
#include "base/memory.h"
#include "image/image.h"
#include "image/markup.h"
#include <math.h>
#include <string.h>

enum {
    WIDTH = 860,
    HEIGHT = 520,
    SIDE_MIN = 160,
    SIDE_MAX = 8192,
    TICKS_MAX = 64,
    BAR_STEP = 34,
    BAR_THICK = 22,
    LEGEND_ROW = 19
};
static const double char_px = 6.6; // of 12 px text, on average

typedef struct axis {
    bool log;
    double lo, hi;       // of the numbers
    double px_lo, px_hi; // of the picture; y grows upwards, so px_lo > px_hi there
    double tick[TICKS_MAX];
    bool labelled[TICKS_MAX];
    int n_ticks;
    int decimals; // of linear labels; -1: %g
} axis;

typedef struct figure {
    const swd_plot *p;
    markup m;
    axis x, y;
    int width, height;
    double left, right, top, bottom; // of the area inside the axes
} figure;

/* ---- axes ---- */

static bool usable(const axis *a, double v)
{
    return isfinite(v) && (!a->log || v > 0);
}

static double place(const axis *a, double v)
{
    double t = a->log ? log(v / a->lo) / log(a->hi / a->lo) : (v - a->lo) / (a->hi - a->lo);
    return a->px_lo + t * (a->px_hi - a->px_lo);
}

static bool inside(const axis *a, double v)
{
    double slack = 1e-9 * (a->hi - a->lo);
    return usable(a, v) && v >= a->lo - slack && v <= a->hi + slack;
}

static void widen(axis *a, double v)
{
    if (!usable(a, v)) return;
    if (v < a->lo) a->lo = v;
    if (v > a->hi) a->hi = v;
}

static double nice_step(double range, int wanted)
{
    double raw = range / wanted, power = pow(10, floor(log10(raw))), f = raw / power;
    return power * (f <= 1 ? 1 : f <= 2 ? 2 : f <= 5 ? 5 : 10);
}

static void linear_ticks(axis *a, int wanted, bool round_out)
{
    double step = nice_step(a->hi - a->lo, wanted);
    if (round_out) {
        a->lo = floor(a->lo / step + 1e-9) * step;
        a->hi = ceil(a->hi / step - 1e-9) * step;
    }
    double first = ceil(a->lo / step - 1e-9);
    for (int i = 0; a->n_ticks < TICKS_MAX; i++) {
        double v = (first + i) * step;
        if (v > a->hi + 1e-9 * step) break;
        a->labelled[a->n_ticks] = true;
        a->tick[a->n_ticks++] = v;
    }
    double digits = -floor(log10(step) + 1e-9);
    double largest = fmax(fabs(a->lo), fabs(a->hi));
    a->decimals = digits > 9 || largest >= 1e6 ? -1 : digits > 0 ? (int)digits : 0;
}

/* Every power of ten that fits; between them 2 ... 9 while there are few, labelled (2 and 5) while there are very few. */
static void log_ticks(axis *a)
{
    double decades = log10(a->hi / a->lo);
    int every = decades > 16 ? (int)ceil(decades / 8) : 1;
    for (int e = (int)floor(log10(a->lo)); e <= (int)ceil(log10(a->hi)); e++) {
        for (int k = 1; k < 10 && a->n_ticks < TICKS_MAX; k++) {
            double v = k * pow(10, e);
            if (!inside(a, v) || (k > 1 && decades > 6)) continue;
            if (k == 1 && e % every) continue;
            a->labelled[a->n_ticks] = k == 1 || (decades < 2.2 && (k == 2 || k == 5));
            a->tick[a->n_ticks++] = v;
        }
    }
    a->decimals = -1;
}

/* The range that was asked for, else what the data need with a little air; never empty. */
static void settle(axis *a, const swd_plot_axis *given, int wanted, bool from_zero)
{
    bool asked = given->to > given->from && isfinite(given->from) && isfinite(given->to) &&
                 (!a->log || given->from > 0);
    if (asked) a->lo = given->from, a->hi = given->to;
    if (a->lo > a->hi) a->lo = a->log ? 1 : 0, a->hi = a->log ? 10 : 1; // no data at all
    if (!asked && a->log) {
        if (a->hi < a->lo * 1.0001) a->lo /= 2, a->hi *= 2;
        double air = pow(a->hi / a->lo, 0.03);
        a->lo /= air, a->hi *= air;
    }
    if (!asked && !a->log) {
        if (from_zero && a->lo > 0) a->lo = 0;
        if (a->hi - a->lo <= 1e-12 * fmax(fabs(a->lo), fabs(a->hi))) {
            double half = a->hi == 0 ? 1 : fabs(a->hi) / 2;
            a->lo -= half, a->hi += half;
        }
    }
    if (a->log)
        log_ticks(a);
    else
        linear_ticks(a, wanted, !asked);
}

static void format_tick(char *buf, size_t n, const axis *a, double v)
{
    if (a->decimals >= 0)
        snprintf(buf, n, "%.*f", a->decimals, fabs(v) < 1e-12 * fabs(a->hi) ? 0 : v);
    else
        snprintf(buf, n, "%g", v);
}

/* ---- elements ---- */

static const char *color_of(const swd_plot *p, int i)
{
    static const char *const palette[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                          "#e69f00", "#56b4e9", "#8c6d31", "#555555"};
    return p->series[i].color ? p->series[i].color : palette[i % 8];
}

static void line_element(figure *g, double x1, double y1, double x2, double y2, const char *stroke,
                         const char *more)
{
    fprintf(g->m.f, "<line x1=\"%.2f\" y1=\"%.2f\" x2=\"%.2f\" y2=\"%.2f\" stroke=\"%s\"%s/>\n", x1,
            y1, x2, y2, stroke, more);
}

static void text_element(figure *g, double x, double y, const char *attributes, const char *text)
{
    fprintf(g->m.f, "<text x=\"%.2f\" y=\"%.2f\"%s>", x, y, attributes);
    markup_text(&g->m, text);
    fputs("</text>\n", g->m.f);
}

static void draw_ticks(figure *g)
{
    char label[48];
    for (int i = 0; i < g->x.n_ticks; i++) {
        double x = place(&g->x, g->x.tick[i]);
        line_element(g, x, g->top, x, g->bottom, g->x.labelled[i] ? "#e3e3e3" : "#f2f2f2", "");
        format_tick(label, sizeof(label), &g->x, g->x.tick[i]);
        if (g->x.labelled[i]) text_element(g, x, g->bottom + 17, " text-anchor=\"middle\"", label);
    }
    for (int i = 0; i < g->y.n_ticks; i++) {
        double y = place(&g->y, g->y.tick[i]);
        line_element(g, g->left, y, g->right, y, g->y.labelled[i] ? "#e3e3e3" : "#f2f2f2", "");
        format_tick(label, sizeof(label), &g->y, g->y.tick[i]);
        if (g->y.labelled[i]) text_element(g, g->left - 7, y + 4, " text-anchor=\"end\"", label);
    }
}

static void draw_frame(figure *g)
{
    const swd_plot *p = g->p;
    fprintf(g->m.f,
            "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"none\" "
            "stroke=\"#444\"/>\n",
            g->left, g->top, g->right - g->left, g->bottom - g->top);
    if (p->x.label)
        text_element(g, (g->left + g->right) / 2, g->bottom + 38, " text-anchor=\"middle\"",
                     p->x.label);
    if (p->y.label && !p->bars) {
        char turn[96];
        double y = (g->top + g->bottom) / 2;
        snprintf(turn, sizeof(turn), " text-anchor=\"middle\" transform=\"rotate(-90 16 %.2f)\"",
                 y);
        text_element(g, 16, y, turn, p->y.label);
    }
}

static void draw_marks(figure *g)
{
    for (int i = 0; i < g->p->n_marks; i++) {
        const swd_plot_mark *mark = &g->p->marks[i];
        const axis *a = mark->vertical ? &g->x : &g->y;
        if (!inside(a, mark->at) || (g->p->bars && !mark->vertical)) continue;
        double at = place(a, mark->at);
        char turn[96];
        if (mark->vertical) {
            line_element(g, at, g->top, at, g->bottom, "#777", " stroke-dasharray=\"5 4\"");
            snprintf(turn, sizeof(turn),
                     " fill=\"#444\" text-anchor=\"end\" transform=\"rotate(-90 %.2f %.2f)\"",
                     at - 4, g->top + 6);
            if (mark->label) text_element(g, at - 4, g->top + 6, turn, mark->label);
        } else {
            line_element(g, g->left, at, g->right, at, "#777", " stroke-dasharray=\"5 4\"");
            if (mark->label)
                text_element(g, g->right - 5, at - 5, " fill=\"#444\" text-anchor=\"end\"",
                             mark->label);
        }
    }
}

/* ---- lines ---- */

static void draw_line(figure *g, const swd_plot_series *s, const char *color)
{
    bool drawing = false;
    fprintf(g->m.f, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s d=\"", color,
            s->style == SWD_PLOT_DASHED ? " stroke-dasharray=\"7 5\"" : "");
    for (int k = 0; k < s->n; k++) {
        bool here = usable(&g->x, s->x[k]) && usable(&g->y, s->y[k]);
        if (here)
            fprintf(g->m.f, "%c%.2f %.2f", drawing ? 'L' : 'M', place(&g->x, s->x[k]),
                    place(&g->y, s->y[k]));
        drawing = here;
    }
    fputs("\"/>\n", g->m.f);
}

static void draw_dots(figure *g, const swd_plot_series *s, const char *color)
{
    for (int k = 0; k < s->n; k++)
        if (inside(&g->x, s->x[k]) && inside(&g->y, s->y[k]))
            fprintf(g->m.f, "<circle cx=\"%.2f\" cy=\"%.2f\" r=\"3.4\" fill=\"%s\"/>\n",
                    place(&g->x, s->x[k]), place(&g->y, s->y[k]), color);
}

/* What lies outside a range that was asked for is cut off at the frame. */
static void draw_series(figure *g)
{
    fprintf(g->m.f,
            "<svg x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" viewBox=\"%.2f %.2f %.2f "
            "%.2f\">\n",
            g->left, g->top, g->right - g->left, g->bottom - g->top, g->left, g->top,
            g->right - g->left, g->bottom - g->top);
    for (int i = 0; i < g->p->n_series; i++) {
        const swd_plot_series *s = &g->p->series[i];
        if (s->style != SWD_PLOT_POINTS) draw_line(g, s, color_of(g->p, i));
        if (s->style == SWD_PLOT_POINTS || s->style == SWD_PLOT_LINE_POINTS)
            draw_dots(g, s, color_of(g->p, i));
    }
    fputs("</svg>\n", g->m.f);
}

/* ---- bars ---- */

static double piece(const swd_plot_series *s, int bar)
{
    return bar < s->n && isfinite(s->y[bar]) && s->y[bar] > 0 ? s->y[bar] : 0;
}

static void draw_bars(figure *g)
{
    const swd_plot *p = g->p;
    double step = (g->bottom - g->top) / p->n_bars, thick = fmin(BAR_THICK, step * 0.7);
    char sum[64];
    for (int b = 0; b < p->n_bars; b++) {
        double y = g->top + (b + 0.5) * step, total = 0;
        for (int i = 0; i < p->n_series; i++) {
            double v = piece(&p->series[i], b), x = place(&g->x, total);
            total += v;
            if (v == 0) continue;
            fprintf(
                g->m.f,
                "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"%s\"><title>", x,
                y - thick / 2, place(&g->x, total) - x, thick, color_of(p, i));
            markup_text(&g->m, p->series[i].name);
            fprintf(g->m.f, " %.4g ", v);
            markup_text(&g->m, p->bar_unit);
            fputs("</title></rect>\n", g->m.f);
        }
        text_element(g, g->left - 8, y + 4, " text-anchor=\"end\"", p->bars[b]);
        snprintf(sum, sizeof(sum), "%.4g %s", total, p->bar_unit ? p->bar_unit : "");
        text_element(g, place(&g->x, total) + 6, y + 4, "", sum);
    }
}

/* ---- the whole ---- */

static void draw_legend(figure *g)
{
    double x = g->right + 16, y = g->top + 8;
    for (int i = 0; i < g->p->n_series; i++) {
        const swd_plot_series *s = &g->p->series[i];
        const char *color = color_of(g->p, i);
        if (!s->name) continue;
        if (g->p->bars)
            fprintf(g->m.f,
                    "<rect x=\"%.2f\" y=\"%.2f\" width=\"14\" height=\"12\" fill=\"%s\"/>\n", x + 4,
                    y - 6, color);
        else if (s->style != SWD_PLOT_POINTS)
            line_element(g, x, y, x + 22, y, color,
                         s->style == SWD_PLOT_DASHED
                             ? " stroke-width=\"2\" stroke-dasharray=\"7 5\""
                             : " stroke-width=\"2\"");
        if (!g->p->bars && (s->style == SWD_PLOT_POINTS || s->style == SWD_PLOT_LINE_POINTS))
            fprintf(g->m.f, "<circle cx=\"%.2f\" cy=\"%.2f\" r=\"3.4\" fill=\"%s\"/>\n", x + 11, y,
                    color);
        text_element(g, x + 28, y + 4, "", s->name);
        y += LEGEND_ROW;
    }
}

static void measure(figure *g)
{
    const swd_plot *p = g->p;
    g->x = (axis){.log = p->x.log && !p->bars, .lo = INFINITY, .hi = -INFINITY};
    g->y = (axis){.log = p->y.log && !p->bars, .lo = INFINITY, .hi = -INFINITY};
    for (int b = 0; b < p->n_bars; b++) {
        double total = 0;
        for (int i = 0; i < p->n_series; i++) total += piece(&p->series[i], b);
        widen(&g->x, total);
    }
    for (int i = 0; i < p->n_series && !p->bars; i++)
        for (int k = 0; k < p->series[i].n; k++)
            if (usable(&g->x, p->series[i].x[k]) && usable(&g->y, p->series[i].y[k])) {
                widen(&g->x, p->series[i].x[k]);
                widen(&g->y, p->series[i].y[k]);
            }
    settle(&g->x, &p->x, 7, p->bars != NULL);
    if (!p->bars) settle(&g->y, &p->y, 6, false);
}

/* Margins for what stands in them. */
static void arrange(figure *g)
{
    const swd_plot *p = g->p;
    int legend = 0, names = 0, rows = 0;
    char label[48];
    for (int i = 0; i < p->n_series; i++) {
        int w = markup_width(p->series[i].name);
        rows += p->series[i].name != NULL;
        if (w > legend) legend = w;
    }
    for (int b = 0; b < p->n_bars; b++)
        if (markup_width(p->bars[b]) > names) names = markup_width(p->bars[b]);
    for (int i = 0; i < g->y.n_ticks; i++) {
        format_tick(label, sizeof(label), &g->y, g->y.tick[i]);
        if (g->y.labelled[i] && markup_width(label) > names) names = markup_width(label);
    }
    int needed = p->n_bars * BAR_STEP + 130, for_legend = rows * LEGEND_ROW + 130;
    if (p->bars && for_legend > needed) needed = for_legend;
    g->width = p->width ? p->width : WIDTH;
    g->height = p->height ? p->height : p->bars ? needed : HEIGHT;
    g->left = names * char_px + (p->bars ? 24 : 44);
    g->right = g->width - (legend ? legend * char_px + 56 : 24) - (p->bars ? 40 : 0);
    g->top = p->subtitle ? 66 : p->title ? 48 : 20;
    g->bottom = g->height - 54;
    if (g->right < g->left + 60) g->right = g->left + 60;
    if (g->bottom < g->top + 40) g->bottom = g->top + 40;
    g->x.px_lo = g->left;
    g->x.px_hi = g->right;
    g->y.px_lo = g->bottom;
    g->y.px_hi = g->top;
}

static void draw(figure *g)
{
    fprintf(g->m.f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d "
            "%d\" font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\" "
            "font-size=\"12\" fill=\"#222\">\n",
            g->width, g->height, g->width, g->height);
    fprintf(g->m.f, "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", g->width, g->height);
    if (g->p->title) text_element(g, 20, 28, " font-size=\"17\" font-weight=\"600\"", g->p->title);
    if (g->p->subtitle) text_element(g, 20, 48, " fill=\"#555\"", g->p->subtitle);
    draw_ticks(g);
    draw_marks(g);
    if (g->p->bars)
        draw_bars(g);
    else
        draw_series(g);
    draw_frame(g);
    draw_legend(g);
    fputs("</svg>\n", g->m.f);
}

static swd_status check(const swd_plot *p, swd_err *err)
{
    if (!p || p->size != sizeof(*p))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a plot whose size is not sizeof(swd_plot)");
    if (p->n_series < 1 || p->n_series > SWD_PLOT_SERIES_MAX || !p->series)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a plot of %d series; give 1 to %d", p->n_series,
                        SWD_PLOT_SERIES_MAX);
    if (p->bars ? p->n_bars < 1 || p->n_bars > SWD_PLOT_BARS_MAX : p->n_bars != 0)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a plot of %d bars; give 1 to %d", p->n_bars,
                        SWD_PLOT_BARS_MAX);
    if ((p->width && (p->width < SIDE_MIN || p->width > SIDE_MAX)) ||
        (p->height && (p->height < SIDE_MIN || p->height > SIDE_MAX)))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a plot of %dx%d; sides are %d to %d", p->width,
                        p->height, SIDE_MIN, SIDE_MAX);
    if (p->n_marks < 0 || (p->n_marks && !p->marks))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a plot of %d marks", p->n_marks);
    for (int i = 0; i < p->n_series; i++) {
        const swd_plot_series *s = &p->series[i];
        if (s->n < 0 || s->n > SWD_PLOT_POINTS_MAX || (s->n && (!s->y || (!s->x && !p->bars))))
            return SWD_FAIL(err, SWD_ERR_ARGUMENT, "series %d of a plot has %d points; up to %d", i,
                            s->n, SWD_PLOT_POINTS_MAX);
        if (s->color && (strlen(s->color) != 7 || s->color[0] != '#' ||
                         strspn(s->color + 1, "0123456789abcdefABCDEF") != 6))
            return SWD_FAIL(err, SWD_ERR_ARGUMENT, "series %d of a plot: a colour is #rrggbb", i);
    }
    return SWD_OK;
}

swd_status plot_svg(char **out, size_t *n, const swd_plot *plot, swd_err *err)
{
    *out = NULL;
    SWD_TRY(check(plot, err), err);
    figure g = {.p = plot};
    SWD_TRY(markup_begin(&g.m, err), err);
    measure(&g);
    arrange(&g);
    draw(&g);
    return markup_end(&g.m, out, n, err);
}

swd_status plot_write(const char *path, const swd_plot *plot, swd_err *err)
{
    char *text;
    size_t n;
    SWD_TRY(plot_svg(&text, &n, plot, err), err);
    swd_status s = image_write_bytes(path, text, n, err);
    free(text);
    return s;
}
