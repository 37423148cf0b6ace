// SPDX-License-Identifier: MIT
// docs/precision.md derives the tolerances on latents: float32 5e-5, bf16 twice 2^-8 sqrt(L) a trajectory.
#include "requests.h"
#include "base/clock.h"
#include "base/memory.h"
#include "io/config.h"
#include "io/safetensors.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <swd/swd.h>
#include <unistd.h>

static const char section[] = "requests";
static const char *const prompts[] = {"a red apple, 3d emoji", "a cat face", "green book", ""};
enum { PROMPTS = 4, TOKENS = 16, MESSAGE_MAX = 512 };

/* ---- a request and what came of it ---- */

typedef struct outcome {
    int n;
    size_t bytes; // of a picture
    uint8_t *rgb; // [n, bytes]
    float *latents;
    int64_t n_latents;
} outcome;

static void outcome_free(outcome *o)
{
    free(o->rgb);
    free(o->latents);
    *o = (outcome){0};
}

static swd_open_params opening(const requests_options *o, const char *device,
                               swd_precision precision)
{
    swd_open_params p;
    swd_open_params_default(&p);
    p.model = o->model;
    p.device = device;
    p.precision = precision;
    return p;
}

typedef enum sampler { SCALEWISE, GUIDED } sampler;

static swd_generate_params asking(const requests_options *o, sampler how, int n)
{
    swd_generate_params g;
    swd_generate_params_default(&g);
    g.prompts = prompts;
    g.n_prompts = n;
    g.random_seed = 0;
    g.seed = 5;
    g.max_tokens = TOKENS;
    g.width = g.height = o->side;
    g.preset = how == SCALEWISE ? "sd3.5-medium-6" : NULL;
    g.sampler = how == SCALEWISE ? SWD_SAMPLER_SCALEWISE : SWD_SAMPLER_EULER;
    if (how == GUIDED) g.steps = 3, g.guidance = 4;
    return g;
}

static swd_status take_latents(outcome *out, const char *file, swd_err *err)
{
    safetensors *st;
    SWD_TRY(safetensors_open(&st, file, "", err), err);
    const st_tensor *t = safetensors_find(st, "latents");
    swd_status s = swd_malloc(&out->latents, (size_t)t->numel, sizeof(float), "latents", err);
    if (s == SWD_OK) {
        memcpy(out->latents, t->data, (size_t)t->numel * sizeof(float));
        out->n_latents = t->numel;
    }
    safetensors_close(&st);
    return s;
}

static swd_status take_pictures(outcome *out, const swd_result *r, swd_err *err)
{
    out->n = r->n_images;
    out->bytes = (size_t)r->width * (size_t)r->height * 3;
    SWD_TRY(swd_malloc(&out->rgb, (size_t)out->n, out->bytes, "pictures", err), err);
    for (int i = 0; i < out->n; i++)
        memcpy(out->rgb + (size_t)i * out->bytes, r->images[i].rgb, out->bytes);
    return SWD_OK;
}

// In a context that is there. latents: each stage is waited for then; without, stages overlap on streams of their own.
static swd_status ask(outcome *out, swd_context *ctx, swd_generate_params g, bool latents,
                      swd_err *err)
{
    char file[] = "/tmp/request_check-XXXXXX";
    int fd = latents ? mkstemp(file) : -1;
    swd_result *r;
    *out = (outcome){0};
    if (latents && fd < 0) return SWD_FAIL(err, SWD_ERR_FILE, "no temporary file: %s", file);
    if (fd >= 0) close(fd);
    g.save_latents = latents ? file : NULL;
    swd_status s = swd_generate(&r, &g, ctx);
    if (s != SWD_OK)
        s = SWD_FAIL(err, s, "%s", swd_message(ctx));
    else
        s = take_pictures(out, r, err);
    if (s == SWD_OK && latents) s = take_latents(out, file, err);
    if (latents) unlink(file);
    swd_result_free(&r);
    if (s != SWD_OK) outcome_free(out);
    return s;
}

static swd_status ask_anew(outcome *out, swd_open_params p, swd_generate_params g, bool latents,
                           swd_err *err)
{
    swd_context *ctx;
    *out = (outcome){0};
    swd_status s = swd_open(&ctx, &p);
    s = s == SWD_OK ? ask(out, ctx, g, latents, err) : SWD_FAIL(err, s, "%s", swd_message(ctx));
    swd_close(&ctx);
    return s;
}

/* ---- beside the CPU ---- */

static double distance(const outcome *got, const outcome *want)
{
    double d = 0, n = 0;
    if (got->n_latents != want->n_latents) return INFINITY;
    for (int64_t i = 0; i < want->n_latents; i++) {
        double x = got->latents[i], y = want->latents[i];
        d += (x - y) * (x - y), n += y * y;
    }
    return sqrt(d / n);
}

