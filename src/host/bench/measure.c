// SPDX-License-Identifier: MIT
#include "bench/measure.h"
#include "base/memory.h"
#include "bench/compare.h"
#include "bench/gpu.h"
#include "bench/machine.h"
#include "bench/measure_networks.h"
#include "bench/measure_requests.h"
#include "bench/tables.h"
#include "pipeline/plan.h"
#include "pipeline/prompt.h"
#include "weights/shapes.h"
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    swd_status (*measure)(session *s, swd_err *err);
} kinds[] = {
    [SWD_BENCH_OPS] = {"ops", measure_ops},
    [SWD_BENCH_STEP] = {"step", measure_step},
    [SWD_BENCH_VAE] = {"vae", measure_vae},
    [SWD_BENCH_TEXT] = {"text", measure_text},
    [SWD_BENCH_E2E] = {"e2e", measure_e2e},
    [SWD_BENCH_THROUGHPUT] = {"throughput", measure_throughput},
    [SWD_BENCH_COMPARE] = {"compare", measure_compare},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

const char *measure_name(swd_bench_what what)
{
    return (int)what >= 0 && (int)what < KINDS ? kinds[what].name : NULL;
}

/* ---- what is wrong with a call ---- */

static swd_status check_list(const char *name, const int *list, int n, int hi, swd_err *err)
{
    if (n < 0 || n > SWD_BENCH_LIST_MAX || (n && !list))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d %s; give at most %d", n, name,
                        SWD_BENCH_LIST_MAX);
    for (int i = 0; i < n; i++)
        if (list[i] < 1 || list[i] > hi)
            return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d among the %s; give 1 to %d", list[i], name,
                            hi);
    return SWD_OK;
}

static swd_status check(const swd_bench_params *q, swd_err *err)
{
    if (!measure_name(q->what))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "what is %d; it is no kind of measurement",
                        (int)q->what);
    SWD_TRY(check_list("sizes", q->sides, q->n_sides, SWD_SIDE_MAX, err), err);
    SWD_TRY(check_list("batches", q->batches, q->n_batches, 1024, err), err);
    SWD_TRY(check_list("numbers of steps", q->steps, q->n_steps, SWD_STEPS_MAX, err), err);
    if (q->n_presets < 0 || q->n_presets > SWD_BENCH_PRESETS_MAX || (q->n_presets && !q->presets))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d presets; give at most %d", q->n_presets,
                        SWD_BENCH_PRESETS_MAX);
    if (q->n_presets && q->n_scales)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "give presets, or scales and sigmas");
    if (q->runs < 0 || q->runs > BENCH_RUNS_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d runs; give 1 to %d", q->runs, BENCH_RUNS_MAX);
    if (!(q->time_box_s >= 0 && q->time_box_s <= 1e6))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a time box of %g s; give 0 to 1e6", q->time_box_s);
    if (!(q->guidance >= 0 && q->guidance <= 1000))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "guidance %g; give 0 to 1000", q->guidance);
    if (q->arch && q->open && q->open->model)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "give a model folder or a shape, not both");
    return SWD_OK;
}

/* ---- the session ---- */

static swd_status find_shape(const model_shape **out, const char *name, swd_err *err)
{
    char known[256] = "";
    *out = shape_find(name);
    for (int i = 0; shape_at(i); i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s %s", i ? "," : "",
                 shape_at(i)->name);
    return *out
               ? SWD_OK
               : SWD_FAIL(err, SWD_ERR_ARGUMENT, "arch %s is not known; these are:%s", name, known);
}

static void default_sizes(session *s)
{
    const swd_bench_params *q = s->params;
    int whole = s->p.facts.sample_size * pipeline_vae_factor(&s->p);
    bool parts = q->what == SWD_BENCH_STEP || q->what == SWD_BENCH_VAE || q->what == SWD_BENCH_OPS;
    s->n_sides = q->n_sides;
    for (int i = 0; i < q->n_sides; i++) s->sides[i] = q->sides[i];
    for (int k = parts ? 4 : 1; !q->n_sides && k >= 1; k /= 2) s->sides[s->n_sides++] = whole / k;
    s->n_batches = q->n_batches;
    for (int i = 0; i < q->n_batches; i++) s->batches[i] = q->batches[i];
    for (int k = 1; !q->n_batches && k <= (q->what == SWD_BENCH_THROUGHPUT ? 4 : 1); k *= 2)
        s->batches[s->n_batches++] = k;
}

