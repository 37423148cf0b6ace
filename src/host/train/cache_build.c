// SPDX-License-Identifier: MIT
// Making the file of a cache, record by record, so that it can be left and taken up again anywhere.
#include "base/memory.h"
#include "parallel/group.h"
#include "io/digest.h"
#include "train/area.h"
#include "train/cache_file.h"
#include "train/durable.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

// What a process has made of a text or a picture: a record, or why the picture cannot be used.
typedef struct packet {
    _Alignas(CACHE_ALIGN) size_t bytes; // that follow
    bool rejected;
} packet;

typedef struct builder {
    cache *c;
    const cache_params *params;
    const cache_maker *maker;
    dataset *d;
    char *part;                           // the file's name until it is whole
    FILE *f;                              // process 0's
    packet *out;                          // what this process has made
    unsigned char *record;                // in it, of the larger kind
    float *numbers;                       // what goes into it
    int64_t n_texts, next_item, n_images; // made so far
    swd_err *err;
} builder;

/* ---- one record ---- */

static swd_status cannot_write(const builder *b, swd_err *err)
{
    return SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be written: %s; whole, it takes %.2f GB", b->part,
                    strerror(errno),
                    (double)cache_image_offset(b->c, (int64_t)b->c->header.n_items) * 1e-9);
}

static void seal_record(builder *b, uint32_t kind, uint64_t index, size_t bytes)
{
    cache_record head = {.kind = kind, .index = index};
    memcpy(b->record, &head, sizeof head);
    head.sum = cache_record_sum(b->record, bytes);
    memcpy(b->record, &head, sizeof head);
    *b->out = (packet){.bytes = bytes};
}

static swd_status write_record(const builder *b, const void *record, size_t bytes)
{
    return fwrite(record, bytes, 1, b->f) == 1 ? SWD_OK : cannot_write(b, b->err);
}

// b->numbers [n] into the record; the rest of it is zero. what: whose they are.
static swd_status narrow(builder *b, int64_t n, size_t bytes, const char *what)
{
    swd_dtype dtype = b->params->dtype;
    memset(b->record, 0, bytes);
    for (int64_t i = 0; i < n; i++) {
        float v = b->numbers[i];
        uint16_t h = f32_to_f16(v);
        bool fits = isfinite(dtype == SWD_F16 ? f16_to_f32(h) : v);
        if (!fits)
            return SWD_FAIL(b->err, SWD_ERR_FILE,
                            "%s: the networks give %g, which the cache cannot hold%s", what, v,
                            isfinite(v) ? "; set cache_dtype to f32" : "");
        if (dtype == SWD_F16)
            memcpy(b->record + CACHE_ALIGN + 2 * i, &h, sizeof h);
        else
            memcpy(b->record + CACHE_ALIGN + 4 * i, &v, sizeof v);
    }
    return SWD_OK;
}

static swd_status tell(builder *b, const char *what, int64_t done, int64_t total)
{
    const cache_params *p = b->params;
    if (!p->progress || p->progress(p->progress_user, what, done, total)) return SWD_OK;
    return SWD_FAIL(b->err, SWD_ERR_CANCELLED, "stopped; what is made stays in %s", b->part);
}

/* ---- texts and pictures ---- */

static swd_status make_text(builder *b, int64_t t)
{
    const cache *c = b->c;
    float *pooled = b->numbers + c->header.context_rows * c->header.context_width;
    char what[96];
    snprintf(what, sizeof what, "caption \"%.60s\"", c->text[t]);
    SWD_TRY(b->maker->text(b->maker->user, b->numbers, pooled, c->text[t], b->err), b->err);
    SWD_TRY(narrow(b, c->text_numbers, c->text_bytes, what), b->err);
    seal_record(b, CACHE_TEXT, (uint64_t)t, c->text_bytes);
    return SWD_OK;
}

