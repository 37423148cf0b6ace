// SPDX-License-Identifier: MIT
// Plots: every number lands where its axis puts it, foreign strings are harmless, the locale does not matter, the bytes repeat.
#include "image/markup.h"
#include "image/plot.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *svg(const swd_plot *p)
{
    swd_err err = {0};
    char *text;
    size_t n;
    cr_assert_eq(plot_svg(&text, &n, p, &err), SWD_OK, "%s", err.message);
    cr_assert_eq(strlen(text), n);
    return text;
}

static const char *expect(const char *text, const char *what)
{
    const char *at = strstr(text, what);
    cr_assert_not_null(at, "no %s in\n%s", what, text);
    return at;
}

/* The frame: the one rectangle with fill="none". */
static void frame(const char *text, double f[4])
{
    const char *at = expect(text, "fill=\"none\" stroke=\"#444\"");
    while (strncmp(at, "<rect", 5) != 0) at--;
    cr_assert_eq(sscanf(at, "<rect x=\"%lf\" y=\"%lf\" width=\"%lf\" height=\"%lf\"", &f[0], &f[1],
                        &f[2], &f[3]),
                 4);
}

/* Reads "M x y L x y ..." back through the axes' ranges. */
static int points(double (*out)[2], int max, const char *text)
{
    const char *p = strstr(expect(text, "<path"), "d=\"") + 3;
    int n = 0, used;
    for (char c; n < max && sscanf(p, "%c%lf %lf%n", &c, &out[n][0], &out[n][1], &used) == 3; n++) {
        cr_assert(c == 'M' || c == 'L');
        p += used;
    }
    return n;
}

Test(plot, points_lie_where_the_axes_say)
{
    double x[] = {0, 5, 10}, y[] = {1, 10, 1000}, f[4], got[8][2];
    swd_plot_series s = {.name = "a", .x = x, .y = y, .n = 3};
    swd_plot p = {.size = sizeof(p),
                  .x = {.label = "step", .from = 0, .to = 10},
                  .y = {.label = "loss", .log = 1, .from = 1, .to = 10000},
                  .series = &s,
                  .n_series = 1};
    char *text = svg(&p);
    frame(text, f);
    cr_assert_eq(points(got, 8, text), 3);
    for (int i = 0; i < 3; i++) {
        cr_assert_float_eq(got[i][0], f[0] + f[2] * x[i] / 10, 0.011);
        cr_assert_float_eq(got[i][1], f[1] + f[3] * (1 - log10(y[i]) / 4), 0.011);
    }
    const char *ticks[] = {">0<", ">2<", ">10<", ">1<", ">100<", ">10000<"};
    for (int i = 0; i < 6; i++) expect(text, ticks[i]);
    free(text);
}

Test(plot, numbers_that_cannot_be_shown_interrupt_the_line)
{
    double x[] = {1, 2, 3, 4, 5}, y[] = {1, NAN, 0, -1, 4}, got[8][2];
    swd_plot_series s = {.x = x, .y = y, .n = 5, .style = SWD_PLOT_LINE_POINTS};
    swd_plot p = {.size = sizeof(p), .y.log = 1, .series = &s, .n_series = 1};
    char *text = svg(&p);
    cr_assert_eq(points(got, 8, text), 2);
    cr_assert_null(strstr(text, "nan"));
    cr_assert_null(strstr(text, "inf"));
    int dots = 0;
    for (const char *at = text; (at = strstr(at, "<circle")); at++) dots++;
    cr_assert_eq(dots, 2);
    free(text);
}

Test(plot, nothing_to_show_is_an_empty_frame)
{
    double x[] = {NAN}, y[] = {1}, same[] = {7};
    swd_plot_series s[2] = {{.x = x, .y = y, .n = 1}, {.x = same, .y = same, .n = 1}};
    for (int log = 0; log < 2; log++)
        for (int i = 0; i < 2; i++) {
            swd_plot p = {
                .size = sizeof(p), .x.log = log, .y.log = log, .series = &s[i], .n_series = 1};
            char *text = svg(&p);
            expect(text, "</svg>");
            cr_assert_null(strstr(text, "nan"));
            cr_assert_null(strstr(text, "inf"));
            free(text);
        }
}

