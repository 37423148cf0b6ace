// SPDX-License-Identifier: MIT
#include "pipeline/graphs.h"
#include "base/memory.h"
#include <string.h>

enum { GRAPHS_MAX = 64 }; // two batches that take turns need four, and two for the last one

typedef struct graph_entry {
    graph_key key;
    swd_graph *graph; // NULL: seen once
} graph_entry;

static swd_status add(graph_cache *c, const graph_key *key, swd_exec *ex)
{
    if (!c->entries)
        RUN(swd_calloc(&c->entries, GRAPHS_MAX, sizeof *c->entries, "graphs", ex->err));
    if (c->n < GRAPHS_MAX) c->entries[c->n++] = (graph_entry){.key = *key};
    return SWD_OK;
}

static graph_entry *find(const graph_cache *c, const graph_key *key)
{
    for (int i = 0; i < c->n; i++)
        if (memcmp(&c->entries[i].key, key, sizeof *key) == 0) return &c->entries[i];
    return NULL;
}

static swd_status record(graph_entry *e, sample_body *body, void *arg, swd_exec *ex)
{
    RUN(graph_capture(ex->stream, ex->backend, ex->err));
    swd_status s = body(arg, 0);
    if (s == SWD_OK) return graph_capture_end(&e->graph, ex->stream, ex->backend, ex->err);
    graph_capture_drop(ex->stream, ex->backend);
    return s;
}

void graph_key_steps(graph_key *key, const sample_step *steps, int n_steps)
{
    key->n_steps = n_steps;
    for (int k = 0; k < n_steps; k++) {
        key->sigma[k] = steps[k].sigma;
        key->height[k] = steps[k].height;
        key->width[k] = steps[k].width;
    }
}

swd_status graph_cache_run(graph_cache *c, const graph_key *key, sample_body *body, void *arg,
                           swd_exec *ex)
{
    graph_entry *e = find(c, key);
    if (!e) {
        RUN(add(c, key, ex));
        return body(arg, 0);
    }
    if (!e->graph) RUN(record(e, body, arg, ex));
    return graph_launch(e->graph, ex->stream, ex->backend, ex->err);
}

int graph_cache_recorded(const graph_cache *c)
{
    int n = 0;
    for (int i = 0; i < c->n; i++) n += c->entries[i].graph != NULL;
    return n;
}

void graph_cache_trim(graph_cache *c, swd_backend *b)
{
    if (c->n > GRAPHS_MAX / 2) graph_cache_clear(c, b);
}

void graph_cache_clear(graph_cache *c, swd_backend *b)
{
    for (int i = 0; i < c->n; i++) graph_destroy(&c->entries[i].graph, b);
    free(c->entries);
    *c = (graph_cache){0};
}
