// SPDX-License-Identifier: MIT
#include "pipeline/request.h"
#include "base/clock.h"
#include "base/memory.h"
#include "parallel/group.h"
#include "pipeline/mixed_batches.h"
#include "pipeline/prompt.h"
#include "pipeline/stages.h"
#include <stdio.h>
#include <string.h>

swd_status request_progress(request *r, swd_stage stage, int step, int n_steps, int image,
                            swd_err *err)
{
    const pipeline *p = r->p;
    group_poke(p->group);
    if (!p->progress) return SWD_OK;
    swd_progress now = {.size = sizeof(now),
                        .stage = stage,
                        .step = step,
                        .n_steps = n_steps,
                        .image = image,
                        .n_images = r->plan.n_images};
    if (stage == SWD_STAGE_DENOISE) {
        now.latent_width = r->plan.steps[step - 1].width;
        now.latent_height = r->plan.steps[step - 1].height;
        now.sigma = r->plan.sigmas[step - 1];
    }
    if (p->progress(p->progress_user, &now) != 0)
        return SWD_FAIL(err, SWD_ERR_CANCELLED, "cancelled");
    return SWD_OK;
}

/* ---- places ---- */

static void place(request *r, swd_exec *ex)
{
    const request_plan *plan = &r->plan;
    int64_t tokens = prompt_tokens(r->p, plan->max_tokens), width = r->p->facts.context_width,
            pooled = r->p->facts.pooled_width, rows = plan->batch * plan->evaluations;
    int64_t latents[4] = {plan->batch, plan->channels, plan->latent_height, plan->latent_width};
    r->cond_prompt = NULL;
    r->has_uncond = false;
    r->cond = exec3(ex, SWD_F32, 1, tokens, width);
    r->cond_pooled = exec2(ex, SWD_F32, 1, pooled);
    if (plan->evaluations > 1) {
        r->uncond = exec3(ex, SWD_F32, 1, tokens, width);
        r->uncond_pooled = exec2(ex, SWD_F32, 1, pooled);
        r->twice = exec4(ex, SWD_F32, rows, latents[1], latents[2], latents[3]);
        r->velocities = exec4(ex, SWD_F32, rows, latents[1], latents[2], latents[3]);
    }
    r->t = exec1(ex, SWD_F32, stage_steps_at_once(plan) * rows);
    if (plan->with_init)
        r->init =
            exec4(ex, SWD_F32, 1, plan->channels, plan->steps[0].height, plan->steps[0].width);
    for (int i = 0; i < r->n_batches; i++) {
        batch *b = &r->batch[i];
        b->context = exec3(ex, SWD_F32, rows, tokens, width);
        b->pooled = exec2(ex, SWD_F32, rows, pooled);
        b->x0 = exec_alloc(ex, SWD_F32, latents, 4);
        b->rgb = exec4(ex, SWD_U8, plan->batch, plan->height, plan->width, 3);
    }
}

void request_measure(request *r, swd_err *err)
{
    const pipeline *p = r->p;
    r->live = !async_has(p->backend) || r->half || request_is_watched(r);
    bool one = r->live || p->offloading || r->end - r->first <= r->plan.batch;
    r->n_batches = one ? 1 : 2;
    r->is_mixed = mixed_possible(r, r->not_mixed);
    if (r->is_mixed) r->n_batches = r->plan.n_steps + 1;
    swd_exec kept = pipeline_exec(p, true, err);
    place(r, &kept);
    for (int i = 0; i < REQUEST_STAGES; i++) r->ex[i] = pipeline_exec(p, true, err);
    r->kept_bytes = kept.peak;
}

static size_t round256(size_t n)
{
    return (n + 255) / 256 * 256;
}

request_sizes request_measured(const request *r)
{
    request_sizes s = {.kept = round256(r->kept_bytes)};
    for (int i = 0; i < REQUEST_STAGES; i++) s.stage[i] = round256(r->ex[i].peak);
    return s;
}

