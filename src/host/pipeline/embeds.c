// SPDX-License-Identifier: MIT
#include "pipeline/embeds.h"
#include "base/memory.h"
#include "io/digest.h"
#include "io/safetensors_write.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct entry {
    char *key;
    uint64_t hash, used; // used: when it was asked for last
    float *numbers;
    size_t bytes;
} entry;

struct embeds_cache {
    char *identity, *dir;
    entry *list;
    size_t n, capacity, bytes, bytes_max;
    uint64_t clock;
    int n_damaged, n_unwritten;
    char why[200]; // the last of them
};

/* ---- keys ---- */

size_t embeds_numbers(const embeds_shape *s)
{
    return (size_t)(s->tokens * s->width + s->pooled);
}

int embeds_room(const embeds_cache *c, const embeds_shape *s)
{
    return (int)(c->bytes_max / (embeds_numbers(s) * sizeof(float)));
}

void embeds_limit(embeds_cache *c, size_t bytes)
{
    c->bytes_max = bytes;
}

static swd_status make_key(char **out, const embeds_cache *c, const char *prompt,
                           const embeds_shape *s, swd_err *err)
{
    return swd_asprintf(out, err, "%s; [%lld, %lld], [%lld], %d tokens: %s", c->identity,
                        (long long)s->tokens, (long long)s->width, (long long)s->pooled,
                        s->max_tokens, prompt);
}

static swd_status file_of(char **out, const embeds_cache *c, uint64_t hash, swd_err *err)
{
    return swd_asprintf(out, err, "%s/%016llx.safetensors", c->dir, (unsigned long long)hash);
}

/* ---- in memory ---- */

static void drop(embeds_cache *c, size_t i)
{
    c->bytes -= c->list[i].bytes;
    free(c->list[i].key);
    free(c->list[i].numbers);
    c->list[i] = c->list[--c->n];
}

static entry *find(embeds_cache *c, const char *key, uint64_t hash)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->list[i].hash == hash && strcmp(c->list[i].key, key) == 0) {
            c->list[i].used = ++c->clock;
            return &c->list[i];
        }
    return NULL;
}

// Takes key and numbers in any case.
static swd_status add(embeds_cache *c, char *key, uint64_t hash, float *numbers, size_t bytes,
                      swd_err *err)
{
    swd_status s = swd_grow(&c->list, &c->capacity, c->n + 1, sizeof *c->list, "embeddings", err);
    if (s != SWD_OK) {
        free(key);
        free(numbers);
        return s;
    }
    while (c->n > 0 && c->bytes + bytes > c->bytes_max) {
        size_t oldest = 0;
        for (size_t i = 1; i < c->n; i++)
            if (c->list[i].used < c->list[oldest].used) oldest = i;
        drop(c, oldest);
    }
    c->list[c->n++] = (entry){key, hash, ++c->clock, numbers, bytes};
    c->bytes += bytes;
    return SWD_OK;
}

/* ---- as files ---- */

static bool is_f32(const st_tensor *t, int ndim, int64_t a, int64_t b)
{
    return t && t->dtype == SWD_F32 && t->ndim == ndim && t->shape[0] == a &&
           (ndim < 2 || t->shape[1] == b);
}

static void hex_of(char text[20], uint64_t x)
{
    snprintf(text, 20, "%016llx", (unsigned long long)x);
}

// The numbers of an open file into `to`; what is wrong with it, NULL: nothing.
static const char *read_file(float *to, const safetensors *file, const char *key,
                             const embeds_shape *s)
{
    const st_tensor *context = safetensors_find(file, "context"),
                    *pooled = safetensors_find(file, "pooled");
    const char *its_key = safetensors_metadata(file, "key"),
               *digest = safetensors_metadata(file, "digest");
    char hex[20];
    if (!its_key || strcmp(its_key, key) != 0) return "it is of another prompt or model";
    if (!is_f32(context, 2, s->tokens, s->width) || !is_f32(pooled, 1, s->pooled, 0))
        return "its tensors have another shape or type";
    memcpy(to, context->data, context->bytes);
    memcpy(to + context->numel, pooled->data, pooled->bytes);
    hex_of(hex, digest_bytes(DIGEST_SEED, to, embeds_numbers(s) * sizeof(float)));
    return digest && strcmp(digest, hex) == 0 ? NULL : "its digest is not that of its numbers";
}

