/* SPDX-License-Identifier: MIT */
/* The shapes of published models, for random weights: everything that the configuration files of a folder would say. */
#ifndef SWD_WEIGHTS_SHAPES_H
#define SWD_WEIGHTS_SHAPES_H
#include "io/config.h"

typedef struct model_shape {
    const char *name, *about;
    config_denoiser transformer;
    config_vae vae;
    config_clip_text clip[2]; /* the second all zeros: there is none */
    config_t5 t5;
    config_scheduler scheduler;
} model_shape;

const model_shape *shape_find(const char *name); /* NULL: there is none */
const model_shape *shape_at(int i);              /* NULL beyond the last */
#endif