/* The slab, once the stages are measured: what lasts, then the stages: one after the other where they overlap in time, else in the same
 * place: events keep the stages of one batch apart. Gives its size. */
static size_t divide_slab(size_t at[REQUEST_STAGES], size_t bytes[REQUEST_STAGES], const request *r)
{
    request_sizes s = request_measured(r);
    size_t end = s.kept;
    for (int i = 0; i < REQUEST_STAGES; i++) {
        bytes[i] = s.stage[i];
        at[i] = r->n_batches == 1 ? s.kept : end; // mixed: batches stay while others begin and end
        if (at[i] + bytes[i] > end) end = at[i] + bytes[i];
    }
    return end;
}

size_t request_slab_bytes(const request *r)
{
    size_t at[REQUEST_STAGES], bytes[REQUEST_STAGES];
    return divide_slab(at, bytes, r);
}

static swd_status place_in_slab(request *r, swd_err *err)
{
    size_t at[REQUEST_STAGES], bytes[REQUEST_STAGES];
    SWD_TRY(pipeline_reserve(r->p, divide_slab(at, bytes, r), err), err);
    swd_exec whole = pipeline_exec(r->p, false, err);
    place(r, &whole);
    for (int i = 0; i < REQUEST_STAGES; i++) {
        r->ex[i] = pipeline_exec(r->p, false, err);
        r->ex[i].slab += at[i];
        r->ex[i].slab_bytes = bytes[i];
    }
    return SWD_OK;
}

/* What comes down to the host: pictures, and the embeddings of a batch's prompts, as many as are worth keeping. */
static swd_status place_on_host(request *r, swd_err *err)
{
    size_t picture = round256(tensor_bytes(r->batch[0].rgb)),
           each = embeds_numbers(&r->embeds) * sizeof(float);
    int n = r->plan.batch < r->params->n_prompts ? r->plan.batch : r->params->n_prompts,
        room = embeds_room(r->p->embeds, &r->embeds);
    r->n_fresh_max =
        r->known || r->p->no_embeds ? 0 : (n < room ? n : room) + (r->plan.evaluations > 1);
    size_t bytes = picture + round256(each * (size_t)r->n_fresh_max);
    SWD_TRY(pipeline_reserve_host(r->p, bytes * (size_t)r->n_batches, err), err);
    for (int i = 0; i < r->n_batches; i++) {
        batch *b = &r->batch[i];
        b->host = r->p->host + bytes * (size_t)i;
        b->embeddings = (float *)(void *)(b->host + picture);
        SWD_TRY(swd_calloc(&b->fresh, (size_t)r->n_fresh_max, sizeof(*b->fresh), "prompts", err),
                err);
    }
    return SWD_OK;
}

swd_status request_place(request *r, swd_err *err)
{
    swd_backend *be = r->p->backend;
    SWD_TRY(place_in_slab(r, err), err);
    SWD_TRY(place_on_host(r, err), err);
    if (r->params->output && !r->writer)
        SWD_TRY(writer_create(&r->writer, r->live ? 1 : 2, err), err);
    if (r->live) return SWD_OK;
    graph_cache_trim(&r->p->graphs, be);
    SWD_TRY(pipeline_make_lanes(r->p, r->n_batches, r->plan.n_steps, err), err);
    for (int i = 0; i < REQUEST_STAGES; i++) r->ex[i].stream = r->p->streams[i];
    for (int i = 0; i < r->n_batches; i++) {
        batch_events *e = r->p->events[i];
        batch *b = &r->batch[i];
        b->began = e->began;
        b->encoded = e->encoded;
        b->denoising = e->denoising;
        b->stepped = e->stepped;
        b->denoised = e->denoised;
        b->decoding = e->decoding;
        b->decoded = e->decoded;
    }
    return SWD_OK;
}

void request_drain(request *r)
{
    swd_backend *be = r->p->backend;
    for (int i = 0; i < REQUEST_STAGES; i++)
        if (!r->ex[i].dry) (void)be->synchronize(be, r->ex[i].stream, NULL);
}

