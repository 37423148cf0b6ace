/* SPDX-License-Identifier: MIT */
/* What pictures are compared by: a folder whose config.json says which network it is. CLIP's vectors have the length sqrt(dim) and prompts
 * have vectors, too (clip_model.h); Inception's are what FID takes. One thread at a time. */
#ifndef SWD_EVAL_FEATURES_H
#define SWD_EVAL_FEATURES_H
#include "backend/backend.h"
#include "image/image.h"
#include <stdbool.h>

typedef struct features features;

enum { FEATURES_BATCH = 8 };

/* The backend is borrowed. compute: of the products. */
swd_status features_open(features **out, const char *dir, swd_backend *be, swd_dtype compute,
                         swd_err *err);
void features_close(features **f); /* writes NULL; accepts it */
int features_dim(const features *f);
int features_pixels(const features *f); /* numbers that the next function writes */
/* What the network sees of a picture. */
swd_status features_prepare(float *pixels, const image_rgb8 *image, const features *f,
                            swd_err *err);
/* rows[n, dim] of n prepared pictures, up to FEATURES_BATCH */
swd_status features_of_pictures(float *rows, const float *pixels, int n, features *f, swd_err *err);
bool features_have_text(const features *f);
swd_status features_of_prompts(float *rows, const char *const *prompts, int n, features *f,
                               swd_err *err);
#endif