static int worst_pixel(const outcome *a, const outcome *b)
{
    int worst = 0;
    for (size_t i = 0; i < (size_t)a->n * a->bytes; i++) {
        int d = abs(a->rgb[i] - b->rgb[i]);
        if (d > worst) worst = d;
    }
    return worst;
}

static int blocks_of(const char *model)
{
    char path[4096];
    swd_err err = {0};
    config_sd3 sd3;
    config_flux flux;
    snprintf(path, sizeof path, "%s/transformer/config.json", model);
    if (config_sd3_read(&sd3, path, &err) == SWD_OK) return sd3.num_layers;
    if (config_flux_read(&flux, path, &err) == SWD_OK)
        return flux.num_layers + flux.num_single_layers;
    return 1;
}

// Blocks, layers of the deepest text encoder, two ends.
static int layers_of(const char *model)
{
    static const char *const encoders[] = {"text_encoder", "text_encoder_2", "text_encoder_3"};
    int deepest = 0;
    for (int i = 0; i < 3; i++) {
        char path[4096];
        swd_err err = {0};
        config_clip_text clip = {0};
        config_t5 t5 = {0};
        snprintf(path, sizeof path, "%s/%s/config.json", model, encoders[i]);
        int layers = config_clip_text_read(&clip, path, &err) == SWD_OK ? clip.num_hidden_layers
                     : config_t5_read(&t5, path, &err) == SWD_OK        ? t5.num_layers
                                                                        : 0;
        if (layers > deepest) deepest = layers;
    }
    return blocks_of(model) + deepest + 2;
}

// The message of a check; "" where all is well.
typedef struct verdict {
    char text[MESSAGE_MAX];
} verdict;

static void judge(report *r, const char *name, swd_status s, const swd_err *err, const verdict *v)
{
    report_check(r, section, name, s != SWD_OK ? err->message : v->text[0] ? v->text : NULL);
}

static void beside_cpu(report *r, const requests_options *o, const char *name, sampler how,
                       const outcome *cpu, swd_precision precision)
{
    swd_err err = {0};
    verdict v = {""};
    outcome gpu;
    bool exact = precision == SWD_PRECISION_F32;
    double most = exact ? 5e-5 : 2 * 0x1p-8 * sqrt(layers_of(o->model));
    swd_status s = ask_anew(&gpu, opening(o, o->device, precision), asking(o, how, 2), true, &err);
    if (s == SWD_OK) {
        double d = distance(&gpu, cpu);
        int pixel = worst_pixel(&gpu, cpu);
        printf("  %-34s latents %.1e of %.1e, worst pixel %d\n", name, d, most, pixel);
        if (!(d <= most))
            snprintf(v.text, sizeof v.text, "latents are %.3g from the CPU's in f32, not %.3g", d,
                     most);
        else if (exact && pixel > 1)
            snprintf(v.text, sizeof v.text, "a pixel is %d from the CPU's, not 1", pixel);
        outcome_free(&gpu);
    }
    judge(r, name, s, &err, &v);
}

static void parity(report *r, const requests_options *o)
{
    static const char *const names[][3] = {
        {"scale-wise on the CPU", "scale-wise, f32 beside the CPU",
         "scale-wise, bf16 beside the CPU"},
        {"guided on the CPU", "guided, f32 beside the CPU", "guided, bf16 beside the CPU"}};
    for (int how = SCALEWISE; how <= GUIDED; how++) {
        swd_err err = {0};
        outcome cpu;
        swd_status s = ask_anew(&cpu, opening(o, "cpu", SWD_PRECISION_F32),
                                asking(o, (sampler)how, 2), true, &err);
        judge(r, names[how][0], s, &err, &(verdict){""});
        if (s != SWD_OK) continue;
        beside_cpu(r, o, names[how][1], (sampler)how, &cpu, SWD_PRECISION_F32);
        beside_cpu(r, o, names[how][2], (sampler)how, &cpu, SWD_PRECISION_BF16);
        outcome_free(&cpu);
    }
}

/* ---- the same bytes ---- */

static void same(report *r, const char *name, swd_status s, const swd_err *err, const outcome *a,
                 const outcome *b)
{
    verdict v = {""};
    if (s == SWD_OK && (a->n != b->n || a->bytes != b->bytes ||
                        memcmp(a->rgb, b->rgb, (size_t)a->n * a->bytes) != 0))
        snprintf(v.text, sizeof v.text, "the pictures differ, by up to %d of 255",
                 a->n == b->n && a->bytes == b->bytes ? worst_pixel(a, b) : 255);
    judge(r, name, s, err, &v);
}

