// SPDX-License-Identifier: MIT
#include "eval/metrics.h"
#include "base/memory.h"
#include "base/philox.h"
#include "eval/lapack.h"
#include <math.h>
#include <string.h>

static const double interval = 1.959963984540054; // 95 % of a normal distribution

/* ---- bootstrap ---- */

/* Draw i of resample r out of n, the same everywhere. */
static int draw(bootstrap b, uint32_t r, uint32_t i, uint32_t stream, int n)
{
    uint32_t w[4], counter[4] = {i, r, stream, 0x626f6f74u},
                   key[2] = {(uint32_t)b.seed, (uint32_t)(b.seed >> 32)};
    philox_4x32(w, counter, key);
    return (int)((uint64_t)w[0] * (uint64_t)n >> 32);
}

static void set_interval(estimate *out, double value, double sum, double squares, int count)
{
    double mean = count ? sum / count : 0;
    double variance = count > 1 ? (squares - count * mean * mean) / (count - 1) : 0;
    double half = interval * sqrt(fmax(0, variance));
    *out = (estimate){value, value - half, value + half};
}

/* Two sets' influence values (y may be NULL): what each resample's mean of them adds to the value. */
static void resample_means(estimate *out, double value, const double *x, int nx, const double *y,
                           int ny, bootstrap b)
{
    double sum = 0, squares = 0;
    for (int r = 0; r < b.resamples; r++) {
        double at = 0, other = 0;
        for (int i = 0; i < nx; i++) at += x[draw(b, (uint32_t)r, (uint32_t)i, 0, nx)];
        for (int i = 0; i < ny; i++) other += y[draw(b, (uint32_t)r, (uint32_t)i, 1, ny)];
        at = at / nx + (ny ? other / ny : 0);
        sum += at;
        squares += at * at;
    }
    set_interval(out, value, sum, squares, b.resamples);
}

swd_status metric_mean(estimate *out, const double *scores, int n, bootstrap b, swd_err *err)
{
    if (n < 1) return SWD_FAIL(err, SWD_ERR_ARGUMENT, "the mean of no scores");
    double sum = 0;
    for (int i = 0; i < n; i++) sum += scores[i];
    resample_means(out, sum / n, scores, n, NULL, 0, b);
    return SWD_OK;
}

static swd_status check(feature_set x, feature_set y, swd_err *err)
{
    if (x.n < 2 || y.n < 2 || x.d < 1 || x.d != y.d)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "%d feature vectors of %d numbers against %d of %d; at least two each", x.n,
                        x.d, y.n, y.d);
    return SWD_OK;
}

/* ---- Frechet distance ---- */

typedef struct gaussian {
    double *mean, *covariance, *centred; // [d], [d, d], [d]
} gaussian;

static swd_status gaussian_create(gaussian *g, int d, swd_err *err)
{
    size_t n = (size_t)d;
    SWD_TRY(swd_calloc(&g->mean, n, sizeof(double), "a mean", err), err);
    SWD_TRY(swd_calloc(&g->centred, n, sizeof(double), "a mean", err), err);
    return swd_calloc(&g->covariance, n * n, sizeof(double), "a covariance", err);
}

static void gaussian_free(gaussian *g)
{
    free(g->mean);
    free(g->covariance);
    free(g->centred);
}

/* Of resample r (-1: the rows themselves). */
static void gaussian_fit(gaussian *g, feature_set x, bootstrap b, int r, uint32_t stream)
{
    size_t d = (size_t)x.d;
    memset(g->mean, 0, d * sizeof(double));
    memset(g->covariance, 0, d * d * sizeof(double));
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < x.n; i++) {
            int at = r < 0 ? i : draw(b, (uint32_t)r, (uint32_t)i, stream, x.n);
            const float *row = x.rows + (size_t)at * d;
            if (pass == 0) {
                for (size_t k = 0; k < d; k++) g->mean[k] += (double)row[k] / x.n;
                continue;
            }
            for (size_t k = 0; k < d; k++) g->centred[k] = (double)row[k] - g->mean[k];
            for (size_t k = 0; k < d; k++) {
                double *to = g->covariance + k * d, c = g->centred[k];
                for (size_t l = 0; l <= k; l++) to[l] += c * g->centred[l];
            }
        }
    }
    for (size_t k = 0; k < d; k++)
        for (size_t l = 0; l <= k; l++)
            g->covariance[l * d + k] = g->covariance[k * d + l] /= x.n - 1;
}