Test(plot, bars_stack)
{
    const char *bars[] = {"full", "scale-wise"};
    double text_ms[] = {10, 10}, denoise[] = {80, 40}, f[4];
    swd_plot_series s[] = {{.name = "text", .y = text_ms, .n = 2},
                           {.name = "denoise", .y = denoise, .n = 2}};
    swd_plot p = {.size = sizeof(p),
                  .x = {.from = 0, .to = 100},
                  .series = s,
                  .n_series = 2,
                  .bars = bars,
                  .n_bars = 2,
                  .bar_unit = "ms"};
    char *text = svg(&p);
    frame(text, f);
    const char *at = text;
    for (int b = 0; b < 2; b++) {
        double start = 0;
        for (int i = 0; i < 2; i++) {
            double x, w, v = s[i].y[b];
            do at = strstr(at + 1, "<rect");
            while (at && !strstr(at, "<title>"));
            while (at && strchr(at, '>')[1] != '<') at = strstr(at + 1, "<rect");
            cr_assert_not_null(at);
            cr_assert_eq(sscanf(at, "<rect x=\"%lf\" y=\"%*f\" width=\"%lf\"", &x, &w), 2);
            cr_assert_float_eq(x, f[0] + f[2] * start / 100, 0.011);
            cr_assert_float_eq(w, f[2] * v / 100, 0.011);
            start += v;
        }
    }
    expect(text, ">90 ms<");
    expect(text, ">50 ms<");
    free(text);
}

Test(plot, foreign_strings_are_harmless)
{
    double x[] = {1, 2};
    swd_plot_mark mark = {.at = 1.5, .vertical = 1, .label = "a&b"};
    swd_plot_series s = {.name = "<script>\"'\x01\xff", .x = x, .y = x, .n = 2};
    swd_plot p = {.size = sizeof(p),
                  .title = "\xc3\xa9\xed\xa0\x80",
                  .series = &s,
                  .n_series = 1,
                  .marks = &mark,
                  .n_marks = 1};
    char *text = svg(&p);
    expect(text, "&lt;script&gt;&quot;&#39;?"
                 "?");
    expect(text, ">\xc3\xa9?"
                 "?"
                 "?<");
    expect(text, ">a&amp;b<");
    cr_assert_null(strstr(text, "<script"));
    free(text);
}

Test(plot, wrong_plots_are_refused)
{
    double x[] = {1, 2};
    const char *bars[] = {"a"};
    swd_plot_series s = {.x = x, .y = x, .n = 2},
                    red = {.x = x, .y = x, .n = 2, .color = "red\"/>"}, none = {.y = x, .n = 2};
    swd_plot wrong[] = {
        {.series = &s, .n_series = 1},
        {.size = sizeof(swd_plot)},
        {.size = sizeof(swd_plot), .series = &s, .n_series = SWD_PLOT_SERIES_MAX + 1},
        {.size = sizeof(swd_plot), .series = &red, .n_series = 1},
        {.size = sizeof(swd_plot), .series = &none, .n_series = 1},
        {.size = sizeof(swd_plot), .series = &s, .n_series = 1, .width = 3},
        {.size = sizeof(swd_plot), .series = &s, .n_series = 1, .n_marks = 1},
        {.size = sizeof(swd_plot), .series = &s, .n_series = 1, .bars = bars}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        swd_err err = {0};
        char *text;
        cr_assert_eq(plot_svg(&text, NULL, &wrong[i], &err), SWD_ERR_ARGUMENT, "%zu", i);
        cr_assert_null(text);
        cr_assert(err.message[0]);
    }
    cr_assert_eq(swd_plot_write("/nonexistent/a.svg",
                                &(swd_plot){.size = sizeof(swd_plot), .series = &s, .n_series = 1},
                                NULL),
                 SWD_ERR_FILE);
}

Test(markup, data_uris)
{
    static const struct {
        const char *bytes, *base64;
    } known[] = {// RFC 4648
                 {"", ""},
                 {"f", "Zg=="},
                 {"fo", "Zm8="},
                 {"foo", "Zm9v"},
                 {"foobar", "Zm9vYmFy"}};
    for (int i = 0; i < 5; i++) {
        markup m;
        char *text, want[64];
        cr_assert_eq(markup_begin(&m, NULL), SWD_OK);
        markup_data_uri(&m, "image/png", (const unsigned char *)known[i].bytes,
                        strlen(known[i].bytes));
        cr_assert_eq(markup_end(&m, &text, NULL, NULL), SWD_OK);
        snprintf(want, sizeof(want), "data:image/png;base64,%s", known[i].base64);
        cr_assert_str_eq(text, want);
        free(text);
    }
}
