// SPDX-License-Identifier: MIT
#include "pipeline/plan.h"
#include "pipeline/swd_json.h"
#include "sample/schedule.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DEFAULT_SIDE_MAX = 8, BATCH_TOKENS = 4096 };

/* A schedule as chosen, before it is fitted to a size. */
typedef struct choice {
    char name[CONFIG_NAME_MAX];
    int n, scales[SWD_STEPS_MAX];
    double sigmas[SWD_STEPS_MAX];
    int max_tokens; /* 0: it says nothing */
} choice;

static const config_swd *adapter_swd(const pipeline *p)
{
    for (int i = p->n_adapters - 1; i >= 0; i--)
        if (p->adapters[i].swd) return p->adapters[i].swd;
    return NULL;
}

/* ---- presets by name ---- */

static void take_config_preset(choice *c, const config_preset *q, const config_swd *from)
{
    memcpy(c->name, q->name, sizeof(c->name));
    c->n = q->n_steps;
    memcpy(c->scales, q->scales, (size_t)q->n_steps * sizeof(*c->scales));
    memcpy(c->sigmas, q->sigmas, (size_t)q->n_steps * sizeof(*c->sigmas));
    c->max_tokens = from->max_tokens;
}

static swd_status take_named(choice *c, const char *name, const pipeline *p, swd_err *err)
{
    const config_swd *places[2] = {adapter_swd(p), p->swd};
    for (int i = 0; i < 2; i++) {
        const config_preset *q = swd_json_find(places[i], name);
        if (q) {
            take_config_preset(c, q, places[i]);
            return SWD_OK;
        }
    }
    const schedule_preset *b = schedule_find(name);
    if (!b)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "preset %s is not known; `swd presets` lists them",
                        name);
    if (b->refused)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "preset %s cannot run: %s", name, b->refused);
    snprintf(c->name, sizeof(c->name), "%s", b->name);
    c->n = b->n_steps;
    for (int i = 0; i < b->n_steps; i++) {
        c->scales[i] = b->scales[i];
        c->sigmas[i] = b->sigmas[i];
    }
    c->max_tokens = b->max_tokens;
    return SWD_OK;
}

/* The schedule that a swd.json brings; c->n = 0 if it brings none. */
static swd_status take_default_of(choice *c, const config_swd *s, const pipeline *p, swd_err *err)
{
    if (!s) return SWD_OK;
    const config_preset *q = s->default_preset[0] ? swd_json_find(s, s->default_preset)
                             : s->n_presets       ? &s->presets[0]
                                                  : NULL;
    if (q)
        take_config_preset(c, q, s);
    else if (s->default_preset[0])
        SWD_TRY(take_named(c, s->default_preset, p, err), err);
    if (c->n && s->max_tokens) c->max_tokens = s->max_tokens;
    return SWD_OK;
}

/* An adapter without swd.json takes its family's preset. */
static const char *family_preset(const pipeline *p)
{
    return p->transformer_read ? p->family->preset(&p->transformer_config) : NULL;
}

static swd_status take_default(choice *c, char *note, size_t n_note, const pipeline *p,
                               swd_err *err)
{
    SWD_TRY(take_default_of(c, adapter_swd(p), p, err), err);
    if (c->n) return SWD_OK;
    if (p->n_adapters && !adapter_swd(p) && family_preset(p)) {
        snprintf(note, n_note, "the adapter has no swd.json: using its family's schedule, %s",
                 family_preset(p));
        return take_named(c, family_preset(p), p, err);
    }
    return take_default_of(c, p->swd, p, err);
}

static swd_status take_own(choice *c, const swd_generate_params *a, const pipeline *p, swd_err *err)
{
    if (a->preset)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "a preset and an own schedule exclude each other; give one");
    if (!a->scales || !a->sigmas)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "%d scales and %d sigmas; an own schedule needs one sigma per scale",
                        a->scales ? a->n_scales : 0, a->sigmas ? a->n_sigmas : 0);
    SWD_TRY(schedule_check(a->scales, a->n_scales, a->sigmas, a->n_sigmas, err), err);
    int n = a->n_scales;
    snprintf(c->name, sizeof(c->name), "custom");
    c->n = n;
    memcpy(c->scales, a->scales, (size_t)n * sizeof(*c->scales));
    memcpy(c->sigmas, a->sigmas, (size_t)n * sizeof(*c->sigmas));
    c->max_tokens = adapter_swd(p) ? adapter_swd(p)->max_tokens : p->swd ? p->swd->max_tokens : 0;
    return SWD_OK;
}