/* tr (C1 C2)^(1/2) = the sum of the roots of the eigenvalues of S C2 S, S = C1^(1/2): symmetric, so they are real and, rounding aside, not
 * negative. room: three matrices and d values; C1 is lost. */
static swd_status trace_of_root(double *out, double *c1, const double *c2, double *room, int d,
                                swd_err *err)
{
    size_t n = (size_t)d, square = n * n;
    double *s = room, *t = room + square, *scaled = room + 2 * square, *values = room + 3 * square;
    SWD_TRY(lapack_eigh(values, c1, d, true, err), err);
    for (size_t k = 0; k < n; k++) { // column k is a vector
        double root = sqrt(fmax(0, values[k]));
        for (size_t i = 0; i < n; i++) scaled[k * n + i] = c1[k * n + i] * root;
    }
    SWD_TRY(lapack_multiply(s, scaled, c1, true, d, err), err);
    SWD_TRY(lapack_multiply(t, s, c2, false, d, err), err);
    SWD_TRY(lapack_multiply(scaled, t, s, false, d, err), err);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            scaled[i * n + k] = scaled[k * n + i] = (scaled[i * n + k] + scaled[k * n + i]) / 2;
    SWD_TRY(lapack_eigh(values, scaled, d, false, err), err);
    *out = 0;
    for (size_t k = 0; k < n; k++) *out += sqrt(fmax(0, values[k]));
    return SWD_OK;
}

static swd_status distance(double *out, gaussian *g, gaussian *h, double *room, int d, swd_err *err)
{
    double apart = 0, traces = 0, root = 0;
    for (int k = 0; k < d; k++) {
        double step = g->mean[k] - h->mean[k];
        apart += step * step;
        traces +=
            g->covariance[(size_t)k * (size_t)(d + 1)] + h->covariance[(size_t)k * (size_t)(d + 1)];
    }
    SWD_TRY(trace_of_root(&root, g->covariance, h->covariance, room, d, err), err);
    *out = apart + traces - 2 * root;
    return SWD_OK;
}

/* As many as some ten seconds allow. */
static int frechet_resamples(feature_set x, feature_set y, int asked)
{
    double d = x.d, work = ((double)x.n + y.n) * d * d + 40 * d * d * d, n = 2e10 / work;
    return asked < 10 ? asked : n >= asked ? asked : n > 10 ? (int)n : 10;
}

swd_status metric_frechet(estimate *out, feature_set x, feature_set y, bootstrap b, swd_err *err)
{
    gaussian g = {0}, h = {0};
    double *room = NULL, value = 0, sum = 0, squares = 0;
    SWD_TRY(check(x, y, err), err);
    size_t d = (size_t)x.d;
    swd_status s;
    SWD_TRY_GOTO(s, gaussian_create(&g, x.d, err), err, done);
    SWD_TRY_GOTO(s, gaussian_create(&h, x.d, err), err, done);
    SWD_TRY_GOTO(s, swd_malloc(&room, d * (3 * d + 1), sizeof(*room), "covariances", err), err,
                 done);
    int n = frechet_resamples(x, y, b.resamples);
    for (int r = -1; r < n; r++) {
        double at = 0;
        gaussian_fit(&g, x, b, r, 2);
        gaussian_fit(&h, y, b, r, 3);
        SWD_TRY_GOTO(s, distance(&at, &g, &h, room, x.d, err), err, done);
        if (r < 0) {
            value = at;
        } else {
            sum += at;
            squares += at * at;
        }
    }
    set_interval(out, value, sum, squares, n);
    out->low = fmax(out->low, fmin(0, value)); // a distance; rounding may leave it under 0
done:
    gaussian_free(&g);
    gaussian_free(&h);
    free(room);
    return s;
}

/* ---- MMD, diversity ---- */

