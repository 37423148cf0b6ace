// SPDX-License-Identifier: MIT
// What the scale-wise schedule is worth: one image by a preset, beside as many steps at full resolution and beside two guided
// steps at full resolution, the same model and text, interleaved. Measured: the denoiser's time, and the request's without loading.
//
//     speed-up = time(N full steps) / time(N scales)        efficiency = speed-up / (FLOP(N full steps) / FLOP(N scales))
#include "harness.h"
#include "pipeline/generate.h"
#include "pipeline/networks.h"
#include "pipeline/prompt.h"
#include "sample/schedule.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *opt_model, *opt_precision, *opt_preset = "sd3.5-medium-6", *opt_size = "512",
                                              *opt_text = "333";

enum { CONTESTANTS = 3 };

typedef struct contestant {
    pipeline *p;
    swd_generate_params params;
    double denoise_s;               // of the last run
    double total_s[BENCH_RUNS_MAX]; // of each, loading left out
    int n_runs, evaluations;        // per step
    double flop;
} contestant;

static swd_status run(void *arg, swd_err *err)
{
    contestant *c = arg;
    swd_result *r = NULL;
    SWD_TRY(generate(&r, &c->params, c->p, err), err);
    c->denoise_s = r->denoise_ms * 1e-3;
    if (c->n_runs < BENCH_RUNS_MAX)
        c->total_s[c->n_runs++] = (r->text_ms + r->denoise_ms + r->decode_ms) * 1e-3;
    c->flop = 0;
    for (int i = 0; i < r->n_steps; i++)
        c->flop += denoiser_flops(c->p->transformer, c->evaluations, r->steps[i].latent_height,
                                  r->steps[i].latent_width, prompt_tokens(c->p, r->max_tokens));
    result_free(&r);
    return SWD_OK;
}

static double denoise_s(void *arg)
{
    return ((contestant *)arg)->denoise_s;
}

static double total_median(const contestant *c, int runs)
{
    double x[BENCH_RUNS_MAX];
    memcpy(x, c->total_s + c->n_runs - runs, (size_t)runs * sizeof *x);
    return bench_statistics(x, runs).median;
}

static void set_up(contestant *c, pipeline *p, int tokens, int steps, double guidance)
{
    static const char *const prompt[] = {"a photograph of an astronaut riding a horse"};
    c->p = p;
    c->evaluations = guidance > 1 ? 2 : 1;
    swd_generate_params *a = &c->params;
    swd_generate_params_default(a);
    a->prompts = prompt;
    a->random_seed = 0;
    a->seed = 1;
    a->width = a->height = atoi(opt_size);
    a->max_tokens = tokens;
    if (steps) {
        a->sampler = SWD_SAMPLER_EULER;
        a->steps = steps;
        a->guidance = guidance;
    } else {
        a->preset = opt_preset;
    }
}

static void report(bench *b, const bench_case *cases, const bench_result *r, contestant *c)
{
    double speed_up = r[1].ratio.median, by_flop = c[1].flop / c[0].flop,
           guided = r[2].ratio.median, total[CONTESTANTS];
    for (int i = 0; i < CONTESTANTS; i++) {
        total[i] = total_median(&c[i], r[i].wall.runs);
        bench_value(b, cases[i].name, "total_ms", total[i] * 1e3);
    }
    bench_value(b, cases[0].name, "speed_up", speed_up);
    bench_value(b, cases[0].name, "speed_up_by_flop", by_flop);
    bench_value(b, cases[0].name, "efficiency", speed_up / by_flop);
    bench_value(b, cases[0].name, "cost_in_guided_pairs", 1 / guided);
    fprintf(stderr,
            "  denoiser: speed-up %.3f, by FLOP %.3f, efficiency %.3f; %.3f of two guided steps\n"
            "  whole request without loading: %.0f, %.0f, %.0f ms; speed-up %.3f; %.3f of two "
            "guided steps\n",
            speed_up, by_flop, speed_up / by_flop, 1 / guided, total[0] * 1e3, total[1] * 1e3,
            total[2] * 1e3, total[1] / total[0], total[0] / total[2]);
}