static swd_status encode(builder *b, int64_t at, const float *pixels, int side)
{
    int64_t n = cache_side_numbers(b->c, side);
    return b->maker->image(b->maker->user, b->numbers + at, b->numbers + at + n, pixels,
                           side * b->maker->factor, b->err);
}

// All scales of a picture, pixels [side, side, 3]; a and small have room for the largest.
static swd_status encode_scales(builder *b, const float *pixels, int side, float *scaled,
                                float *small)
{
    const cache *c = b->c;
    int factor = b->maker->factor;
    for (int k = 0; k < (int)c->header.n_scales; k++) {
        int target = (int)c->header.scales[k], source = cache_source_side(c, k);
        int wide = target * factor, narrow_side = source * factor;
        SWD_TRY(area_resize(scaled, wide, wide, pixels, side, side, b->err), b->err);
        SWD_TRY(encode(b, c->target_at[k], scaled, target), b->err);
        if (k == 0) continue;
        SWD_TRY(area_resize(small, narrow_side, narrow_side, scaled, wide, wide, b->err), b->err);
        SWD_TRY(encode(b, c->source_at[k], small, source), b->err);
    }
    return SWD_OK;
}

static swd_status encode_image(builder *b, const image_rgb8 *image)
{
    const cache_header *h = &b->c->header;
    int side = image->width < image->height ? image->width : image->height;
    size_t largest = (size_t)h->scales[h->n_scales - 1] * h->factor, n = largest * largest * 3;
    float *pixels, *scaled = NULL;
    SWD_TRY(
        swd_malloc(&pixels, (size_t)side * (size_t)side * 3, sizeof *pixels, "a picture", b->err),
        b->err);
    swd_status s = swd_malloc(&scaled, 2 * n, sizeof *scaled, "a picture", b->err);
    if (s == SWD_OK) {
        area_square(pixels, image);
        s = encode_scales(b, pixels, side, scaled, scaled + n);
    }
    free(pixels);
    free(scaled);
    return s;
}

static void reject(builder *b, const char *why)
{
    size_t n = strlen(why) + 1;
    if (n > b->c->image_bytes) n = b->c->image_bytes;
    memcpy(b->record, why, n);
    b->record[n - 1] = '\0';
    *b->out = (packet){.bytes = n, .rejected = true};
}

// Item i; one that cannot be used is no error.
static swd_status make_image(builder *b, int64_t i)
{
    const cache_header *h = &b->c->header;
    const char *name = dataset_name(b->d, i);
    int least = (int)(h->scales[h->n_scales - 1] * h->factor);
    image_rgb8 image;
    swd_err why = {0};
    swd_status s = dataset_read(&image, b->d, i, &why);
    if (s == SWD_ERR_MEMORY) return SWD_FAIL(b->err, s, "%s", why.message);
    if (s == SWD_OK && (image.width < least || image.height < least))
        s = SWD_FAIL(&why, SWD_ERR_FILE, "%dx%d pixels; the largest scale needs %dx%d", image.width,
                     image.height, least, least);
    if (s != SWD_OK) {
        image_free(&image);
        reject(b, why.message);
        return SWD_OK;
    }
    s = encode_image(b, &image);
    image_free(&image);
    if (s == SWD_OK) s = narrow(b, b->c->image_numbers, b->c->image_bytes, name);
    if (s == SWD_OK) seal_record(b, CACHE_IMAGE, (uint64_t)i, b->c->image_bytes);
    return s;
}

/* ---- all processes together ---- */

// Text or item i into the file, or into the list of those left out.
static swd_status keep(builder *b, const packet *p, uint32_t kind, int64_t i)
{
    const char *what = (const char *)(p + 1);
    if (p->rejected) return dataset_reject(b->d, dataset_name(b->d, i), what, b->err);
    b->n_images += kind == CACHE_IMAGE;
    return write_record(b, what, p->bytes);
}

