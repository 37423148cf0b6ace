// SPDX-License-Identifier: MIT
#include "pipeline/request.h"
#include "base/clock.h"
#include "base/memory.h"
#include "image/image.h"
#include "pipeline/picture.h"
#include "pipeline/prompt.h"
#include <stdio.h>
#include <string.h>

static void lap(double *ms, double *started_s)
{
    double now = clock_now_s();
    *ms += (now - *started_s) * 1e3;
    *started_s = now;
}

swd_status request_progress(request *r, swd_stage stage, int step, int n_steps)
{
    const pipeline *p = r->p;
    if (!p->progress || r->ex->dry) return SWD_OK;
    swd_progress now = {.size = sizeof(now),
                        .stage = stage,
                        .step = step,
                        .n_steps = n_steps,
                        .image = r->first,
                        .n_images = r->plan.n_images};
    if (stage == SWD_STAGE_DENOISE) {
        now.latent_width = r->plan.steps[step - 1].width;
        now.latent_height = r->plan.steps[step - 1].height;
        now.sigma = r->plan.sigmas[step - 1];
    }
    if (p->progress(p->progress_user, &now) != 0)
        return SWD_FAIL(r->ex->err, SWD_ERR_CANCELLED, "cancelled");
    return SWD_OK;
}

/* Steps whose modulations are computed together: the time goes into reading their weights, up to this many rows of them. */
static int64_t steps_at_once(int64_t rows)
{
    enum { MODULATION_ROWS = 8 };
    return rows < MODULATION_ROWS ? MODULATION_ROWS / rows : 1;
}

swd_status request_allocate(request *r, swd_exec *ex)
{
    const request_plan *plan = &r->plan;
    int64_t tokens = prompt_tokens(r->p, plan->max_tokens),
            width = r->p->transformer_config.joint_attention_dim;
    int64_t pooled = r->p->transformer_config.pooled_projection_dim,
            rows = plan->batch * (plan->guidance > 1 ? 2 : 1);
    int64_t latents[4] = {plan->batch, plan->channels, plan->latent_height, plan->latent_width};
    r->cond = exec3(ex, SWD_F32, 1, tokens, width);
    r->cond_pooled = exec2(ex, SWD_F32, 1, pooled);
    if (plan->guidance > 1) {
        r->uncond = exec3(ex, SWD_F32, 1, tokens, width);
        r->uncond_pooled = exec2(ex, SWD_F32, 1, pooled);
        r->twice = exec4(ex, SWD_F32, rows, latents[1], latents[2], latents[3]);
        r->velocities = exec4(ex, SWD_F32, rows, latents[1], latents[2], latents[3]);
    }
    r->context = exec3(ex, SWD_F32, rows, tokens, width);
    r->pooled = exec2(ex, SWD_F32, rows, pooled);
    r->t = exec1(ex, SWD_F32, steps_at_once(rows) * rows);
    r->x0 = exec_alloc(ex, SWD_F32, latents, 4);
    r->rgb = exec4(ex, SWD_U8, 1, plan->height, plan->width, 3);
    if (plan->with_init)
        r->init =
            exec4(ex, SWD_F32, 1, plan->channels, plan->steps[0].height, plan->steps[0].width);
    return SWD_OK;
}

/* The first n images of a tensor whose size is that of the largest batch. */
static swd_tensor rows(swd_tensor t, int64_t first, int64_t n)
{
    return tensor_slice(t, 0, first, n);
}