static swd_status compare(bench *b, pipeline *p, swd_err *err)
{
    static contestant c[CONTESTANTS];
    static char name[CONTESTANTS][96];
    memset(c, 0, sizeof c);
    const schedule_preset *preset = schedule_find(opt_preset);
    if (!preset)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "no preset %s; see `swd presets`", opt_preset);
    SWD_TRY(pipeline_read_configs(p, err), err);
    SWD_TRY(pipeline_load_text(p, err), err);
    int tokens = atoi(opt_text) - prompt_clip_tokens(p), n = preset->n_steps;
    if (tokens < 1)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%s tokens of text; more than CLIP's %d are needed",
                        opt_text, prompt_clip_tokens(p));
    set_up(&c[0], p, tokens, 0, 0);
    set_up(&c[1], p, tokens, n, 1);
    set_up(&c[2], p, tokens, 2, 4.5);
    snprintf(name[0], sizeof *name, "%s px: %s", opt_size, opt_preset);
    snprintf(name[1], sizeof *name, "%s px: %d full steps", opt_size, n);
    snprintf(name[2], sizeof *name, "%s px: 2 guided full steps", opt_size);
    bench_case cases[CONTESTANTS];
    bench_result r[CONTESTANTS];
    for (int i = 0; i < CONTESTANTS; i++) {
        SWD_TRY(run(&c[i], err), err); // loads, packs, and tells the work
        cases[i] = (bench_case){.name = name[i],
                                .precision = p->compute == SWD_BF16 ? "bf16" : "f32",
                                .run = run,
                                .own_s = denoise_s,
                                .arg = &c[i],
                                .flop = c[i].flop};
    }
    bench_set_limits(b, (bench_limits){0, 3, BENCH_RUNS_MAX, 2});
    SWD_TRY(bench_run(r, b, cases, CONTESTANTS, err), err);
    if (r[0].measured) report(b, cases, r, c);
    return SWD_OK;
}

static swd_status with_precision(bench *b, swd_precision precision, swd_err *err)
{
    swd_open_params params;
    pipeline p = {0};
    swd_open_params_default(&params);
    params.no_embeds = 1; // text is encoded in each run
    params.model = opt_model;
    params.precision = precision;
    params.threads = bench_threads(b);
    swd_status s = pipeline_open(&p, &params, err);
    if (s == SWD_OK) s = pipeline_load_backend(&p, err);
    if (s == SWD_OK) bench_fact(b, "device", p.backend->device);
    if (s == SWD_OK) s = compare(b, &p, err);
    pipeline_close(&p);
    return s;
}

static swd_status body(bench *b, swd_err *err)
{
    if (opt_model) bench_fact(b, "model", opt_model);
    if (!opt_precision || strcmp(opt_precision, "f32") == 0)
        SWD_TRY(with_precision(b, SWD_PRECISION_F32, err), err);
    if (!opt_precision || strcmp(opt_precision, "bf16") == 0)
        SWD_TRY(with_precision(b, SWD_PRECISION_BF16, err), err);
    return SWD_OK;
}

int main(int argc, char **argv)
{
    static const bench_option options[] = {
        {"-m", "DIR", "model folder (default: the bundled model)", &opt_model},
        {"--precision", "f32|bf16", "(default: both, one after the other)", &opt_precision},
        {"--preset", "NAME", "schedule (sd3.5-medium-6)", &opt_preset},
        {"--size", "PIXELS", "side of the image (512)", &opt_size},
        {"--text", "N", "tokens of text, CLIP's included (333)", &opt_text},
    };
    return bench_main(&(bench_program){.name = "bench_e2e",
                                       .about = "an image by scales beside full resolution",
                                       .options = options,
                                       .n_options = sizeof options / sizeof *options,
                                       .body = body},
                      argc, argv);
}
