// SPDX-License-Identifier: MIT
/* A spectrum as a table and as a picture: its power, that of noisy latents (1 - sigma)^2 P + sigma^2, and where noise takes over. */
#include "eval/spectrum_write.h"
#include "base/memory.h"
#include "image/image.h"
#include "image/markup.h"
#include "image/plot.h"
#include <math.h>

static double noisy(double power, double sigma)
{
    return (1 - sigma) * (1 - sigma) * power + sigma * sigma;
}

static swd_status write_csv(const char *path, const swd_spectrum *s, swd_err *err)
{
    markup m;
    char *text;
    size_t n;
    SWD_TRY(markup_begin(&m, err), err);
    fputs("frequency,power,masking_sigma", m.f);
    for (int k = 0; k < s->n_steps; k++) fprintf(m.f, ",power_at_%.6g", s->steps[k].sigma);
    fputs("\n", m.f);
    for (int i = 0; i < s->n_bins; i++) {
        fprintf(m.f, "%.9g,%.9g,%.9g", s->frequency[i], s->power[i], s->sigma[i]);
        for (int k = 0; k < s->n_steps; k++)
            fprintf(m.f, ",%.9g", noisy(s->power[i], s->steps[k].sigma));
        fputs("\n", m.f);
    }
    SWD_TRY(markup_end(&m, &text, &n, err), err);
    swd_status status = image_write_bytes(path, text, n, err);
    free(text);
    return status;
}

/* ---- the picture ---- */

enum { CURVES_MAX = 12, NAME = 64 };

typedef struct picture {
    swd_plot_series series[2 * CURVES_MAX + 1];
    swd_plot_mark marks[CURVES_MAX];
    char names[CURVES_MAX][NAME], labels[CURVES_MAX][NAME], subtitle[160];
    double at[CURVES_MAX], power_at[CURVES_MAX];
    double *curve; // [CURVES_MAX, n_bins]
} picture;

static const char *const colors[CURVES_MAX] = {"#30123b", "#4146a6", "#4675ed", "#1bb6d8",
                                               "#18d6a0", "#5dc863", "#a4c639", "#d8b62a",
                                               "#f09a2a", "#e5631a", "#c2290c", "#7a0403"};

/* The curve y over the rings at any frequency, straight on logarithmic axes as it is drawn. */
static double curve_at(const double *y, const swd_spectrum *s, double f)
{
    int i = 0;
    while (i + 1 < s->n_bins && s->frequency[i + 1] < f) i++;
    if (i + 1 >= s->n_bins || f <= s->frequency[0]) return y[i];
    double t = log(f / s->frequency[i]) / log(s->frequency[i + 1] / s->frequency[i]);
    return y[i] * pow(y[i + 1] / y[i], t);
}

static void add_step(picture *p, int k, const swd_spectrum *s, int color)
{
    const swd_spectrum_step *t = &s->steps[k];
    double *y = p->curve + (size_t)k * (size_t)s->n_bins;
    for (int i = 0; i < s->n_bins; i++) y[i] = noisy(s->power[i], t->sigma);
    snprintf(p->names[k], NAME, "sigma %.3f: side %d", t->sigma, t->side);
    p->series[2 * k] = (swd_plot_series){
        .name = p->names[k], .x = s->frequency, .y = y, .n = s->n_bins, .color = colors[color]};
    p->at[k] = t->masked_from;
    p->power_at[k] = curve_at(y, s, t->masked_from);
    p->series[2 * k + 1] = (swd_plot_series){.x = &p->at[k],
                                             .y = &p->power_at[k],
                                             .n = 1,
                                             .style = SWD_PLOT_POINTS,
                                             .color = colors[color]};
}

static swd_status write_plot(const char *path, const swd_spectrum *s, swd_err *err)
{
    picture *p = NULL;
    SWD_TRY(swd_calloc(&p, 1, sizeof(*p), "a plot", err), err);
    int n = s->n_steps < CURVES_MAX ? s->n_steps : CURVES_MAX, n_marks = 0;
    swd_status status =
        swd_malloc(&p->curve, (size_t)n * (size_t)s->n_bins, sizeof(double), "a plot", err);
    if (status != SWD_OK) {
        free(p);
        return status;
    }
    for (int k = 0; k < n; k++) {
        add_step(p, k, s, n > 1 ? k * (CURVES_MAX - 1) / (n - 1) : 0);
        bool known = k && s->steps[k].side == s->steps[k - 1].side;
        if (known) continue;
        snprintf(p->labels[n_marks], NAME, "%dx%d", s->steps[k].side, s->steps[k].side);
        p->marks[n_marks] = (swd_plot_mark){
            .at = 0.5 * s->steps[k].side / s->side, .vertical = 1, .label = p->labels[n_marks]};
        n_marks++;
    }
    p->series[2 * n] = (swd_plot_series){.name = "clean latents",
                                         .x = s->frequency,
                                         .y = s->power,
                                         .n = s->n_bins,
                                         .style = SWD_PLOT_DASHED,
                                         .color = "#000000"};
    snprintf(p->subtitle, sizeof(p->subtitle),
             "%d pictures, %dx%d latents of %d channels; dots: noise masks what lies to the right; "
             "dashed: Nyquist boundaries",
             s->n_pictures, s->width, s->height, s->channels);
    swd_plot plot = {.size = sizeof(plot),
                     .title = "Power of noisy latents by frequency",
                     .subtitle = p->subtitle,
                     .x = {.label = "frequency, cycles per latent", .log = 1},
                     .y = {.label = "power (white noise = 1)", .log = 1},
                     .series = p->series,
                     .n_series = 2 * n + 1,
                     .marks = p->marks,
                     .n_marks = n_marks};
    status = plot_write(path, &plot, err);
    free(p->curve);
    free(p);
    return status;
}

swd_status spectrum_write(const char *path, const swd_spectrum *s, swd_err *err)
{
    if (s->n_bins < 1 || s->n_steps < 1)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a spectrum without frequencies or steps");
    if (str_ends(path, ".csv")) return write_csv(path, s, err);
    if (str_ends(path, ".svg")) return write_plot(path, s, err);
    return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%s: the suffix selects the format; use .csv or .svg",
                    path);
}
