/* SPDX-License-Identifier: MIT */
/* The block that both towers of CLIP are made of: x += attention(norm(x)); x += fc2(act(fc1(norm(x)))). */
#ifndef SWD_MODEL_CLIP_LAYER_H
#define SWD_MODEL_CLIP_LAYER_H
#include "backend/ops.h"
#include "io/config.h"
#include "model/load.h"

typedef struct clip_layer {
    norm norm1, norm2;
    swd_linear *qkv, *out, *fc1, *fc2;
} clip_layer;

typedef struct clip_layer_shape {
    int64_t d, wide;
    int head_dim;
    float eps;
    swd_act act;
    bool causal; /* text */
} clip_layer_shape;

/* CONFIG_ACT_QUICK_GELU or CONFIG_ACT_GELU_ERF; else SWD_ERR_UNSUPPORTED. */
swd_status clip_layer_act(swd_act *out, config_act act, const char *path, swd_err *err);
/* Names start where the loader stands. */
void clip_layer_load(loader *l, clip_layer *y, const clip_layer_shape *s);
/* x F32 [B, N, d], in place */
swd_status clip_layer_run(swd_tensor x, const clip_layer *l, const clip_layer_shape *s,
                          swd_exec *ex);
#endif
