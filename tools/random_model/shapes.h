/* SPDX-License-Identifier: MIT */
/* The published shapes of the SD3 family, and their configuration files. */
#ifndef SWD_RANDOM_MODEL_SHAPES_H
#define SWD_RANDOM_MODEL_SHAPES_H
#include "io/config.h"
#include <jansson.h>

typedef struct random_shape {
    const char *name, *about;
    config_sd3 transformer;
    config_vae vae;
    config_clip_text clip[2];
    config_t5 t5;
} random_shape;

const random_shape *shape_find(const char *name); /* NULL: there is none */
const random_shape *shape_at(int i);              /* NULL beyond the last */

/* The files of a diffusers folder; the caller owns the object. NULL: out of memory. dtype: "bfloat16", ... */
json_t *shape_transformer_config(const random_shape *s);
json_t *shape_vae_config(const random_shape *s);
json_t *shape_clip_config(const random_shape *s, int i, const char *dtype);
json_t *shape_t5_config(const random_shape *s, const char *dtype);
json_t *shape_scheduler_config(void);
json_t *shape_model_index(bool with_t5);
#endif
