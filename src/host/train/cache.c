// SPDX-License-Identifier: MIT
#include "train/cache.h"
#include "base/memory.h"
#include "base/rng.h"
#include "io/digest.h"
#include "parallel/group.h"
#include "text/vocab.h"
#include "train/cache_file.h"
#include <math.h>
#include <string.h>

// A cache up to this size is read whole when it is opened, of a larger one so much.
static const size_t VERIFY_BYTES = (size_t)2 << 30;

_Static_assert(sizeof(cache_header) <= CACHE_HEADER_BYTES && sizeof(cache_record) <= CACHE_ALIGN,
               "the layout of the file");

uint64_t cache_record_sum(const unsigned char *record, size_t bytes)
{
    size_t head = sizeof(uint64_t);
    return digest_bytes(DIGEST_SEED, record + head, bytes - head);
}

/* ---- what the file should hold ---- */

// Equal captions are one text; the first is the empty one.
static swd_status list_texts(cache *c, const dataset *d, swd_err *err)
{
    int64_t n = dataset_count(d), used = 1;
    str_map map = {0};
    SWD_TRY(swd_malloc(&c->text_of, (size_t)n, sizeof *c->text_of, "a list of captions", err), err);
    SWD_TRY(swd_malloc(&c->text, (size_t)n + 1, sizeof *c->text, "a list of captions", err), err);
    c->text[0] = "";
    swd_status s = str_map_put(&map, "", 0, 0, err);
    for (int64_t i = 0; i < n && s == SWD_OK; i++) {
        const char *caption = dataset_caption(d, i);
        int32_t id = str_map_find(&map, caption, strlen(caption));
        if (id < 0) {
            id = (int32_t)used++;
            c->text[id] = caption;
            s = str_map_put(&map, caption, strlen(caption), id, err);
        }
        c->text_of[i] = id;
    }
    str_map_free(&map);
    c->header.n_texts = (uint64_t)used;
    return s;
}

static size_t record_bytes(int64_t numbers, swd_dtype dtype)
{
    size_t bytes = CACHE_ALIGN + (size_t)numbers * dtype_size(dtype);
    return (bytes + CACHE_ALIGN - 1) / CACHE_ALIGN * CACHE_ALIGN;
}

static void lay_out(cache *c)
{
    const cache_header *h = &c->header;
    int64_t at = 0;
    for (int k = 0; k < (int)h->n_scales; k++) {
        c->target_at[k] = c->source_at[k] = at;
        at += 2 * cache_side_numbers(c, (int)h->scales[k]);
        if (k == 0) continue;
        c->source_at[k] = at;
        at += 2 * cache_side_numbers(c, cache_source_side(c, k));
    }
    c->image_numbers = at;
    c->text_numbers = (int64_t)(h->context_rows * h->context_width + h->pooled_width);
    c->image_bytes = record_bytes(c->image_numbers, (swd_dtype)h->dtype);
    c->text_bytes = record_bytes(c->text_numbers, (swd_dtype)h->dtype);
}

static swd_status check_params(const cache_params *p, const cache_maker *m, swd_err *err)
{
    if (p->n_scales < 1 || p->n_scales > CACHE_SCALES_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d scales; 1 to %d can be trained", p->n_scales,
                        CACHE_SCALES_MAX);
    if (p->dtype != SWD_F32 && p->dtype != SWD_F16)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a cache is kept in f32 or f16");
    for (int k = 0; k < p->n_scales; k++)
        if (p->scales[k] < 1 || p->scales[k] * m->factor > IMAGE_SIDE_MAX ||
            (k && p->scales[k] < p->scales[k - 1]))
            return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                            "scale %d is %d: smaller than the one before, "
                            "or out of range",
                            k, p->scales[k]);
    return SWD_OK;
}

static swd_status plan(cache *c, const cache_params *p, const cache_maker *m, const dataset *d,
                       swd_err *err)
{
    cache_header *h = &c->header;
    memcpy(h->magic, "SWDCACHE", sizeof h->magic);
    h->version = CACHE_VERSION;
    h->dtype = (uint32_t)p->dtype;
    h->digest = digest_u64(dataset_digest(d), m->digest);
    h->n_items = (uint64_t)dataset_count(d);
    h->channels = (uint32_t)m->channels;
    h->factor = (uint32_t)m->factor;
    h->n_scales = (uint32_t)p->n_scales;
    h->context_rows = (uint64_t)m->context_rows;
    h->context_width = (uint64_t)m->context_width;
    h->pooled_width = (uint64_t)m->pooled_width;
    for (int k = 0; k < p->n_scales; k++) h->scales[k] = (uint32_t)p->scales[k];
    SWD_TRY(list_texts(c, d, err), err);
    lay_out(c);
    return swd_strdup(&c->path, p->path, err);
}

