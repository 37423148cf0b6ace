/* SPDX-License-Identifier: MIT */
/* The denoising of a batch, from noise to x0, and its decoding, from x0 to RGB8, each recorded as one graph and kept for later batches and
 * requests of the same shape. Seeds and embeddings lie in device memory, outside of it; events within tell when a step has passed. */
#ifndef SWD_PIPELINE_GRAPHS_H
#define SWD_PIPELINE_GRAPHS_H
#include "backend/async.h"
#include "backend/ops.h"
#include "sample/scalewise.h"

enum { GRAPH_STEPS_MAX = 64 }; /* longer schedules are not recorded */
typedef enum graph_work { GRAPH_DENOISE, GRAPH_DECODE, GRAPH_MIXED } graph_work;

/* All that the work is made of but the contents of device memory. Zeroed first: compared byte by byte. */
typedef struct graph_key {
    float sigma[GRAPH_STEPS_MAX];
    int height[GRAPH_STEPS_MAX], width[GRAPH_STEPS_MAX]; /* of latents */
    float guidance;
    int work, n_steps, n, evaluations, sampler;
    bool with_init;
    int64_t text_tokens;
    const void *memory[10]; /* where its tensors lie, and its events */
    size_t used;            /* of the stage's slab */
} graph_key;

typedef struct graph_cache {
    struct graph_entry *entries;
    int n;
} graph_cache;

/* The schedule of a key. n_steps at most GRAPH_STEPS_MAX. */
void graph_key_steps(graph_key *key, const sample_step *steps, int n_steps);
/* body(arg, 0): as it is the first time that a key is seen (kernels are loaded then), recorded the second time, from then on the
 * record. ex: where body's work goes, of a backend with streams. */
swd_status graph_cache_run(graph_cache *c, const graph_key *key, sample_body *body, void *arg,
                           swd_exec *ex);
int graph_cache_recorded(const graph_cache *c); /* graphs that are kept */
/* Between requests: makes room where little is left. Work that finds none runs as it is. */
void graph_cache_trim(graph_cache *c, swd_backend *b);
/* No launch is under way. Accepts a zeroed one and leaves it so. */
void graph_cache_clear(graph_cache *c, swd_backend *b);
#endif
