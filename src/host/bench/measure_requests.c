// SPDX-License-Identifier: MIT
#include "bench/measure_requests.h"
#include "backend/async.h"
#include "base/memory.h"
#include "bench/meter.h"
#include "bench/scratch.h"
#include "bench/yardstick.h"
#include "pipeline/generate.h"
#include <stdio.h>
#include <string.h>

enum { TEXT, DENOISE, DECODE, WRITE, PARTS };
enum { BATCHES = 2, BATCHES_MIXED = 12 }; // of a call that measures throughput
enum { CONTESTANTS_MAX = SWD_BENCH_PRESETS_MAX + 2 * SWD_BENCH_LIST_MAX };
_Static_assert((int)CONTESTANTS_MAX < (int)BENCH_GROUP_MAX,
               "all of them and the yardstick take turns");
static const char *const part_keys[PARTS] = {"text_ms", "denoise_ms", "decode_ms", "write_ms"};
static const char *const prompt = "a photograph of an astronaut riding a horse";

// Work of a request.
typedef struct work {
    double flop, bytes, denoise_flop;
} work;

typedef struct contestant {
    session *s;
    swd_generate_params params;
    char name[BENCH_NAME_MAX];
    int full_steps; // 0: by scales
    bool guided;
    int pictures;
    double total_s;                       // of the last run, without loading, for one picture
    double part_s[PARTS][BENCH_RUNS_MAX]; // of each
    double p50_s, p90_s;                  // latencies of the last run
    int n_runs;
    meter *meter;
    work work; // of the last run that was metered
} contestant;

/* ---- one request ---- */

static swd_status request_once(contestant *c, const swd_generate_params *params, swd_err *err)
{
    swd_result *r = NULL;
    SWD_TRY(generate(&r, params, &c->s->p, err), err);
    c->total_s = (r->total_ms - r->load_ms) * 1e-3 / c->pictures;
    c->p50_s = r->latency_p50_ms * 1e-3;
    c->p90_s = r->latency_p90_ms * 1e-3;
    const double ms[PARTS] = {r->text_ms, r->denoise_ms, r->decode_ms, r->write_ms};
    if (c->n_runs < BENCH_RUNS_MAX) {
        for (int i = 0; i < PARTS; i++) c->part_s[i][c->n_runs] = ms[i] * 1e-3 / c->pictures;
        c->n_runs++;
    }
    result_free(&r);
    return SWD_OK;
}

// One request with the meter looking on, which costs next to nothing: no times, no calls told apart.
static swd_status request_metered(contestant *c, const swd_generate_params *params, swd_err *err)
{
    swd_backend *b = c->s->p.backend;
    meter *m = c->meter;
    meter_reset(m);
    SWD_TRY(meter_attach(m, b, err), err);
    swd_status st = request_once(c, params, err);
    meter_detach(b);
    c->work = (work){meter_flop(m) / c->pictures, m->bytes / c->pictures,
                     m->stage_flop[METER_DENOISE] / c->pictures};
    return st;
}

// What a graph replays no meter sees: on a device the work is that of a run before.
static swd_status run(void *arg, swd_err *err)
{
    contestant *c = arg;
    return async_has(c->s->p.backend) ? request_once(c, &c->params, err)
                                      : request_metered(c, &c->params, err);
}

static double total_s(void *arg)
{
    return ((contestant *)arg)->total_s;
}

// Requests that are not counted: what is missing is loaded, packed and, on a device, recorded. On the CPU one step warms up for any number
// of its kind; warm: those kinds of full steps, without guidance and with it.
static swd_status warm_up(contestant *c, bool warm[2], swd_err *err)
{
    pipeline *p = &c->s->p;
    swd_generate_params params = c->params;
    if (async_has(p->backend)) {
        bool no_graphs = p->no_graphs;
        p->no_graphs = true;
        swd_status st = request_metered(c, &params, err);
        p->no_graphs = no_graphs;
        SWD_TRY(st, err);
        if (!no_graphs) SWD_TRY(request_once(c, &params, err), err);
    } else if (!c->full_steps || !warm[c->guided]) {
        if (c->full_steps) params.steps = 1;
        SWD_TRY(request_once(c, &params, err), err);
    }
    if (c->full_steps) warm[c->guided] = true;
    c->n_runs = 0;
    return SWD_OK;
}

static void set_up(contestant *c, session *s, const char *file, int side, int batch)
{
    *c = (contestant){.s = s, .pictures = 1};
    swd_generate_params *a = &c->params;
    swd_generate_params_default(a);
    a->prompts = &prompt;
    a->random_seed = 0;
    a->seed = 1;
    a->width = a->height = side;
    a->max_tokens = s->max_tokens;
    a->output = file;
    a->drop_pixels = 1;
    a->batch = batch;
    c->pictures = a->count = batch;
}