// NULL: not there, or not good.
static float *load(embeds_cache *c, const char *key, uint64_t hash, const embeds_shape *s)
{
    char *path = NULL;
    float *numbers = NULL;
    safetensors *file = NULL;
    swd_err why = {0};
    if (!c->dir || file_of(&path, c, hash, NULL) != SWD_OK) return NULL;
    if (path_exists(path)) {
        const char *wrong = why.message;
        swd_status opened = safetensors_open(&file, path, "embeds", &why);
        if (opened == SWD_OK)
            opened = swd_malloc(&numbers, embeds_numbers(s), sizeof(float), "embeddings", &why);
        if (opened == SWD_OK) wrong = read_file(numbers, file, key, s);
        if (wrong) {
            if (opened != SWD_ERR_MEMORY) unlink(path); // a good one takes its place
            c->n_damaged++;
            snprintf(c->why, sizeof c->why, "%s: %.120s", strrchr(path, '/') + 1, wrong);
            free(numbers);
            numbers = NULL;
        }
        safetensors_close(&file);
    }
    free(path);
    return numbers;
}

static void save(embeds_cache *c, const char *key, uint64_t hash, const embeds_shape *s,
                 const float *numbers)
{
    char *path = NULL, digest[20];
    swd_err why = {0};
    hex_of(digest, digest_bytes(DIGEST_SEED, numbers, embeds_numbers(s) * sizeof(float)));
    const st_metadata metadata[] = {{"key", key}, {"digest", digest}};
    const st_write_tensor tensors[] = {
        {"context", SWD_F32, 2, {s->tokens, s->width}, numbers, NULL, NULL},
        {"pooled", SWD_F32, 1, {s->pooled}, numbers + s->tokens * s->width, NULL, NULL}};
    swd_status st = file_of(&path, c, hash, &why);
    if (st == SWD_OK) st = safetensors_write(path, tensors, 2, metadata, 2, &why);
    if (st != SWD_OK) {
        c->n_unwritten++;
        snprintf(c->why, sizeof c->why, "%.190s", why.message);
    }
    free(path);
}

/* ---- both ---- */

swd_status embeds_create(embeds_cache **out, const char *identity, const char *dir, swd_err *err)
{
    embeds_cache *c;
    *out = NULL;
    if (dir && !path_is_dir(dir) && mkdir(dir, 0777) != 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "embeds cache %s: the folder cannot be made: %m", dir);
    SWD_TRY(swd_calloc(&c, 1, sizeof *c, "the cache of embeddings", err), err);
    c->bytes_max = EMBEDS_BYTES_MAX;
    swd_status s = swd_strdup(&c->identity, identity, err);
    if (s == SWD_OK && dir) s = swd_strdup(&c->dir, dir, err);
    if (s != SWD_OK) embeds_destroy(&c);
    *out = c;
    return s;
}

void embeds_forget(embeds_cache *c)
{
    while (c->n > 0) drop(c, c->n - 1);
}

void embeds_destroy(embeds_cache **c)
{
    if (!*c) return;
    embeds_forget(*c);
    free((*c)->list);
    free((*c)->identity);
    free((*c)->dir);
    free(*c);
    *c = NULL;
}

const float *embeds_find(embeds_cache *c, const char *prompt, const embeds_shape *shape)
{
    char *key = NULL;
    if (make_key(&key, c, prompt, shape, NULL) != SWD_OK) return NULL;
    uint64_t hash = digest_string(DIGEST_SEED, key);
    entry *e = find(c, key, hash);
    if (e) {
        free(key);
        return e->numbers;
    }
    float *numbers = embeds_room(c, shape) ? load(c, key, hash, shape) : NULL;
    if (!numbers) {
        free(key);
        return NULL;
    }
    size_t bytes = embeds_numbers(shape) * sizeof(float);
    return add(c, key, hash, numbers, bytes, NULL) == SWD_OK ? numbers : NULL;
}

swd_status embeds_keep(embeds_cache *c, const char *prompt, const embeds_shape *shape,
                       const float *numbers, swd_err *err)
{
    char *key = NULL;
    float *copy = NULL;
    size_t n = embeds_numbers(shape);
    if (embeds_room(c, shape) == 0) return SWD_OK;
    SWD_TRY(make_key(&key, c, prompt, shape, err), err);
    uint64_t hash = digest_string(DIGEST_SEED, key);
    swd_status s =
        find(c, key, hash) ? SWD_OK : swd_malloc(&copy, n, sizeof(float), "embeddings", err);
    if (!copy) {
        free(key);
        return s;
    }
    memcpy(copy, numbers, n * sizeof(float));
    if (c->dir) save(c, key, hash, shape, copy);
    return add(c, key, hash, copy, n * sizeof(float), err);
}

void embeds_take_note(embeds_cache *c, char note[EMBEDS_NOTE_MAX])
{
    note[0] = '\0';
    if (c->n_damaged || c->n_unwritten)
        snprintf(note, EMBEDS_NOTE_MAX,
                 "embeds cache %.80s: %d damaged files made anew, %d not written (%s)", c->dir,
                 c->n_damaged, c->n_unwritten, c->why);
    c->n_damaged = c->n_unwritten = 0;
}
