/* SPDX-License-Identifier: MIT */
/* A folder of Inception-v3 (config.json, model.safetensors; tools/reference/convert_inception.py) and how pictures are prepared for it. */
#ifndef SWD_EVAL_INCEPTION_MODEL_H
#define SWD_EVAL_INCEPTION_MODEL_H
#include "backend/backend.h"
#include "image/image.h"

typedef struct inception_model inception_model;

swd_status inception_model_open(inception_model **out, const char *dir, swd_backend *be,
                                swd_dtype compute, swd_err *err);
void inception_model_close(inception_model **m); /* writes NULL; accepts it */
int inception_model_dim(const inception_model *m);
int inception_model_side(const inception_model *m);
/* pixels[side, side, 3] in [-1, 1]: the whole picture, linear between pixel centres and without a wider filter where it shrinks, as torch's
 * interpolate(mode="bilinear") does it and FID is customarily measured. */
void inception_pixels(float *pixels, const image_rgb8 *image, int side);
/* rows[n, dim] of pixels[n, side, side, 3] */
swd_status inception_model_pictures(float *rows, const float *pixels, int n, inception_model *m,
                                    swd_err *err);
#endif
