/* SPDX-License-Identifier: MIT */
/* Attention over one or two streams and its gradients in double precision, for tests; with what float32 may lose of each. */
#ifndef SWD_TESTS_CUDA_ATTENTION_ORACLE_H
#define SWD_TESTS_CUDA_ATTENTION_ORACLE_H
#include "launch_support.h"

enum { Q, K, V, O, D_O, PARTS }; // gradients: Q, K, V

// Dense [B, N, H, d] in double; lse [B, H, N]. ref, hard, mass and square are of the gradients: value, bound of what float32 does, sums of
// |terms| and of their squares.
typedef struct oracle {
    int b, h, d, n[2][PARTS];
    double scale;
    double *x[2][PARTS], *lse[2];
    double *ref[2][3], *hard[2][3], *mass[2][3], *square[2][3];
} oracle;

static int64_t dense(const oracle *t, int n, int b, int i, int h)
{
    return (((int64_t)b * n + i) * t->h + h) * t->d;
}

static void oracle_open(oracle *t, int b, int h, int d, const int q[2], const int k[2],
                        double scale)
{
    *t = (oracle){.b = b, .h = h, .d = d, .scale = scale};
    for (int s = 0; s < 2; s++) {
        t->lse[s] = zeros((int64_t)b * h * q[s]);
        for (int p = 0; p < PARTS; p++) {
            t->n[s][p] = p == K || p == V ? k[s] : q[s];
            int64_t n = (int64_t)b * t->n[s][p] * h * d;
            t->x[s][p] = zeros(n);
            if (p > V) continue;
            t->ref[s][p] = zeros(n), t->hard[s][p] = zeros(n), t->mass[s][p] = zeros(n),
            t->square[s][p] = zeros(n);
        }
    }
}

static void oracle_close(oracle *t)
{
    for (int s = 0; s < 2; s++) {
        free(t->lse[s]);
        for (int p = 0; p < PARTS; p++) free(t->x[s][p]);
        for (int p = 0; p < 3; p++)
            free(t->ref[s][p]), free(t->hard[s][p]), free(t->mass[s][p]), free(t->square[s][p]);
    }
}

// Row i of a part of a stream.
static double *row(const oracle *t, int s, int part, int b, int i, int h)
{
    return t->x[s][part] + dense(t, t->n[s][part], b, i, h);
}

static double dot(const double *x, const double *y, int n, double *magnitude)
{
    double sum = 0;
    for (int c = 0; c < n; c++) sum += x[c] * y[c];
    for (int c = 0; c < n && magnitude; c++) *magnitude += fabs(x[c] * y[c]);
    return sum;
}

// o and lse from q, k and v.
static void oracle_forward(oracle *t)
{
    for (int s = 0; s < 2; s++)
        for (int64_t r = 0; r < (int64_t)t->b * t->h * t->n[s][Q]; r++) {
            int i = (int)(r % t->n[s][Q]), bh = (int)(r / t->n[s][Q]), b = bh / t->h, h = bh % t->h;
            const double *q = row(t, s, Q, b, i, h);
            double *o = row(t, s, O, b, i, h), top = -INFINITY, sum = 0;
            for (int u = 0; u < 2; u++)
                for (int j = 0; j < t->n[u][K]; j++)
                    top = fmax(top, t->scale * dot(q, row(t, u, K, b, j, h), t->d, NULL));
            for (int u = 0; u < 2; u++)
                for (int j = 0; j < t->n[u][K]; j++) {
                    double w = exp(t->scale * dot(q, row(t, u, K, b, j, h), t->d, NULL) - top);
                    sum += w;
                    for (int c = 0; c < t->d; c++) o[c] += w * row(t, u, V, b, j, h)[c];
                }
            for (int c = 0; c < t->d; c++) o[c] /= sum;
            t->lse[s][r] = top + log(sum);
        }
}

// A row of a gradient += w x, w being off by at most err.
static void add_row(oracle *t, int s, int part, int64_t at, double w, double err, const double *x)
{
    for (int c = 0; c < t->d; c++) {
        double y = w * x[c];
        t->ref[s][part][at + c] += y;
        t->hard[s][part][at + c] += err * fabs(x[c]) + ldexp(fabs(y), -20);
        t->mass[s][part][at + c] += fabs(y);
        t->square[s][part][at + c] += y * y;
    }
}

// The gradients from o, lse and d_o as they are given. Scores and dp are float32 sums of d products, p their exponential.
static void oracle_backward(oracle *t)
{
    const double eps = ldexp(4 * sqrt(t->d), -24);
    for (int s = 0; s < 2; s++)
        for (int64_t r = 0; r < (int64_t)t->b * t->h * t->n[s][Q]; r++) {
            int i = (int)(r % t->n[s][Q]), bh = (int)(r / t->n[s][Q]), b = bh / t->h, h = bh % t->h;
            const double *q = row(t, s, Q, b, i, h), *g = row(t, s, D_O, b, i, h);
            double size_delta = 0, delta = dot(g, row(t, s, O, b, i, h), t->d, &size_delta);
            int64_t at = dense(t, t->n[s][Q], b, i, h);
            for (int u = 0; u < 2; u++)
                for (int j = 0; j < t->n[u][K]; j++) {
                    const double *k = row(t, u, K, b, j, h), *v = row(t, u, V, b, j, h);
                    double size = 0, size_dp = 0, score = t->scale * dot(q, k, t->d, &size);
                    double dp = dot(g, v, t->d, &size_dp), p = exp(score - t->lse[s][r]);
                    size = fmax(1, fabs(t->scale) * size + fabs(score) + fabs(t->lse[s][r]));
                    double off = 2 * eps * size + ldexp(1, -21), ds = p * (dp - delta);
                    double off_ds = off * fabs(ds) + p * eps * (size_dp + size_delta);
                    int64_t key = dense(t, t->n[u][K], b, j, h);
                    add_row(t, s, Q, at, t->scale * ds, fabs(t->scale) * off_ds, k);
                    add_row(t, u, K, key, t->scale * ds, fabs(t->scale) * off_ds, q);
                    add_row(t, u, V, key, p, off * p, g);
                }
        }
}
#endif
