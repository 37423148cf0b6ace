/* SPDX-License-Identifier: MIT */
/* The state of one request and its smaller steps; generate.c tells the story. */
#ifndef SWD_PIPELINE_REQUEST_H
#define SWD_PIPELINE_REQUEST_H
#include "backend/async.h"
#include "pipeline/output.h"
#include "pipeline/plan.h"
#include "pipeline/writer.h"
#include "sample/wave.h"

/* Images at work, from their prompts to their pictures. Two batches take turns where streams overlap; mixed, there is one at every step and one
 * behind them. */
typedef struct batch {
    int first, n;               /* of request.todo */
    swd_tensor context, pooled; /* [R B, L, D], [R B, P]; R = evaluations a step */
    swd_tensor x0, rgb;         /* [B, C, h, w]; U8 [B, H, W, 3] */
    uint8_t *host;              /* rgb, where the host reads it */
    const char **fresh;         /* [n_fresh_max], prompts that were encoded for it ... */
    float *embeddings;          /* ... and what came of them, where the host reads it */
    int n_fresh;
    /* of the pipeline; between stages, and to measure them; stepped [n_steps]; NULL where the request is live */
    swd_event *began, *encoded, *denoising, **stepped, *denoised, *decoding, *decoded;
    double share[WAVE_STEPS_MAX]; /* of the time of a tick that was its step's */
} batch;

/* Where a stage's work goes: its part of the slab, its stream. */
enum { REQUEST_TEXT, REQUEST_DENOISE, REQUEST_DECODE, REQUEST_STAGES };

/* What lasts from tick to tick where steps are mixed (pipeline/mixed_batches.h); of all steps: a row of images for each. */
typedef struct mixed_state {
    wave wave;
    mixed_batch all;                  /* a batch at every step */
    swd_tensor context_in, pooled_in; /* of the batch that enters */
    swd_tensor pooled, t;             /* [steps x B, P], [steps x B] */
    swd_tensor x0;                    /* of the batch that leaves */
    int tick, n_batches;              /* batch i of n_batches enters at tick i */
} mixed_state;

typedef struct request {
    pipeline *p;
    const swd_generate_params *params;
    request_plan plan;
    uint64_t seed;
    int *todo, n_todo; /* which images of the call, in order */
    int n_listed; /* n_todo of all processes together, where there are several (pipeline/share.h) */
    bool shared;  /* its batches: each is made by who asks first */
    int next;     /* of todo: what is to be begun next, where it is not shared */
    double *
        latency_ms; /* [n_todo], from a batch's first work to its pictures; before these are there: minus the time when it began */
    int n_done;
    int first,
        end; /* of todo: the images at work; their prompts are known or the text encoders are there */
    bool known; /* all of their prompts are: nothing is encoded */
    bool
        apart; /* transformer and decoder do not fit beside each other: all images are denoised, then all are decoded */
    bool half; /* what is being done is one of the two, ... */
    bool decoding;   /* ... this one */
    float *x0_apart; /* [end - first, C, h, w] between the two */
    embeds_shape embeds;
    int n_fresh_max;
    noise_source *noise;
    writer *writer;
    latent_log latents;    /* empty unless they are to be saved */
    float *x0_host;        /* one batch of the largest x0, for them; else NULL */
    bool keep_pixels;      /* in the result; else they go once they are written */
    struct result *result; /* grows image by image */
    double started_s, step_started_s;

    /* live: each stage is done, measured by the clock and reported before the next begins: on a backend without streams, and where somebody
     * wants to see or keep the x0 of each step. Else the stages of neighbouring batches overlap, and what they did is reported when
     * their events have passed. */
    bool live;
    swd_exec ex[REQUEST_STAGES];
    batch batch[PIPELINE_BATCHES_MAX], *at; /* at: the one that is being given its work */
    int n_batches;                          /* of them in use */
    bool is_mixed;
    char not_mixed[128]; /* why, where it was asked for */
    mixed_state mixed;

    /* device memory that lasts the whole request, at the bottom of the slab */
    size_t kept_bytes;
    const char *cond_prompt;                             /* the one that cond holds; NULL: none */
    bool has_uncond;                                     /* uncond holds the negative one */
    swd_tensor cond, cond_pooled, uncond, uncond_pooled; /* [1, L, D], [1, P] */
    swd_tensor t, twice, velocities; /* [steps at once * R B]; [2 B, C, h, w], with guidance */
    swd_tensor init;                 /* [1, C, h, w] at the first step's size */
    sample_args sample;              /* of the same */
    conditions conditions; /* of the batch that is being denoised, for some of its steps */
} request;

/* A result and what it points to. */
typedef struct result {
    swd_result pub;
    swd_image *images;
    swd_step *steps;
    char preset[CONFIG_NAME_MAX], device[208], note[768];
} result;

/* Which image of the call is the i-th of b. */
static inline int request_image(const request *r, const batch *b, int i)
{
    return r->todo[b->first + i];
}

static inline const char *request_prompt(const request *r, int image)
{
    return r->params->prompts[image / r->params->count];
}
static inline const char *request_negative(const request *r)
{
    return r->params->negative ? r->params->negative : "";
}

/* Somebody wants to see or keep the x0 of each step. */
static inline bool request_is_watched(const request *r)
{
    return r->x0_host || r->params->save_scales || (r->p->progress && r->p->want_x0);
}

/* Places everything for a dry run of a batch, which measures the stages. The networks are loaded. */
void request_measure(request *r, swd_err *err);
size_t request_slab_bytes(const request *r); /* after the dry run */
typedef struct request_sizes {
    size_t kept, stage[REQUEST_STAGES];
} request_sizes;
request_sizes request_measured(const request *r);
/* After it: slab, streams, events and buffers for the batches. */
swd_status request_place(request *r, swd_err *err);
/* Waits for the pictures of b, reports what was done for them and hands them to the writer. */
swd_status request_collect(request *r, batch *b, swd_err *err);
/* What request_place made; nothing of this request is under way on the device. */
void request_release(request *r);
/* After a failure: waits until that is so. */
void request_drain(request *r);

/* SWD_ERR_CANCELLED if the caller's callback says so. */
swd_status request_progress(request *r, swd_stage stage, int step, int n_steps, int image,
                            swd_err *err);
#endif
