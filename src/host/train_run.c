// SPDX-License-Identifier: MIT
// In order: folders, schedule, data, cache (autoencoder and text encoders, released then), networks, session.
#include "train_run.h"
#include "base/memory.h"
#include "io/digest.h"
#include "parallel/group.h"
#include "pipeline/networks.h"
#include "pipeline/plan.h"
#include "pipeline/prompt.h"
#include "sample/schedule.h"
#include "train/distill_task.h"
#include "train/session.h"
#include "train/train_config.h"
#include "train_encode.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { SHEET_DEFAULT = 16, SHEET_STEPS = 28, BAD_SHOWN = 5 };

typedef struct run {
    const swd_train_params *p;
    pipeline *pl;
    swd_err *err;
    swd_log log;
    encode_source source; /* of cache and sheets */
    /* what is trained */
    char preset[CONFIG_NAME_MAX];
    int scales[SWD_TRAIN_SCALES_MAX], n_scales;
    double sigmas[SWD_TRAIN_SCALES_MAX];
    double guidance;
    char *schedule_json, *transformer;
    dataset *data;
    cache *cache;
    denoiser *own; /* the student's, where its weights learn beside a teacher */
    weights *files;
    sheet_setup sheet;
    float *sheet_texts; /* context and pooled of all prompts, then of the empty one */
    distill_task *task;
    int lock;    /* file descriptor; -1: none */
    bool writes; /* the one process of the group that does */
} run;

static bool is_flow(const run *r)
{
    return r->p->mode == SWD_TRAIN_FLOW_MATCHING;
}

/* ---- messages ---- */

static void speak(void *ctx, swd_log_level level, const char *text)
{
    const run *r = ctx;
    (void)level;
    if (r->p->message && r->writes) r->p->message(r->p->user, text);
}

static void tell_bad(const run *r)
{
    int64_t n = dataset_bad_count(r->data);
    for (int64_t i = 0; i < n && i < BAD_SHOWN; i++)
        log_print(&r->log, SWD_LOG_WARNING, "left out: %s: %s", dataset_bad_at(r->data, i).file,
                  dataset_bad_at(r->data, i).reason);
    if (n > BAD_SHOWN)
        log_print(&r->log, SWD_LOG_WARNING, "left out: %lld more", (long long)n - BAD_SHOWN);
}

/* ---- schedule ---- */

static swd_status take_preset(run *r, int *max_tokens)
{
    swd_preset q;
    const char *name = r->p->preset;
    for (int i = 0; plan_preset_at(&q, i, r->pl); i++) {
        if (name[0] ? strcmp(q.name, name) != 0 : !q.is_default) continue;
        if (q.refused[0] || q.n_steps > SWD_TRAIN_SCALES_MAX)
            return SWD_FAIL(r->err, SWD_ERR_UNSUPPORTED, "preset %s cannot be trained: %s", q.name,
                            q.refused[0] ? q.refused : "it has too many steps");
        snprintf(r->preset, sizeof(r->preset), "%s", q.name);
        r->n_scales = q.n_steps;
        memcpy(r->scales, q.scales, (size_t)q.n_steps * sizeof(*q.scales));
        memcpy(r->sigmas, q.sigmas, (size_t)q.n_steps * sizeof(*q.sigmas));
        *max_tokens = q.max_tokens;
        return SWD_OK;
    }
    if (name[0])
        return SWD_FAIL(r->err, SWD_ERR_ARGUMENT,
                        "preset %s is not known; `swd presets` lists them", name);
    return SWD_FAIL(r->err, SWD_ERR_ARGUMENT,
                    "model %s brings no schedule; give preset, or scales and sigmas", r->pl->dir);
}

