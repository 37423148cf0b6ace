/* SPDX-License-Identifier: MIT */
/* A pipeline as training sees it: what makes latents and embeddings for the cache, and pictures of latents for the sheets. */
#ifndef SWD_TRAIN_ENCODE_H
#define SWD_TRAIN_ENCODE_H
#include "pipeline/assemble.h"
#include "train/cache.h"
#include <swd/train.h>

typedef struct encode_source {
    pipeline *p;
    const swd_train_params *params;
    int max_tokens; /* of the T5 prompt */
    int64_t context_rows, context_width, pooled_width;
    uint64_t digest;  /* of the files behind it */
    double started_s; /* of the stage that progress is told of */
    int64_t started_at;
} encode_source;

/* max_tokens is set; the pipeline's configs and tokenizers are read. */
swd_status encode_begin(encode_source *e, pipeline *p, const swd_train_params *params,
                        swd_err *err);
/* user is e. Networks are loaded by the first call that needs them. */
cache_maker encode_maker(encode_source *e);
bool encode_progress(void *user, const char *what, int64_t done, int64_t total);
swd_status encode_text(void *user, float *context, float *pooled, const char *caption,
                       swd_err *err);
/* Loads what encode_decode() needs for pictures of this size, which would else come with the first one. */
swd_status encode_prepare_decode(const encode_source *e, int height, int width, swd_err *err);
swd_status encode_decode(void *user, uint8_t *rgb, const float *latents, int height, int width,
                         swd_err *err);
/* Gives the memory of text encoders, encoder and activations back. */
void encode_release(encode_source *e);
/* Lines of a file, at least one and at most max, each to be freed; on failure none are left. */
swd_status encode_read_prompts(char **out, int *n, int max, const char *path, swd_err *err);
#endif
