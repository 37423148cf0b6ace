// SPDX-License-Identifier: MIT
/* Pictures compared pixel by pixel, and window by window:
 *     SSIM = (2 ma mb + C1) (2 cov + C2) / ((ma^2 + mb^2 + C1) (va + vb + C2)),  C1 = (0.01 * 255)^2, C2 = (0.03 * 255)^2 */
#include "eval/ssim.h"
#include "base/memory.h"
#include <math.h>

enum { RADIUS = 5, WINDOW = 2 * RADIUS + 1, CHANNELS = 3, MOMENTS = 5 };

double metric_psnr(const uint8_t *a, const uint8_t *b, int width, int height)
{
    size_t n = (size_t)width * (size_t)height * CHANNELS;
    uint64_t squares = 0;
    for (size_t i = 0; i < n; i++) {
        int step = a[i] - b[i];
        squares += (uint64_t)(step * step);
    }
    return squares ? 10 * log10(255.0 * 255.0 * (double)n / (double)squares) : 100;
}

static void make_window(double weight[WINDOW])
{
    double sum = 0;
    for (int i = 0; i < WINDOW; i++) {
        double x = i - RADIUS;
        weight[i] = exp(-x * x / (2 * 1.5 * 1.5));
        sum += weight[i];
    }
    for (int i = 0; i < WINDOW; i++) weight[i] /= sum;
}

/* a, b, a^2, b^2, a b of a row, smoothed along it: to[MOMENTS, width - 10] */
static void smooth_row(double *to, const uint8_t *a, const uint8_t *b, int width,
                       const double *weight)
{
    int n = width - 2 * RADIUS;
    for (int x = 0; x < n; x++) {
        double m[MOMENTS] = {0};
        for (int i = 0; i < WINDOW; i++) {
            double p = a[CHANNELS * (x + i)], q = b[CHANNELS * (x + i)], w = weight[i];
            m[0] += w * p;
            m[1] += w * q;
            m[2] += w * (p * p);
            m[3] += w * (q * q);
            m[4] += w * (p * q);
        }
        for (int k = 0; k < MOMENTS; k++) to[k * n + x] = m[k];
    }
}

static double similarity(const double m[MOMENTS])
{
    double c1 = 0.01 * 255 * 0.01 * 255, c2 = 0.03 * 255 * 0.03 * 255;
    double va = m[2] - m[0] * m[0], vb = m[3] - m[1] * m[1], cov = m[4] - m[0] * m[1];
    return (2 * m[0] * m[1] + c1) * (2 * cov + c2) /
           ((m[0] * m[0] + m[1] * m[1] + c1) * (va + vb + c2));
}

swd_status metric_ssim(double *out, const uint8_t *a, const uint8_t *b, int width, int height,
                       swd_err *err)
{
    double weight[WINDOW], *rows = NULL, sum = 0;
    if (width < WINDOW || height < WINDOW)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "SSIM of %dx%d pictures; sides of at least %d",
                        width, height, WINDOW);
    int n = width - 2 * RADIUS, tall = height - 2 * RADIUS;
    size_t row = (size_t)n * MOMENTS;
    SWD_TRY(swd_malloc(&rows, row * (size_t)height, sizeof(*rows), "SSIM", err), err);
    make_window(weight);
    for (int c = 0; c < CHANNELS; c++) {
        for (int y = 0; y < height; y++) {
            size_t at = (size_t)y * (size_t)width * CHANNELS + (size_t)c;
            smooth_row(rows + (size_t)y * row, a + at, b + at, width, weight);
        }
        for (int y = 0; y < tall; y++)
            for (int x = 0; x < n; x++) {
                double m[MOMENTS] = {0};
                for (int i = 0; i < WINDOW; i++)
                    for (int k = 0; k < MOMENTS; k++)
                        m[k] += weight[i] * rows[(size_t)(y + i) * row + (size_t)(k * n + x)];
                sum += similarity(m);
            }
    }
    free(rows);
    *out = sum / ((double)n * tall * CHANNELS);
    return SWD_OK;
}
