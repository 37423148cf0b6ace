// SPDX-License-Identifier: MIT
#include "train/session_log.h"
#include "base/memory.h"
#include "image/image.h"
#include "image/plot.h"
#include "io/json.h"
#include "io/mapping.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CURVES_MAX = 8, NAME_BYTES = 24 };

typedef struct sum {
    double total;
    int64_t n;
} sum;

/* Of one scale, over the whole session. */
typedef struct curve {
    double *x, *y;
    size_t n, x_room, y_room;
} curve;

struct session_log {
    const task *task;
    char *path, *curves;
    FILE *f;
    sum value[TASK_VALUES_MAX], scale[CURVES_MAX];
    double rate, seconds;
    curve curve[CURVES_MAX];
};

/* Which curve a scale belongs to: its own, or where there are many the last. */
static int curve_of(int scale)
{
    return scale < CURVES_MAX ? scale : CURVES_MAX - 1;
}

static const char *side_name(char buf[NAME_BYTES], const session_log *l, int scale)
{
    snprintf(buf, NAME_BYTES, "%d", l->task->scale_side[scale]);
    return buf;
}

static int n_curves(const session_log *l)
{
    return l->task->n_scales < CURVES_MAX ? l->task->n_scales : CURVES_MAX;
}

static swd_status curve_add(curve *c, double x, double y, swd_err *err)
{
    SWD_TRY(swd_grow(&c->x, &c->x_room, c->n + 1, sizeof *c->x, "a curve", err), err);
    SWD_TRY(swd_grow(&c->y, &c->y_room, c->n + 1, sizeof *c->y, "a curve", err), err);
    c->x[c->n] = x;
    c->y[c->n++] = y;
    return SWD_OK;
}

/* ---- what is there ---- */

/* Takes a line's losses by scale into the curves; *step -1: it is no line of this log. */
static swd_status take_line(session_log *l, int64_t *step, const char *line, size_t n, swd_err *err)
{
    json_t *o = json_loadb(line, n, 0, NULL), *s = json_object_get(o, "step");
    *step = json_is_integer(s) && json_integer_value(s) >= 0 ? json_integer_value(s) : -1;
    json_t *scales = json_object_get(o, "scales");
    swd_status st = SWD_OK;
    for (int k = 0; k < n_curves(l) && st == SWD_OK && *step >= 0; k++) {
        char name[NAME_BYTES];
        json_t *v = json_object_get(scales, side_name(name, l, k));
        if (json_is_number(v))
            st = curve_add(&l->curve[k], (double)*step, json_number_value(v), err);
    }
    json_decref(o);
    return st;
}

/* The bytes of the file that stay: whole lines up to step after. */
static swd_status take_lines(session_log *l, size_t *stays, int64_t after, swd_err *err)
{
    swd_mapping m;
    *stays = 0;
    if (access(l->path, F_OK) != 0 || after == 0) return SWD_OK;
    SWD_TRY(mapping_open(&m, l->path, 0, err), err);
    swd_status s = SWD_OK;
    const char *text = (const char *)m.data;
    for (size_t at = 0; at < m.size && s == SWD_OK;) {
        const char *end = memchr(text + at, '\n', m.size - at);
        if (!end) break; /* cut off by a kill */
        size_t n = (size_t)(end - text) - at;
        int64_t step;
        size_t before[CURVES_MAX];
        for (int k = 0; k < CURVES_MAX; k++) before[k] = l->curve[k].n;
        s = take_line(l, &step, text + at, n, err);
        if (step < 0 || step > after) {
            for (int k = 0; k < CURVES_MAX; k++) l->curve[k].n = before[k];
            break;
        }
        at += n + 1;
        *stays = at;
    }
    mapping_close(&m);
    return s;
}

swd_status session_log_open(session_log **out, const char *path, const char *curves,
                            const task *work, int64_t after, swd_err *err)
{
    size_t stays = 0;
    session_log *l;
    SWD_TRY(swd_calloc(out, 1, sizeof **out, "a log", err), err);
    l = *out;
    l->task = work;
    swd_status s = swd_strdup(&l->path, path, err);
    if (s == SWD_OK) s = swd_strdup(&l->curves, curves, err);
    if (s == SWD_OK) s = take_lines(l, &stays, after, err);
    if (s == SWD_OK) {
        l->f = fopen(path, "ab");
        if (!l->f || ftruncate(fileno(l->f), (off_t)stays) != 0)
            s = SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be written: %s", path, strerror(errno));
    }
    if (s != SWD_OK) session_log_close(out);
    return s;
}

