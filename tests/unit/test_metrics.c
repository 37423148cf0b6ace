// SPDX-License-Identifier: MIT
/* Metrics against numpy, scipy and scikit-image (tools/reference/make_eval_goldens.py), cases whose answer is known, intervals against the
 * deviation that theory gives, the same bits twice. */
#include "base/rng.h"
#include "eval/metrics.h"
#include "eval/ssim.h"
#include "../files.h"
#include "io/safetensors.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static safetensors *golden;

static void setup(void)
{
    swd_err err = {0};
    cr_assert_eq(
        safetensors_open(&golden, in_source("tests/goldens/eval/metrics.safetensors"), "", &err),
        SWD_OK, "%s", err.message);
}
static void teardown(void)
{
    safetensors_close(&golden);
}
TestSuite(metrics, .init = setup, .fini = teardown);

static void *copy(const char *name, int64_t *shape)
{
    const st_tensor *t = safetensors_find(golden, name);
    cr_assert_not_null(t, "%s", name);
    void *p = malloc(t->bytes);
    memcpy(p, t->data, t->bytes);
    for (int i = 0; i < t->ndim; i++) shape[i] = t->shape[i];
    return p;
}

static feature_set features(const char *set, const char *part)
{
    char name[64];
    int64_t shape[4];
    snprintf(name, sizeof name, "%s.%s", set, part);
    float *rows = copy(name, shape);
    return (feature_set){rows, (int)shape[0], (int)shape[1]};
}

static void close_to(estimate e, double want, const char *what)
{
    cr_assert_float_eq(e.value, want, 2e-6 * fabs(want) + 1e-7, "%s: %.9g, not %.9g", what, e.value,
                       want);
    cr_assert(e.low <= e.value && e.value <= e.high);
}

Test(metrics, agree_with_numpy_and_scipy)
{
    static const char *const sets[] = {"sets", "few"};
    for (int i = 0; i < 2; i++) {
        int64_t shape[4];
        feature_set x = features(sets[i], "x"), y = features(sets[i], "y");
        char name[64];
        snprintf(name, sizeof name, "%s.values", sets[i]);
        float *want = copy(name, shape);
        bootstrap b = {.seed = 1, .resamples = 200};
        estimate e, again;
        cr_assert_eq(metric_frechet(&e, x, y, b, NULL), SWD_OK);
        close_to(e, want[0], "frechet");
        cr_assert(e.high > e.low);
        cr_assert_eq(metric_frechet(&again, x, y, b, NULL), SWD_OK);
        cr_assert_arr_eq(&e, &again, sizeof e);
        cr_assert_eq(metric_mmd(&e, x, y, b, NULL), SWD_OK);
        close_to(e, want[1], "mmd");
        cr_assert_eq(metric_diversity(&e, x, b, NULL), SWD_OK);
        close_to(e, want[2], "diversity");
        b.resamples = 0;
        cr_assert_eq(metric_mmd(&e, x, y, b, NULL), SWD_OK);
        cr_assert(e.low == e.value && e.high == e.value);
        free(want);
        free((void *)x.rows);
        free((void *)y.rows);
    }
}

Test(metrics, agree_with_scikit_image)
{
    int64_t shape[4];
    uint8_t *a = copy("first", shape), *b = copy("second", shape);
    float *want = copy("pair", shape + 3);
    int h = (int)shape[0], w = (int)shape[1];
    double ssim;
    cr_assert_float_eq(metric_psnr(a, b, w, h), want[0], 1e-5);
    cr_assert_eq(metric_ssim(&ssim, a, b, w, h, NULL), SWD_OK);
    cr_assert_float_eq(ssim, want[1], 1e-7);
    cr_assert_eq(metric_psnr(a, a, w, h), 100);
    cr_assert_eq(metric_ssim(&ssim, a, a, w, h, NULL), SWD_OK);
    cr_assert_float_eq(ssim, 1, 1e-12);
    cr_assert_eq(metric_ssim(&ssim, a, a, 10, h, NULL), SWD_ERR_ARGUMENT);
    free(a);
    free(b);
    free(want);
}

enum { N = 400, D = 16 };

static feature_set noise(uint64_t seed, float shift)
{
    float *rows = malloc(sizeof(float) * N * D);
    philox_randn(rows, N * D, 0, seed, 0);
    for (int i = 0; i < N; i++) rows[i * D] += shift;
    return (feature_set){rows, N, D};
}

