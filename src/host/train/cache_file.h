/* SPDX-License-Identifier: MIT */
/* The file of a cache, as cache.c reads and cache_build.c writes it. */
#ifndef SWD_TRAIN_CACHE_FILE_H
#define SWD_TRAIN_CACHE_FILE_H
#include "io/mapping.h"
#include "train/cache.h"

enum { CACHE_ALIGN = 64, CACHE_VERSION = 1, CACHE_HEADER_BYTES = 256 };
enum { CACHE_TEXT = 1, CACHE_IMAGE = 2, CACHE_END = 3 };

/* Everything in it follows from params, maker and data set: a file whose header differs in a byte is of something else. */
typedef struct cache_header {
    char magic[8];
    uint32_t version, dtype;
    uint64_t digest, n_texts, n_items;
    uint32_t channels, factor, n_scales, unused;
    uint64_t context_rows, context_width, pooled_width;
    uint32_t scales[CACHE_SCALES_MAX];
} cache_header;

typedef struct cache_record {
    uint64_t sum; /* of all that follows, the payload included */
    uint32_t kind, unused;
    uint64_t index; /* of a text; of the data set's item; of the end: how many pictures there are */
} cache_record;

struct cache {
    cache_header header;
    char *path;
    const dataset *data;
    int64_t *text_of;  /* [items] the text of each item's caption; 0 is the empty one */
    const char **text; /* [n_texts] borrowed of data */
    int64_t target_at
        [CACHE_SCALES_MAX]; /* where the means start in a picture's numbers; deviations follow */
    int64_t source_at[CACHE_SCALES_MAX];
    int64_t text_numbers, image_numbers; /* per record */
    size_t text_bytes, image_bytes;      /* of a record, whole */
    swd_mapping file;
    int64_t n_images;
};

static inline int64_t cache_side_numbers(const cache *c, int side)
{
    return (int64_t)c->header.channels * side * side;
}
static inline int cache_source_side(const cache *c, int k)
{
    return (int)c->header.scales[k ? k - 1 : 0];
}
/* Where text t or picture i starts. */
static inline size_t cache_text_offset(const cache *c, int64_t t)
{
    return CACHE_HEADER_BYTES + (size_t)t * c->text_bytes;
}
static inline size_t cache_image_offset(const cache *c, int64_t i)
{
    return cache_text_offset(c, (int64_t)c->header.n_texts) + (size_t)i * c->image_bytes;
}

/* The sum that a record of these bytes should have. */
uint64_t cache_record_sum(const unsigned char *record, size_t bytes);
/* Builds c->path. */
swd_status cache_build(cache *c, const cache_params *params, const cache_maker *maker, dataset *d,
                       swd_err *err);
#endif
