// SPDX-License-Identifier: MIT
#include "train/area.h"
#include "base/memory.h"

// The inputs [*first, *end) that make output o of out.
static void window(int *first, int *end, int o, int out, int in)
{
    *first = (int)((int64_t)o * in / out);
    *end = (int)(((int64_t)(o + 1) * in + out - 1) / out);
}

// Sums over the windows of one row, [out, 3].
static void sum_row(double *sums, int out, const float *row, int in)
{
    for (int o = 0; o < out; o++) {
        int first, end;
        window(&first, &end, o, out, in);
        for (int c = 0; c < AREA_CHANNELS; c++) {
            double sum = 0;
            for (int i = first; i < end; i++) sum += row[i * AREA_CHANNELS + c];
            sums[o * AREA_CHANNELS + c] = sum / (end - first);
        }
    }
}

swd_status area_resize(float *dst, int out_h, int out_w, const float *src, int in_h, int in_w,
                       swd_err *err)
{
    size_t width = (size_t)out_w * AREA_CHANNELS;
    double *rows;
    SWD_TRY(swd_malloc(&rows, width * (size_t)in_h, sizeof *rows, "a picture", err), err);
    for (int y = 0; y < in_h; y++)
        sum_row(rows + (size_t)y * width, out_w, src + (size_t)y * (size_t)in_w * AREA_CHANNELS,
                in_w);
    for (int o = 0; o < out_h; o++) {
        int first, end;
        window(&first, &end, o, out_h, in_h);
        for (size_t x = 0; x < width; x++) {
            double sum = 0;
            for (int y = first; y < end; y++) sum += rows[(size_t)y * width + x];
            dst[(size_t)o * width + x] = (float)(sum / (end - first));
        }
    }
    free(rows);
    return SWD_OK;
}

void area_square(float *dst, const image_rgb8 *image)
{
    int side = image->width < image->height ? image->width : image->height;
    int left = (image->width - side) / 2, top = (image->height - side) / 2;
    size_t n = (size_t)side * AREA_CHANNELS;
    for (int y = 0; y < side; y++) {
        const uint8_t *from =
            image->rgb + ((size_t)(top + y) * (size_t)image->width + (size_t)left) * AREA_CHANNELS;
        for (size_t i = 0; i < n; i++) dst[(size_t)y * n + i] = from[i] / 255.0f * 2.0f - 1.0f;
    }
}
