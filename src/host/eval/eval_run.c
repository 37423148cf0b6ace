// SPDX-License-Identifier: MIT
/* Picture files -> features and scores -> metrics. A picture is in memory while it is read; its features (d floats) stay. */
#include "eval/eval_run.h"
#include "base/arena.h"
#include "base/memory.h"
#include "eval/features.h"
#include "eval/metrics.h"
#include "eval/progress.h"
#include "eval/ssim.h"
#include "pipeline/bundled.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { METRICS_MAX = 12 };

/* The public struct and what it points to: strings and arrays lie in the arena. */
typedef struct result {
    swd_eval pub;
    swd_arena *arena;
    swd_eval_image *images;
    swd_metric metrics[METRICS_MAX];
    char device[256];
} result;

typedef struct job {
    const swd_eval_params *a;
    pipeline *p;
    result *r;
    features *net;
    swd_arena *scratch;
    int done, total; // files, for progress
    float *pixels;   // [FEATURES_BATCH, features_pixels]
    feature_set pictures, reference, text;
    int *own; // the prompt of each picture; -1: none
} job;

static swd_status keep(const char **out, const char *s, size_t n, swd_arena *arena, swd_err *err)
{
    char *copy;
    SWD_TRY(arena_alloc(&copy, arena, n + 1, 1, err), err);
    memcpy(copy, s, n);
    copy[n] = '\0';
    *out = copy;
    return SWD_OK;
}

/* ---- single pictures ---- */

/* "PROMPT\nSeed: ..., Schedule: ...", as the pipeline writes it. */
static swd_status read_comment(swd_eval_image *o, const char *comment, job *j, swd_err *err)
{
    const char *settings = NULL;
    for (const char *at = comment; at && (at = strstr(at, "\nSeed: ")); at++) settings = at;
    if (!settings) return SWD_OK;
    if (!o->prompt)
        SWD_TRY(keep(&o->prompt, comment, (size_t)(settings - comment), j->r->arena, err), err);
    return keep(&o->settings, settings + 1, strlen(settings + 1), j->r->arena, err);
}

static swd_status compare(swd_eval_image *o, const image_rgb8 *m, const char *pair, swd_err *err)
{
    image_rgb8 other = {0};
    SWD_TRY(image_read(&other, pair, err), err);
    swd_status s = SWD_OK;
    if (m->width == other.width && m->height == other.height && m->width >= SSIM_SIDE_MIN &&
        m->height >= SSIM_SIDE_MIN) {
        o->psnr = metric_psnr(m->rgb, other.rgb, m->width, m->height);
        s = metric_ssim(&o->ssim, m->rgb, other.rgb, m->width, m->height, err);
    }
    image_free(&other);
    return s;
}

/* o NULL: a picture of the reference. */
static swd_status read_picture(float *pixels, swd_eval_image *o, const char *file, const char *pair,
                               job *j, swd_err *err)
{
    image_rgb8 m = {0};
    SWD_TRY(eval_progress(j->p, j->done++, j->total, err), err);
    SWD_TRY(image_read(&m, file, err), err);
    swd_status s = features_prepare(pixels, &m, j->net, err);
    if (s == SWD_OK && o) s = read_comment(o, m.comment, j, err);
    if (s == SWD_OK && pair) s = compare(o, &m, pair, err);
    image_free(&m);
    return s;
}