static void by_scales(contestant *c, const char *preset)
{
    const swd_bench_params *q = c->s->params;
    c->params.sampler = SWD_SAMPLER_SCALEWISE;
    c->params.preset = preset;
    if (preset) return;
    c->params.scales = q->scales;
    c->params.n_scales = q->n_scales;
    c->params.sigmas = q->sigmas;
    c->params.n_sigmas = q->n_sigmas;
}

static void by_steps(contestant *c, int steps, double guidance)
{
    c->full_steps = steps;
    c->guided = guidance > 1;
    c->params.sampler = SWD_SAMPLER_EULER;
    c->params.steps = steps;
    c->params.guidance = guidance;
}

/* ---- which schedules ---- */

// Names of the schedules to measure, NULL for the caller's own; their number.
static int schedules(const char *out[SWD_BENCH_PRESETS_MAX], const session *s)
{
    const swd_bench_params *q = s->params;
    if (q->n_scales) return out[0] = NULL, 1;
    for (int i = 0; i < q->n_presets; i++) out[i] = q->presets[i];
    if (q->n_presets) return q->n_presets;
    out[0] = s->p.family->preset(&s->p.transformer_config);
    if (!out[0]) out[0] = "sd3.5-medium-6";
    return 1;
}

/* ---- pictures ---- */

static int make_contestants(contestant *c, session *s, const char *file, int side)
{
    static const int steps_default[] = {2, 4, 6, 28};
    const swd_bench_params *q = s->params;
    const int *steps = q->n_steps ? q->steps : steps_default;
    int n_steps = q->n_steps ? q->n_steps : 4, n = 0;
    const char *presets[SWD_BENCH_PRESETS_MAX];
    int n_presets = schedules(presets, s);
    bool pairs = q->guidance > 1 && !s->p.family->guidance_is_input; // two evaluations a step
    for (int i = 0; i < n_presets; i++, n++) {
        set_up(&c[n], s, file, side, s->batches[0]);
        by_scales(&c[n], presets[i]);
        snprintf(c[n].name, sizeof c[n].name, "%d px: %s", side,
                 presets[i] ? presets[i] : "own scales");
    }
    for (int i = 0; i < n_steps; i++)
        for (int g = 0; g < (pairs ? 2 : 1); g++, n++) {
            set_up(&c[n], s, file, side, s->batches[0]);
            by_steps(&c[n], steps[i], g ? q->guidance : 1);
            snprintf(c[n].name, sizeof c[n].name, "%d px: %d full step%s%s", side, steps[i],
                     steps[i] > 1 ? "s" : "", g ? ", guided" : "");
        }
    return n;
}

// The samples of run 0 to runs - 1 of a part, in a list that may be sorted.
static double part_median(const contestant *c, int part, int runs)
{
    double x[BENCH_RUNS_MAX];
    memcpy(x, c->part_s[part] + c->n_runs - runs, (size_t)runs * sizeof *x);
    return bench_statistics(x, runs).median;
}

// Of the denoiser, round by round; warm-up rounds come first in both.
static double denoise_ratio(const contestant *c, const contestant *first, int runs, int first_runs)
{
    double x[BENCH_RUNS_MAX];
    for (int r = 0; r < runs; r++)
        x[r] = c->part_s[DENOISE][c->n_runs - runs + r] /
               first->part_s[DENOISE][first->n_runs - first_runs + r];
    return bench_statistics(x, runs).median;
}

static void report(bench *b, int at, const contestant *c, int n)
{
    int first_runs = bench_at(b, at)->wall.runs;
    for (int i = 0; i < n; i++) {
        int runs = bench_at(b, at + i)->wall.runs;
        for (int k = 0; k < PARTS; k++)
            bench_value(b, at + i, part_keys[k], part_median(&c[i], k, runs) * 1e3);
        bench_value(b, at + i, "steps", c[i].full_steps);
        bench_value(b, at + i, "guided", c[i].guided);
        bench_value(b, at + i, "denoise_flop", c[i].work.denoise_flop);
        if (i == 0) continue;
        double ratio = denoise_ratio(&c[i], &c[0], runs, first_runs),
               by_flop = c[i].work.denoise_flop / c[0].work.denoise_flop;
        bench_value(b, at + i, "denoise_ratio", ratio);
        bench_value(b, at + i, "denoise_flop_ratio", by_flop);
        bench_value(b, at + i, "efficiency", ratio / by_flop);
    }
}

// What it is a share of: the card's nominal peak, or what oneDNN's product reached in the same rounds.
static void report_peaks(const session *s, int at, int n, const yardstick *y)
{
    for (int i = 0; i < n; i++) {
        if (y)
            bench_peak(s->b, at + i, yardstick_rate(y, BENCH_RUNS_MAX), 0, "measured");
        else if (s->peak_flop_s > 0)
            bench_peak(s->b, at + i, s->peak_flop_s, s->peak_byte_s, "nominal");
    }
}