void session_log_close(session_log **l)
{
    if (!*l) return;
    if ((*l)->f) fclose((*l)->f);
    for (int k = 0; k < CURVES_MAX; k++) {
        free((*l)->curve[k].x);
        free((*l)->curve[k].y);
    }
    free((*l)->path);
    free((*l)->curves);
    free(*l);
    *l = NULL;
}

/* ---- lines ---- */

static void sum_add(sum *s, double v)
{
    if (!isfinite(v)) return;
    s->total += v;
    s->n++;
}

void session_log_add(session_log *l, const task_report *r, double seconds)
{
    for (int i = 0; i < l->task->n_values; i++) sum_add(&l->value[i], r->value[i]);
    sum_add(&l->scale[curve_of(r->scale)], r->value[0]);
    l->rate = r->rate;
    l->seconds += seconds;
}

static void put_mean(json_t *o, const char *name, const sum *s)
{
    if (s->n) json_object_set_new(o, name, json_real(s->total / (double)s->n));
}

static char *line_of(const session_log *l, int64_t step)
{
    char name[NAME_BYTES];
    json_t *o = json_object(), *scales = json_object();
    json_object_set_new(o, "step", json_integer(step));
    for (int i = 0; i < l->task->n_values; i++) put_mean(o, l->task->value_name[i], &l->value[i]);
    for (int k = 0; k < n_curves(l); k++) put_mean(scales, side_name(name, l, k), &l->scale[k]);
    json_object_set_new(o, "scales", scales);
    json_object_set_new(o, "rate", json_real(l->rate));
    json_object_set_new(o, "seconds", json_real(round(l->seconds * 1e3) / 1e3));
    char *text = json_dumps(o, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    json_decref(o);
    return text;
}

swd_status session_log_line(session_log *l, int64_t step, swd_err *err)
{
    bool any = l->seconds > 0;
    for (int i = 0; i < l->task->n_values; i++) any = any || l->value[i].n;
    if (!any) return SWD_OK;
    char *text = line_of(l, step);
    bool ok = text && fprintf(l->f, "%s\n", text) > 0 && fflush(l->f) == 0;
    free(text);
    if (!ok)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be written: %s", l->path, strerror(errno));
    for (int k = 0; k < n_curves(l); k++)
        if (l->scale[k].n)
            SWD_TRY(curve_add(&l->curve[k], (double)step, l->scale[k].total / (double)l->scale[k].n,
                              err),
                    err);
    memset(l->value, 0, sizeof l->value);
    memset(l->scale, 0, sizeof l->scale);
    l->seconds = 0;
    return SWD_OK;
}

/* ---- curves ---- */

/* A curve of at most this many points: neighbours become their mean. */
static size_t thin(double *x, double *y, const curve *c, size_t max)
{
    size_t each = (c->n + max - 1) / max, n = 0;
    for (size_t i = 0; i < c->n; i += each, n++) {
        size_t end = i + each < c->n ? i + each : c->n;
        double total = 0;
        for (size_t k = i; k < end; k++) total += c->y[k];
        x[n] = c->x[end - 1];
        y[n] = total / (double)(end - i);
    }
    return n;
}

swd_status session_log_plot(const session_log *l, swd_err *err)
{
    enum { POINTS = 400 };
    double *points;
    char name[CURVES_MAX][NAME_BYTES];
    swd_plot_series series[CURVES_MAX];
    int n = 0;
    bool positive = true;
    SWD_TRY(swd_malloc(&points, 2 * CURVES_MAX * POINTS, sizeof *points, "a plot", err), err);
    for (int k = 0; k < n_curves(l); k++) {
        const curve *c = &l->curve[k];
        double *x = points + 2 * k * POINTS, *y = x + POINTS;
        if (!c->n) continue;
        snprintf(name[n], NAME_BYTES, "%s%d", l->task->n_scales > 1 ? "scale " : "side ",
                 l->task->scale_side[k]);
        for (size_t i = 0; i < c->n; i++) positive = positive && c->y[i] > 0;
        series[n] =
            (swd_plot_series){.name = name[n], .x = x, .y = y, .n = (int)thin(x, y, c, POINTS)};
        n++;
    }
    swd_plot plot = {.size = sizeof plot,
                     .title = "loss",
                     .x.label = "step",
                     .y = {.label = l->task->value_name[0], .log = positive},
                     .series = series,
                     .n_series = n};
    swd_status s = n ? plot_write(l->curves, &plot, err) : SWD_OK;
    free(points);
    return s;
}