/* ---- sampler ---- */

static swd_status choose(choice *c, request_plan *o, const swd_generate_params *a,
                         const pipeline *p, swd_err *err)
{
    bool own = a->scales || a->sigmas || a->n_scales || a->n_sigmas;
    if (a->sampler == SWD_SAMPLER_EULER && (own || a->preset))
        return SWD_FAIL(
            err, SWD_ERR_ARGUMENT,
            "a schedule of scales is for the scale-wise sampler; leave out one of the two");
    if (own)
        SWD_TRY(take_own(c, a, p, err), err);
    else if (a->preset)
        SWD_TRY(take_named(c, a->preset, p, err), err);
    else if (a->sampler != SWD_SAMPLER_EULER)
        SWD_TRY(take_default(c, o->note, sizeof(o->note), p, err), err);
    if (a->sampler == SWD_SAMPLER_SCALEWISE && !c->n)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "the model brings no schedule; name one (--preset, see `swd presets`), or "
                        "give --scales "
                        "and --sigmas");
    o->sampler = c->n ? SWD_SAMPLER_SCALEWISE : SWD_SAMPLER_EULER;
    if (c->n && (a->steps || a->shift > 0))
        return SWD_FAIL(
            err, SWD_ERR_ARGUMENT,
            "steps and shift are for the euler sampler; add --sampler euler, or leave them out");
    return SWD_OK;
}

/* Of two swd.json files the adapter's speaks first, field by field. */
static void set_baseline(request_plan *o, int *steps, const swd_generate_params *a,
                         const pipeline *p)
{
    const config_swd *places[2] = {p->swd, adapter_swd(p)};
    *steps = 28;
    o->guidance = p->family->guidance_euler;
    o->shift = p->family->shift;
    for (int i = 0; i < 2; i++) {
        if (!places[i]) continue;
        if (places[i]->has_steps) *steps = places[i]->steps;
        if (places[i]->has_guidance) o->guidance = places[i]->guidance;
        if (places[i]->has_shift) o->shift = places[i]->shift;
    }
    if (a->steps) *steps = a->steps;
    if (a->shift > 0) o->shift = a->shift;
}

static swd_status fill_euler(request_plan *o, const swd_generate_params *a, const pipeline *p,
                             swd_err *err)
{
    int steps;
    set_baseline(o, &steps, a, p);
    if (steps < 1 || steps > SWD_STEPS_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d steps; give 1 to %d", steps, SWD_STEPS_MAX);
    snprintf(o->preset, sizeof(o->preset), "euler");
    double sigmas[SWD_STEPS_MAX + 1];
    int patch = p->facts.patch;
    int64_t tokens = (int64_t)(o->latent_width / patch) * (o->latent_height / patch);
    SWD_TRY(p->family->euler(sigmas, &o->shift, steps, tokens, &p->scheduler_config, err), err);
    o->n_steps = steps;
    for (int k = 0; k < steps; k++) {
        o->sigmas[k] = sigmas[k];
        o->steps[k] = (sample_step){
            .height = o->latent_height, .width = o->latent_width, .sigma = (float)sigmas[k]};
    }
    return SWD_OK;
}

static void fill_scalewise(request_plan *o, const choice *c, const pipeline *p)
{
    memcpy(o->preset, c->name, sizeof(o->preset));
    o->guidance = p->family->guidance_scalewise;
    o->shift = 0;
    o->n_steps = c->n;
    int last = c->scales[c->n - 1];
    for (int k = 0; k < c->n; k++) {
        o->sigmas[k] = c->sigmas[k];
        o->steps[k] = (sample_step){.height = schedule_side(o->latent_height, c->scales[k], last),
                                    .width = schedule_side(o->latent_width, c->scales[k], last),
                                    .sigma = (float)c->sigmas[k]};
    }
}

/* ---- sizes and the rest ---- */

static swd_status fill_size(request_plan *o, const swd_generate_params *a, const pipeline *p,
                            swd_err *err)
{
    const denoiser_facts *t = &p->facts;
    int factor = pipeline_vae_factor(p), multiple = factor * t->patch,
        side = t->sample_size * factor;
    o->width = a->width ? a->width : side;
    o->height = a->height ? a->height : side;
    if (o->width < 1 || o->height < 1 || o->width > SWD_SIDE_MAX || o->height > SWD_SIDE_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "size %dx%d; sides are %d to %d", o->width,
                        o->height, multiple, SWD_SIDE_MAX);
    if (o->width % multiple || o->height % multiple)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "size %dx%d; both sides must be multiples of %d",
                        o->width, o->height, multiple);
    int side_max = t->side_max * factor;
    if (o->width > side_max || o->height > side_max)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "size %dx%d; this model's positions end at %dx%d",
                        o->width, o->height, side_max, side_max);
    o->latent_width = o->width / factor;
    o->latent_height = o->height / factor;
    o->channels = t->channels;
    return SWD_OK;
}