// Each process makes one, from `first` of n on; process 0 writes them in order.
static swd_status make_some(builder *b, uint32_t kind, int64_t first, int64_t n)
{
    swd_group *g = b->params->group;
    int64_t mine = first + group_rank(g);
    void *all;
    size_t total, made = 0;
    if (mine < n) {
        SWD_TRY(kind == CACHE_TEXT ? make_text(b, mine) : make_image(b, mine), b->err);
        made = sizeof *b->out + (b->out->bytes + CACHE_ALIGN - 1) / CACHE_ALIGN * CACHE_ALIGN;
    }
    if (group_size(g) == 1) return keep(b, b->out, kind, mine);
    SWD_TRY(group_gather(&all, &total, g, b->out, (int)made, b->err), b->err);
    swd_status s = SWD_OK;
    for (char *at = all, *end = at + total; all && at < end && s == SWD_OK; first++) {
        const packet *p = (const packet *)(void *)at;
        s = keep(b, p, kind, first);
        at += sizeof *p + (p->bytes + CACHE_ALIGN - 1) / CACHE_ALIGN * CACHE_ALIGN;
    }
    free(all);
    return s;
}

static swd_status make_all(builder *b, uint32_t kind, const char *what, int64_t first, int64_t n)
{
    int64_t step = group_size(b->params->group);
    for (int64_t i = first; i < n; i += step) {
        SWD_TRY(make_some(b, kind, i, n), b->err);
        SWD_TRY(tell(b, what, i + step < n ? i + step : n, n), b->err);
    }
    return SWD_OK;
}

/* ---- the whole file ---- */

// Reads the next record; false at the end, or if it is not whole.
static bool read_record(builder *b, size_t bytes, uint32_t kind, uint64_t *index)
{
    cache_record r;
    if (fread(b->record, bytes, 1, b->f) != 1) return false;
    memcpy(&r, b->record, sizeof r);
    *index = r.index;
    return r.kind == kind && r.sum == cache_record_sum(b->record, bytes);
}

// What an earlier run has left: counts its whole records.
static void take_up(builder *b)
{
    const cache *c = b->c;
    unsigned char header[CACHE_HEADER_BYTES];
    uint64_t index;
    if (fread(header, sizeof header, 1, b->f) != 1 ||
        memcmp(header, &c->header, sizeof c->header) != 0)
        return;
    while (b->n_texts < (int64_t)c->header.n_texts &&
           read_record(b, c->text_bytes, CACHE_TEXT, &index) && index == (uint64_t)b->n_texts)
        b->n_texts++;
    if (b->n_texts < (int64_t)c->header.n_texts) return;
    while (read_record(b, c->image_bytes, CACHE_IMAGE, &index) && index >= (uint64_t)b->next_item &&
           index < c->header.n_items) {
        b->next_item = (int64_t)index + 1;
        b->n_images++;
    }
}

// The file, positioned behind what is whole in it.
static swd_status open_part(builder *b)
{
    const cache *c = b->c;
    int fd = open(b->part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return SWD_FAIL(b->err, SWD_ERR_FILE, "another process makes %s; wait for it", b->part);
    }
    b->f = fd >= 0 ? fdopen(fd, "r+b") : NULL;
    if (!b->f)
        return SWD_FAIL(b->err, SWD_ERR_FILE, "%s cannot be written: %s", b->part, strerror(errno));
    take_up(b);
    if (b->n_texts)
        log_print(b->params->log, SWD_LOG_INFO, "%s: going on behind %lld texts, %lld pictures",
                  b->part, (long long)b->n_texts, (long long)b->n_images);
    size_t whole = b->n_texts == (int64_t)c->header.n_texts ? cache_image_offset(c, b->n_images)
                                                            : cache_text_offset(c, b->n_texts);
    unsigned char header[CACHE_HEADER_BYTES] = {0};
    memcpy(header, &c->header, sizeof c->header);
    bool ok = fseek(b->f, 0, SEEK_SET) == 0 && fwrite(header, sizeof header, 1, b->f) == 1 &&
              fflush(b->f) == 0 && ftruncate(fileno(b->f), (off_t)whole) == 0 &&
              fseek(b->f, 0, SEEK_END) == 0;
    return ok ? SWD_OK : cannot_write(b, b->err);
}