static swd_status read_pictures(feature_set *out, const char *const *files, int n,
                                swd_eval_image *images, job *j, swd_err *err)
{
    int d = features_dim(j->net);
    size_t one = (size_t)features_pixels(j->net);
    float *rows;
    SWD_TRY(arena_alloc(&rows, j->scratch, (size_t)n * (size_t)d, sizeof(*rows), err), err);
    for (int at = 0; at < n; at += FEATURES_BATCH) {
        int batch = n - at < FEATURES_BATCH ? n - at : FEATURES_BATCH;
        for (int i = 0; i < batch; i++) {
            const char *pair = images && j->a->pairs ? j->a->pairs[at + i] : NULL;
            SWD_TRY(read_picture(j->pixels + (size_t)i * one, images ? &images[at + i] : NULL,
                                 files[at + i], pair, j, err),
                    err);
        }
        SWD_TRY(features_of_pictures(rows + (size_t)at * (size_t)d, j->pixels, batch, j->net, err),
                err);
    }
    *out = (feature_set){rows, n, d};
    return SWD_OK;
}

/* ---- prompts ---- */

typedef struct named {
    const char *prompt;
    int image;
} named;

static int by_prompt(const void *a, const void *b)
{
    const named *x = a, *y = b;
    int order = strcmp(x->prompt, y->prompt);
    return order ? order : x->image - y->image;
}

/* The distinct prompts, in byte order, and which of them each picture has. */
static swd_status collect_prompts(const char ***out, job *j, swd_err *err)
{
    result *r = j->r;
    int n = j->a->n_images, n_named = 0, distinct = 0;
    named *list;
    const char **prompts = NULL;
    SWD_TRY(arena_alloc(&list, j->scratch, (size_t)n, sizeof(*list), err), err);
    SWD_TRY(arena_alloc(&prompts, j->scratch, (size_t)n, sizeof(*prompts), err), err);
    SWD_TRY(arena_alloc(&j->own, j->scratch, (size_t)n, sizeof(*j->own), err), err);
    for (int i = 0; i < n; i++) {
        j->own[i] = -1;
        if (r->images[i].prompt) list[n_named++] = (named){r->images[i].prompt, i};
    }
    if (n_named) qsort(list, (size_t)n_named, sizeof(*list), by_prompt);
    for (int i = 0; i < n_named; i++) {
        if (i == 0 || strcmp(list[i].prompt, list[i - 1].prompt) != 0)
            prompts[distinct++] = list[i].prompt;
        j->own[list[i].image] = distinct - 1;
    }
    r->pub.n_prompts = distinct;
    *out = prompts;
    return SWD_OK;
}

static swd_status score_pictures(job *j, swd_err *err)
{
    int n = j->a->n_images, *rank;
    size_t d = (size_t)j->pictures.d;
    SWD_TRY(arena_alloc(&rank, j->scratch, (size_t)n, sizeof(*rank), err), err);
    metric_ranks(rank, j->pictures, j->text, j->own);
    for (int i = 0; i < n; i++) {
        swd_eval_image *o = &j->r->images[i];
        o->rank = rank[i];
        if (j->own[i] >= 0)
            o->score = metric_cosine(j->pictures.rows + (size_t)i * d,
                                     j->text.rows + (size_t)j->own[i] * d, j->pictures.d);
    }
    return SWD_OK;
}

static swd_status score_prompts(job *j, swd_err *err)
{
    const char **prompts = NULL;
    float *rows;
    int d = features_dim(j->net);
    result *r = j->r;
    SWD_TRY(collect_prompts(&prompts, j, err), err);
    int n = r->pub.n_prompts;
    if (!n || !features_have_text(j->net)) return SWD_OK;
    SWD_TRY(arena_alloc(&rows, j->scratch, (size_t)n * (size_t)d, sizeof(*rows), err), err);
    for (int at = 0; at < n; at += FEATURES_BATCH)
        SWD_TRY(features_of_prompts(rows + (size_t)at * (size_t)d, prompts + at,
                                    n - at < FEATURES_BATCH ? n - at : FEATURES_BATCH, j->net, err),
                err);
    j->text = (feature_set){rows, n, d};
    return score_pictures(j, err);
}

/* ---- metrics ---- */

static void add_metric(job *j, const char *name, int n, int better, estimate e)
{
    swd_eval *o = &j->r->pub;
    j->r->metrics[o->n_metrics++] = (swd_metric){
        .name = name, .n = n, .better = better, .value = e.value, .low = e.low, .high = e.high};
}

