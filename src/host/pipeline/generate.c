// SPDX-License-Identifier: MIT
#include "pipeline/generate.h"
#include "backend/slab.h"
#include "backend/trace.h"
#include "base/clock.h"
#include "base/memory.h"
#include "pipeline/batches.h"
#include "pipeline/networks.h"
#include "pipeline/offload.h"
#include "pipeline/prompt.h"
#include "pipeline/request.h"
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static swd_status load(request *r, swd_err *err)
{
    swd_status (*const parts[])(pipeline *, swd_err *) = {
        pipeline_load_transformer, pipeline_load_decoder, pipeline_load_encoder};
    int n = r->params->init ? 4 : 3;
    double started_s = clock_now_s(), text_ms = r->result->pub.text_ms;
    SWD_TRY(request_progress(r, SWD_STAGE_LOAD, 1, n, 0, err), err);
    SWD_TRY(offload_prompts(r, err), err);
    for (int i = 1; i < n; i++) {
        if (i == 2 && r->apart) continue; /* the decoder comes when its turn comes */
        SWD_TRY(request_progress(r, SWD_STAGE_LOAD, i + 1, n, 0, err), err);
        SWD_TRY(parts[i - 1](r->p, err), err);
    }
    text_ms = r->result->pub.text_ms - text_ms; /* what was encoded ahead */
    r->result->pub.load_ms += (clock_now_s() - started_s) * 1e3 - text_ms;
    return SWD_OK;
}

/* The images from r->first to r->end. */
static swd_status run_part(request *r, swd_err *err)
{
    SWD_TRY(load(r, err), err);
    if (r->apart) return batches_run_apart(r, err);
    return batches_run(r, err);
}

static swd_status run(request *r, swd_err *err)
{
    swd_status s = SWD_OK;
    range_begin(r->p->backend, RANGE_REQUEST, "request");
    s = offload_choose(r, err);
    for (r->first = 0; r->first < r->n_todo && s == SWD_OK; r->first = r->end) s = run_part(r, err);
    range_end(r->p->backend);
    if (s == SWD_ERR_CANCELLED) writer_abandon(r->writer);
    swd_status written =
        writer_finish(&r->writer, &r->result->pub.write_ms, err->status == SWD_OK ? err : NULL);
    if (s == SWD_OK) s = written;
    if (s != SWD_OK || !r->params->save_latents) return s;
    return latent_log_write(&r->latents, &r->plan, err);
}

/* ---- around it ---- */

static swd_status pick_seed(request *r, swd_err *err)
{
    r->seed = r->params->seed;
    if (!r->params->random_seed) return SWD_OK;
    uint32_t seed; /* 32 bits are easier to write down */
    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        return SWD_FAIL(err, SWD_ERR_DEVICE, "the system gives no random numbers; give a seed");
    r->seed = seed;
    return SWD_OK;
}

static swd_status make_result(request *r, swd_err *err)
{
    result *o = NULL;
    const request_plan *plan = &r->plan;
    SWD_TRY(swd_calloc(&o, 1, sizeof(*o), "the result", err), err);
    r->result = o;
    SWD_TRY(swd_calloc(&o->images, (size_t)plan->n_images, sizeof(*o->images), "the list of images",
                       err),
            err);
    SWD_TRY(
        swd_calloc(&o->steps, (size_t)plan->n_steps, sizeof(*o->steps), "the list of steps", err),
        err);
    memcpy(o->preset, plan->preset, sizeof(o->preset));
    memcpy(o->note, plan->note, sizeof(plan->note));
    o->pub = (swd_result){.size = sizeof(o->pub),
                          .images = o->images,
                          .preset = o->preset,
                          .sampler = plan->sampler,
                          .width = plan->width,
                          .height = plan->height,
                          .n_steps = plan->n_steps,
                          .steps = o->steps,
                          .guidance = plan->guidance,
                          .shift = plan->shift,
                          .max_tokens = plan->max_tokens,
                          .seed = r->seed,
                          .device = o->device,
                          .precision = "",
                          .note = o->note};
    for (int k = 0; k < plan->n_steps; k++)
        o->steps[k] = (swd_step){.latent_width = plan->steps[k].width,
                                 .latent_height = plan->steps[k].height,
                                 .sigma = plan->sigmas[k]};
    return SWD_OK;
}

