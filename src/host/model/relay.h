/* SPDX-License-Identifier: MIT */
/* Layers that come and go: their weights stay in the files, and two places in the backend's memory take turns. While layer i is used, layer i + 1 is
 * copied into the other place, on the backend's own stream. A place is written when the layer that was there has been used, and used when
 * it has been written. */
#ifndef SWD_MODEL_RELAY_H
#define SWD_MODEL_RELAY_H
#include "backend/ops.h"
#include "model/load.h"

typedef struct relay relay;

/* Puts layer i together in *layer, whose bytes are zero; what it makes is l's. */
typedef void relay_load(loader *l, void *layer, int i, const void *of);

typedef struct relay_source {
    weights *w; /* borrowed, as is `of`: open as long as the places are */
    swd_dtype compute;
    int n; /* layers */
    size_t layer_bytes;
    relay_load *load;
    const void *of;
} relay_source;

/* Takes no memory of the backend. */
swd_status relay_create(relay **out, const relay_source *source, swd_backend *be, swd_err *err);
/* Two places for the largest layer; before the first layer is taken, once. */
swd_status relay_make_room(relay *p, swd_err *err);
void relay_destroy(relay **p); /* writes NULL; accepts it */

/* *layer is layer i for what ex's stream is given until relay_done(i). Layers are taken in order, one at a time. Where ex measures the first layer
 * stands for all. */
swd_status relay_take(void **layer, relay *p, int i, swd_exec *ex);
/* Brings layer i + 1, if there is one. */
swd_status relay_done(relay *p, int i, swd_exec *ex);
#endif