swd_status request_encode_prompts(request *r, swd_exec *ex)
{
    const swd_generate_params *a = r->params;
    RUN(request_progress(r, SWD_STAGE_TEXT, r->first + 1, r->plan.n_images));
    double started_s = clock_now_s();
    bool guided = r->plan.guidance > 1;
    if (guided && r->cond_prompt < 0)
        RUN(prompt_encode(r->uncond, r->uncond_pooled, a->negative ? a->negative : "",
                          r->plan.max_tokens, r->p, ex));
    for (int b = 0; b < r->n; b++) {
        int prompt = (r->first + b) / a->count;
        if (prompt != r->cond_prompt)
            RUN(prompt_encode(r->cond, r->cond_pooled, a->prompts[prompt], r->plan.max_tokens, r->p,
                              ex));
        r->cond_prompt = prompt;
        RUN(op_copy(rows(r->context, b, 1), r->cond, ex));
        RUN(op_copy(rows(r->pooled, b, 1), r->cond_pooled, ex));
        if (!guided) continue;
        RUN(op_copy(rows(r->context, r->n + b, 1), r->uncond, ex));
        RUN(op_copy(rows(r->pooled, r->n + b, 1), r->uncond_pooled, ex));
    }
    lap(&r->result->pub.text_ms, &started_s);
    return SWD_OK;
}

/* The picture is brought to the first step's size in pixels, before the encoder: that keeps more than shrinking latents does. */
swd_status request_encode_init(request *r, swd_exec *ex)
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

/* ---- denoising ---- */

/* n images at a size below the largest, in the memory of buffer. */
static swd_tensor sized(swd_tensor buffer, int64_t n, swd_tensor like)
{
    return tensor4(buffer.data, SWD_F32, n, like.shape[1], like.shape[2], like.shape[3]);
}

static int64_t evaluations(const request *r)
{
    return r->plan.guidance > 1 ? 2 * r->n : r->n;
}

/* The conditions of step k and of those after it that are computed with it. */
static swd_status prepare_conditions(request *r, int k, swd_exec *ex)
{
    int64_t n_rows = evaluations(r), most = r->conditions.rows / n_rows;
    int n = (int)(most < r->plan.n_steps - k ? most : r->plan.n_steps - k);
    for (int i = 0; i < n; i++)
        RUN(op_fill(rows(r->t, i * n_rows, n_rows), 1000.0f * r->plan.steps[k + i].sigma, ex));
    r->conditions_from = k;
    return mmdit_modulate(&r->conditions, rows(r->t, 0, n * n_rows), rows(r->pooled, 0, n_rows),
                          r->p->transformer, ex);
}

