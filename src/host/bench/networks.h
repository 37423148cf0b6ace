/* SPDX-License-Identifier: MIT */
/* One network of an assembled model as something to time: its inputs are made once, its forward pass runs as often as wanted. */
#ifndef SWD_BENCH_NETWORKS_H
#define SWD_BENCH_NETWORKS_H
#include "pipeline/networks.h"

typedef enum network_kind {
    NETWORK_STEP,   /* the transformer: batch, side, text */
    NETWORK_DECODE, /* the autoencoder's decoder: batch, side */
    NETWORK_ENCODE, /* its encoder: batch, side */
    NETWORK_CLIP_L,
    NETWORK_CLIP_G,
    NETWORK_T5 /* text: its length */
} network_kind;

typedef struct network {
    pipeline *p; /* the part is loaded */
    network_kind kind;
    int64_t batch, side,
        text; /* images; latent side; tokens of text, CLIP's and T5's together for a step */
    size_t slab_bytes; /* set by network_prepare, like all below */
    swd_exec ex;
    swd_stream *stream; /* of a device; else NULL */
    swd_graph *graph;   /* set by network_record */
    swd_tensor in, out, t, context, pooled;
    int32_t ids[SWD_TOKENS_MAX];
} network;

/* Sizes the slab of p, places inputs and outputs in it and fills the inputs with random numbers. Another network that is prepared on
 * the same pipeline afterwards takes the slab over. Release it either way. */
swd_status network_prepare(network *n, swd_err *err);
void network_release(network *n);
/* Once; it is over when the call returns. */
swd_status network_forward(network *n, swd_err *err);
/* From now on a forward pass is the launch of a graph, as a request's steps are. Nothing where the backend has none, or the pipeline
 * shall use none. */
swd_status network_record(network *n, swd_err *err);
#endif
