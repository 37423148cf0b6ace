// SPDX-License-Identifier: MIT
/* Evaluations through the public API, with the bundled features: what is measured where what is there, prompts out of files, pairs of
 * another size, intervals that repeat, cancelling, refused calls. */
#include "base/rng.h"
#include "../files.h"
#include "image/image.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <swd/eval.h>
#include <unistd.h>

enum { N = 5, SIDE = 48 };
static char folder[64], paths[N][128];
static const char *files[N];
static swd_context *ctx;

static void setup(void)
{
    static float noise[SIDE * SIDE * 3];
    static uint8_t rgb[SIDE * SIDE * 3];
    make_temporary(folder);
    for (int i = 0; i < N; i++) {
        philox_randn(noise, SIDE * SIDE * 3, 0, 1, (uint32_t)i);
        for (int k = 0; k < SIDE * SIDE * 3; k++)
            rgb[k] = (uint8_t)(128 + 40 * sinf((float)(k / 3 % SIDE * (i + 1)) / 9) +
                               20 * fmaxf(-3, fminf(3, noise[k])));
        snprintf(paths[i], sizeof paths[i], "%s/%d.png", folder, i);
        files[i] = paths[i];
        const char *comment = i == 0   ? "two\nlines\nSeed: 7, Size: 48x48"
                              : i == 1 ? "no settings"
                              : i == 2 ? "a dog\nSeed: 8"
                                       : NULL;
        /* the last one is smaller */
        cr_assert_eq(image_write(paths[i], rgb, i == N - 1 ? SIDE / 2 : SIDE, SIDE, comment, NULL),
                     SWD_OK);
    }
    swd_open_params p;
    swd_open_params_default(&p);
    p.device = "cpu";
    cr_assert_eq(swd_open(&ctx, &p), SWD_OK);
}
static void teardown(void)
{
    for (int i = 0; i < N; i++) unlink(paths[i]);
    swd_close(&ctx);
    cr_assert_eq(rmdir(folder), 0, "something else was left in %s", folder);
}
TestSuite(eval, .init = setup, .fini = teardown);

static swd_eval_params of_files(void)
{
    swd_eval_params a;
    swd_eval_params_default(&a);
    a.images = files;
    a.n_images = N;
    a.resamples = 12;
    return a;
}

static const swd_metric *metric(const swd_eval *e, const char *name)
{
    for (int i = 0; i < e->n_metrics; i++)
        if (strcmp(e->metrics[i].name, name) == 0) return &e->metrics[i];
    return NULL;
}

Test(eval, prompts_are_in_the_files)
{
    swd_eval_params a = of_files();
    swd_eval *e;
    cr_assert_eq(swd_eval_measure(&e, &a, ctx), SWD_OK, "%s", swd_message(ctx));
    cr_assert_eq(e->n_prompts, 2);
    cr_assert_str_eq(e->images[0].prompt, "two\nlines");
    cr_assert_str_eq(e->images[0].settings, "Seed: 7, Size: 48x48");
    cr_assert_null(e->images[1].prompt);
    cr_assert(isnan(e->images[1].score) && e->images[1].rank == -1 && isnan(e->images[1].psnr));
    cr_assert_str_eq(e->images[2].prompt, "a dog");
    cr_assert_eq(metric(e, "clip_score")->n, 2);
    cr_assert_float_eq(metric(e, "clip_score")->value,
                       (e->images[0].score + e->images[2].score) / 2, 1e-12);
    cr_assert_null(metric(e, "frechet"));
    cr_assert_null(metric(e, "ssim"));
    cr_assert_eq(metric(e, "diversity")->n, N);
    swd_eval_free(&e);
    cr_assert_null(e);
    a.n_images = 1; // nothing to compare it with
    cr_assert_eq(swd_eval_measure(&e, &a, ctx), SWD_OK);
    cr_assert_null(metric(e, "diversity"));
    cr_assert_eq(metric(e, "retrieval@1")->value, 1); // of one prompt
    swd_eval_free(&e);
}

