/* SPDX-License-Identifier: MIT */
/* What a request will do, decided before anything runs: sampler, schedule, sizes, guidance, length of the prompt.
 * Precedence: the call, then the adapter's swd.json (the last adapter that has one), then the model's, then what is built in. */
#ifndef SWD_PIPELINE_PLAN_H
#define SWD_PIPELINE_PLAN_H
#include "pipeline/assemble.h"
#include "sample/scalewise.h"

typedef struct request_plan {
    swd_sampler sampler;
    char preset[CONFIG_NAME_MAX]; /* "custom", "euler" */
    int n_steps; /* that run: with an init picture the steps before it are dropped */
    sample_step steps[SWD_STEPS_MAX];
    double sigmas[SWD_STEPS_MAX]; /* the same, unrounded */
    int width, height;            /* pixels */
    int latent_width, latent_height, channels;
    double guidance; /* 0: none */
    int evaluations; /* a step and image: 2 where guidance leads away from a negative prompt */
    double shift;
    int max_tokens;
    int n_images, batch;
    bool with_init;
    char note[256]; /* what the caller should know; "" */
} request_plan;

/* The pipeline's configs and tokenizers are read. Arguments out of range: SWD_ERR_ARGUMENT. */
swd_status plan_make(request_plan *out, const swd_generate_params *params, const pipeline *p,
                     swd_err *err);
/* Length of the T5 prompt when no schedule is named in the call; max_tokens as given there (0: none). */
swd_status plan_max_tokens(int *out, int max_tokens, const pipeline *p, swd_err *err);
/* Preset i of adapters, model and library; false beyond the last. */
bool plan_preset_at(swd_preset *out, int i, const pipeline *p);
#endif
