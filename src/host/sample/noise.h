/* SPDX-License-Identifier: MIT */
/* Where the noise of a batch comes from: one stream per image, so that an image's noise does not depend on its batch.
 * Draw k of an image is its k-th tensor of normals: Philox with step k, or the next torch.randn((1, C, h, w)) of its generator. */
#ifndef SWD_SAMPLE_NOISE_H
#define SWD_SAMPLE_NOISE_H
#include "backend/ops.h"

typedef struct noise_source noise_source;

/* Room for batches of up to batch_max images of elements_max numbers each. */
swd_status noise_create(noise_source **out, bool torch, int batch_max, int64_t elements_max,
                        swd_err *err);
/* A new batch: image b has seeds[b]; its streams start again. */
void noise_begin(noise_source *n, const uint64_t *seeds, int batch);
uint64_t noise_seed(const noise_source *n, int image);
/* Whether draws are made on the host, as torch does it, or by the ops, which need no more than seed and number of the draw. */
bool noise_from_host(const noise_source *n);
/* The next draw where noise_from_host(). y F32 [batch, ...], contiguous. */
swd_status noise_draw(swd_tensor y, noise_source *n, swd_exec *ex);
void noise_destroy(noise_source **n); /* writes NULL; accepts it */
#endif