static swd_status make_records(builder *b)
{
    const cache_header *h = &b->c->header;
    int64_t from[2] = {b->n_texts, b->next_item}; // process 0's, which has the file
    SWD_TRY(group_broadcast(b->params->group, from, sizeof from, b->err), b->err);
    SWD_TRY(make_all(b, CACHE_TEXT, "captions", from[0], (int64_t)h->n_texts), b->err);
    SWD_TRY(make_all(b, CACHE_IMAGE, "pictures", from[1], (int64_t)h->n_items), b->err);
    if (!b->f) return SWD_OK;
    if (b->n_images) {
        memset(b->record, 0, CACHE_ALIGN);
        seal_record(b, CACHE_END, (uint64_t)b->n_images, CACHE_ALIGN);
        return write_record(b, b->record, CACHE_ALIGN);
    }
    dataset_bad first = dataset_bad_at(b->d, dataset_bad_count(b->d) - 1);
    return SWD_FAIL(b->err, SWD_ERR_FILE, "no picture can be used; the last: %s: %s", first.file,
                    first.reason);
}

// Those left out since the data were opened, and before.
static swd_status write_left_out(const builder *b, swd_err *err)
{
    char *path = NULL, *text = NULL;
    size_t n = 0;
    int64_t bad = dataset_bad_count(b->d);
    SWD_TRY(swd_asprintf(&path, err, "%s.left-out.tsv", b->c->path), err);
    FILE *f = bad ? open_memstream(&text, &n) : NULL;
    swd_status s = SWD_OK;
    for (int64_t i = 0; f && i < bad; i++)
        fprintf(f, "%s\t%s\n", dataset_bad_at(b->d, i).file, dataset_bad_at(b->d, i).reason);
    if (f && fclose(f) == 0)
        s = image_write_bytes(path, text, n, err);
    else if (bad)
        s = SWD_FAIL(err, SWD_ERR_MEMORY, "out of memory for %s", path);
    else
        unlink(path);
    free(text);
    free(path);
    return s;
}

static swd_status build(builder *b)
{
    const cache *c = b->c;
    size_t bytes = c->text_bytes > c->image_bytes ? c->text_bytes : c->image_bytes;
    int64_t numbers = c->text_numbers > c->image_numbers ? c->text_numbers : c->image_numbers;
    SWD_TRY(swd_malloc(&b->out, sizeof *b->out + bytes, 1, "a cache record", b->err), b->err);
    b->record = (unsigned char *)(b->out + 1);
    SWD_TRY(swd_malloc(&b->numbers, (size_t)numbers, sizeof *b->numbers, "a cache record", b->err),
            b->err);
    if (group_rank(b->params->group) > 0) return make_records(b);
    SWD_TRY(open_part(b), b->err);
    log_print(b->params->log, SWD_LOG_INFO, "the cache %s takes %.2f GB", c->path,
              (double)cache_image_offset(c, (int64_t)c->header.n_items) * 1e-9);
    SWD_TRY(make_records(b), b->err);
    SWD_TRY(write_left_out(b, b->err), b->err);
    if (fflush(b->f) != 0 || fsync(fileno(b->f)) != 0) return cannot_write(b, b->err);
    return durable_rename(b->part, c->path, b->err);
}

swd_status cache_build(cache *c, const cache_params *params, const cache_maker *maker, dataset *d,
                       swd_err *err)
{
    builder b = {.c = c, .params = params, .maker = maker, .d = d, .err = err};
    SWD_TRY(swd_asprintf(&b.part, err, "%s.part", c->path), err);
    swd_status s = build(&b);
    if (b.f) fclose(b.f);
    free(b.out);
    free(b.numbers);
    free(b.part);
    return s;
}