static swd_status prepare(session *s, bench_case *cases, contestant *c, int n, meter *m,
                          swd_err *err)
{
    bool warm[2] = {false, false};
    for (int i = 0; i < n; i++) {
        c[i].meter = m;
        SWD_TRY(warm_up(&c[i], warm, err), err);
        cases[i] = (bench_case){.name = c[i].name,
                                .precision = session_precision(s),
                                .run = run,
                                .own_s = total_s,
                                .arg = &c[i]};
    }
    return SWD_OK;
}

static swd_status run_contest(session *s, contestant *c, int n, int *at, swd_err *err)
{
    bench_case cases[BENCH_GROUP_MAX];
    yardstick *y = NULL;
    meter *m = NULL;
    bool wanted = false;
    *at = -1;
    for (int i = 0; i < n; i++) wanted |= bench_wanted(s->b, c[i].name);
    if (!wanted) return SWD_OK;
    swd_status st = swd_calloc(&m, 1, sizeof *m, "a meter", err);
    if (st == SWD_OK) st = prepare(s, cases, c, n, m, err);
    if (st == SWD_OK && !async_has(s->p.backend))
        st = yardstick_create(&y, NULL, s->p.compute, err);
    cases[n] =
        (bench_case){.name = "oneDNN's product", .run = yardstick_run, .arg = y, .unlisted = true};
    bench_set_limits(s->b, (bench_limits){0, 3, BENCH_RUNS_MAX, 2, session_patience_s(s)});
    if (st == SWD_OK) st = bench_run(at, s->b, cases, y ? n + 1 : n, err);
    for (int i = 0; i < n && st == SWD_OK && *at >= 0; i++)
        bench_work(s->b, *at + i, c[i].work.flop, c[i].work.bytes);
    if (st == SWD_OK && *at >= 0) report_peaks(s, *at, n, y);
    yardstick_destroy(&y);
    free(m);
    return st == SWD_OK ? st : swd_err_frame(err, st, __FILE__, __LINE__, __func__);
}

swd_status measure_e2e(session *s, swd_err *err)
{
    contestant *c;
    char folder[SCRATCH_PATH_MAX], file[SCRATCH_PATH_MAX + 16];
    SWD_TRY(swd_calloc(&c, CONTESTANTS_MAX, sizeof *c, "contestants", err), err);
    swd_status st = scratch_make(folder, err);
    snprintf(file, sizeof file, "%s/%%d.jpg", folder);
    for (int i = 0; i < s->n_sides && st == SWD_OK; i++) {
        int at, n = make_contestants(c, s, file, s->sides[i]);
        st = run_contest(s, c, n, &at, err);
        if (st == SWD_OK && at >= 0) report(s->b, at, c, n);
    }
    scratch_remove(folder);
    free(c);
    return st == SWD_OK ? st : swd_err_frame(err, st, __FILE__, __LINE__, __func__);
}

/* ---- pictures a second ---- */

// Single requests, then each batch, and each with a batch at every step of the schedule in one pass where that is wished for.
static int make_streams(contestant *c, session *s, const char *file, int side)
{
    const char *presets[SWD_BENCH_PRESETS_MAX];
    bool mix = s->params->mix != 0;
    int n = 0;
    schedules(presets, s);
    for (int i = -1; i < s->n_batches; i++)
        for (int m = 0; m < (mix && i >= 0 ? 2 : 1); m++, n++) {
            int batch = i < 0 ? 1 : s->batches[i];
            set_up(&c[n], s, file, side, batch);
            by_scales(&c[n], presets[0]);
            c[n].params.mix = m;
            if (i < 0) {
                snprintf(c[n].name, sizeof c[n].name, "%d px: single requests", side);
                continue;
            }
            c[n].pictures = c[n].params.count = (mix ? BATCHES_MIXED : BATCHES) * batch;
            snprintf(c[n].name, sizeof c[n].name, "%d px: batches of %d%s", side, batch,
                     m ? ", mixed" : "");
        }
    return n;
}

swd_status measure_throughput(session *s, swd_err *err)
{
    contestant *c;
    char folder[SCRATCH_PATH_MAX], file[SCRATCH_PATH_MAX + 16];
    SWD_TRY(swd_calloc(&c, CONTESTANTS_MAX, sizeof *c, "contestants", err), err);
    swd_status st = scratch_make(folder, err);
    snprintf(file, sizeof file, "%s/%%d.jpg", folder);
    for (int k = 0; k < s->n_sides && st == SWD_OK; k++) {
        int at, n = make_streams(c, s, file, s->sides[k]);
        st = run_contest(s, c, n, &at, err);
        for (int i = 0; i < n && st == SWD_OK && at >= 0; i++) {
            bench_value(s->b, at + i, "images_per_s", 1 / bench_at(s->b, at + i)->wall.median);
            bench_value(s->b, at + i, "pictures", c[i].pictures);
            bench_value(s->b, at + i, "latency_p50_ms", c[i].p50_s * 1e3);
            bench_value(s->b, at + i, "latency_p90_ms", c[i].p90_s * 1e3);
        }
    }
    scratch_remove(folder);
    free(c);
    return st == SWD_OK ? st : swd_err_frame(err, st, __FILE__, __LINE__, __func__);
}
