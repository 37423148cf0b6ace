// SPDX-License-Identifier: MIT
#include "image/bicubic.h"
#include "base/memory.h"
#include <math.h>

enum { CHANNELS = 3, BITS = 22 };

/* For each output: where its inputs begin, how many, and their weights, `width` apart. */
typedef struct taps {
    int width, *first, *count;
    int32_t *weight;
} taps;

static double keys(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static void fill(taps *t, double *w, int in, int out, int from, int n)
{
    double scale = (double)in / out, widen = scale > 1 ? scale : 1, reach = 2 * widen;
    for (int o = 0; o < n; o++) {
        double centre = (from + o + 0.5) * scale, sum = 0;
        int first = (int)(centre - reach + 0.5), end = (int)(centre + reach + 0.5);
        if (first < 0) first = 0;
        if (end > in) end = in;
        t->first[o] = first;
        t->count[o] = end - first;
        for (int i = 0; i < end - first; i++)
            sum += w[i] = keys((i + first - centre + 0.5) * (1 / widen));
        for (int i = 0; i < end - first; i++) { // halves away from zero
            double v = (sum != 0 ? w[i] / sum : w[i]) * (1 << BITS);
            t->weight[(size_t)o * (size_t)t->width + (size_t)i] =
                (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
        }
    }
}

static void taps_free(taps *t)
{
    free(t->first);
    free(t->count);
    free(t->weight);
}

/* Of outputs from ... from + n - 1. */
static swd_status taps_create(taps *t, int in, int out, int from, int n_out, swd_err *err)
{
    double scale = (double)in / out, *w = NULL;
    *t = (taps){.width = (int)ceil(2 * (scale > 1 ? scale : 1)) * 2 + 1};
    size_t n = (size_t)n_out, width = (size_t)t->width;
    swd_status s = swd_malloc(&t->first, n, sizeof(*t->first), "a resized picture", err);
    if (s == SWD_OK) s = swd_malloc(&t->count, n, sizeof(*t->count), "a resized picture", err);
    if (s == SWD_OK)
        s = swd_malloc(&t->weight, n * width, sizeof(*t->weight), "a resized picture", err);
    if (s == SWD_OK) s = swd_malloc(&w, width, sizeof(*w), "a resized picture", err);
    if (s == SWD_OK)
        fill(t, w, in, out, from, n_out);
    else
        taps_free(t);
    free(w);
    return s;
}

/* to[out] of from[in], both `step` bytes apart from one to the next. */
static void filter(uint8_t *to, const uint8_t *from, size_t step, const taps *t, int out)
{
    for (int o = 0; o < out; o++) {
        const int32_t *w = t->weight + (size_t)o * (size_t)t->width;
        const uint8_t *at = from + (size_t)t->first[o] * step;
        int32_t sum = 1 << (BITS - 1);
        for (int i = 0; i < t->count[o]; i++) sum += at[(size_t)i * step] * w[i];
        int32_t v = sum >> BITS;
        to[(size_t)o * step] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
    }
}

swd_status bicubic_resize(uint8_t **out, int width, int height, const uint8_t *rgb, int in_width,
                          int in_height, swd_err *err)
{
    return bicubic_resize_crop(out, width, height, (bicubic_crop){0, 0, width, height}, rgb,
                               in_width, in_height, err);
}

swd_status bicubic_resize_crop(uint8_t **out, int width, int height, bicubic_crop part,
                               const uint8_t *rgb, int in_width, int in_height, swd_err *err)
{
    taps across = {0}, down = {0};
    uint8_t *rows = NULL;
    size_t row = (size_t)part.width * CHANNELS, in_row = (size_t)in_width * CHANNELS;
    swd_status s;
    *out = NULL;
    SWD_TRY_GOTO(s, taps_create(&across, in_width, width, part.left, part.width, err), err, done);
    SWD_TRY_GOTO(s, taps_create(&down, in_height, height, part.top, part.height, err), err, done);
    SWD_TRY_GOTO(s, swd_malloc(&rows, row, (size_t)in_height, "a resized picture", err), err, done);
    SWD_TRY_GOTO(s, swd_malloc(out, row, (size_t)part.height, "a resized picture", err), err, done);
    for (int y = 0; y < in_height; y++)
        for (size_t c = 0; c < CHANNELS; c++)
            filter(rows + (size_t)y * row + c, rgb + (size_t)y * in_row + c, CHANNELS, &across,
                   part.width);
    for (size_t x = 0; x < row; x++) filter(*out + x, rows + x, row, &down, part.height);
done:
    taps_free(&across);
    taps_free(&down);
    free(rows);
    return s;
}
