// SPDX-License-Identifier: MIT
#include "pipeline/family.h"
#include "base/memory.h"
#include "sample/schedule.h"
#include <stdio.h>
#include <string.h>

static const char *const encoder_option[FAMILY_ENCODERS] = {"clip_l", "clip_g", "t5"};

/* SD3.5-M is told by its dual attention, SD3.5-L by QK norm without it. */
static const char *sd3_preset(const config_denoiser *c)
{
    if (c->sd3.n_dual) return "sd3.5-medium-6";
    return c->sd3.qk_norm_rms ? "sd3.5-large-4" : NULL;
}

static swd_status sd3_euler(double *sigmas, double *shift, int steps, int64_t tokens,
                            const config_scheduler *scheduler, swd_err *err)
{
    (void)tokens, (void)scheduler;
    return schedule_euler(sigmas, steps, *shift, err);
}

static const char *flux_preset(const config_denoiser *c)
{
    (void)c;
    return "flux-4";
}

/* dev shifts by the size of the picture, schnell not at all; --shift says it for both. */
static swd_status flux_euler(double *sigmas, double *shift, int steps, int64_t tokens,
                             const config_scheduler *c, swd_err *err)
{
    const schedule_dynamic dynamic = {.base_shift = c->base_shift,
                                      .max_shift = c->max_shift,
                                      .base_tokens = c->base_image_seq_len,
                                      .max_tokens = c->max_image_seq_len,
                                      .linear = c->time_shift_linear};
    bool given = *shift > 0;
    if (c->unsupported[0])
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "scheduler/scheduler_config.json: field \"%s\" is in use, which the euler "
                        "sampler does not have",
                        c->unsupported);
    if (!given)
        *shift = c->use_dynamic_shifting ? schedule_dynamic_shift(tokens, &dynamic) : c->shift;
    return schedule_linear(sigmas, steps, *shift, !given && c->use_dynamic_shifting, err);
}

static const family families[] = {
    {.pipeline_class = "StableDiffusion3Pipeline",
     .models = "SD3, SD3.5",
     .denoiser = DENOISER_SD3,
     .encoder = {{"text_encoder", "tokenizer"},
                 {"text_encoder_2", "tokenizer_2"},
                 {"text_encoder_3", "tokenizer_3"}},
     .clip_rows = true,
     .clip_projected = true,
     .t5_tokens = 256,
     .t5_tokens_capped = true,
     .guidance_euler = 4.5,
     .shift = 3,
     .preset = sd3_preset,
     .euler = sd3_euler},
    {.pipeline_class = "FluxPipeline",
     .models = "FLUX.1",
     .denoiser = DENOISER_FLUX,
     .encoder = {{"text_encoder", "tokenizer"}, {0}, {"text_encoder_2", "tokenizer_2"}},
     .t5_tokens = 512,
     .guidance_is_input = true,
     .guidance_scalewise = 4.5,
     .guidance_euler = 3.5,
     .preset = flux_preset,
     .euler = flux_euler},
};
enum { N_FAMILIES = sizeof families / sizeof *families };

const family *family_find(const char *pipeline_class)
{
    for (int i = 0; i < N_FAMILIES; i++)
        if (strcmp(families[i].pipeline_class, pipeline_class) == 0) return &families[i];
    return NULL;
}

const family *family_of(denoiser_kind kind)
{
    int i = 0;
    while (families[i].denoiser != kind) i++;
    return &families[i];
}

const family *family_guess(const char *dir)
{
    for (int i = 0; i < N_FAMILIES; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s/spiece.model", dir,
                 families[i].encoder[FAMILY_T5].tokenizer);
        if (path_exists(path)) return &families[i];
    }
    return &families[0];
}

char *family_list(char *buf, size_t n)
{
    size_t used = 0;
    buf[0] = 0;
    for (int i = 0; i < N_FAMILIES && used < n; i++)
        used += (size_t)snprintf(buf + used, n - used, "%s%s (%s)", i ? ", " : "",
                                 families[i].pipeline_class, families[i].models);
    return buf;
}

char *family_without(const family *f, int encoder, char *buf, size_t n)
{
    size_t used = 0;
    buf[0] = 0;
    for (int i = 0; i < FAMILY_ENCODERS && used < n; i++)
        if (i != encoder && f->encoder[i].folder)
            used +=
                (size_t)snprintf(buf + used, n - used, "%s%s", used ? "," : "", encoder_option[i]);
    return buf;
}