static swd_status denoise(void *user, int k, swd_tensor velocity, swd_tensor latents)
{
    request *r = user;
    swd_exec *ex = r->ex;
    int64_t n = r->n, n_rows = evaluations(r);
    if (k == 0 || (k - r->conditions_from + 1) * n_rows > r->conditions.rows)
        RUN(prepare_conditions(r, k, ex));
    int64_t first = (k - r->conditions_from) * n_rows;
    if (n_rows == n)
        return mmdit_forward(velocity, latents, &r->conditions, first, r->p->transformer, ex);
    swd_tensor both = sized(r->twice, n_rows, latents), v = sized(r->velocities, n_rows, latents);
    RUN(op_copy(rows(both, 0, n), latents, ex));
    RUN(op_copy(rows(both, n, n), latents, ex));
    RUN(mmdit_forward(v, both, &r->conditions, first, r->p->transformer, ex));
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
    int image = r->first + b;
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

static swd_status before_step(void *user, int k)
{
    request *r = user;
    r->step_started_s = clock_now_s();
    return request_progress(r, SWD_STAGE_DENOISE, k + 1, r->plan.n_steps);
}

static swd_status after_step(void *user, int k, swd_tensor x0)
{
    request *r = user;
    swd_exec *ex = r->ex;
    if (!ex->dry) {
        RUN(ex->backend->synchronize(ex->backend, ex->stream, ex->err));
        double before = r->result->steps[k].ms;
        lap(&r->result->steps[k].ms, &r->step_started_s);
        r->result->pub.denoise_ms += r->result->steps[k].ms - before;
        if (r->x0_host) {
            RUN(ex->backend->download(ex->backend, r->x0_host, x0, ex->stream, ex->err));
            RUN(ex->backend->synchronize(ex->backend, ex->stream, ex->err));
            RUN(latent_log_put(&r->latents, k, r->first, r->n, r->x0_host, ex->err));
        }
    }
    if (!r->params->save_scales && !(r->p->progress && r->p->want_x0)) return SWD_OK;
    for (int b = 0; b < r->n; b++) RUN(show_scale(r, k, b, x0, ex));
    return SWD_OK;
}

swd_status request_denoise(request *r, swd_exec *ex)
{
    uint64_t seeds[1024];
    for (int b = 0; b < r->n; b++) seeds[b] = r->seed + (uint64_t)(r->first + b);
    noise_begin(r->noise, seeds, r->n);
    size_t mark = exec_mark(ex);
    sample_args args = {.steps = r->plan.steps,
                        .n_steps = r->plan.n_steps,
                        .noise = r->noise,
                        .user = r,
                        .denoise = denoise,
                        .before_step = before_step,
                        .after_step = after_step};
    if (r->plan.with_init) {
        args.init = exec4(ex, SWD_F32, r->n, r->init.shape[1], r->init.shape[2], r->init.shape[3]);
        for (int b = 0; b < r->n; b++) RUN(op_copy(rows(args.init, b, 1), r->init, ex));
    }
    int64_t n_rows = evaluations(r);
    r->conditions = mmdit_conditions_alloc(steps_at_once(n_rows) * n_rows, n_rows,
                                           r->context.shape[1], r->p->transformer, ex);
    RUN(mmdit_embed_context(&r->conditions, rows(r->context, 0, n_rows), r->p->transformer, ex));
    swd_tensor x0 = rows(r->x0, 0, r->n);
    RUN(r->plan.sampler == SWD_SAMPLER_SCALEWISE ? scalewise_sample(x0, &args, ex)
                                                 : euler_sample(x0, &args, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

/* ---- pictures ---- */

static void drop_pixels(swd_image *o)
{
    free((void *)(uintptr_t)o->rgb);
    o->rgb = NULL;
}

static swd_status keep_and_write(request *r, int image, uint8_t *rgb, swd_exec *ex)
{
    const swd_generate_params *a = r->params;
    int prompt = image / a->count;
    swd_image *o = &r->result->images[image];
    *o = (swd_image){.width = r->plan.width,
                     .height = r->plan.height,
                     .rgb = rgb,
                     .prompt = prompt,
                     .seed = r->seed + (uint64_t)image};
    r->result->pub.n_images = image + 1; /* from here on the result owns rgb */
    if (!a->output) {
        if (!r->keep_pixels) drop_pixels(o);
        return SWD_OK;
    }
    RUN(request_progress(r, SWD_STAGE_WRITE, image + 1, r->plan.n_images));
    double started_s = clock_now_s();
    char *path = NULL, *comment = NULL;
    RUN(output_name(&path, a->output, image, r->plan.n_images, ex->err));
    o->file = path;
    RUN(output_comment(&comment, a->prompts[prompt], o->seed, &r->plan, r->p->dir, ex->err));
    swd_status s = output_write(path, rgb, o->width, o->height, comment, ex->err);
    free(comment);
    if (!r->keep_pixels) drop_pixels(o);
    lap(&r->result->pub.write_ms, &started_s);
    return s;
}

swd_status request_decode_and_write(request *r, swd_exec *ex)
{
    for (int b = 0; b < r->n; b++) {
        int image = r->first + b;
        RUN(request_progress(r, SWD_STAGE_DECODE, image + 1, r->plan.n_images));
        double started_s = clock_now_s();
        RUN(decode_one(r, r->rgb, rows(r->x0, b, 1), ex));
        if (ex->dry) return SWD_OK;
        uint8_t *host = NULL;
        RUN(swd_malloc(&host, tensor_bytes(r->rgb), 1, "a picture", ex->err));
        swd_status s = ex->backend->download(ex->backend, host, r->rgb, ex->stream, ex->err);
        if (s == SWD_OK) s = ex->backend->synchronize(ex->backend, ex->stream, ex->err);
        if (s != SWD_OK) free(host);
        RUN(s);
        lap(&r->result->pub.decode_ms, &started_s);
        RUN(keep_and_write(r, image, host, ex));
    }
    return SWD_OK;
}
