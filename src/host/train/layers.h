/* SPDX-License-Identifier: MIT */
/* What training adds to a packed layer of a model, as the tape computes with it.
 *
 *     low rank:  y = x W^T + bias + scale (x A^T) B^T     W packed and frozen; parts: rows of W with an A and a B of their own (q, k, v)
 *     full:      y = x weight^T + bias                    instead of the packed W
 *
 * Values are of the compute type of the layer (biases float32), gradients float32 and added to. Whoever makes a layer_set owns all. */
#ifndef SWD_TRAIN_LAYERS_H
#define SWD_TRAIN_LAYERS_H
#include "backend/backend.h"

enum { LAYER_PARTS_MAX = 3 };

typedef struct trained_layer {
    const swd_linear *w;
    bool full;
    swd_tensor weight, dweight; /* full: [N, K] */
    swd_tensor bias, dbias;     /* full: [N] or absent */
    int n_parts;                /* low rank */
    int64_t rank;
    float scale;      /* alpha / rank */
    swd_tensor a, da; /* [n_parts * rank, K]: the parts' A under each other */
    struct {
        int64_t first, rows; /* rows of W */
        swd_tensor b, db;    /* [rows, rank] */
    } part[LAYER_PARTS_MAX];
} trained_layer;

/* A float32 vector that a model's ops read where it lies (weights of norms). */
typedef struct trained_vector {
    swd_tensor value, grad;
} trained_vector;

typedef struct layer_set {
    trained_layer *layer; /* in order of w */
    int n_layers;
    trained_vector *vector;
    int n_vectors;
} layer_set;

/* NULL: the set leaves the layer as it is. */
const trained_layer *layer_set_find(const layer_set *s, const swd_linear *w);
#endif