Test(eval, pairs_and_reference)
{
    const char *pairs[N] = {files[0], files[1], NULL, files[2], files[0]},
               *prompts[N] = {"x", "x", "y", "y", "z"};
    swd_eval_params a = of_files();
    a.pairs = pairs;
    a.prompts = prompts;
    a.reference = files;
    a.n_reference = N;
    swd_eval *e, *again;
    cr_assert_eq(swd_eval_measure(&e, &a, ctx), SWD_OK, "%s", swd_message(ctx));
    cr_assert_eq(e->n_prompts, 3); // those of the call, not those of the files
    cr_assert_eq(e->images[0].psnr, 100);
    cr_assert_float_eq(e->images[1].ssim, 1, 1e-12);
    cr_assert(isnan(e->images[2].psnr)); // no pair
    cr_assert(e->images[3].psnr < 30 && e->images[3].ssim < 0.9);
    cr_assert(isnan(e->images[4].psnr)); // another size
    cr_assert_eq(metric(e, "psnr")->n, 3);
    cr_assert_float_eq(metric(e, "frechet")->value, 0,
                       1e-4); // roots of rounding errors, in covariances of rank 4
    cr_assert_eq(metric(e, "diversity")->value, metric(e, "reference_diversity")->value);
    cr_assert_eq(swd_eval_measure(&again, &a, ctx), SWD_OK);
    for (int i = 0; i < e->n_metrics; i++) {
        cr_assert_eq(e->metrics[i].value, again->metrics[i].value);
        cr_assert_eq(e->metrics[i].low, again->metrics[i].low);
    }
    swd_eval_free(&again);
    a.seed = 1; // other samples, the same values
    cr_assert_eq(swd_eval_measure(&again, &a, ctx), SWD_OK);
    cr_assert_eq(metric(e, "mmd")->value, metric(again, "mmd")->value);
    cr_assert_neq(metric(e, "mmd")->low, metric(again, "mmd")->low);
    swd_eval_free(&again);
    swd_eval_free(&e);
}

static int stop_at_three(void *user, const swd_progress *p)
{
    int *last = user;
    cr_assert_eq(p->stage, SWD_STAGE_MEASURE);
    cr_assert_eq(p->n_steps, N);
    *last = p->step;
    return p->step == 3;
}

Test(eval, refused_and_cancelled)
{
    swd_eval_params a = of_files();
    swd_eval *e = (swd_eval *)&a;
    int last = 0;
    swd_set_progress(ctx, stop_at_three, &last, 0);
    cr_assert_eq(swd_eval_measure(&e, &a, ctx), SWD_ERR_CANCELLED);
    cr_assert_null(e);
    cr_assert_eq(last, 3);
    swd_set_progress(ctx, NULL, NULL, 0);
    a.n_images = 0;
    cr_assert_eq(swd_eval_measure(&e, &a, ctx), SWD_ERR_ARGUMENT);
    a = of_files();
    a.resamples = -1;
    cr_assert_eq(swd_eval_measure(&e, &a, ctx), SWD_ERR_ARGUMENT);
    a = of_files();
    a.size = 3;
    cr_assert_eq(swd_eval_measure(&e, &a, ctx), SWD_ERR_ARGUMENT);
    a = of_files();
    const char *missing[] = {files[0], "/nonexistent.png"};
    a.images = missing;
    a.n_images = 2;
    cr_assert_eq(swd_eval_measure(&e, &a, ctx), SWD_ERR_FILE);
    cr_assert(strstr(swd_message(ctx), "/nonexistent.png"));
    swd_gallery_params g;
    swd_gallery_params_default(&g);
    g.side = 1;
    a = of_files();
    cr_assert_eq(swd_eval_measure(&e, &a, ctx), SWD_OK);
    cr_assert_eq(swd_eval_write_html("/tmp/none.html", e, &g, ctx), SWD_ERR_ARGUMENT);
    cr_assert_eq(swd_eval_write_html("/nonexistent/a.html", e, NULL, ctx), SWD_ERR_FILE);
    swd_eval_free(&e);
    char buf[4];
    cr_assert_eq(swd_default_features(buf, sizeof buf), SWD_ERR_ARGUMENT);
}
