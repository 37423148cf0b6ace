/* SPDX-License-Identifier: MIT */
/* The state of one request and its smaller steps; generate.c tells the story. */
#ifndef SWD_PIPELINE_REQUEST_H
#define SWD_PIPELINE_REQUEST_H
#include "pipeline/output.h"
#include "pipeline/plan.h"

typedef struct request {
    pipeline *p;
    const swd_generate_params *params;
    request_plan plan;
    uint64_t seed;
    noise_source *noise;
    latent_log latents;    /* empty unless they are to be saved */
    float *x0_host;        /* one batch of the largest x0, for them; else NULL */
    bool keep_pixels;      /* in the result; else they go once they are written */
    struct result *result; /* grows image by image */
    swd_exec *ex;
    int first, n; /* images of the batch at work */
    double step_started_s;

    /* device memory that lasts the whole request, at the bottom of the slab */
    mmdit_conditions conditions; /* of the batch at work, for some of its steps: */
    int conditions_from;         /* this one and those after it that had room */
    int cond_prompt;             /* index of the prompt that cond holds; -1: none */
    swd_tensor cond, cond_pooled, uncond, uncond_pooled; /* [1, L, D], [1, P] */
    swd_tensor context, pooled;      /* [R B, L, D], [R B, P]; R = 2 with guidance */
    swd_tensor t, twice, velocities; /* [steps at once * R B]; [2 B, C, h, w], with guidance */
    swd_tensor init;                 /* [1, C, h, w] at the first step's size */
    swd_tensor x0, rgb;              /* [B, C, h, w]; U8 [1, H, W, 3] */
} request;

/* A result and what it points to. */
typedef struct result {
    swd_result pub;
    swd_image *images;
    swd_step *steps;
    char preset[CONFIG_NAME_MAX], device[208], note[768];
} result;

swd_status request_allocate(request *r, swd_exec *ex);
swd_status request_encode_prompts(request *r, swd_exec *ex);
swd_status request_encode_init(request *r, swd_exec *ex);
swd_status request_denoise(request *r, swd_exec *ex);
swd_status request_decode_and_write(request *r, swd_exec *ex);

/* SWD_ERR_CANCELLED if the caller's callback says so; silent while measuring. */
swd_status request_progress(request *r, swd_stage stage, int step, int n_steps);
#endif