static swd_status check_scales(const run *r)
{
    const denoiser_facts *f = &r->pl->facts;
    static const double one = 1;
    if (!is_flow(r))
        SWD_TRY(schedule_check(r->scales, r->n_scales, r->sigmas, r->n_scales, r->err), r->err);
    for (int k = 0; k < r->n_scales; k++) {
        if (is_flow(r)) SWD_TRY(schedule_check(&r->scales[k], 1, &one, 1, r->err), r->err);
        if (r->scales[k] % f->patch || r->scales[k] > f->side_max)
            return SWD_FAIL(r->err, SWD_ERR_ARGUMENT,
                            "scale %d: this model takes multiples of %d up to %d", r->scales[k],
                            f->patch, f->side_max);
    }
    return SWD_OK;
}

static swd_status choose_schedule(run *r)
{
    const swd_train_params *p = r->p;
    int max_tokens = 0;
    if (p->n_scales) {
        r->n_scales = p->n_scales;
        memcpy(r->scales, p->scales, (size_t)p->n_scales * sizeof(*p->scales));
        memcpy(r->sigmas, p->sigmas, (size_t)p->n_scales * sizeof(*p->sigmas));
        snprintf(r->preset, sizeof(r->preset), "student-%d", p->n_scales);
        if (!is_flow(r))
            SWD_TRY(schedule_check(p->scales, p->n_scales, p->sigmas, p->n_sigmas, r->err), r->err);
    } else if (is_flow(r)) {
        r->n_scales = 1;
        r->scales[0] = r->pl->facts.sample_size;
    } else {
        SWD_TRY(take_preset(r, &max_tokens), r->err);
    }
    SWD_TRY(check_scales(r), r->err);
    return plan_max_tokens(&r->source.max_tokens, p->max_tokens ? p->max_tokens : max_tokens, r->pl,
                           r->err);
}

/* The teacher's: asked for, swd.json's, or what the published students were trained with. */
static double choose_guidance(const run *r)
{
    const config_swd *swd = r->pl->swd;
    const char *preset = r->pl->family->preset(&r->pl->transformer_config);
    if (r->p->guidance >= 0) return r->p->guidance;
    if (swd && swd->has_guidance) return swd->guidance;
    return preset && str_starts(preset, "sd3.5-medium") ? 7.0 : 4.5;
}

static int feature_block(const run *r)
{
    int layers = r->pl->transformer_config.kind == DENOISER_SD3
                     ? r->pl->transformer_config.sd3.num_layers
                     : 0;
    if (r->p->feature_block >= 0) return r->p->feature_block;
    return layers == 38 ? 20 : layers > 1 ? layers / 2 - 1 : 0; /* 24: 11 */
}

/* A fine-tuned model samples as before: without a swd.json the adapter would be taken for a published student's. */
static json_t *baseline_json(const config_swd *swd)
{
    json_t *o = json_object();
    if (swd && swd->has_steps) json_object_set_new(o, "steps", json_integer(swd->steps));
    if (swd && swd->has_guidance) json_object_set_new(o, "guidance", json_real(swd->guidance));
    if (swd && swd->has_shift) json_object_set_new(o, "shift", json_real(swd->shift));
    return json_pack("{s:o}", "baseline", o);
}

static json_t *student_json(const run *r)
{
    json_t *scales = json_array(), *sigmas = json_array();
    for (int k = 0; k < r->n_scales; k++) {
        json_array_append_new(scales, json_integer(r->scales[k]));
        json_array_append_new(sigmas, json_real(r->sigmas[k]));
    }
    return json_pack("{s:{s:{s:o, s:o}}, s:s, s:i}", "presets", r->preset, "scales", scales,
                     "sigmas", sigmas, "default", r->preset, "max_tokens", r->source.max_tokens);
}

/* Of the result. Where all weights of a model were fine-tuned it is the model's own. */
static swd_status make_schedule_json(run *r)
{
    if (is_flow(r) && r->p->weights == SWD_TRAIN_WHOLE) return SWD_OK;
    json_t *o = is_flow(r) ? baseline_json(r->pl->swd) : student_json(r);
    r->schedule_json = o ? json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(o);
    return r->schedule_json ? SWD_OK
                            : SWD_FAIL(r->err, SWD_ERR_MEMORY, "out of memory for swd.json");
}

/* ---- model, data ---- */

