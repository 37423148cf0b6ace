/* SPDX-License-Identifier: MIT */
/* What config.h's readers are for text, of the picture side of CLIP: config.json of CLIPModel or CLIPVisionModelWithProjection, and
 * preprocessor_config.json of CLIPImageProcessor. The same rules. */
#ifndef SWD_IO_CONFIG_VISION_H
#define SWD_IO_CONFIG_VISION_H
#include "io/config.h"

enum { CONFIG_VISION_SIDE_MAX = 2048 };
#define CONFIG_INCEPTION_TYPE "inception_v3_fid"

typedef struct config_clip_vision {
    int hidden_size, intermediate_size, projection_dim;
    int num_hidden_layers, num_attention_heads, head_dim;
    int image_size, patch_size; /* a multiple of the other; three channels */
    double layer_norm_eps;
    config_act hidden_act;
    bool with_text; /* a CLIPModel: the text tower is in the same files */
} config_clip_vision;

/* The shorter side becomes shortest_edge (bicubic), the middle crop is taken, (x / 255 - mean) / std. */
typedef struct config_clip_processor {
    int shortest_edge, crop; /* crop <= shortest_edge */
    double mean[3], std[3];
} config_clip_processor;

/* Inception-v3 as FID uses it; tools/reference/convert_inception.py writes it. */
typedef struct config_inception {
    int image_size;    /* 299; at least 75, below which the last maps have no pixel */
    int width_divisor; /* 1; every number of channels is divided by it: small ones for tests */
} config_inception;

swd_status config_inception_read(config_inception *out, const char *path, swd_err *err);
/* "model_type" of any config.json into buf, "" if absent. */
swd_status config_model_type(char *buf, size_t n, const char *path, swd_err *err);
swd_status config_clip_vision_read(config_clip_vision *out, const char *path, swd_err *err);
/* A processor that does something else (no resizing, another filter, padding) is SWD_ERR_UNSUPPORTED. */
swd_status config_clip_processor_read(config_clip_processor *out, const char *path, swd_err *err);
#endif
