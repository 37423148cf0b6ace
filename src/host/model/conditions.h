/* SPDX-License-Identifier: MIT */
/* What the blocks of a denoising transformer take from its conditions, the same at every scale: the modulations, made of noise level, guidance
 * and pooled text alone, whose layers hold a third of the weights, and the embedded context. Made for several steps of a schedule at once,
 * those weights are read once.
 *
 *     temb = MLP(sinusoid(t)) [+ MLP(sinusoid(1000 guidance))] + MLP(pooled)      modulation k = layer_k(silu(temb)) */
#ifndef SWD_MODEL_CONDITIONS_H
#define SWD_MODEL_CONDITIONS_H
#include "backend/ops.h"
#include "model/load.h"
#include "model/relay.h"

/* Loads layer k of a model's modulations and gives its number of outputs. */
typedef int64_t modulation_load(loader *l, swd_linear **out, int k, const void *model);

/* The layers [outputs, D] that make modulations, in the order in which the blocks use them. */
typedef struct modulations {
    swd_linear **layer; /* NULL each where they are streamed */
    int64_t *outputs;
    int n;
    relay *streamed; /* NULL: all are there */
    modulation_load *load;
    const void *model;
} modulations;

typedef struct embedder {
    swd_linear *time[2], *guidance[2], *pooled[2]; /* guidance NULL: takes none */
} embedder;

typedef struct conditions {
    swd_tensor modulation; /* F32, a matrix [rows, n] for each layer, one after the other */
    swd_tensor context;    /* F32 [B, L, D] */
    int64_t rows;          /* steps x samples: row r is of sample r % B */
} conditions;

/* time_text_embed.* */
void load_embedder(loader *l, embedder *e, int64_t d, int64_t pooled, bool with_guidance);

/* n layers by load(.., model). streamed: they are looked for, no more, and come one by one when they are needed (model/relay.h): w has to stay
 * open, and relay_make_room() comes before the first modulation. Released by modulations_release(), the rest by the loader's holdings. */
void load_modulations(loader *l, modulations *m, int n, modulation_load *load, const void *model,
                      bool streamed);
void modulations_release(modulations *m);

/* In the slab, to be filled by the network. rows: pairs of t and pooled. */
conditions conditions_alloc(int64_t rows, int64_t batch, int64_t text_tokens, int64_t d,
                            const modulations *m, swd_exec *ex);
/* The modulations of t F32 [up to rows, a multiple of B] = 1000 sigma and pooled F32 [B, P]. guidance: of no meaning without its embedder. */
swd_status conditions_modulate(const conditions *c, swd_tensor t, swd_tensor pooled, float guidance,
                               const embedder *e, const modulations *m, swd_exec *ex);

/* Walks over the modulations of some samples at one step. */
typedef struct modulation_walk {
    const conditions *c;
    const modulations *layers;
    int64_t first, batch; /* rows of the matrices */
    int64_t at;           /* elements of the matrices before the next one */
    int next;
} modulation_walk;

modulation_walk modulation_begin(const conditions *c, const modulations *m, int64_t first,
                                 int64_t batch);
/* F32 [batch, n] of the next layer */
swd_tensor modulation_next(modulation_walk *w);
/* Part i of width D of a modulation [B, n * D]. */
static inline swd_tensor modulation_part(swd_tensor t, int i, int64_t d)
{
    return tensor_slice(t, 1, i * d, d);
}
#endif
