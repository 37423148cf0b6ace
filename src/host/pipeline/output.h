/* SPDX-License-Identifier: MIT */
/* What a request leaves behind: names of files, pictures with their metadata, latents of every step. */
#ifndef SWD_PIPELINE_OUTPUT_H
#define SWD_PIPELINE_OUTPUT_H
#include "pipeline/plan.h"

/* Fails before any work is done: no picture's suffix, a wrong pattern, a folder that is not there or cannot be written to, a folder
 * where one of the n pictures would lie. */
swd_status output_check(const char *path, int n, swd_err *err);
/* Name of picture i of n: the %d of a pattern filled in and %% made %, or out-0000.jpg where n > 1. Freed by the caller. */
swd_status output_name(char **out, const char *path, int i, int n, swd_err *err);
/* rgb [h, w, 3]; comment is what the picture carries as metadata. Written to a temporary name, then renamed. */
swd_status output_write(const char *path, const uint8_t *rgb, int width, int height,
                        const char *comment, swd_err *err);
/* Prompt, seed, model, schedule and version in words. Freed by the caller. */
swd_status output_comment(char **out, const char *prompt, uint64_t seed, const request_plan *plan,
                          const char *model_dir, swd_err *err);

/* Latents of a call, gathered image by image: x0 of every step, in a nameless file beside path, so that neither memory nor a
 * folder keeps them when a long call ends early. */
typedef struct latent_log {
    const char *path; /* NULL: there is none */
    int fd, n_steps, n_images;
    int64_t per_image[SWD_STEPS_MAX],
        first[SWD_STEPS_MAX]; /* numbers; of step k's [n_images, C, h, w] in the file */
} latent_log;
swd_status latent_log_create(latent_log *l, const request_plan *plan, const char *path,
                             swd_err *err);
/* x0 of step k for images [first, first + n). */
swd_status latent_log_put(const latent_log *l, int k, int first, int n, const float *x0,
                          swd_err *err);
swd_status latent_log_write(const latent_log *l, const request_plan *plan, swd_err *err);
void latent_log_close(latent_log *l); /* accepts a zeroed one */
#endif
