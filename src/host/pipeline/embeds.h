/* SPDX-License-Identifier: MIT */
/* Embeddings of prompts, kept: in memory, where those used least recently make room, and as files where a folder is named. A file is
 * read again only if key, shapes, types and a digest of its numbers are right; one that is damaged is as good as none. */
#ifndef SWD_PIPELINE_EMBEDS_H
#define SWD_PIPELINE_EMBEDS_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

enum { EMBEDS_BYTES_MAX = 256 << 20, EMBEDS_NOTE_MAX = 384 }; /* of host memory for all of them */

typedef struct embeds_shape {
    int64_t tokens, width, pooled; /* context [tokens, width], pooled [pooled] */
    int max_tokens;                /* of the T5 prompt, part of the key */
} embeds_shape;

typedef struct embeds_cache embeds_cache;

/* identity: all that embeddings depend on beside prompt and shape, in words (embeds_identity). dir: NULL, or a folder, made if absent. */
swd_status embeds_create(embeds_cache **out, const char *identity, const char *dir, swd_err *err);
void embeds_destroy(embeds_cache **c); /* writes NULL; accepts it */

/* context, then pooled; valid until the next embeds_keep() or embeds_find(). NULL: not there. */
const float *embeds_find(embeds_cache *c, const char *prompt, const embeds_shape *shape);
/* Takes a copy of context, then pooled. A folder that cannot be written to is noted, no error. */
swd_status embeds_keep(embeds_cache *c, const char *prompt, const embeds_shape *shape,
                       const float *numbers, swd_err *err);
void embeds_forget(embeds_cache *c); /* what is in memory */
size_t embeds_numbers(const embeds_shape *shape);
/* How many prompts of this shape find room beside each other. */
int embeds_room(const embeds_cache *c, const embeds_shape *shape);
/* Another amount of host memory than EMBEDS_BYTES_MAX, before anything is kept. */
void embeds_limit(embeds_cache *c, size_t bytes);
/* What went wrong with files since the last call, "" if nothing. */
void embeds_take_note(embeds_cache *c, char note[EMBEDS_NOTE_MAX]);
#endif