// Of the same four pictures: one at a time, again, in batches, without graphs, waited for at every stage.
static void same_bytes(report *r, const requests_options *o)
{
    static const struct {
        const char *name;
        int batch, no_graphs;
        bool latents;
    } ways[] = {{"the same again", 1, 0, false},
                {"batches of 3 and 1", 3, 0, false},
                {"without graphs", 1, 1, false},
                {"stage by stage", 1, 0, true}};
    swd_err err = {0};
    outcome first;
    swd_generate_params g = asking(o, SCALEWISE, PROMPTS);
    g.batch = 1;
    swd_open_params p = opening(o, o->device, SWD_PRECISION_AUTO);
    swd_status s = ask_anew(&first, p, g, false, &err);
    judge(r, "four pictures", s, &err, &(verdict){""});
    for (size_t i = 0; s == SWD_OK && i < sizeof ways / sizeof *ways; i++) {
        outcome now;
        swd_err e = {0};
        g.batch = ways[i].batch;
        p.no_graphs = ways[i].no_graphs;
        swd_status st = ask_anew(&now, p, g, ways[i].latents, &e);
        same(r, ways[i].name, st, &e, &now, &first);
        if (st == SWD_OK) outcome_free(&now);
    }
    outcome_free(&first);
}

/* ---- many, and how fast ---- */

typedef struct held {
    int64_t ours, others; // bytes of the device: this context's peak; what is free
} held;

static held memory_of(swd_context *ctx)
{
    swd_info info = {.size = sizeof info};
    if (swd_get_info(&info, ctx) != SWD_OK) return (held){0};
    return (held){info.memory_peak, info.device_total - info.device_free};
}

static swd_status run_many(double *seconds, swd_context *ctx, const requests_options *o, int n,
                           swd_err *err)
{
    swd_generate_params g = asking(o, SCALEWISE, 1);
    g.count = n;
    g.batch = 1;
    g.drop_pixels = 1;
    double from = clock_now_s();
    swd_status s = swd_generate(NULL, &g, ctx);
    *seconds = clock_now_s() - from;
    return s == SWD_OK ? s : SWD_FAIL(err, s, "%s", swd_message(ctx));
}

static void growth(report *r, const requests_options *o, swd_context *ctx)
{
    swd_err err = {0};
    verdict v = {""};
    double seconds = 0;
    char name[64];
    held before, after;
    swd_status s = run_many(&seconds, ctx, o, 4, &err);
    before = memory_of(ctx);
    if (s == SWD_OK) s = run_many(&seconds, ctx, o, o->many, &err);
    after = memory_of(ctx);
    if (after.ours > before.ours)
        snprintf(v.text, sizeof v.text, "the device's memory grew from %lld to %lld bytes",
                 (long long)before.ours, (long long)after.ours);
    snprintf(name, sizeof name, "%d pictures in the memory of four", o->many);
    judge(r, name, s, &err, &v);
    printf("  %-34s %.1f a second; %.1f MB held, %.1f MB of the device in use\n", name,
           o->many / seconds, (double)after.ours * 1e-6, (double)after.others * 1e-6);
}

// Calls of one picture each, and one call of as many, whose stages overlap; in turns.
static void overlap(report *r, const requests_options *o, swd_context *ctx)
{
    enum { RUNS_MAX = 1000 };
    static double apart[RUNS_MAX], together[RUNS_MAX], ratio[RUNS_MAX];
    char name[64];
    swd_err err = {0};
    swd_status s = SWD_OK;
    for (int i = 0; s == SWD_OK && i < o->runs; i++) {
        double one;
        apart[i] = 0;
        for (int k = 0; s == SWD_OK && k < o->at_once; k++) {
            s = run_many(&one, ctx, o, 1, &err);
            apart[i] += one / o->at_once;
        }
        if (s == SWD_OK) s = run_many(&together[i], ctx, o, o->at_once, &err);
        together[i] /= o->at_once;
        ratio[i] = together[i] / apart[i];
    }
    judge(r, "pictures one by one and together", s, &err, &(verdict){""});
    if (s != SWD_OK) return;
    snprintf(name, sizeof name, "request: %d pictures a call, each", o->at_once);
    report_time alone = {.name = "request: one picture a call",
                         .s = bench_statistics(apart, o->runs)},
                many = {.name = name,
                        .s = bench_statistics(together, o->runs),
                        .beside = alone.name,
                        .ratio = bench_statistics(ratio, o->runs)};
    report_result(r, &alone);
    report_result(r, &many);
}

void requests_check(report *r, const requests_options *o)
{
    parity(r, o);
    same_bytes(r, o);
    swd_context *ctx;
    swd_open_params p = opening(o, o->device, SWD_PRECISION_AUTO);
    swd_status s = swd_open(&ctx, &p);
    if (s == SWD_OK) {
        growth(r, o, ctx);
        overlap(r, o, ctx);
    } else {
        report_check(r, section, "opening", swd_message(ctx));
    }
    swd_close(&ctx);
    report_summary(r, section);
}
