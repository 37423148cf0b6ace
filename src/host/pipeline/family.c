// SPDX-License-Identifier: MIT
#include "pipeline/family.h"
#include "sample/schedule.h"
#include <stdio.h>
#include <string.h>

static const char *const encoder_option[FAMILY_ENCODERS] = {"clip_l", "clip_g", "t5"};

/* SD3.5-M is told by its dual attention, SD3.5-L by QK norm without it. */
static const char *sd3_preset(const denoiser_config *c)
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
};
enum { N_FAMILIES = sizeof families / sizeof *families };

const family *family_find(const char *pipeline_class)
{
    for (int i = 0; i < N_FAMILIES; i++)
        if (strcmp(families[i].pipeline_class, pipeline_class) == 0) return &families[i];
    return NULL;
}

const family *family_guess(const char *dir)
{
    (void)dir;
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
