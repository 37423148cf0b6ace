/* SPDX-License-Identifier: MIT */
/* Everything that training takes from pictures and captions, computed once and kept in one file:
 *
 *     of a picture, for each scale k: the posterior of the autoencoder, mean and deviation, for
 *         target   area(pixels -> f s_k)                                   f: pixels per latent
 *         source   area(area(pixels -> f s_k) -> f s_(k-1))                k = 0: the same as the target
 *     of a caption (and of the empty one): context [rows, width] and pooled [width] of the text encoders
 *
 * Latents are sampled anew whenever they are used, mean + deviation * eps, eps being Philox noise of (seed, picture, draw).
 *
 * The file (little endian; records are multiples of 64 bytes): header, a record for each text, a record for each picture that could be
 * used, an end. Each record has a sum. The file is built under the name PATH.part, record by record: what is whole in it stays when
 * building is stopped or killed, and the next opening goes on from there. The header names models, data and scales by their digest: a
 * file that does not fit, or is damaged, is built anew. PATH.left-out.tsv lists pictures that could not be used. */
#ifndef SWD_TRAIN_CACHE_H
#define SWD_TRAIN_CACHE_H
#include "base/log.h"
#include "tensor/tensor.h"
#include "train/dataset.h"
#include <swd/swd.h>

enum { CACHE_SCALES_MAX = 32, CACHE_PATH_BYTES_MAX = 4096 };

/* Where the contents come from. */
typedef struct cache_maker {
    void *user;
    int channels, factor; /* of latents; pixels per latent */
    int64_t context_rows, context_width, pooled_width;
    uint64_t digest; /* of all that decides what the two below give */
    swd_status (*text)(void *user, float *context, float *pooled, const char *caption,
                       swd_err *err);
    /* pixels [side, side, 3] in [-1, 1] -> (mean - shift) * scaling and deviation * scaling, [channels, side / factor, side / factor] */
    swd_status (*image)(void *user, float *mean, float *deviation, const float *pixels, int side,
                        swd_err *err);
} cache_maker;

typedef struct cache_params {
    const char *path;
    const int *scales; /* [n_scales] latent sides, non-decreasing */
    int n_scales;
    swd_dtype dtype; /* of what is kept: SWD_F32 or SWD_F16 */
    const swd_log *log;
    swd_group
        *group; /* processes that make it together, process 0 the file; NULL: this one alone */
    /* After each text or picture that was made; false stops with SWD_ERR_CANCELLED. May be NULL. */
    bool (*progress)(void *user, const char *what, int64_t done, int64_t total);
    void *progress_user;
} cache_params;

typedef struct cache cache;

/* Takes the file at path if it fits, else makes it. Pictures that cannot be decoded or are smaller than the largest scale are added to
 * what d has left out. d is borrowed until cache_close; of maker the sizes are kept. */
swd_status cache_open(cache **out, const cache_params *params, const cache_maker *maker, dataset *d,
                      swd_err *err);
void cache_close(cache **c); /* writes NULL; accepts it */

/* Of the models, data and scales behind it. */
uint64_t cache_identity(const cache *c);
int64_t cache_count(const cache *c);           /* pictures */
int64_t cache_item(const cache *c, int64_t i); /* which of the data set picture i is */

/* Each checks the record's sum: SWD_ERR_FILE if the file was damaged since. Thread-safe. */

/* Moments of picture i at scale k, each [channels, side, side]; side is that of scale k, or, of the source, of k - 1. */
swd_status cache_target(float *mean, float *deviation, const cache *c, int64_t i, int k,
                        swd_err *err);
swd_status cache_source(float *mean, float *deviation, const cache *c, int64_t i, int k,
                        swd_err *err);
/* Samples of both; the noise is a pure function of (seed, picture, draw). */
swd_status cache_sample(float *target, float *source, const cache *c, int64_t i, int k,
                        uint64_t seed, uint32_t draw, swd_err *err);
/* Of the caption of picture i; -1: of the empty one. */
swd_status cache_text(float *context, float *pooled, const cache *c, int64_t i, swd_err *err);
#endif
