/* SPDX-License-Identifier: MIT */
/* Steps and decodings recorded as graphs, kept for later batches and requests of the same shape. */
#ifndef SWD_PIPELINE_GRAPHS_H
#define SWD_PIPELINE_GRAPHS_H
#include "backend/async.h"
#include "backend/ops.h"
#include "sample/scalewise.h"

enum { GRAPH_SIGMAS = 8, GRAPH_MIXED = -1000000 /* a key's k: all steps at once */ };

/* All that the work is made of but the contents of device memory. Zeroed first: compared byte by byte. */
typedef struct graph_key {
    float sigma
        [GRAPH_SIGMAS]; /* of the step and those after it whose conditions it makes, or whose noise level it goes to */
    float guidance;
    int k, n_steps, n, sampler;
    int height, width, next_height, next_width; /* of latents, before and after */
    int64_t text_tokens;
    const void *memory[9]; /* where its tensors lie */
    size_t used;           /* of the stage's slab */
} graph_key;

typedef struct graph_cache {
    struct graph_entry *entries;
    int n;
} graph_cache;

/* body(arg, index): as it is the first time that a key is seen (kernels are loaded then), recorded the second time, from then on the
 * record. ex: where body's work goes, of a backend with streams. */
swd_status graph_cache_run(graph_cache *c, const graph_key *key, sample_body *body, void *arg,
                           int index, swd_exec *ex);
int graph_cache_recorded(const graph_cache *c); /* graphs that are kept */
/* Between requests: makes room where little is left. Work that finds none runs as it is. */
void graph_cache_trim(graph_cache *c, swd_backend *b);
/* No launch is under way. Accepts a zeroed one and leaves it so. */
void graph_cache_clear(graph_cache *c, swd_backend *b);
#endif