typedef double (*score_fn)(const swd_eval_image *o); // NaN: none

static double score_of(const swd_eval_image *o)
{
    return o->score;
}
static double first_of(const swd_eval_image *o)
{
    return o->rank < 0 ? NAN : o->rank < 1;
}
static double fifth_of(const swd_eval_image *o)
{
    return o->rank < 0 ? NAN : o->rank < 5;
}
static double psnr_of(const swd_eval_image *o)
{
    return o->psnr;
}
static double ssim_of(const swd_eval_image *o)
{
    return o->ssim;
}

static swd_status add_means(job *j, bootstrap b, swd_err *err)
{
    static const struct {
        const char *name;
        score_fn of;
        bool share;
    } means[] = {{"clip_score", score_of, false},
                 {"retrieval@1", first_of, true},
                 {"retrieval@5", fifth_of, true},
                 {"psnr", psnr_of, false},
                 {"ssim", ssim_of, false}};
    double *scores;
    estimate e;
    SWD_TRY(arena_alloc(&scores, j->scratch, (size_t)j->a->n_images, sizeof(*scores), err), err);
    for (size_t k = 0; k < sizeof(means) / sizeof(means[0]); k++) {
        int n = 0;
        for (int i = 0; i < j->a->n_images; i++) {
            double v = means[k].of(&j->r->images[i]);
            if (!isnan(v)) scores[n++] = v;
        }
        if (!n) continue;
        SWD_TRY(metric_mean(&e, scores, n, b, err), err);
        if (means[k].share) { // normal intervals do not know that it ends
            e.low = fmax(0, e.low);
            e.high = fmin(1, e.high);
        }
        add_metric(j, means[k].name, n, 1, e);
    }
    return SWD_OK;
}

static swd_status conclude(job *j, swd_err *err)
{
    bootstrap b = {.seed = j->a->seed, .resamples = j->a->resamples};
    feature_set x = j->pictures, y = j->reference;
    estimate e;
    if (x.n > 1 && y.n > 1) {
        SWD_TRY(metric_frechet(&e, x, y, b, err), err);
        add_metric(j, "frechet", x.n, -1, e);
        SWD_TRY(metric_mmd(&e, x, y, b, err), err);
        add_metric(j, "mmd", x.n, -1, e);
    }
    SWD_TRY(add_means(j, b, err), err);
    if (x.n > 1) {
        SWD_TRY(metric_diversity(&e, x, b, err), err);
        add_metric(j, "diversity", x.n, 0, e);
    }
    if (y.n > 1) {
        SWD_TRY(metric_diversity(&e, y, b, err), err);
        add_metric(j, "reference_diversity", y.n, 0, e);
    }
    return SWD_OK;
}

/* ---- the whole ---- */

static swd_status check(const swd_eval_params *a, swd_err *err)
{
    if (a->n_images < 1 || a->n_images > SWD_IMAGES_MAX || a->n_reference < 0 ||
        a->n_reference > SWD_IMAGES_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "%d pictures, %d of a reference; give 1 to %d pictures", a->n_images,
                        a->n_reference, SWD_IMAGES_MAX);
    if (a->resamples < 0 || a->resamples > 1000000)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d resamples; 0 to 1000000", a->resamples);
    for (int i = 0; i < a->n_images; i++)
        if (!a->images || !a->images[i])
            return SWD_FAIL(err, SWD_ERR_ARGUMENT, "picture %d is NULL", i);
    for (int i = 0; i < a->n_images && a->prompts; i++)
        if (!a->prompts[i] || strlen(a->prompts[i]) > SWD_PROMPT_BYTES_MAX)
            return SWD_FAIL(err, SWD_ERR_ARGUMENT, "prompt %d is NULL or over %d bytes", i,
                            SWD_PROMPT_BYTES_MAX);
    for (int i = 0; i < a->n_reference; i++)
        if (!a->reference || !a->reference[i])
            return SWD_FAIL(err, SWD_ERR_ARGUMENT, "picture %d of the reference is NULL", i);
    return SWD_OK;
}

