// SPDX-License-Identifier: MIT
/* The public functions: check arguments, call the pipeline, keep the message. */
#include "api.h"
#include "base/memory.h"
#include "pipeline/bundled.h"
#include "pipeline/ahead.h"
#include "pipeline/generate.h"
#include "pipeline/parts.h"
#include "pipeline/plan.h"
#include "pipeline/prompt.h"
#include <stdio.h>
#include <string.h>

const char *swd_version(void)
{
    return SWD_VERSION;
}

const char *swd_status_name(swd_status s)
{
    static const char *const name[] = {
        "ok",           "wrong argument", "file error", "out of memory",
        "device error", "unsupported",    "cancelled"};
    return s >= SWD_OK && s <= SWD_ERR_CANCELLED ? name[s] : "unknown status";
}

const char *swd_stage_name(swd_stage stage)
{
    static const char *const name[] = {"load", "text", "denoise", "decode", "write", "measure"};
    return stage >= SWD_STAGE_LOAD && stage <= SWD_STAGE_MEASURE ? name[stage] : "unknown stage";
}

const char *swd_message(const swd_context *ctx)
{
    return ctx ? ctx->err.message : "out of memory";
}

const char *swd_message_frame(swd_context *ctx, int i)
{
    if (!ctx || i < 0 || i >= ctx->err.n_frames) return NULL;
    const struct swd_err_site *f = &ctx->err.frame[i];
    snprintf(ctx->frame, sizeof(ctx->frame), "%s:%d %s", f->file, f->line, f->func);
    return ctx->frame;
}

const char *swd_note(const swd_context *ctx)
{
    return ctx ? ctx->p.device_note : "";
}

void swd_open_params_default(swd_open_params *params)
{
    *params =
        (swd_open_params){.size = sizeof(*params), .device = "auto", .text_encoders = SWD_TEXT_ALL};
}

void swd_generate_params_default(swd_generate_params *params)
{
    *params = (swd_generate_params){.size = sizeof(*params),
                                    .n_prompts = 1,
                                    .count = 1,
                                    .random_seed = 1,
                                    .guidance = -1,
                                    .strength = 0.75};
}

swd_status swd_open(swd_context **out, const swd_open_params *params)
{
    if (!out) return SWD_ERR_ARGUMENT;
    swd_context *ctx = *out = calloc(1, sizeof(*ctx));
    if (!ctx) return SWD_ERR_MEMORY;
    swd_open_params local;
    TAKE_PARAMS(local, params, swd_open_params_default, ctx);
    return pipeline_open(&ctx->p, &local, &ctx->err);
}

void swd_close(swd_context **ctx)
{
    if (!ctx || !*ctx) return;
    pipeline_close(&(*ctx)->p);
    free(*ctx);
    *ctx = NULL;
}

swd_status swd_load(swd_context *ctx)
{
    ENTER(ctx);
    return ahead_load(&ctx->p, &ctx->err);
}

swd_status swd_default_model(char *buf, size_t n)
{
    return bundled_tell(buf, n, bundled_model);
}

swd_status swd_default_student(char *buf, size_t n)
{
    return bundled_tell(buf, n, bundled_student);
}

void swd_set_progress(swd_context *ctx, swd_progress_fn fn, void *user, int want_x0)
{
    if (!ctx) return;
    ctx->p.progress = fn;
    ctx->p.progress_user = user;
    ctx->p.want_x0 = want_x0 != 0;
}

static swd_status check_generate(const swd_generate_params *a, swd_err *err)
{
    for (int i = 0; a->prompts && i < a->n_prompts; i++)
        if (!a->prompts[i]) return SWD_FAIL(err, SWD_ERR_ARGUMENT, "prompt %d is NULL", i);
    if (a->sampler < SWD_SAMPLER_AUTO || a->sampler > SWD_SAMPLER_EULER)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "sampler %d is not known", (int)a->sampler);
    if (a->rng != SWD_RNG_PHILOX && a->rng != SWD_RNG_TORCH)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "rng %d is not known", (int)a->rng);
    return SWD_OK;
}

swd_status swd_generate(swd_result **out, const swd_generate_params *params, swd_context *ctx)
{
    if (out) *out = NULL;
    ENTER(ctx);
    swd_generate_params local;
    TAKE_PARAMS(local, params, swd_generate_params_default, ctx);
    SWD_TRY(check_generate(&local, &ctx->err), &ctx->err);
    return generate(out, &local, &ctx->p, &ctx->err);
}

void swd_result_free(swd_result **r)
{
    if (r) result_free(r);
}

swd_status swd_tokenize(swd_tokens out[3], const char *prompt, int max_tokens, swd_context *ctx)
{
    static const char *const name[3] = {"tokenizer", "tokenizer_2", "tokenizer_3"};
    ENTER(ctx);
    if (!out || !prompt) return SWD_FAIL(&ctx->err, SWD_ERR_ARGUMENT, "out or prompt is NULL");
    pipeline *p = &ctx->p;
    SWD_TRY(pipeline_load_tokenizers(p, &ctx->err), &ctx->err);
    if (p->n_adapters)
        SWD_TRY(pipeline_read_configs(p, &ctx->err),
                &ctx->err); /* the family tells the adapter's schedule */
    int t5_tokens;
    SWD_TRY(plan_max_tokens(&t5_tokens, max_tokens, p, &ctx->err), &ctx->err);
    for (int i = 0; i < 3; i++) out[i] = (swd_tokens){.name = name[i]};
    for (int e = 0; e < FAMILY_ENCODERS; e++) {
        if (e == FAMILY_T5 ? !p->unigram : !p->bpe[e]) continue;
        int i = 0;
        while (strcmp(name[i], p->family->encoder[e].tokenizer) != 0) i++;
        SWD_TRY(prompt_tokenize(ctx->tokens[i], &out[i].n, prompt, e, t5_tokens, p, &ctx->err),
                &ctx->err);
        out[i].ids = ctx->tokens[i];
    }
    return SWD_OK;
}

swd_status swd_encode_file(const char *latents_file, const char *image_file, swd_context *ctx)
{
    ENTER(ctx);
    if (!latents_file || !image_file)
        return SWD_FAIL(&ctx->err, SWD_ERR_ARGUMENT, "a file name is NULL");
    return parts_encode_file(latents_file, image_file, &ctx->p, &ctx->err);
}

swd_status swd_decode_file(const char *image_file, const char *latents_file, swd_context *ctx)
{
    ENTER(ctx);
    if (!latents_file || !image_file)
        return SWD_FAIL(&ctx->err, SWD_ERR_ARGUMENT, "a file name is NULL");
    return parts_decode_file(image_file, latents_file, &ctx->p, &ctx->err);
}

swd_status swd_get_preset(swd_preset *out, int i, swd_context *ctx)
{
    if (ctx) swd_err_clear(&ctx->err);
    if (!out || i < 0 || !plan_preset_at(out, i, ctx ? &ctx->p : NULL)) return SWD_ERR_ARGUMENT;
    return SWD_OK;
}

swd_status swd_get_info(swd_info *out, swd_context *ctx)
{
    ENTER(ctx);
    if (!out) return SWD_FAIL(&ctx->err, SWD_ERR_ARGUMENT, "out is NULL");
    return parts_info(out, &ctx->p, &ctx->err);
}
