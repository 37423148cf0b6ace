/* SPDX-License-Identifier: MIT */
/* The configuration files of a diffusers folder for a shape. The caller owns the object; NULL: out of memory. */
#ifndef SWD_RANDOM_MODEL_CONFIGS_H
#define SWD_RANDOM_MODEL_CONFIGS_H
#include "weights/shapes.h"
#include <jansson.h>

json_t *config_of_transformer(const model_shape *s);
json_t *config_of_vae(const model_shape *s);
json_t *config_of_clip(const model_shape *s, int i, const char *dtype); /* dtype: "bfloat16", ... */
json_t *config_of_t5(const model_shape *s, const char *dtype);
json_t *config_of_scheduler(const model_shape *s);
json_t *config_of_pipeline(const model_shape *s, bool with_t5);
#endif
