// SPDX-License-Identifier: MIT
#include "pipeline/stages.h"
#include "backend/trace.h"
#include "base/clock.h"
#include "base/memory.h"
#include "image/image.h"
#include "pipeline/picture.h"
#include "pipeline/prompt.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

/* The time goes into reading the weights of the modulations, up to this many rows of them. */
int64_t stage_steps_at_once(const request_plan *plan)
{
    int64_t rows = (int64_t)plan->batch * plan->evaluations;
    enum { MODULATION_ROWS = 8 };
    return rows < MODULATION_ROWS ? MODULATION_ROWS / rows : 1;
}

/* The first n images of a tensor whose size is that of the largest batch. */
static swd_tensor rows(swd_tensor t, int64_t first, int64_t n)
{
    return tensor_slice(t, 0, first, n);
}

/* Of a stage that is looked at while it runs: done, and how long it took since the last look. */
static swd_status look(request *r, double *ms, double *started_s, swd_exec *ex)
{
    if (!r->live || ex->dry) return SWD_OK;
    RUN(ex->backend->synchronize(ex->backend, ex->stream, ex->err));
    double now = clock_now_s();
    *ms += (now - *started_s) * 1e3;
    *started_s = now;
    return SWD_OK;
}

static swd_status report(request *r, swd_stage stage, int step, int n_steps, int b, swd_exec *ex)
{
    if (!r->live || ex->dry) return SWD_OK;
    return request_progress(r, stage, step, n_steps, request_image(r, r->at, b), ex->err);
}

/* What was encoded comes down as well, to be kept. */
static swd_status keep_later(request *r, swd_tensor context, swd_tensor pooled, const char *prompt,
                             swd_exec *ex)
{
    batch *at = r->at;
    if (ex->dry || at->n_fresh == r->n_fresh_max) return SWD_OK;
    float *to = at->embeddings + embeds_numbers(&r->embeds) * (size_t)at->n_fresh;
    RUN(ex->backend->download(ex->backend, to, context, ex->stream, ex->err));
    to += tensor_numel(context);
    RUN(ex->backend->download(ex->backend, to, pooled, ex->stream, ex->err));
    at->fresh[at->n_fresh++] = prompt;
    return SWD_OK;
}

/* The embeddings that are known of a prompt, else it is encoded. */
static swd_status embed_prompt(request *r, swd_tensor context, swd_tensor pooled,
                               const char *prompt, swd_exec *ex)
{
    const float *known = ex->dry || (r->p->no_embeds && !r->known)
                             ? NULL
                             : embeds_find(r->p->embeds, prompt, &r->embeds);
    if (known) {
        RUN(ex->backend->upload(ex->backend, context, known, ex->stream, ex->err));
        known += tensor_numel(context);
        return ex->backend->upload(ex->backend, pooled, known, ex->stream, ex->err);
    }
    assert((ex->dry || !r->known) && "the cache has room for the prompts at work");
    if (r->known) return SWD_OK;
    RUN(prompt_encode(context, pooled, prompt, r->plan.max_tokens, r->p, ex));
    return keep_later(r, context, pooled, prompt, ex);
}

/* The first image of the batch that has the prompt of its b-th. */
static int first_alike(const request *r, int b)
{
    const char *prompt = request_prompt(r, request_image(r, r->at, b));
    int i = 0;
    while (strcmp(request_prompt(r, request_image(r, r->at, i)), prompt) != 0) i++;
    return i;
}

swd_status stage_encode_prompts(request *r, swd_exec *ex)
{
    batch *at = r->at;
    at->n_fresh = 0;
    RUN(report(r, SWD_STAGE_TEXT, request_image(r, at, 0) + 1, r->plan.n_images, 0, ex));
    double started_s = clock_now_s();
    bool guided = r->plan.evaluations > 1;
    RUN(event_record(at->began, ex->stream, ex->backend, ex->err));
    if (guided && !r->has_uncond)
        RUN(embed_prompt(r, r->uncond, r->uncond_pooled, request_negative(r), ex));
    r->has_uncond = true;
    for (int b = 0; b < at->n; b++) {
        const char *prompt = request_prompt(r, request_image(r, at, b));
        swd_tensor context = r->cond, pooled = r->cond_pooled;
        int alike = first_alike(r, b);
        if (alike < b) {
            context = rows(at->context, alike, 1);
            pooled = rows(at->pooled, alike, 1);
        } else if (guided && strcmp(prompt, request_negative(r)) == 0) {
            context = r->uncond;
            pooled = r->uncond_pooled;
        } else if (!r->cond_prompt || strcmp(prompt, r->cond_prompt) != 0) {
            RUN(embed_prompt(r, context, pooled, prompt, ex));
            r->cond_prompt = prompt;
        }
        RUN(op_copy(rows(at->context, b, 1), context, ex));
        RUN(op_copy(rows(at->pooled, b, 1), pooled, ex));
        if (!guided) continue;
        RUN(op_copy(rows(at->context, at->n + b, 1), r->uncond, ex));
        RUN(op_copy(rows(at->pooled, at->n + b, 1), r->uncond_pooled, ex));
    }
    RUN(event_record(at->encoded, ex->stream, ex->backend, ex->err));
    return look(r, &r->result->pub.text_ms, &started_s, ex);
}

