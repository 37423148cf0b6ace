// SPDX-License-Identifier: MIT
#include "train/losses.h"
#include <math.h>

double loss_mse(float *dx, const float *x, const float *y, int64_t n, double weight)
{
    double sum = 0, k = weight / (double)n;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)y[i];
        sum += d * d;
        dx[i] += (float)(2 * k * d);
    }
    return k * sum;
}

double loss_mmd_linear(float *dx, const float *x, const float *y, int64_t n, int64_t d,
                       double weight)
{
    return loss_mse(dx, x, y, n * d, weight * (double)(n * d));
}

double loss_mmd_huber(float *dx, const float *x, const float *y, int64_t n, int64_t d, double c,
                      double weight)
{
    double sum = 0, k = weight / (double)(n * d);
    for (int64_t i = 0; i < n * d; i++) {
        double off = (double)y[i] - (double)x[i], root = sqrt(off * off + c * c);
        sum += fmax(root, 1e-5) - c;
        if (root > 1e-5) dx[i] -= (float)(k * off / root);
    }
    return k * sum;
}

static double distance2(const float *a, const float *b, int64_t d)
{
    double sum = 0;
    for (int64_t i = 0; i < d; i++) {
        double off = (double)a[i] - (double)b[i];
        sum += off * off;
    }
    return sum;
}

// Adds by * (x - y) to dx.
static void pull(float *dx, const float *x, const float *y, int64_t d, double by)
{
    for (int64_t i = 0; i < d; i++) dx[i] += (float)(by * ((double)x[i] - (double)y[i]));
}

// One image: mean of k(x, x') + mean of k(y, y') - 2 mean of k(x, y), the first two over different tokens.
static double rbf_image(float *dx, const float *x, const float *y, int64_t tokens, int64_t d,
                        double width, double weight)
{
    double beta = 1 / (2 * width * width), within = 1 / (double)(tokens * (tokens - 1)),
           across = 2 / (double)(tokens * tokens), sum = 0;
    for (int64_t i = 0; i < tokens; i++)
        for (int64_t j = 0; j < tokens; j++) {
            const float *xi = x + i * d, *xj = x + j * d, *yi = y + i * d, *yj = y + j * d;
            double cross = exp(-beta * distance2(xi, yj, d));
            sum -= across * cross;
            pull(dx + i * d, xi, yj, d, weight * across * cross * 2 * beta);
            if (i == j) continue;
            double own = exp(-beta * distance2(xi, xj, d));
            sum += within * (own + exp(-beta * distance2(yi, yj, d)));
            // as the first and as the second of a pair: twice
            pull(dx + i * d, xi, xj, d, -weight * within * own * 4 * beta);
        }
    return weight * sum;
}

double loss_mmd_rbf(float *dx, const float *x, const float *y, int64_t images, int64_t tokens,
                    int64_t d, double width, double weight)
{
    enum { AT_ONCE = 64 };
    double sum = 0, part[AT_ONCE];
    for (int64_t first = 0; first < images; first += AT_ONCE) {
        int64_t n = images - first < AT_ONCE ? images - first : AT_ONCE;
#pragma omp parallel for
        for (int64_t i = 0; i < n; i++) {
            int64_t at = (first + i) * tokens * d;
            part[i] = rbf_image(dx + at, x + at, y + at, tokens, d, width, weight / (double)images);
        }
        for (int64_t i = 0; i < n; i++) sum += part[i];
    }
    return sum;
}

double loss_softplus(float *dx, const float *x, int64_t n, double sign, double weight)
{
    double sum = 0, k = weight / (double)n;
    for (int64_t i = 0; i < n; i++) {
        double z = sign * (double)x[i], e = exp(-fabs(z));
        sum += fmax(z, 0) + log1p(e);
        dx[i] += (float)(k * sign * (z > 0 ? 1 / (1 + e) : e / (1 + e)));
    }
    return k * sum;
}

double loss_dmd(float *dx0, const float *x0, const float *real, const float *fake, int64_t images,
                int64_t n, double weight)
{
    double sum = 0, k = weight / (double)(images * n);
    for (int64_t i = 0; i < images * n; i += n) {
        double size = 0;
        for (int64_t j = i; j < i + n; j++) size += fabs((double)x0[j] - (double)real[j]);
        size /= (double)n;
        for (int64_t j = i; j < i + n; j++) {
            double g = ((double)fake[j] - (double)real[j]) / size;
            if (isnan(g)) g = 0;
            sum += g * g;
            dx0[j] += (float)(k * g);
        }
    }
    return 0.5 * k * sum;
}