static double dot(const float *x, const float *y, int d)
{
    double sum = 0;
    for (int k = 0; k < d; k++) sum += (double)x[k] * (double)y[k];
    return sum;
}

double metric_cosine(const float *x, const float *y, int d)
{
    double xx = dot(x, x, d), yy = dot(y, y, d);
    return xx > 0 && yy > 0 ? dot(x, y, d) / sqrt(xx * yy) : 0;
}

/* to[i] = the mean of k(x_i, y_j) over j; of a set with itself: over j != i. */
static void kernel_means(double *to, feature_set x, feature_set y, bool same)
{
#pragma omp parallel for schedule(static)
    for (int i = 0; i < x.n; i++) {
        double sum = 0;
        for (int j = 0; j < y.n; j++) {
            if (same && j == i) continue;
            double a =
                dot(x.rows + (size_t)i * (size_t)x.d, y.rows + (size_t)j * (size_t)x.d, x.d) / x.d +
                1;
            sum += a * a * a;
        }
        to[i] = sum / (same ? y.n - 1 : y.n);
    }
}

static double mean(const double *v, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += v[i];
    return sum / n;
}

swd_status metric_mmd(estimate *out, feature_set x, feature_set y, bootstrap b, swd_err *err)
{
    double *room = NULL;
    SWD_TRY(check(x, y, err), err);
    SWD_TRY(swd_malloc(&room, 2 * ((size_t)x.n + (size_t)y.n), sizeof(*room), "kernel means", err),
            err);
    double *xx = room, *xy = xx + x.n, *yy = xy + x.n, *yx = yy + y.n;
    kernel_means(xx, x, x, true);
    kernel_means(xy, x, y, false);
    kernel_means(yy, y, y, true);
    kernel_means(yx, y, x, false);
    double in_x = mean(xx, x.n), in_y = mean(yy, y.n), across = mean(xy, x.n);
    for (int i = 0; i < x.n; i++) xx[i] = 2 * (xx[i] - in_x) - 2 * (xy[i] - across);
    for (int i = 0; i < y.n; i++) yy[i] = 2 * (yy[i] - in_y) - 2 * (yx[i] - across);
    resample_means(out, in_x + in_y - 2 * across, xx, x.n, yy, y.n, b);
    free(room);
    return SWD_OK;
}

swd_status metric_diversity(estimate *out, feature_set x, bootstrap b, swd_err *err)
{
    double *room = NULL;
    SWD_TRY(check(x, x, err), err);
    size_t d = (size_t)x.d;
    SWD_TRY(swd_calloc(&room, d + (size_t)x.n, sizeof(*room), "directions", err), err);
    double *sum = room, *influence = room + d, total = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < x.n; i++) {
            const float *row = x.rows + (size_t)i * d;
            double length = sqrt(dot(row, row, x.d)), along = 0;
            if (!(length > 0)) continue; // at right angles to everything
            for (size_t k = 0; k < d; k++) {
                if (pass == 0)
                    sum[k] += (double)row[k] / length;
                else
                    along += (double)row[k] / length * sum[k];
            }
            if (pass) influence[i] = along - 1; // the sum of its cosines with the others
        }
    for (int i = 0; i < x.n; i++) total += influence[i] / ((double)x.n * (x.n - 1));
    for (int i = 0; i < x.n; i++) influence[i] = -2 * (influence[i] / (x.n - 1) - total);
    resample_means(out, 1 - total, influence, x.n, NULL, 0, b);
    free(room);
    return SWD_OK;
}

void metric_ranks(int *rank, feature_set pictures, feature_set text, const int *own)
{
    size_t d = (size_t)pictures.d;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < pictures.n; i++) {
        const float *row = pictures.rows + (size_t)i * d;
        rank[i] = own[i] < 0 ? -1 : 0;
        if (own[i] < 0) continue;
        double mine = metric_cosine(row, text.rows + (size_t)own[i] * d, pictures.d);
        for (int k = 0; k < text.n; k++)
            rank[i] +=
                k != own[i] && metric_cosine(row, text.rows + (size_t)k * d, pictures.d) > mine;
    }
}