void request_release(request *r)
{
    for (int i = 0; i < r->n_batches; i++) {
        free(r->batch[i].fresh);
        r->batch[i].fresh = NULL;
    }
}

/* ---- results ---- */

/* A stage that overlapped with others is told of when it is over. */
static swd_status report_batch(request *r, batch *b, swd_err *err)
{
    swd_backend *be = r->p->backend;
    swd_result *pub = &r->result->pub;
    int n_steps = r->plan.n_steps, n_images = r->plan.n_images, image = request_image(r, b, 0);
    double ms;
    SWD_TRY(request_progress(r, SWD_STAGE_TEXT, image + 1, n_images, image, err), err);
    SWD_TRY(event_wait(b->encoded, be, err), err);
    SWD_TRY(event_elapsed(&ms, b->began, b->encoded, be, err), err);
    pub->text_ms += ms;
    for (int k = 0; k < n_steps; k++) {
        SWD_TRY(request_progress(r, SWD_STAGE_DENOISE, k + 1, n_steps, image, err), err);
        SWD_TRY(event_wait(b->stepped[k], be, err), err);
        swd_event *before = k ? b->stepped[k - 1] : b->denoising;
        SWD_TRY(event_elapsed(&ms, before, b->stepped[k], be, err), err);
        if (r->is_mixed) ms *= b->share[k];
        r->result->steps[k].ms += ms;
        pub->denoise_ms += ms;
    }
    SWD_TRY(request_progress(r, SWD_STAGE_DECODE, image + 1, n_images, image, err), err);
    SWD_TRY(event_wait(b->decoded, be, err), err);
    SWD_TRY(event_elapsed(&ms, b->decoding, b->decoded, be, err), err);
    pub->decode_ms += ms;
    return SWD_OK;
}

static swd_status keep_and_write(request *r, int image, const uint8_t *pixels, size_t bytes,
                                 swd_err *err)
{
    const swd_generate_params *a = r->params;
    int prompt = image / a->count;
    swd_image *o = &r->result->images[r->n_done];
    *o = (swd_image){.width = r->plan.width,
                     .height = r->plan.height,
                     .prompt = prompt,
                     .seed = r->seed + (uint64_t)image};
    r->result->pub.n_images = ++r->n_done; /* from here on the result owns what o points to */
    if (!a->output && !r->keep_pixels) return SWD_OK;
    uint8_t *rgb = NULL;
    SWD_TRY(swd_malloc(&rgb, bytes, 1, "a picture", err), err);
    memcpy(rgb, pixels, bytes);
    o->rgb = rgb;
    if (!a->output) return SWD_OK;
    SWD_TRY(request_progress(r, SWD_STAGE_WRITE, image + 1, r->plan.n_images, image, err), err);
    char *path = NULL, *comment = NULL;
    SWD_TRY(output_name(&path, a->output, image, r->plan.n_images, err), err);
    o->file = path;
    SWD_TRY(output_comment(&comment, a->prompts[prompt], o->seed, &r->plan, r->p->dir, err), err);
    SWD_TRY(writer_push(r->writer, o, !r->keep_pixels, comment, err), err);
    return SWD_OK;
}

swd_status request_collect(request *r, batch *b, swd_err *err)
{
    size_t bytes = tensor_bytes(b->rgb) / (size_t)r->plan.batch;
    if (!r->live) SWD_TRY(report_batch(r, b, err), err);
    for (int i = 0; i < b->n_fresh; i++)
        SWD_TRY(embeds_keep(r->p->embeds, b->fresh[i], &r->embeds,
                            b->embeddings + embeds_numbers(&r->embeds) * (size_t)i, err),
                err);
    if (r->half && !r->decoding) return SWD_OK;
    double now_ms = clock_now_s() * 1e3;
    for (int i = 0; i < b->n; i++) r->latency_ms[b->first + i] += now_ms;
    for (int i = 0; i < b->n; i++)
        SWD_TRY(keep_and_write(r, request_image(r, b, i), b->host + (size_t)i * bytes, bytes, err),
                err);
    return SWD_OK;
}