Test(metrics, known_answers)
{
    feature_set x = noise(1, 0), y = noise(2, 0), far = noise(2, 3);
    bootstrap b = {.seed = 3, .resamples = 300};
    estimate e, f;
    /* a set and itself: the covariances are the same */
    cr_assert_eq(metric_frechet(&e, x, x, b, NULL), SWD_OK);
    cr_assert_float_eq(e.value, 0, 1e-9);
    /* one distribution: MMD's unbiased estimate lies around 0, and its interval says so */
    cr_assert_eq(metric_mmd(&e, x, y, b, NULL), SWD_OK);
    cr_assert(e.low < 0 && e.high > 0 && fabs(e.value) < 0.02, "%g [%g %g]", e.value, e.low,
              e.high);
    cr_assert_eq(metric_mmd(&f, x, far, b, NULL), SWD_OK);
    cr_assert(f.low > e.high, "%g [%g %g]", f.value, f.low, f.high);
    /* shifted by 3 in one direction: Frechet grows by |m1 - m2|^2, 9 and twice the sample means' difference */
    double mx = 0, my = 0;
    for (int i = 0; i < N; i++) mx += (double)x.rows[i * D] / N, my += (double)y.rows[i * D] / N;
    cr_assert_eq(metric_frechet(&e, x, y, b, NULL), SWD_OK);
    cr_assert_eq(metric_frechet(&f, x, far, b, NULL), SWD_OK);
    cr_assert_float_eq(f.value - e.value, 9 + 6 * (my - mx), 1e-4);
    /* directions of noise are at right angles on average */
    cr_assert_eq(metric_diversity(&e, x, b, NULL), SWD_OK);
    cr_assert(e.low < 1 && e.high > 1 && e.high - e.low < 0.02, "[%g %g]", e.low, e.high);
    float same[2 * D];
    for (int i = 0; i < 2 * D; i++) same[i] = (float)(i % D);
    cr_assert_eq(metric_diversity(&e, (feature_set){same, 2, D}, b, NULL), SWD_OK);
    cr_assert_float_eq(e.value, 0, 1e-12);
    cr_assert_eq(metric_mmd(&e, (feature_set){same, 1, D}, y, b, NULL), SWD_ERR_ARGUMENT);
    cr_assert_eq(metric_frechet(&e, (feature_set){same, 2, D - 1}, y, b, NULL), SWD_ERR_ARGUMENT);
    free((void *)x.rows);
    free((void *)y.rows);
    free((void *)far.rows);
}

/* The deviation of a mean is that of a score over the root of their number; 2000 resamples know it within some percent. */
Test(metrics, intervals_have_the_right_width)
{
    double scores[N], squares = 0;
    feature_set x = noise(5, 0);
    for (int i = 0; i < N; i++) scores[i] = (double)x.rows[i * D];
    estimate e;
    cr_assert_eq(metric_mean(&e, scores, N, (bootstrap){.seed = 1, .resamples = 2000}, NULL),
                 SWD_OK);
    for (int i = 0; i < N; i++) squares += (scores[i] - e.value) * (scores[i] - e.value);
    double want = 2 * 1.96 * sqrt(squares / N / N);
    cr_assert_float_eq((e.high - e.low) / want, 1, 0.07); // four deviations of a deviation
    cr_assert_eq(metric_mean(&e, scores, 0, (bootstrap){0}, NULL), SWD_ERR_ARGUMENT);
    free((void *)x.rows);
}

Test(metrics, ranks)
{
    const float pictures[] = {1, 0, 0, 1, 1, 1, 1, 2}, text[] = {2, 0, 0, 3, 5, 5};
    const int own[] = {0, 0, 1, -1};
    int rank[4];
    metric_ranks(rank, (feature_set){pictures, 4, 2}, (feature_set){text, 3, 2}, own);
    cr_assert_eq(rank[0], 0);
    cr_assert_eq(rank[1], 2); // (0, 1) is closer to (0, 3) and (5, 5) than to (2, 0)
    cr_assert_eq(rank[2], 1); // (1, 1) is as close to (2, 0) as to (0, 3), and closer to (5, 5)
    cr_assert_eq(rank[3], -1);
    cr_assert_float_eq(metric_cosine(pictures, text + 4, 2), sqrt(0.5), 1e-12);
    cr_assert_eq(metric_cosine(pictures, (float[]){0, 0}, 2), 0);
}
