// SPDX-License-Identifier: MIT
#include "pipeline/picture.h"
#include "base/memory.h"
#include <math.h>
#include <string.h>

/* Weight of input pixel i for output pixel o along one axis; the inputs that count are [*lo, *hi]. */
typedef struct axis {
    int in, out;
    double ratio;
} axis;

static void span(int *lo, int *hi, axis a, int o)
{
    double from = a.ratio > 1 ? o * a.ratio : (o + 0.5) * a.ratio - 0.5;
    double to = a.ratio > 1 ? (o + 1) * a.ratio : from + 1;
    *lo = (int)floor(from);
    *hi = a.ratio > 1 ? (int)ceil(to) - 1 : *lo + 1;
}

static double weight(axis a, int o, int i)
{
    if (a.ratio <= 1) return 1 - fabs((o + 0.5) * a.ratio - 0.5 - i);
    double from = fmax(o * a.ratio, i), to = fmin((o + 1) * a.ratio, i + 1);
    return fmax(0, to - from) / a.ratio;
}

static int clamp(int i, int n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

swd_status picture_resize(uint8_t **out, int width, int height, const uint8_t *rgb, int in_width,
                          int in_height, swd_err *err)
{
    axis ax = {in_width, width, (double)in_width / width},
         ay = {in_height, height, (double)in_height / height};
    double *rows = NULL;
    SWD_TRY(swd_malloc(out, (size_t)width * (size_t)height, 3, "a picture", err), err);
    swd_status s =
        swd_malloc(&rows, (size_t)width * (size_t)in_height, 3 * sizeof(double), "a picture", err);
    if (s != SWD_OK) {
        free(*out);
        *out = NULL;
        return s;
    }
    for (int y = 0; y < in_height; y++)
        for (int x = 0; x < width; x++) {
            int lo, hi;
            double *sum = rows + ((size_t)y * (size_t)width + (size_t)x) * 3;
            span(&lo, &hi, ax, x);
            memset(sum, 0, 3 * sizeof(*sum));
            for (int i = lo; i <= hi; i++)
                for (int c = 0; c < 3; c++)
                    sum[c] += weight(ax, x, i) *
                              rgb[((size_t)y * (size_t)in_width + (size_t)clamp(i, in_width)) * 3 +
                                  (size_t)c];
        }
    for (int y = 0; y < height; y++)
        for (size_t x = 0; x < (size_t)width * 3; x++) {
            int lo, hi;
            double sum = 0;
            span(&lo, &hi, ay, y);
            for (int i = lo; i <= hi; i++)
                sum += weight(ay, y, i) * rows[(size_t)clamp(i, in_height) * (size_t)width * 3 + x];
            (*out)[(size_t)y * (size_t)width * 3 + x] =
                (uint8_t)fmin(255, fmax(0, floor(sum + 0.5)));
        }
    free(rows);
    return SWD_OK;
}