static swd_status open_model(run *r)
{
    const swd_train_params *p = r->p;
    swd_open_params open;
    swd_open_params_default(&open);
    open.model = p->model[0] ? p->model : NULL;
    open.device = p->device;
    open.precision = p->precision;
    open.threads = p->threads;
    open.group = r->p->group;
    SWD_TRY(pipeline_open(r->pl, &open, r->err), r->err);
    SWD_TRY(pipeline_read_configs(r->pl, r->err), r->err);
    SWD_TRY(pipeline_load_backend(r->pl, r->err), r->err);
    SWD_TRY(pipeline_load_tokenizers(r->pl, r->err), r->err);
    if (r->pl->device_note[0]) log_print(&r->log, SWD_LOG_INFO, "%s", r->pl->device_note);
    if (r->pl->transformer_config.kind != DENOISER_SD3)
        return SWD_FAIL(r->err, SWD_ERR_UNSUPPORTED,
                        "model %s: SD3 and SD3.5 can be trained, this class cannot yet",
                        r->pl->dir);
    return pipeline_part_path(&r->transformer, r->pl, "transformer", "", r->err);
}

static swd_status open_data(run *r)
{
    const char *paths[SWD_TRAIN_DATA_MAX];
    char *path = NULL;
    for (int i = 0; i < r->p->n_data; i++) paths[i] = r->p->data[i];
    SWD_TRY(dataset_open(&r->data, paths, r->p->n_data, r->err), r->err);
    log_print(&r->log, SWD_LOG_INFO, "%lld pictures with captions",
              (long long)dataset_count(r->data));
    if (!r->p->cache[0]) SWD_TRY(path_join(&path, r->p->output, "cache.swd", r->err), r->err);
    cache_maker maker = encode_maker(&r->source);
    cache_params wanted = {.path = path ? path : r->p->cache,
                           .scales = r->scales,
                           .n_scales = r->n_scales,
                           .dtype = r->p->cache_dtype == SWD_TRAIN_F16 ? SWD_F16 : SWD_F32,
                           .log = &r->log,
                           .group = r->p->group,
                           .progress = encode_progress,
                           .progress_user = &r->source};
    swd_status s = cache_open(&r->cache, &wanted, &maker, r->data, r->err);
    tell_bad(r);
    free(path);
    return s;
}

/* ---- sheets ---- */

static void sheet_steps(run *r)
{
    sheet_setup *s = &r->sheet;
    double table[SHEET_STEPS + 1];
    int last = r->scales[r->n_scales - 1];
    const config_swd *swd = r->pl->swd;
    s->n_steps = is_flow(r) ? SHEET_STEPS : r->n_scales;
    s->euler = is_flow(r);
    s->guidance = is_flow(r) ? r->guidance : 0;
    if (is_flow(r))
        (void)schedule_euler(table, SHEET_STEPS, swd && swd->has_shift ? swd->shift : 3, NULL);
    for (int k = 0; k < s->n_steps; k++) {
        int side = is_flow(r) ? last : r->scales[k];
        s->steps[k] = (sample_step){side, side, (float)(is_flow(r) ? table[k] : r->sigmas[k])};
    }
}

