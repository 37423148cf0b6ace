/* SPDX-License-Identifier: MIT */
/* The network between text and latents, whichever class it is of: all that pipeline, benchmarks and trainer know of one. A new class is a
 * file that fills a table (denoiser_class.h) and an entry in denoiser.c. */
#ifndef SWD_MODEL_DENOISER_H
#define SWD_MODEL_DENOISER_H
#include "io/config.h"
#include "model/conditions.h"
#include "model/mixed.h"

/* What a request is planned by. */
typedef struct denoiser_facts {
    int channels;    /* of latents */
    int patch;       /* their sides are multiples of it */
    int sample_size; /* their side where nobody asks for a size */
    int side_max;    /* beyond it the network has no positions */
    int context_width, pooled_width;
    bool guided; /* takes guidance as an input */
} denoiser_facts;

typedef struct denoiser denoiser;

swd_status denoiser_config_read(config_denoiser *out, denoiser_kind kind, const char *path,
                                swd_err *err);
denoiser_facts denoiser_facts_of(const config_denoiser *c);
const char *denoiser_class_name(denoiser_kind kind); /* of diffusers */
/* Its size in words into buf; returns buf. */
char *denoiser_describe(const config_denoiser *c, char *buf, size_t n);

/* Reads and packs every weight (w can be closed afterwards). compute: of the products, SWD_F32 or SWD_BF16. */
swd_status denoiser_create(denoiser **out, const config_denoiser *c, weights *w, swd_backend *be,
                           swd_dtype compute, swd_err *err);
/* The same for memory that does not hold all of it: the layers of the modulations, about a third of the weights, come one by one when conditions
 * are made. w stays open as long as the network is there; denoiser_make_room() takes two places for them, before the first conditions are
 * made or measured. Work with them uploads: it cannot be recorded as a graph. */
swd_status denoiser_create_streamed(denoiser **out, const config_denoiser *c, weights *w,
                                    swd_backend *be, swd_dtype compute, swd_err *err);
swd_status denoiser_make_room(denoiser *d, swd_err *err);
bool denoiser_streams(const denoiser *d);
void denoiser_destroy(denoiser **d); /* writes NULL; accepts it */

/* As model/conditions.h has it; guidance is of no meaning where the network takes none. */
conditions denoiser_conditions(int64_t rows, int64_t batch, int64_t text_tokens, const denoiser *d,
                               swd_exec *ex);
swd_status denoiser_embed_context(const conditions *c, swd_tensor context, const denoiser *d,
                                  swd_exec *ex);
swd_status denoiser_modulate(const conditions *c, swd_tensor t, swd_tensor pooled, float guidance,
                             const denoiser *d, swd_exec *ex);
/* The t that the class is given for a noise level. */
float denoiser_timestep(const denoiser *d, float sigma);
/* velocity, latents F32 [B, channels, h, w]; the samples' modulations are the rows of c from first_row on */
swd_status denoiser_forward(swd_tensor velocity, swd_tensor latents, const conditions *c,
                            int64_t first_row, const denoiser *d, swd_exec *ex);
/* Whether images at different steps can share a pass. */
bool denoiser_mixes(const denoiser *d);
/* They do: each image of the parts, in their order, has its row of c. */
swd_status denoiser_forward_mixed(const mixed_batch *mix, const conditions *c, const denoiser *d,
                                  swd_exec *ex);
/* The same, and the image tokens as they are after block `after` (from 0): features F32 [B, n, D], or absent. velocity absent: the
 * blocks behind that one are left out. SWD_ERR_UNSUPPORTED for classes that are not trained. */
swd_status denoiser_forward_features(swd_tensor velocity, swd_tensor features, int after,
                                     swd_tensor latents, const conditions *c, int64_t first_row,
                                     const denoiser *d, swd_exec *ex);
typedef struct denoiser_size {
    int64_t tokens, width; /* of features */
} denoiser_size;
denoiser_size denoiser_features_size(const denoiser *d, int64_t h, int64_t w);
/* Its layers by name, for training; NULL for classes that are not trained. */
const holdings *denoiser_holdings(const denoiser *d);
/* Linear layers and attention, 2 per multiply-add. */
double denoiser_flops(const denoiser *d, int64_t batch, int64_t h, int64_t w, int64_t text_tokens);
#endif