static void add_note(result *o, const char *text)
{
    size_t n = strlen(o->note);
    if (text[0]) snprintf(o->note + n, sizeof(o->note) - n, "%s%s", n ? "; " : "", text);
}

/* A wish that the device cannot fulfil is not passed over in silence. */
static void note_device(result *o, const pipeline *p)
{
    add_note(o, p->device_note);
    if (p->precision == SWD_PRECISION_BF16 && p->compute != SWD_BF16)
        add_note(o, "bf16 was asked for, but this processor has none: computed in float32");
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void finish_result(request *r)
{
    result *o = r->result;
    note_device(o, r->p);
    add_note(o, r->not_mixed);
    add_note(o, r->p->offload_note);
    if (r->p->embeds) {
        char text[EMBEDS_NOTE_MAX];
        embeds_take_note(r->p->embeds, text);
        add_note(o, text);
    }
    if (r->n_todo < r->plan.n_images) {
        char text[96];
        snprintf(text, sizeof text, "%d of %d pictures were there already",
                 r->plan.n_images - r->n_todo, r->plan.n_images);
        add_note(o, text);
    }
    struct rusage usage;
    if (r->p->backend)
        snprintf(o->device, sizeof(o->device), "%s: %s", r->p->backend->name,
                 r->p->backend->device);
    if (r->n_done) {
        qsort(r->latency_ms, (size_t)r->n_done, sizeof(*r->latency_ms), by_size);
        o->pub.latency_p50_ms = r->latency_ms[(r->n_done - 1) / 2];
        o->pub.latency_p90_ms = r->latency_ms[(r->n_done - 1) * 9 / 10];
    }
    o->pub.precision = r->p->compute == SWD_BF16 ? "bf16" : "f32";
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        o->pub.peak_memory_bytes = (uint64_t)usage.ru_maxrss * 1024;
    o->pub.total_ms = (clock_now_s() - r->started_s) * 1e3;
}

/* What can be known to fail is refused before any work. */
static swd_status check_files(const swd_generate_params *a, int n_images, swd_err *err)
{
    if (a->output) SWD_TRY(output_check(a->output, n_images, err), err);
    if (a->init && (!path_exists(a->init) || path_is_dir(a->init)))
        return SWD_FAIL(err, SWD_ERR_FILE, "init %s: %s", a->init,
                        path_is_dir(a->init) ? "a folder; name a picture" : "no such file");
    if (a->save_scales && !path_is_dir(a->save_scales) && mkdir(a->save_scales, 0777) != 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "save_scales %s: the folder cannot be made: %m",
                        a->save_scales);
    if (a->save_scales && access(a->save_scales, W_OK) != 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "save_scales %s: the folder cannot be written to: %m",
                        a->save_scales);
    return SWD_OK;
}

/* Which pictures are to be made: all, or with resume those whose file is not there. */
static swd_status list_images(request *r, swd_err *err)
{
    const swd_generate_params *a = r->params;
    size_t n = (size_t)r->plan.n_images;
    if (a->resume && (!a->output || a->save_latents))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "resume needs output, and cannot be with save_latents");
    SWD_TRY(swd_malloc(&r->todo, n, sizeof(*r->todo), "the list of images", err), err);
    SWD_TRY(swd_malloc(&r->latency_ms, n, sizeof(*r->latency_ms), "the list of images", err), err);
    for (int i = 0; i < r->plan.n_images; i++) {
        char *path = NULL;
        if (a->resume) SWD_TRY(output_name(&path, a->output, i, r->plan.n_images, err), err);
        if (!path || !path_exists(path)) r->todo[r->n_todo++] = i;
        free(path);
    }
    if (r->n_todo && r->plan.batch > r->n_todo) r->plan.batch = r->n_todo;
    return SWD_OK;
}

static swd_status open_latent_log(request *r, swd_err *err)
{
    const request_plan *plan = &r->plan;
    SWD_TRY(latent_log_create(&r->latents, plan, r->params->save_latents, err), err);
    return swd_malloc(&r->x0_host, (size_t)(r->latents.per_image[plan->n_steps - 1] * plan->batch),
                      sizeof(float), "latents to save", err);
}