/* Guidance is an input of the network, or the difference of two evaluations. */
static swd_status fill_guidance(request_plan *o, const swd_generate_params *a, const pipeline *p,
                                swd_err *err)
{
    if (a->guidance >= 0) o->guidance = a->guidance;
    if (!isfinite(o->guidance) || o->guidance > 1000)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "guidance %g; give 0 to 1000", o->guidance);
    o->evaluations = 1;
    if (p->family->guidance_is_input) {
        if (a->negative && a->negative[0])
            return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                            "a negative prompt does nothing here: %s takes guidance as an input; "
                            "leave it out",
                            p->family->models);
        if (!p->facts.guided && a->guidance > 0)
            snprintf(o->note + strlen(o->note), sizeof o->note - strlen(o->note),
                     "%sthis model takes no guidance: %g is ignored", o->note[0] ? "; " : "",
                     a->guidance);
        if (!p->facts.guided) o->guidance = 0;
        return SWD_OK;
    }
    if (o->sampler == SWD_SAMPLER_SCALEWISE && a->negative && o->guidance <= 1)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "a negative prompt does nothing without guidance, and scale-wise sampling "
                        "has none of its "
                        "own; add --guidance or --sampler euler");
    if (o->guidance > 1)
        o->evaluations = 2;
    else
        o->guidance = 0;
    return SWD_OK;
}

/* Drops the steps before the init picture's. */
static swd_status fill_init(request_plan *o, const swd_generate_params *a, swd_err *err)
{
    o->with_init = a->init != NULL;
    if (!a->init) return SWD_OK;
    if (!(a->strength > 0 && a->strength <= 1))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "strength %g; give a number over 0, up to 1",
                        a->strength);
    int first = 0;
    while (first < o->n_steps && o->sigmas[first] > a->strength) first++;
    if (first == o->n_steps)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "strength %g is below the last sigma of the schedule, %.4f; give more",
                        a->strength, o->sigmas[o->n_steps - 1]);
    o->n_steps -= first;
    memmove(o->steps, o->steps + first, (size_t)o->n_steps * sizeof(*o->steps));
    memmove(o->sigmas, o->sigmas + first, (size_t)o->n_steps * sizeof(*o->sigmas));
    return SWD_OK;
}