static swd_status open_features(job *j, swd_err *err)
{
    char *dir = NULL;
    pipeline *p = j->p;
    swd_eval *o = &j->r->pub;
    SWD_TRY(pipeline_load_backend(p, err), err);
    swd_dtype compute = p->precision == SWD_PRECISION_BF16 ? p->compute : SWD_F32;
    swd_status s =
        j->a->features ? swd_strdup(&dir, j->a->features, err) : bundled_features(&dir, err);
    if (s == SWD_OK) s = features_open(&j->net, dir, p->backend, compute, err);
    if (s == SWD_OK) s = keep(&o->features, dir, strlen(dir), j->r->arena, err);
    free(dir);
    SWD_TRY(s, err);
    o->dim = features_dim(j->net);
    snprintf(j->r->device, sizeof(j->r->device), "%s: %s", p->backend->name, p->backend->device);
    o->device = j->r->device;
    o->precision = dtype_name(compute);
    return arena_alloc(&j->pixels, j->scratch, FEATURES_BATCH * (size_t)features_pixels(j->net),
                       sizeof(float), err);
}

static swd_status begin(job *j, swd_err *err)
{
    result *r = j->r;
    const swd_eval_params *a = j->a;
    SWD_TRY(arena_create(&r->arena, 0, err), err);
    SWD_TRY(arena_create(&j->scratch, 0, err), err);
    SWD_TRY(arena_alloc(&r->images, r->arena, (size_t)a->n_images, sizeof(*r->images), err), err);
    for (int i = 0; i < a->n_images; i++) {
        swd_eval_image *o = &r->images[i];
        *o = (swd_eval_image){.score = NAN, .rank = -1, .psnr = NAN, .ssim = NAN};
        SWD_TRY(keep(&o->file, a->images[i], strlen(a->images[i]), r->arena, err), err);
        if (a->prompts)
            SWD_TRY(keep(&o->prompt, a->prompts[i], strlen(a->prompts[i]), r->arena, err), err);
    }
    r->pub = (swd_eval){.size = sizeof(r->pub),
                        .n_images = a->n_images,
                        .n_reference = a->n_reference,
                        .images = r->images,
                        .metrics = r->metrics};
    j->total = a->n_images + a->n_reference;
    return open_features(j, err);
}

swd_status eval_run(swd_eval **out, const swd_eval_params *a, pipeline *p, swd_err *err)
{
    job j = {.a = a, .p = p};
    swd_status s;
    *out = NULL;
    SWD_TRY(check(a, err), err);
    SWD_TRY(swd_calloc(&j.r, 1, sizeof(*j.r), "an evaluation", err), err);
    swd_eval *o = &j.r->pub;
    SWD_TRY_GOTO(s, begin(&j, err), err, done);
    SWD_TRY_GOTO(s, read_pictures(&j.pictures, a->images, a->n_images, j.r->images, &j, err), err,
                 done);
    if (a->n_reference)
        SWD_TRY_GOTO(s, read_pictures(&j.reference, a->reference, a->n_reference, NULL, &j, err),
                     err, done);
    SWD_TRY_GOTO(s, score_prompts(&j, err), err, done);
    SWD_TRY_GOTO(s, conclude(&j, err), err, done);
done:
    features_close(&j.net);
    arena_destroy(&j.scratch);
    if (s != SWD_OK)
        eval_result_free(&o);
    else
        *out = o;
    return s;
}

void eval_result_free(swd_eval **e)
{
    result *r = (result *)*e; // its first member
    if (!r) return;
    arena_destroy(&r->arena);
    free(r);
    *e = NULL;
}
