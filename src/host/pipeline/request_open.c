// SPDX-License-Identifier: MIT
#include "pipeline/request_open.h"
#include "base/clock.h"
#include "base/memory.h"
#include "pipeline/generate.h"
#include "pipeline/prompt.h"
#include "pipeline/result.h"
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

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
    SWD_TRY(swd_calloc(&r->latency_ms, n, sizeof(*r->latency_ms), "the list of images", err), err);
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
    SWD_TRY(result_make(r, err), err);
    if (a->save_latents) SWD_TRY(open_latent_log(r, err), err);
    int64_t numbers = (int64_t)r->plan.channels * r->plan.latent_height * r->plan.latent_width;
    SWD_TRY(noise_create(&r->noise, a->rng == SWD_RNG_TORCH, r->plan.batch, numbers, err), err);
    return SWD_OK;
}

swd_status request_open(request *r, const swd_generate_params *params, pipeline *p, swd_err *err)
{
    *r = (request){.p = p, .params = params, .started_s = clock_now_s()};
    return prepare(r, err);
}

void request_close(request *r)
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