static swd_status token_rule(int *out, int asked, int schedule, const pipeline *p, swd_err *err)
{
    if (asked < 0 || asked > SWD_TOKENS_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d tokens; give 1 to %d", asked, SWD_TOKENS_MAX);
    int fallback = p->family->t5_tokens;
    if (p->family->t5_tokens_capped && p->unigram && t5_unigram_max_length(p->unigram) < fallback)
        fallback = t5_unigram_max_length(p->unigram);
    *out = asked ? asked : schedule ? schedule : fallback;
    return SWD_OK;
}

swd_status plan_max_tokens(int *out, int max_tokens, const pipeline *p, swd_err *err)
{
    choice c = {0};
    char note[256];
    SWD_TRY(take_default(&c, note, sizeof(note), p, err), err);
    int of_files = adapter_swd(p) ? adapter_swd(p)->max_tokens : p->swd ? p->swd->max_tokens : 0;
    return token_rule(out, max_tokens, c.n ? c.max_tokens : of_files, p, err);
}

static int default_batch(const request_plan *o, const pipeline *p)
{
    int patch = p->facts.patch;
    int64_t tokens =
        (int64_t)(o->latent_width / patch) * (o->latent_height / patch) * o->evaluations;
    int64_t fit = BATCH_TOKENS / (tokens > 0 ? tokens : 1);
    return fit < 1 ? 1 : fit > DEFAULT_SIDE_MAX ? DEFAULT_SIDE_MAX : (int)fit;
}

swd_status plan_make(request_plan *out, const swd_generate_params *a, const pipeline *p,
                     swd_err *err)
{
    *out = (request_plan){0};
    if (!a->prompts || a->n_prompts < 1 || a->count < 1 ||
        (int64_t)a->n_prompts * a->count > SWD_IMAGES_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "%d prompts, %d images each; give at least one, at most %d in all",
                        a->n_prompts, a->count, SWD_IMAGES_MAX);
    out->n_images = a->n_prompts * a->count;
    choice c = {0};
    SWD_TRY(fill_size(out, a, p, err), err);
    SWD_TRY(choose(&c, out, a, p, err), err);
    if (c.n)
        fill_scalewise(out, &c, p);
    else
        SWD_TRY(fill_euler(out, a, p, err), err);
    SWD_TRY(fill_guidance(out, a, p, err), err);
    SWD_TRY(fill_init(out, a, err), err);
    int of_files = adapter_swd(p) ? adapter_swd(p)->max_tokens : p->swd ? p->swd->max_tokens : 0;
    SWD_TRY(token_rule(&out->max_tokens, a->max_tokens, c.n ? c.max_tokens : of_files, p, err),
            err);
    if (a->batch < 0 || a->batch > 1024)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "batch %d; give 1 to 1024, or 0", a->batch);
    out->batch = a->batch ? a->batch : default_batch(out, p);
    if (out->batch > out->n_images) out->batch = out->n_images;
    return SWD_OK;
}

/* ---- the list of presets ---- */

static void describe(swd_preset *o, const char *source, const choice *c, const char *refused)
{
    *o = (swd_preset){.size = sizeof(*o), .n_steps = c->n, .max_tokens = c->max_tokens};
    snprintf(o->name, sizeof(o->name), "%s", c->name);
    snprintf(o->source, sizeof(o->source), "%s", source);
    snprintf(o->refused, sizeof(o->refused), "%s", refused ? refused : "");
    for (int k = 0; k < c->n; k++) {
        double r = (double)c->scales[k] / c->scales[c->n - 1];
        o->scales[k] = c->scales[k];
        o->sigmas[k] = c->sigmas[k];
        o->cost += r * r;
    }
}

bool plan_preset_at(swd_preset *out, int i, const pipeline *p)
{
    const config_swd *places[2] = {p ? adapter_swd(p) : NULL, p ? p->swd : NULL};
    choice c = {0}, dflt = {0};
    char note[256];
    bool found = false;
    for (int k = 0; k < 2 && !found; k++) {
        int n = places[k] ? places[k]->n_presets : 0;
        if (i < n) {
            take_config_preset(&c, &places[k]->presets[i], places[k]);
            describe(out, k ? "model" : "adapter", &c, NULL);
            found = true;
        }
        i -= n;
    }
    const schedule_preset *b = found ? NULL : schedule_at(i);
    if (!found && !b) return false;
    if (b) {
        snprintf(c.name, sizeof(c.name), "%s", b->name);
        c.n = b->n_steps;
        c.max_tokens = b->max_tokens;
        for (int k = 0; k < c.n; k++) {
            c.scales[k] = b->scales[k];
            c.sigmas[k] = b->sigmas[k];
        }
        describe(out, "built-in", &c, b->refused);
        out->cost = schedule_preset_cost(b).linear;
    }
    if (p && take_default(&dflt, note, sizeof(note), p, NULL) == SWD_OK && dflt.n)
        out->is_default = strcmp(dflt.name, c.name) == 0;
    return true;
}
