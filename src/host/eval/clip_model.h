/* SPDX-License-Identifier: MIT */
/* A CLIP folder of transformers: config.json, model.safetensors, preprocessor_config.json and, where it has a text tower, vocab.json and
 * merges.txt. Pictures and prompts become vectors of one space. One thread at a time. */
#ifndef SWD_EVAL_CLIP_MODEL_H
#define SWD_EVAL_CLIP_MODEL_H
#include "backend/backend.h"
#include "image/image.h"
#include "io/config_vision.h"

typedef struct clip_model clip_model;

/* The backend is borrowed. compute: of the products. */
swd_status clip_model_open(clip_model **out, const char *dir, swd_backend *be, swd_dtype compute,
                           swd_err *err);
void clip_model_close(clip_model **m); /* writes NULL; accepts it */
int clip_model_dim(const clip_model *m);
int clip_model_side(const clip_model *m); /* of the pixels below */
bool clip_model_has_text(const clip_model *m);

/* pixels[3, crop, crop] of a picture, as transformers' CLIPImageProcessor makes them (with Pillow's bytes, before the last step). */
swd_status clip_pixels(float *pixels, const image_rgb8 *image, const config_clip_processor *c,
                       swd_err *err);
/* features[n, dim] of pixels[n, 3, side, side], each of length sqrt(dim): numbers are of the size 1, and a kernel that divides by dim sees
 * cosines. n up to CLIP_BATCH_MAX. */
enum { CLIP_BATCH_MAX = 64 };
swd_status clip_model_pictures(float *features, const float *pixels, int n, clip_model *m,
                               swd_err *err);
/* The same of prompts, cut to the model's length. SWD_ERR_UNSUPPORTED without a text tower. */
swd_status clip_model_prompts(float *features, const char *const *prompts, int n, clip_model *m,
                              swd_err *err);
const config_clip_processor *clip_model_processor(const clip_model *m);
#endif