static swd_status check_sides(const session *s, swd_err *err)
{
    int unit = s->p.facts.patch * pipeline_vae_factor(&s->p);
    for (int i = 0; i < s->n_sides; i++)
        if (s->sides[i] % unit)
            return SWD_FAIL(err, SWD_ERR_ARGUMENT, "size %d is no multiple of %d", s->sides[i],
                            unit);
    return SWD_OK;
}

// The name of the model: of a folder its last part, which says nothing of the machine it lies on.
static const char *model_name(const session *s)
{
    if (!s->p.random && !s->open.model) return "bundled model";
    const char *slash = strrchr(s->p.dir, '/');
    return slash && slash[1] ? slash + 1 : s->p.dir;
}

static void describe(session *s)
{
    bench *b = s->b;
    const pipeline *p = &s->p;
    char text[96];
    bench_fact(b, "model", model_name(s));
    bench_fact(b, "device", p->backend->device);
    bench_fact(b, "backend", p->backend->name);
    bench_fact(b, "precision", session_precision(s));
    snprintf(text, sizeof text, "%s, %d tokens of text", session_precision(s),
             prompt_tokens(p, s->max_tokens));
    bench_fact(b, "text", text);
    if (p->device_note[0]) bench_fact(b, "note", p->device_note);
    if (p->precision == SWD_PRECISION_BF16 && p->compute != SWD_BF16)
        bench_fact(b, "note", "bf16 was asked for, but this processor has none");
    if (strcmp(p->backend->name, "cuda") != 0) return;
    const char *colon = strchr(p->device, ':');
    gpu_facts(b, colon ? atoi(colon + 1) : 0);
    const gpu_peak *peak = gpu_peak_of(p->backend->device);
    if (!peak || p->compute != SWD_BF16) return;
    s->peak_flop_s = peak->flop_s;
    s->peak_byte_s = peak->byte_s;
}

static swd_status open_session(session *s, swd_err *err)
{
    pipeline *p = &s->p;
    if (s->params->arch) SWD_TRY(find_shape(&p->random, s->params->arch, err), err);
    SWD_TRY(pipeline_open(p, &s->open, err), err);
    SWD_TRY(pipeline_load_backend(p, err), err);
    SWD_TRY(pipeline_read_configs(p, err), err);
    if (p->text_encoders) SWD_TRY(pipeline_load_tokenizers(p, err), err);
    SWD_TRY(plan_max_tokens(&s->max_tokens, s->params->max_tokens, p, err), err);
    default_sizes(s);
    return check_sides(s, err);
}

// Between the stages and steps of a request, and of loading.
static int between_steps(void *user, const swd_progress *progress)
{
    (void)progress;
    return bench_stopped(user);
}

static void tell(void *user, const bench_entry *e)
{
    char line[512];
    const swd_bench_params *q = user;
    q->line(q->user, tables_line(e, line, sizeof line));
}

swd_status measure_run(bench **out, const swd_bench_params *params, const bench_clock *clock,
                       swd_err *err)
{
    session *s;
    *out = NULL;
    SWD_TRY(check(params, err), err);
    SWD_TRY(swd_calloc(&s, 1, sizeof *s, "a measurement", err), err);
    s->params = params;
    swd_open_params_default(&s->open);
    if (params->open) s->open = *params->open;
    s->open.no_embeds = 1; // text is encoded in each run
    bench_wish wish = {params->runs, params->time_box_s, params->quick != 0, params->filter};
    int threads = s->open.threads ? s->open.threads : machine_threads();
    swd_status st = bench_create(&s->b, threads, &wish, clock, err);
    if (st == SWD_OK && params->running) bench_on_run(s->b, params->running, params->user);
    s->p.progress = between_steps;
    s->p.progress_user = s->b;
    if (st == SWD_OK && params->line) bench_on_entry(s->b, tell, (void *)(uintptr_t)params);
    if (st == SWD_OK) st = open_session(s, err);
    if (st == SWD_OK) {
        describe(s);
        st = kinds[params->what].measure(s, err);
    }
    if (st == SWD_OK && bench_count(s->b) == 0)
        st = SWD_FAIL(err, SWD_ERR_ARGUMENT,
                      "nothing was measured: the filter, or a choice of parts, left all out");
    pipeline_close(&s->p);
    if (st == SWD_OK)
        *out = s->b;
    else
        bench_destroy(&s->b);
    free(s);
    return st == SWD_OK ? st : swd_err_frame(err, st, __FILE__, __LINE__, __func__);
}