/* ---- the file that is there ---- */

static bool record_fits(const unsigned char *record, size_t bytes, uint32_t kind, uint64_t *index)
{
    cache_record r;
    memcpy(&r, record, sizeof r);
    *index = r.index;
    return r.kind == kind && r.sum == cache_record_sum(record, bytes);
}

// NULL: as it should be; else what is wrong with the mapped file. Of a large one not all is read.
static const char *fault(cache *c)
{
    const swd_mapping *m = &c->file;
    size_t first = cache_image_offset(c, 0);
    uint64_t index;
    if (m->size < CACHE_HEADER_BYTES || memcmp(m->data, &c->header, sizeof c->header) != 0)
        return "was made of other models, data or scales";
    if (m->size < first + CACHE_ALIGN || (m->size - first - CACHE_ALIGN) % c->image_bytes != 0)
        return "has the wrong size";
    c->n_images = (int64_t)((m->size - first - CACHE_ALIGN) / c->image_bytes);
    if (!record_fits(m->data + m->size - CACHE_ALIGN, CACHE_ALIGN, CACHE_END, &index) ||
        index != (uint64_t)c->n_images || c->n_images < 1 ||
        (uint64_t)c->n_images > c->header.n_items)
        return "is damaged at its end";
    int64_t step = 1 + (int64_t)(m->size / VERIFY_BYTES);
    for (int64_t t = 0; t < (int64_t)c->header.n_texts; t += step)
        if (!record_fits(m->data + cache_text_offset(c, t), c->text_bytes, CACHE_TEXT, &index) ||
            index != (uint64_t)t)
            return "has a damaged text";
    for (int64_t i = 0; i < c->n_images; i += step)
        if (!record_fits(m->data + cache_image_offset(c, i), c->image_bytes, CACHE_IMAGE, &index) ||
            index >= c->header.n_items)
            return "has a damaged picture";
    return NULL;
}

swd_status cache_open(cache **out, const cache_params *params, const cache_maker *maker, dataset *d,
                      swd_err *err)
{
    cache *c = *out = NULL;
    SWD_TRY(check_params(params, maker, err), err);
    SWD_TRY(swd_calloc(&c, 1, sizeof *c, "a cache", err), err);
    c->data = d;
    swd_status s = plan(c, params, maker, d, err);
    const char *why = "is not there";
    if (s == SWD_OK && path_exists(c->path)) {
        s = mapping_open(&c->file, c->path, 0, err);
        if (s == SWD_OK && (why = fault(c))) {
            log_print(params->log, SWD_LOG_WARNING, "the cache %s %s: it is made anew", c->path,
                      why);
            mapping_close(&c->file);
        }
    }
    bool make = why != NULL; // as process 0 finds it
    if (s == SWD_OK) s = group_broadcast(params->group, &make, sizeof make, err);
    if (s == SWD_OK && why && !make)
        s = SWD_FAIL(err, SWD_ERR_FILE,
                     "the cache %s %s; process 0 has one: all need the same file", c->path, why);
    if (s == SWD_OK && make) {
        mapping_close(&c->file);
        s = cache_build(c, params, maker, d, err);
        if (s == SWD_OK) s = group_agree(params->group, SWD_OK, err); // the file is there
        if (s == SWD_OK) s = mapping_open(&c->file, c->path, 0, err);
        if (s == SWD_OK && (why = fault(c)))
            s = SWD_FAIL(err, SWD_ERR_FILE, "the cache %s was just made and %s; is the disk sound?",
                         c->path, why);
    }
    if (s == SWD_OK && (uint64_t)c->n_images < c->header.n_items)
        log_print(params->log, SWD_LOG_WARNING,
                  "%lld of %lld pictures cannot be used; %s.left-out.tsv lists them",
                  (long long)((int64_t)c->header.n_items - c->n_images),
                  (long long)c->header.n_items, c->path);
    if (s != SWD_OK) cache_close(&c);
    *out = c;
    return s;
}

void cache_close(cache **c)
{
    if (!*c) return;
    mapping_close(&(*c)->file);
    free((*c)->text_of);
    free((*c)->text);
    free((*c)->path);
    free(*c);
    *c = NULL;
}

/* ---- use ---- */

