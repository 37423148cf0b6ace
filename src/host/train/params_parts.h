/* SPDX-License-Identifier: MIT */
/* A set of parameters from within. */
#ifndef SWD_TRAIN_PARAMS_PARTS_H
#define SWD_TRAIN_PARAMS_PARTS_H
#include "train/params.h"

struct params {
    swd_backend *be;
    swd_dtype compute;
    param *at;
    int64_t *offset; /* of each in the buffers */
    int n;
    int64_t total, numbers; /* with the gaps; without */
    swd_tensor value, grad,
        rounded; /* [total]; rounded: value itself where the compute type is float32 */
    layer_set set;
    trained_layer *layers;
    trained_vector *vector;
    size_t room, offset_room, layer_room, vector_room;
};

/* Tensor i, and what follows it without a gap, as [rows, columns]. */
swd_tensor params_rounded(const params *p, int i, int64_t rows, int64_t columns);
swd_tensor params_grad(const params *p, int i, int64_t rows, int64_t columns);
#endif