/* Everything before the networks are there. */
static swd_status prepare(request *r, swd_err *err)
{
    const swd_generate_params *a = r->params;
    pipeline *p = r->p;
    SWD_TRY(pipeline_read_configs(p, err), err);
    if (p->text_encoders) SWD_TRY(pipeline_load_tokenizers(p, err), err);
    SWD_TRY(plan_make(&r->plan, a, p, err), err);
    SWD_TRY(check_files(a, r->plan.n_images, err), err);
    SWD_TRY(list_images(r, err), err);
    SWD_TRY(pipeline_load_embeds(p, err), err);
    r->embeds = (embeds_shape){.tokens = prompt_tokens(p, r->plan.max_tokens),
                               .width = p->facts.context_width,
                               .pooled = p->facts.pooled_width,
                               .max_tokens = r->plan.max_tokens};
    SWD_TRY(pick_seed(r, err), err);
    SWD_TRY(make_result(r, err), err);
    if (a->save_latents) SWD_TRY(open_latent_log(r, err), err);
    int64_t numbers = (int64_t)r->plan.channels * r->plan.latent_height * r->plan.latent_width;
    SWD_TRY(noise_create(&r->noise, a->rng == SWD_RNG_TORCH, r->plan.batch, numbers, err), err);
    return SWD_OK;
}

static void dispose(request *r)
{
    noise_destroy(&r->noise);
    latent_log_close(&r->latents);
    free(r->x0_host);
    free(r->todo);
    free(r->latency_ms);
    if (!r->result) return;
    swd_result *unused = &r->result->pub;
    result_free(&unused);
}

swd_status generate(swd_result **out, const swd_generate_params *params, pipeline *p, swd_err *err)
{
    request r = {.p = p,
                 .params = params,
                 .keep_pixels = out && !params->drop_pixels,
                 .started_s = clock_now_s()};
    swd_status s;
    if (out) *out = NULL;
    SWD_TRY_GOTO(s, prepare(&r, err), err, done);
    if (r.n_todo) SWD_TRY_GOTO(s, run(&r, err), err, done);
    finish_result(&r);
    if (out) {
        *out = &r.result->pub;
        r.result = NULL;
    }
done:
    dispose(&r);
    return s;
}

/* One picture of the default size. */
static swd_generate_params one_picture(void)
{
    static const char *const prompt = "";
    swd_generate_params a;
    swd_generate_params_default(&a);
    a.prompts = &prompt;
    return a;
}

static swd_status load_and_reserve(request *r, swd_err *err)
{
    SWD_TRY(offload_choose(r, err), err);
    if (r->p->offloading) return SWD_OK;
    SWD_TRY(pipeline_load_text(r->p, err), err);
    SWD_TRY(pipeline_load_transformer(r->p, err), err);
    SWD_TRY(pipeline_load_decoder(r->p, err), err);
    if (!slab_has(r->p->backend)) return SWD_OK;
    r->end = r->n_todo;
    SWD_TRY(batches_measure(r, err), err);
    swd_status s = request_place(r, err);
    request_release(r);
    if (s != SWD_ERR_MEMORY) return s;
    swd_err_clear(err); /* a smaller picture may find room */
    return SWD_OK;
}

swd_status generate_load(pipeline *p, swd_err *err)
{
    swd_generate_params a = one_picture();
    request r = {.p = p, .params = &a};
    swd_status s = prepare(&r, err);
    if (s == SWD_OK) s = load_and_reserve(&r, err);
    dispose(&r);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

swd_status generate_measure(size_t *bytes, pipeline *p, swd_err *err)
{
    swd_generate_params a = one_picture();
    request r = {.p = p, .params = &a};
    swd_status s = prepare(&r, err);
    r.end = r.n_todo;
    if (s == SWD_OK) s = batches_measure(&r, err);
    if (s == SWD_OK) *bytes = request_slab_bytes(&r);
    dispose(&r);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

swd_status generate_plan(memory_plan *out, const swd_generate_params *params, pipeline *p,
                         swd_err *err)
{
    swd_generate_params one = one_picture();
    request r = {.p = p, .params = params ? params : &one};
    swd_status s = prepare(&r, err);
    if (s == SWD_OK) s = memory_plan_make(out, &r, true, err);
    dispose(&r);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

void result_free(swd_result **pub)
{
    if (!*pub) return;
    result *o = (result *)(void *)*pub; /* pub is its first member */
    for (int i = 0; i < o->pub.n_images; i++) {
        free((void *)(uintptr_t)o->images[i].rgb);
        free((void *)(uintptr_t)o->images[i].file);
    }
    free(o->images);
    free(o->steps);
    free(o);
    *pub = NULL;
}
