/* SPDX-License-Identifier: MIT */
/* Images at different scales in one pass of a denoising transformer: their tokens lie one after another, [1, N, D]. Ops that take a vector a
 * sample see the same memory as [N / chunk, chunk, D], chunk being the greatest common divisor of the images' tokens, with a row of vectors
 * for every chunk; attention is told where images begin (attention_samples). Everything else is a matter of rows alone. */
#ifndef SWD_MODEL_MIXED_H
#define SWD_MODEL_MIXED_H
#include "backend/ops.h"

enum { MIXED_PARTS_MAX = 16, MIXED_SAMPLES_MAX = 64 };

/* Images of one size: velocity, latents F32 [b, C, h, w] */
typedef struct mixed_part {
    swd_tensor velocity, latents;
} mixed_part;

typedef struct mixed_batch {
    mixed_part part[MIXED_PARTS_MAX];
    int n_parts;
    int64_t rows, chunk; /* of image tokens */
    int32_t starts[2][MIXED_SAMPLES_MAX + 1];
    attention_samples samples; /* of image and context tokens */
} mixed_batch;

/* Counts the tokens of parts[] (patch x patch latents each) and of as many contexts of text_tokens each. on_device comes from the slab, the
 * caller's to rewind. SWD_ERR_ARGUMENT for more parts or samples than the limits. */
swd_status mixed_prepare(mixed_batch *m, const mixed_part *parts, int n_parts, int patch,
                         int64_t text_tokens, swd_exec *ex);

/* The same memory as [1, all rows, D] and, of image tokens [1, N, D], as [N / chunk, chunk, D]. mix NULL: t as it is. */
swd_tensor mixed_flat(swd_tensor t, const mixed_batch *mix);
swd_tensor mixed_chunks(swd_tensor t, const mixed_batch *mix);
/* Part i of image tokens [.., D] in any of these shapes, as [b, n, D]. */
swd_tensor mixed_part_of(swd_tensor t, int i, int patch, const mixed_batch *mix);
/* [N / chunk, D] from the slab: the row of its image, of vectors [images, D], for every chunk. mix NULL: vectors as they are. */
swd_status mixed_spread(swd_tensor *out, swd_tensor vectors, const mixed_batch *mix, swd_exec *ex);
#endif
