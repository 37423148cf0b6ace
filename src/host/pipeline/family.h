/* SPDX-License-Identifier: MIT */
/* What sets one family of models apart from another, outside of its transformer: the class in model_index.json, where its text encoders lie
 * and what becomes of their states, how it is guided, what it samples with. The pipeline asks this table and never which family it has; a new
 * one is an entry here and a class in model/denoiser.c. */
#ifndef SWD_PIPELINE_FAMILY_H
#define SWD_PIPELINE_FAMILY_H
#include "model/denoiser.h"

/* CLIP-L, CLIP-G and T5, also the order of their parts. */
enum { FAMILY_CLIP_L, FAMILY_CLIP_G, FAMILY_T5, FAMILY_ENCODERS };

typedef struct family_encoder {
    const char *folder, *tokenizer; /* NULL: the family has no such encoder */
} family_encoder;

typedef struct family {
    const char *pipeline_class, *models; /* "StableDiffusion3Pipeline", "SD3, SD3.5" */
    denoiser_kind denoiser;
    family_encoder encoder[FAMILY_ENCODERS];
    bool clip_rows;        /* the CLIPs' states are rows of the context, before T5's */
    bool clip_projected;   /* what goes into pooled */
    int t5_tokens;         /* length of its prompt where nobody says; ... */
    bool t5_tokens_capped; /* ... no longer than its tokenizer's maximum */
    bool
        guidance_is_input; /* of the transformer, where it has an embedder; else the difference of two evaluations */
    double guidance_scalewise;    /* where nobody says */
    double guidance_euler, shift; /* the same; shift 0: by the folder's scheduler */
    const char *(*preset)(
        const config_denoiser *c); /* of an adapter without a schedule; NULL: none */
    /* The noise levels of the Euler sampler: sigmas[steps + 1], the last 0. *shift: as asked, 0: nobody did; set to what it became. */
    swd_status (*euler)(double *sigmas, double *shift, int steps, int64_t tokens,
                        const config_scheduler *scheduler, swd_err *err);
} family;

/* NULL: none of that class */
const family *family_find(const char *pipeline_class);
/* That of a class of transformers. */
const family *family_of(denoiser_kind kind);
/* That of a folder without model_index.json, by where its T5 tokenizer lies. */
const family *family_guess(const char *dir);
/* "StableDiffusion3Pipeline (SD3, SD3.5), ...": all of them, into buf; returns buf. */
char *family_list(char *buf, size_t n);
/* What --text-encoders leaves when an encoder is left out: "clip_g,t5". */
char *family_without(const family *f, int encoder, char *buf, size_t n);
#endif