/* The picture is brought to the first step's size in pixels, before the encoder: that keeps more than shrinking latents does. */
swd_status stage_encode_init(request *r, swd_exec *ex)
{
    int factor = pipeline_vae_factor(r->p), width = r->plan.steps[0].width * factor,
        height = r->plan.steps[0].height * factor;
    size_t mark = exec_mark(ex);
    swd_tensor picture = exec4(ex, SWD_F32, 1, height, width, 3);
    if (!ex->dry) {
        image_rgb8 file = {0};
        float *fitted = NULL;
        RUN(image_read(&file, r->params->init, ex->err));
        swd_status s =
            picture_resize(&fitted, width, height, file.rgb, file.width, file.height, ex->err);
        if (s == SWD_OK) s = ex->backend->upload(ex->backend, picture, fitted, ex->stream, ex->err);
        if (s == SWD_OK) s = ex->backend->synchronize(ex->backend, ex->stream, ex->err);
        free(fitted);
        image_free(&file);
        RUN(s);
    }
    RUN(vae_encode(r->init, picture, r->p->encoder, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

/* ---- graphs ---- */

/* body(arg, 0), the work of a batch in ex, as a graph where that is possible. */
static swd_status run_as_graph(request *r, graph_work work, sample_body *body, void *arg,
                               swd_exec *ex)
{
    const request_plan *plan = &r->plan;
    const batch *at = r->at;
    graph_key key;
    // torch's noise comes from the host, step by step
    if (r->live || ex->dry || r->p->no_graphs || plan->n_steps > GRAPH_STEPS_MAX ||
        (work == GRAPH_DENOISE && r->params->rng == SWD_RNG_TORCH))
        return body(arg, 0);
    memset(&key, 0, sizeof key);
    graph_key_steps(&key, plan->steps, plan->n_steps);
    key.guidance = (float)plan->guidance;
    key.work = (int)work;
    key.n = at->n;
    key.evaluations = plan->evaluations;
    key.sampler = (int)plan->sampler;
    key.with_init = plan->with_init;
    key.text_tokens = at->context.shape[1];
    key.memory[0] = ex->slab;
    key.memory[1] = at->x0.data;
    key.memory[2] = at->pooled.data;
    key.memory[3] = at->rgb.data;
    key.memory[4] = r->t.data;
    key.memory[5] = r->twice.data;
    key.memory[6] = r->velocities.data;
    key.memory[7] = r->conditions.modulation.data;
    key.memory[8] = r->conditions.context.data;
    key.memory[9] = (const void *)at->stepped;
    key.used = ex->used;
    return graph_cache_run(&r->p->graphs, &key, body, arg, ex);
}

/* ---- denoising ---- */

/* n images at a size below the largest, in the memory of buffer. */
static swd_tensor sized(swd_tensor buffer, int64_t n, swd_tensor like)
{
    return tensor4(buffer.data, SWD_F32, n, like.shape[1], like.shape[2], like.shape[3]);
}

static int64_t n_evaluations(const request *r)
{
    return (int64_t)r->plan.evaluations * r->at->n;
}

/* The conditions of steps [k, k + n). */
static swd_status prepare_conditions(request *r, int k, int64_t n, swd_exec *ex)
{
    int64_t n_rows = n_evaluations(r);
    if (k + n > r->plan.n_steps) n = r->plan.n_steps - k;
    for (int64_t i = 0; i < n; i++)
        RUN(op_fill(rows(r->t, i * n_rows, n_rows),
                    denoiser_timestep(r->p->transformer, r->plan.steps[k + i].sigma), ex));
    return denoiser_modulate(&r->conditions, rows(r->t, 0, n * n_rows),
                             rows(r->at->pooled, 0, n_rows), (float)r->plan.guidance,
                             r->p->transformer, ex);
}

static swd_status denoise(void *user, int k, swd_tensor velocity, swd_tensor latents)
{
    request *r = user;
    swd_exec *ex = &r->ex[REQUEST_DENOISE];
    int64_t n = r->at->n, n_rows = n_evaluations(r), at_once = r->conditions.rows / n_rows,
            first = k % at_once * n_rows;
    if (first == 0) RUN(prepare_conditions(r, k, at_once, ex));
    if (n_rows == n)
        return denoiser_forward(velocity, latents, &r->conditions, first, r->p->transformer, ex);
    swd_tensor both = sized(r->twice, n_rows, latents), v = sized(r->velocities, n_rows, latents);
    RUN(op_copy(rows(both, 0, n), latents, ex));
    RUN(op_copy(rows(both, n, n), latents, ex));
    RUN(denoiser_forward(v, both, &r->conditions, first, r->p->transformer, ex));
    return op_guidance_combine(velocity, rows(v, 0, n), rows(v, n, n), (float)r->plan.guidance, ex);
}

static swd_status decode_one(request *r, swd_tensor rgb, swd_tensor x0, swd_exec *ex)
{
    return r->p->tiny ? tiny_vae_decode(rgb, x0, r->p->tiny, ex)
                      : vae_decode(rgb, x0, r->p->decoder, ex);
}

/* The x0 of step k as a picture: to the folder of save_scales and to the callback. */
static swd_status show_scale(request *r, int k, int b, swd_tensor x0, swd_exec *ex)
{
    int factor = pipeline_vae_factor(r->p), width = r->plan.steps[k].width * factor,
        height = r->plan.steps[k].height * factor;
    size_t mark = exec_mark(ex);
    swd_tensor rgb = exec4(ex, SWD_U8, 1, height, width, 3);
    RUN(decode_one(r, rgb, rows(x0, b, 1), ex));
    exec_rewind(ex, mark);
    if (ex->dry) return SWD_OK;
    uint8_t *host = NULL;
    char *path = NULL;
    RUN(swd_malloc(&host, (size_t)width * (size_t)height, 3, "a picture", ex->err));
    swd_status s = ex->backend->download(ex->backend, host, rgb, ex->stream, ex->err);
    if (s == SWD_OK) s = ex->backend->synchronize(ex->backend, ex->stream, ex->err);
    int image = request_image(r, r->at, b);
    if (s == SWD_OK && r->params->save_scales) {
        s = swd_asprintf(&path, ex->err, "%s/image-%04d-step-%02d-%dx%d.png",
                         r->params->save_scales, image, k, width, height);
        if (s == SWD_OK)
            s = output_write(path, host, width, height,
                             r->params->prompts[image / r->params->count], ex->err);
    }
    if (s == SWD_OK && r->p->progress && r->p->want_x0) {
        swd_image picture = {.width = width,
                             .height = height,
                             .rgb = host,
                             .file = path,
                             .prompt = image / r->params->count,
                             .seed = r->seed + (uint64_t)image};
        swd_progress now = {.size = sizeof(now),
                            .stage = SWD_STAGE_DENOISE,
                            .step = k + 1,
                            .n_steps = r->plan.n_steps,
                            .latent_width = r->plan.steps[k].width,
                            .latent_height = r->plan.steps[k].height,
                            .sigma = r->plan.sigmas[k],
                            .image = image,
                            .n_images = r->plan.n_images,
                            .x0 = &picture};
        if (r->p->progress(r->p->progress_user, &now) != 0)
            s = SWD_FAIL(ex->err, SWD_ERR_CANCELLED, "cancelled");
    }
    free(path);
    free(host);
    return s;
}

static swd_status run_step(void *user, int k, sample_body *body, void *loop)
{
    request *r = user;
    const request_plan *plan = &r->plan;
    swd_exec *ex = &r->ex[REQUEST_DENOISE];
    if (ex->dry) return body(loop, k);
    r->step_started_s = clock_now_s();
    RUN(report(r, SWD_STAGE_DENOISE, k + 1, plan->n_steps, 0, ex));
    range_begin_step(ex->backend, k + 1, plan->n_steps, plan->steps[k].width, plan->steps[k].height,
                     plan->sigmas[k]);
    swd_status s = body(loop, k);
    range_end(ex->backend);
    return s;
}

static swd_status after_step(void *user, int k, swd_tensor x0)
{
    request *r = user;
    swd_exec *ex = &r->ex[REQUEST_DENOISE];
    double ms = 0;
    if (r->at->stepped) RUN(event_record(r->at->stepped[k], ex->stream, ex->backend, ex->err));
    RUN(look(r, &ms, &r->step_started_s, ex));
    r->result->steps[k].ms += ms;
    r->result->pub.denoise_ms += ms;
    if (r->x0_host && !ex->dry) {
        RUN(ex->backend->download(ex->backend, r->x0_host, x0, ex->stream, ex->err));
        RUN(ex->backend->synchronize(ex->backend, ex->stream, ex->err));
        RUN(latent_log_put(&r->latents, k, r->at->first, r->at->n, r->x0_host, ex->err));
    }
    if (!r->params->save_scales && !(r->p->progress && r->p->want_x0)) return SWD_OK;
    for (int b = 0; b < r->at->n; b++) RUN(show_scale(r, k, b, x0, ex));
    return SWD_OK;
}

/* From the prompts and noise of a batch, whose seeds are in device memory, to x0. */
static swd_status trajectory(void *of, int unused)
{
    request *r = of;
    swd_exec *ex = &r->ex[REQUEST_DENOISE];
    const batch *at = r->at;
    swd_tensor init = r->sample.init, x0 = rows(at->x0, 0, at->n);
    (void)unused;
    for (int b = 0; tensor_present(init) && b < at->n; b++)
        RUN(op_copy(rows(init, b, 1), r->init, ex));
    RUN(denoiser_embed_context(&r->conditions, rows(at->context, 0, n_evaluations(r)),
                               r->p->transformer, ex));
    return r->plan.sampler == SWD_SAMPLER_SCALEWISE ? scalewise_sample(x0, &r->sample, ex)
                                                    : euler_sample(x0, &r->sample, ex);
}

swd_status stage_denoise(request *r, swd_exec *ex)
{
    uint64_t seeds[1024];
    const batch *at = r->at;
    for (int b = 0; b < at->n; b++) seeds[b] = r->seed + (uint64_t)request_image(r, at, b);
    noise_begin(r->noise, seeds, at->n);
    size_t mark = exec_mark(ex);
    r->sample = (sample_args){.steps = r->plan.steps,
                              .n_steps = r->plan.n_steps,
                              .noise = r->noise,
                              .user = r,
                              .denoise = denoise,
                              .run_step = run_step,
                              .after_step = after_step};
    RUN(stream_wait(ex->stream, at->encoded, ex->backend, ex->err));
    RUN(event_record(at->denoising, ex->stream, ex->backend, ex->err));
    if (r->plan.with_init)
        r->sample.init =
            exec4(ex, SWD_F32, at->n, r->init.shape[1], r->init.shape[2], r->init.shape[3]);
    int64_t n_rows = n_evaluations(r);
    r->conditions = denoiser_conditions(stage_steps_at_once(&r->plan) * n_rows, n_rows,
                                        at->context.shape[1], r->p->transformer, ex);
    RUN(sample_prepare(&r->sample, at->n, ex));
    // weights that come while it runs are copied by the host
    RUN(r->p->streaming ? trajectory(r, 0) : run_as_graph(r, GRAPH_DENOISE, trajectory, r, ex));
    exec_rewind(ex, mark);
    return event_record(at->denoised, ex->stream, ex->backend, ex->err);
}

/* ---- pictures ---- */

static swd_status decode_all(void *of, int unused)
{
    request *r = of;
    swd_exec *ex = &r->ex[REQUEST_DECODE];
    (void)unused;
    for (int b = 0; b < r->at->n; b++)
        RUN(decode_one(r, rows(r->at->rgb, b, 1), rows(r->at->x0, b, 1), ex));
    return SWD_OK;
}

/* One by one, so that somebody sees how it goes on. */
static swd_status decode_live(request *r, swd_exec *ex)
{
    const batch *at = r->at;
    for (int b = 0; b < at->n; b++) {
        RUN(report(r, SWD_STAGE_DECODE, request_image(r, at, b) + 1, r->plan.n_images, b, ex));
        RUN(decode_one(r, rows(at->rgb, b, 1), rows(at->x0, b, 1), ex));
    }
    return SWD_OK;
}

swd_status stage_decode(request *r, swd_exec *ex)
{
    const batch *at = r->at;
    double started_s = clock_now_s();
    swd_event *ready = r->is_mixed && at->stepped ? at->stepped[r->plan.n_steps - 1] : at->denoised;
    RUN(stream_wait(ex->stream, ready, ex->backend, ex->err));
    RUN(event_record(at->decoding, ex->stream, ex->backend, ex->err));
    RUN(r->live ? decode_live(r, ex) : run_as_graph(r, GRAPH_DECODE, decode_all, r, ex));
    if (ex->dry) return SWD_OK;
    RUN(ex->backend->download(ex->backend, at->host, rows(at->rgb, 0, at->n), ex->stream, ex->err));
    RUN(look(r, &r->result->pub.decode_ms, &started_s, ex));
    return event_record(at->decoded, ex->stream, ex->backend, ex->err);
}