/* Embeddings of the prompts of the sheets: of the file's lines, or of the first captions. */
static swd_status make_sheet(run *r)
{
    const encode_source *e = &r->source;
    char *prompts[SHEET_PROMPTS_MAX];
    int n = 0;
    if (!r->p->sample_every || !r->writes) return SWD_OK;
    if (r->p->sample_prompts[0])
        SWD_TRY(encode_read_prompts(prompts, &n, SHEET_PROMPTS_MAX, r->p->sample_prompts, r->err),
                r->err);
    bool own = n > 0;
    if (!own)
        n = cache_count(r->cache) < SHEET_DEFAULT ? (int)cache_count(r->cache) : SHEET_DEFAULT;
    size_t context = (size_t)(e->context_rows * e->context_width), pooled = (size_t)e->pooled_width;
    swd_status s = swd_malloc(&r->sheet_texts, (size_t)(n + 1) * (context + pooled), sizeof(float),
                              "prompts of the sheets", r->err);
    float *contexts = r->sheet_texts, *pooleds = contexts + (size_t)(n + 1) * context;
    for (int i = 0; i <= n && s == SWD_OK; i++) {
        float *c = contexts + (size_t)i * context, *q = pooleds + (size_t)i * pooled;
        s = own && i < n ? encode_text(&r->source, c, q, prompts[i], r->err)
                         : cache_text(c, q, r->cache, i < n ? i : -1, r->err);
    }
    for (int i = 0; own && i < n; i++) free(prompts[i]);
    SWD_TRY(s, r->err);
    r->sheet = (sheet_setup){.n = n,
                             .context = contexts,
                             .pooled = pooleds,
                             .empty = contexts + (size_t)n * context,
                             .empty_pooled = pooleds + (size_t)n * pooled,
                             .seed = (uint64_t)r->p->seed,
                             .factor = pipeline_vae_factor(r->pl),
                             .decode = encode_decode,
                             .user = &r->source};
    sheet_steps(r);
    return SWD_OK;
}

/* What draws them comes before the first step: for lack of memory no run may end at its first sheet. */
static swd_status prepare_sheets(run *r)
{
    const sheet_setup *s = &r->sheet;
    if (!s->n) return SWD_OK;
    const sample_step *last = &s->steps[s->n_steps - 1];
    return encode_prepare_decode(&r->source, last->height, last->width, r->err);
}

/* ---- networks ---- */

static swd_status load_networks(run *r)
{
    bool whole = r->p->weights == SWD_TRAIN_WHOLE;
    encode_release(&r->source);
    SWD_TRY(pipeline_load_transformer(r->pl, r->err), r->err);
    if (!whole) return SWD_OK;
    SWD_TRY(weights_open(&r->files, r->transformer, "diffusion_pytorch_model", r->err), r->err);
    if (is_flow(r)) return SWD_OK; /* no teacher is needed beside it */
    return denoiser_create(&r->own, &r->pl->transformer_config, r->files, r->pl->backend,
                           r->pl->compute, r->err);
}

/* Of the host, as the kernel reckons it; 0: it does not say. */
static size_t available_bytes(void)
{
    char line[128];
    unsigned long long kilobytes = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "MemAvailable: %llu kB", &kilobytes) == 1) break;
    if (f) fclose(f);
    return (size_t)kilobytes * 1024;
}

/* A host promises memory that it does not have and ends who asks for it; a device says no, but not before the first step at the largest
 * scale. Better to ask before. */
static swd_status check_memory(const run *r, const tape_memory *m)
{
    swd_backend *be = r->pl->backend;
    size_t wanted = m->slab + m->gradients + m->weights, there = available_bytes();
    swd_memory device;
    if (is_flow(r)) return SWD_OK; /* takes less than what was measured, a distillation's step */
    if (be->memory) {
        SWD_TRY(be->memory(be, &device, r->err), r->err);
        there = device.free;
    }
    if (!there || wanted <= there) return SWD_OK;
    return SWD_FAIL(r->err, SWD_ERR_MEMORY, "a step takes %.1f GB, %.1f GB are free",
                    (double)wanted * 1e-9, (double)there * 1e-9);
}

