// SPDX-License-Identifier: MIT
#include "pipeline/picture.h"
#include "base/memory.h"
#include <math.h>
#include <string.h>

enum { CHANNELS = 3 };

/* One axis: out pixels of in. */
typedef struct axis {
    int in, out;
} axis;

/* The inputs [first, first + n) that make output o; n is at most in / out + 2. */
static void window(int *first, int *n, axis a, int o)
{
    if (a.out >= a.in) {
        double at = (o + 0.5) * a.in / a.out - 0.5;
        *first = at > 0 ? (int)at : 0;
        *n = *first + 1 < a.in ? 2 : 1;
        return;
    }
    *first = (int)((int64_t)o * a.in / a.out);
    *n = (int)(((int64_t)(o + 1) * a.in + a.out - 1) / a.out) - *first;
}

static double weight(axis a, int o, int i, int n)
{
    if (a.out < a.in) return 1.0 / n;
    double at = (o + 0.5) * a.in / a.out - 0.5;
    return n < 2 ? 1 : fmax(0, 1 - fabs(at < 0 ? i : at - i));
}

static void resize_row(double *sums, axis a, const uint8_t *rgb)
{
    for (int o = 0; o < a.out; o++) {
        int first, n;
        window(&first, &n, a, o);
        for (int i = first; i < first + n; i++)
            for (int c = 0; c < CHANNELS; c++)
                sums[CHANNELS * o + c] += weight(a, o, i, n) * rgb[CHANNELS * i + c];
    }
}

swd_status picture_resize(float **out, int width, int height, const uint8_t *rgb, int in_width,
                          int in_height, swd_err *err)
{
    axis across = {in_width, width}, down = {in_height, height};
    size_t row = (size_t)width * CHANNELS;
    double *rows = NULL;
    SWD_TRY(swd_malloc(out, row * (size_t)height, sizeof(**out), "a picture", err), err);
    swd_status s = swd_calloc(&rows, row * (size_t)in_height, sizeof(*rows), "a picture", err);
    if (s != SWD_OK) {
        free(*out);
        *out = NULL;
        return s;
    }
    for (int y = 0; y < in_height; y++)
        resize_row(rows + (size_t)y * row, across, rgb + (size_t)y * (size_t)in_width * CHANNELS);
    for (int y = 0; y < height; y++) {
        int first, n;
        window(&first, &n, down, y);
        for (size_t x = 0; x < row; x++) {
            double sum = 0;
            for (int i = first; i < first + n; i++)
                sum += weight(down, y, i, n) * rows[(size_t)i * row + x];
            (*out)[(size_t)y * row + x] = (float)(sum / 127.5 - 1);
        }
    }
    free(rows);
    return SWD_OK;
}