uint64_t cache_identity(const cache *c)
{
    return digest_bytes(DIGEST_SEED, &c->header, sizeof c->header);
}

int64_t cache_count(const cache *c)
{
    return c->n_images;
}

int64_t cache_item(const cache *c, int64_t i)
{
    cache_record r;
    memcpy(&r, c->file.data + cache_image_offset(c, i), sizeof r);
    return r.index < c->header.n_items ? (int64_t)r.index : 0; // 0: it was damaged since
}

static swd_status check_record(const cache *c, size_t offset, size_t bytes, uint32_t kind,
                               swd_err *err)
{
    uint64_t index;
    if (record_fits(c->file.data + offset, bytes, kind, &index) &&
        (kind != CACHE_IMAGE || index < c->header.n_items))
        return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_FILE,
                    "the cache %s is damaged at byte %zu; delete it, and it is made anew", c->path,
                    offset);
}

// n numbers of a record's payload, from number `first` on.
static void widen(float *to, const cache *c, size_t record, int64_t first, int64_t n)
{
    swd_dtype dtype = (swd_dtype)c->header.dtype;
    const unsigned char *from =
        c->file.data + record + CACHE_ALIGN + (size_t)first * dtype_size(dtype);
    if (dtype == SWD_F32) {
        memcpy(to, from, (size_t)n * sizeof *to);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, from + 2 * i, sizeof h);
        to[i] = f16_to_f32(h);
    }
}

static void read_moments(float *mean, float *deviation, const cache *c, int64_t i, int64_t at,
                         int side)
{
    int64_t n = cache_side_numbers(c, side);
    widen(mean, c, cache_image_offset(c, i), at, n);
    widen(deviation, c, cache_image_offset(c, i), at + n, n);
}

static swd_status check_image(const cache *c, int64_t i, swd_err *err)
{
    return check_record(c, cache_image_offset(c, i), c->image_bytes, CACHE_IMAGE, err);
}

swd_status cache_target(float *mean, float *deviation, const cache *c, int64_t i, int k,
                        swd_err *err)
{
    SWD_TRY(check_image(c, i, err), err);
    read_moments(mean, deviation, c, i, c->target_at[k], (int)c->header.scales[k]);
    return SWD_OK;
}

swd_status cache_source(float *mean, float *deviation, const cache *c, int64_t i, int k,
                        swd_err *err)
{
    SWD_TRY(check_image(c, i, err), err);
    read_moments(mean, deviation, c, i, c->source_at[k], cache_source_side(c, k));
    return SWD_OK;
}

// scratch [2 n]: mean + deviation * eps; eps are the elements from `first` on of the stream of (seed, draw).
static void sample(float *to, float *scratch, const cache *c, int64_t i, int64_t at, int side,
                   uint64_t seed, uint32_t draw, int64_t first)
{
    int64_t n = cache_side_numbers(c, side);
    float *mean = scratch, *deviation = scratch + n;
    read_moments(mean, deviation, c, i, at, side);
    philox_randn(to, n, first, seed, draw);
    for (int64_t j = 0; j < n; j++) to[j] = fmaf(deviation[j], to[j], mean[j]);
}

swd_status cache_sample(float *target, float *source, const cache *c, int64_t i, int k,
                        uint64_t seed, uint32_t draw, swd_err *err)
{
    int side = (int)c->header.scales[k];
    int64_t n = cache_side_numbers(c, side); // the source is no larger
    float *scratch;
    SWD_TRY(check_image(c, i, err), err);
    SWD_TRY(swd_malloc(&scratch, 2 * (size_t)n, sizeof *scratch, "latents", err), err);
    seed = digest_u64(seed, (uint64_t)cache_item(c, i));
    sample(target, scratch, c, i, c->target_at[k], side, seed, draw, 0);
    sample(source, scratch, c, i, c->source_at[k], cache_source_side(c, k), seed, draw, n);
    free(scratch);
    return SWD_OK;
}

swd_status cache_text(float *context, float *pooled, const cache *c, int64_t i, swd_err *err)
{
    int64_t t = 0, n = (int64_t)(c->header.context_rows * c->header.context_width);
    if (i >= 0) {
        SWD_TRY(check_image(c, i, err), err);
        t = c->text_of[cache_item(c, i)];
    }
    size_t offset = cache_text_offset(c, t);
    SWD_TRY(check_record(c, offset, c->text_bytes, CACHE_TEXT, err), err);
    widen(context, c, offset, 0, n);
    widen(pooled, c, offset, n, (int64_t)c->header.pooled_width);
    return SWD_OK;
}