static swd_status make_task(run *r)
{
    char text[512];
    tape_memory m;
    uint64_t identity = 0;
    SWD_TRY(digest_folder(&identity, r->transformer, r->err), r->err);
    if (r->p->init_lora[0]) SWD_TRY(digest_folder(&identity, r->p->init_lora, r->err), r->err);
    SWD_TRY(load_networks(r), r->err);
    SWD_TRY(prepare_sheets(r), r->err);
    distill_setup setup = {.params = r->p,
                           .cache = r->cache,
                           .be = r->pl->backend,
                           .compute = r->pl->compute,
                           .teacher = r->pl->transformer,
                           .student = r->own ? r->own : r->pl->transformer,
                           .files = r->files,
                           .channels = r->pl->facts.channels,
                           .n_scales = r->n_scales,
                           .scales = r->scales,
                           .sigmas = is_flow(r) ? NULL : r->sigmas,
                           .block = feature_block(r),
                           .guidance = r->guidance,
                           .context_rows = r->source.context_rows,
                           .context_width = r->source.context_width,
                           .pooled_width = r->source.pooled_width,
                           .identity = identity,
                           .model = r->pl->dir,
                           .transformer = r->transformer,
                           .schedule_json = r->schedule_json,
                           .sheet = r->sheet.n ? &r->sheet : NULL};
    SWD_TRY(distill_task_create(&r->task, &setup, r->err), r->err);
    weights_close(&r->files);
    SWD_TRY(distill_task_measure(&m, r->task, r->err), r->err);
    log_print(&r->log, SWD_LOG_INFO, "%s", distill_task_describe(text, sizeof(text), r->task, &m));
    if (group_note(r->p->group)[0]) log_print(&r->log, SWD_LOG_INFO, "%s", group_note(r->p->group));
    SWD_TRY(group_join(r->p->group, r->pl->backend, r->err), r->err);
    if (group_size(r->p->group) > 1)
        log_print(
            &r->log, SWD_LOG_INFO,
            "%d processes, %d pictures of a batch each, gradients added by %s; this one is %s",
            group_size(r->p->group), r->p->batch / group_size(r->p->group), group_way(r->p->group),
            r->pl->backend->device);
    return check_memory(r, &m);
}

/* One session in a folder at a time; *fd is to be closed. */
static swd_status lock_output(int *fd, const run *r)
{
    char *path;
    if (!r->writes) return SWD_OK;
    SWD_TRY(path_join(&path, r->p->output, "lock", r->err), r->err);
    *fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    swd_status s = SWD_OK;
    if (*fd < 0)
        s = SWD_FAIL(r->err, SWD_ERR_FILE, "%s cannot be written: %s", path, strerror(errno));
    else if (flock(*fd, LOCK_EX | LOCK_NB) != 0)
        s = SWD_FAIL(r->err, SWD_ERR_ARGUMENT,
                     "another process trains in %s; wait for it, or choose another output folder",
                     r->p->output);
    free(path);
    return s;
}

static swd_status run_all(run *r, swd_train_result *out)
{
    SWD_TRY(train_config_check(r->p, r->err), r->err);
    SWD_TRY(distill_task_check_share(r->p, r->err), r->err);
    if (r->writes) SWD_TRY(session_prepare(r->p, r->err), r->err);
    SWD_TRY(lock_output(&r->lock, r), r->err);
    SWD_TRY(open_model(r), r->err);
    SWD_TRY(choose_schedule(r), r->err);
    r->guidance = choose_guidance(r);
    SWD_TRY(make_schedule_json(r), r->err);
    SWD_TRY(encode_begin(&r->source, r->pl, r->p, r->err), r->err);
    SWD_TRY(open_data(r), r->err);
    SWD_TRY(make_sheet(r), r->err);
    swd_status s = make_task(r);
    if (s == SWD_ERR_MEMORY) s = session_tell_memory(r->p, r->err);
    SWD_TRY(s, r->err);
    session_args args = {.params = r->p, .task = distill_task_of(r->task), .log = &r->log};
    return session_run(out, &args, r->err);
}

swd_status train_run(swd_train_result *out, const swd_train_params *keys, pipeline *p, swd_err *err)
{
    run r = {.p = keys, .pl = p, .err = err, .lock = -1, .writes = group_rank(keys->group) == 0};
    r.log = (swd_log){.level = SWD_LOG_INFO, .write = speak, .ctx = &r};
    swd_status s = group_agree(keys->group, run_all(&r, out), err);
    distill_task_destroy(&r.task);
    denoiser_destroy(&r.own);
    weights_close(&r.files);
    cache_close(&r.cache);
    dataset_close(&r.data);
    free(r.sheet_texts);
    free(r.schedule_json);
    free(r.transformer);
    pipeline_close(p);
    if (r.lock >= 0) close(r.lock);
    return s;
}
