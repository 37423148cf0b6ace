// SPDX-License-Identifier: MIT
#include "io/safetensors.h"
#include "base/memory.h"
#include "io/json.h"
#include "io/mapping.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct st_file {
    swd_mapping mapping; // data borrowed if !mapped
    bool mapped;
    swd_json header; // names and metadata point into it
} st_file;

struct safetensors {
    st_file *files;
    int n_files;
    size_t files_capacity;
    st_tensor *tensors; // sorted by name
    int n_tensors;
    size_t tensors_capacity;
};

static const struct {
    const char *text;
    size_t size;
    swd_dtype dtype;
} st_dtypes[] = {
    {"F32", 4, SWD_F32},
    {"F16", 2, SWD_F16},
    {"BF16", 2, SWD_BF16},
    {"I32", 4, SWD_I32},
    {"U8", 1, SWD_U8},
    {"BOOL", 1, SWD_N_DTYPES},
    {"I8", 1, SWD_N_DTYPES},
    {"F8_E4M3", 1, SWD_N_DTYPES},
    {"F8_E5M2", 1, SWD_N_DTYPES},
    {"F8_E8M0", 1, SWD_N_DTYPES},
    {"I16", 2, SWD_N_DTYPES},
    {"U16", 2, SWD_N_DTYPES},
    {"U32", 4, SWD_N_DTYPES},
    {"I64", 8, SWD_N_DTYPES},
    {"U64", 8, SWD_N_DTYPES},
    {"F64", 8, SWD_N_DTYPES},
    {"C64", 8, SWD_N_DTYPES},
};
enum { N_ST_DTYPES = sizeof st_dtypes / sizeof st_dtypes[0] };

char *st_describe_shape(const int64_t *shape, int ndim, char *buf, size_t n)
{
    size_t k = (size_t)snprintf(buf, n, "[");
    for (int i = 0; i < ndim && k < n; i++)
        k += (size_t)snprintf(buf + k, n - k, "%s%lld", i ? "," : "", (long long)shape[i]);
    if (k < n) snprintf(buf + k, n - k, "]");
    return buf;
}

static swd_status read_shape(st_tensor *t, const json_t *shape, const char *path, swd_err *err)
{
    if (!json_is_array(shape))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: tensor %s: its \"shape\" is missing or no list",
                        path, t->name);
    if (json_array_size(shape) > ST_DIMS_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: tensor %s has %zu dimensions, more than %d", path,
                        t->name, json_array_size(shape), ST_DIMS_MAX);
    t->ndim = (int)json_array_size(shape);
    t->numel = 1;
    for (int i = 0; i < t->ndim; i++) {
        const json_t *d = json_array_get(shape, (size_t)i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return SWD_FAIL(err, SWD_ERR_FILE,
                            "%s: tensor %s: shape[%d] is not a whole number >= 0", path, t->name,
                            i);
        t->shape[i] = json_integer_value(d);
    }
    for (int i = 0; i < t->ndim; i++) {
        if (!i64_mul(&t->numel, t->numel, t->shape[i])) {
            char text[256];
            return SWD_FAIL(err, SWD_ERR_FILE,
                            "%s: tensor %s: the product of its shape %s overflows", path, t->name,
                            st_describe_shape(t->shape, t->ndim, text, sizeof text));
        }
    }
    return SWD_OK;
}

// data_offsets are relative to data_start; the data ends with the file, at size.
static swd_status read_range(st_tensor *t, const json_t *offsets, size_t element, size_t data_start,
                             size_t size, const char *path, swd_err *err)
{
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !json_is_integer(first) ||
        !json_is_integer(last))
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: tensor %s: its \"data_offsets\" are missing or not two whole numbers",
                        path, t->name);
    int64_t begin = json_integer_value(first), end = json_integer_value(last), bytes;
    if (begin < 0 || end < begin)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: tensor %s: data_offsets %lld .. %lld run backwards",
                        path, t->name, (long long)begin, (long long)end);
    if ((uint64_t)end > size - data_start)
        return SWD_FAIL(
            err, SWD_ERR_FILE,
            "%s: tensor %s ends at byte %lld of the data, which has %zu: the file is truncated",
            path, t->name, (long long)end, size - data_start);
    if (!i64_mul(&bytes, t->numel, (int64_t)element) || bytes != end - begin) {
        char text[256];
        return SWD_FAIL(
            err, SWD_ERR_FILE, "%s: tensor %s at byte %zu: %s %s does not fill its %lld bytes",
            path, t->name, data_start + (size_t)begin, t->dtype_text,
            st_describe_shape(t->shape, t->ndim, text, sizeof text), (long long)(end - begin));
    }
    t->offset = data_start + (size_t)begin;
    t->bytes = (size_t)bytes;
    return SWD_OK;
}

static swd_status read_entry(st_tensor *t, const char *name, const json_t *entry, const st_file *f,
                             size_t data_start, swd_err *err)
{
    const char *path = f->mapping.path;
    t->name = name;
    if (!name[0]) return SWD_FAIL(err, SWD_ERR_FILE, "%s: a tensor has an empty name", path);
    if (!json_is_object(entry))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: tensor %s: its header entry is not an object", path,
                        name);
    const char *text = json_string_value(json_object_get(entry, "dtype"));
    if (!text)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: tensor %s: its \"dtype\" is missing or no string",
                        path, name);
    int k = 0;
    while (k < N_ST_DTYPES && strcmp(text, st_dtypes[k].text) != 0) k++;
    if (k == N_ST_DTYPES)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: tensor %s: unknown dtype %s", path, name, text);
    t->dtype_text = st_dtypes[k].text;
    t->dtype = st_dtypes[k].dtype;
    SWD_TRY(read_shape(t, json_object_get(entry, "shape"), path, err), err);
    SWD_TRY(read_range(t, json_object_get(entry, "data_offsets"), st_dtypes[k].size, data_start,
                       f->mapping.size, path, err),
            err);
    t->data = f->mapping.data + t->offset;
    return SWD_OK;
}

static int by_offset(const void *a, const void *b)
{
    const st_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const st_tensor *)a)->name, ((const st_tensor *)b)->name);
}

// The format has neither overlaps nor holes: in order of offset each tensor begins where the last one ended.
static swd_status check_layout(st_tensor *t, int n, const st_file *f, size_t data_start,
                               swd_err *err)
{
    const char *path = f->mapping.path;
    size_t at = data_start;
    if (n > 0) qsort(t, (size_t)n, sizeof *t, by_offset);
    for (int i = 0; i < n; i++) {
        if (t[i].offset < at)
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: tensors %s and %s overlap at byte %zu", path,
                            t[i - 1].name, t[i].name, t[i].offset);
        if (t[i].offset > at)
            return SWD_FAIL(err, SWD_ERR_FILE,
                            "%s: %zu bytes at byte %zu, before tensor %s, belong to no tensor",
                            path, t[i].offset - at, at, t[i].name);
        at += t[i].bytes;
    }
    if (at != f->mapping.size)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: %zu bytes after the last tensor, at byte %zu, belong to no tensor",
                        path, f->mapping.size - at, at);
    return SWD_OK;
}

static swd_status check_metadata(const json_t *metadata, const char *path, swd_err *err)
{
    if (!json_is_object(metadata))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: \"__metadata__\" is not an object", path);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)metadata, key, value)
    {
        if (!json_is_string(value))
            return SWD_FAIL(err, SWD_ERR_FILE,
                            "%s: \"__metadata__\": the value of %s is not a string", path, key);
    }
    return SWD_OK;
}

static swd_status read_header(st_file *f, size_t *data_start, swd_err *err)
{
    const char *path = f->mapping.path;
    size_t size = f->mapping.size;
    const unsigned char *p = f->mapping.data;
    if (size == 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: empty; a safetensors file is needed", path);
    if (size < 8)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: %zu bytes, too short for the 8 of a safetensors header length", path,
                        size);
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--) n = n << 8 | p[i];
    if (n > ST_HEADER_BYTES_MAX)
        return SWD_FAIL(
            err, SWD_ERR_FILE,
            "%s: a header of %llu bytes, more than the %d allowed: is it a safetensors file?", path,
            (unsigned long long)n, ST_HEADER_BYTES_MAX);
    if (n > size - 8)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: a header of %llu bytes in a file of %zu: the file is truncated", path,
                        (unsigned long long)n, size);
    char *where;
    SWD_TRY(swd_asprintf(&where, err, "%s: header (at byte 8)", path), err);
    swd_status s = json_parse(&f->header, where, p + 8, (size_t)n, err);
    free(where);
    SWD_TRY(s, err);
    *data_start = 8 + (size_t)n;
    return SWD_OK;
}

// The file of index s->n_files is in place (mapping set); parses it and takes it into the set.
static swd_status add_file(safetensors *s, swd_err *err)
{
    st_file *f = &s->files[s->n_files++];
    size_t data_start = 0;
    SWD_TRY(read_header(f, &data_start, err), err);
    const json_t *metadata = json_object_get(f->header.root, "__metadata__");
    if (metadata) SWD_TRY(check_metadata(metadata, f->mapping.path, err), err);
    size_t n = json_object_size(f->header.root) - (metadata ? 1 : 0);
    if (n > ST_TENSORS_MAX - (size_t)s->n_tensors)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: more than %d tensors", f->mapping.path,
                        ST_TENSORS_MAX);
    SWD_TRY(swd_grow(&s->tensors, &s->tensors_capacity, (size_t)s->n_tensors + n + 1,
                     sizeof *s->tensors, "a table of tensors", err),
            err);
    st_tensor *first = s->tensors + s->n_tensors;
    const char *name;
    json_t *entry;
    int k = 0;
    json_object_foreach(f->header.root, name, entry)
    {
        if (entry == metadata) continue;
        first[k] = (st_tensor){.file = s->n_files - 1};
        SWD_TRY(read_entry(&first[k], name, entry, f, data_start, err), err);
        k++;
    }
    SWD_TRY(check_layout(first, k, f, data_start, err), err);
    s->n_tensors += k;
    return SWD_OK;
}

static swd_status add_path(safetensors *s, const char *path, swd_err *err)
{
    if (s->n_files >= ST_FILES_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: more than %d files in one set", path, ST_FILES_MAX);
    SWD_TRY(swd_grow(&s->files, &s->files_capacity, (size_t)s->n_files + 1, sizeof *s->files,
                     "a table of files", err),
            err);
    st_file *f = &s->files[s->n_files];
    *f = (st_file){.mapped = true};
    SWD_TRY(mapping_open(&f->mapping, path, 0, err), err);
    return add_file(s, err);
}

// Sorts the whole set by name.
static swd_status finish(safetensors *s, swd_err *err)
{
    if (s->n_tensors > 0) qsort(s->tensors, (size_t)s->n_tensors, sizeof *s->tensors, by_name);
    for (int i = 1; i < s->n_tensors; i++) {
        const st_tensor *a = &s->tensors[i - 1], *b = &s->tensors[i];
        if (strcmp(a->name, b->name) == 0)
            return SWD_FAIL(err, SWD_ERR_FILE, "tensor %s is in two files, %s and %s", a->name,
                            s->files[a->file].mapping.path, s->files[b->file].mapping.path);
    }
    return SWD_OK;
}

static int find_file(const safetensors *s, const char *path)
{
    for (int i = 0; i < s->n_files; i++) {
        if (strcmp(s->files[i].mapping.path, path) == 0) return i;
    }
    return -1;
}

static swd_status add_shard(safetensors *s, const char *index_path, const char *tensor,
                            const json_t *value, swd_err *err)
{
    const char *name = json_string_value(value), *slash = strrchr(index_path, '/');
    if (!name || !name[0])
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: weight_map: the file of tensor %s is not a string",
                        index_path, tensor);
    if (strchr(name, '/') || strcmp(name, "..") == 0 || strcmp(name, ".") == 0)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: weight_map: %s is not a file name in the same folder", index_path,
                        name);
    char *path;
    SWD_TRY(swd_asprintf(&path, err, "%.*s%s", slash ? (int)(slash - index_path + 1) : 0,
                         index_path, name),
            err);
    swd_status st = find_file(s, path) >= 0 ? SWD_OK : add_path(s, path, err);
    free(path);
    return st;
}

static swd_status open_shards(safetensors *s, const swd_json *index, swd_err *err)
{
    const json_t *map = json_object_get(index->root, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: \"weight_map\" is missing, empty or no object",
                        index->path);
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)map, name, value)
    {
        SWD_TRY(add_shard(s, index->path, name, value, err), err);
    }
    SWD_TRY(finish(s, err), err);
    json_object_foreach((json_t *)map, name, value)
    {
        const st_tensor *t = safetensors_find(s, name);
        const char *path = t ? s->files[t->file].mapping.path : NULL,
                   *slash = path ? strrchr(path, '/') : NULL;
        if (!t || strcmp(slash ? slash + 1 : path, json_string_value(value)) != 0)
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: weight_map: tensor %s is not in %s",
                            index->path, name, json_string_value(value));
    }
    return SWD_OK;
}

static swd_status open_index(safetensors *s, const char *path, swd_err *err)
{
    swd_json index;
    SWD_TRY(json_open(&index, path, err), err);
    swd_status st = open_shards(s, &index, err);
    json_close(&index);
    return st;
}

static swd_status open_path(safetensors *s, const char *path, swd_err *err)
{
    if (str_ends(path, ".json")) return open_index(s, path, err);
    SWD_TRY(add_path(s, path, err), err);
    return finish(s, err);
}

static swd_status open_folder(safetensors *s, const char *folder, const char *basename,
                              swd_err *err)
{
    static const char *const suffixes[] = {".safetensors", ".safetensors.index.json",
                                           ".fp16.safetensors", ".safetensors.index.fp16.json"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        const char *slash = folder[0] && folder[strlen(folder) - 1] == '/' ? "" : "/";
        char *path;
        SWD_TRY(swd_asprintf(&path, err, "%s%s%s%s", folder, slash, basename, suffixes[i]), err);
        bool exists = path_exists(path);
        swd_status st = exists ? open_path(s, path, err) : SWD_OK;
        free(path);
        if (exists) return st;
    }
    return SWD_FAIL(err, SWD_ERR_FILE,
                    "%s: no %s.safetensors and no %s.safetensors.index.json in this folder", folder,
                    basename, basename);
}

swd_status safetensors_open(safetensors **out, const char *path, const char *basename, swd_err *err)
{
    safetensors *s;
    *out = NULL;
    SWD_TRY(swd_calloc(&s, 1, sizeof *s, "a safetensors set", err), err);
    swd_status st =
        path_is_dir(path) ? open_folder(s, path, basename, err) : open_path(s, path, err);
    if (st != SWD_OK) {
        safetensors_close(&s);
        return st;
    }
    *out = s;
    return SWD_OK;
}

swd_status safetensors_parse(safetensors **out, const char *path, const void *data, size_t n,
                             swd_err *err)
{
    swd_status st;
    safetensors *s;
    *out = NULL;
    SWD_TRY(swd_calloc(&s, 1, sizeof *s, "a safetensors set", err), err);
    SWD_TRY_GOTO(
        st, swd_grow(&s->files, &s->files_capacity, 1, sizeof *s->files, "a table of files", err),
        err, fail);
    s->files[0] = (st_file){.mapping = {.data = data, .size = n}};
    SWD_TRY_GOTO(st, swd_strdup(&s->files[0].mapping.path, path, err), err, fail);
    SWD_TRY_GOTO(st, add_file(s, err), err, fail);
    SWD_TRY_GOTO(st, finish(s, err), err, fail);
    *out = s;
    return SWD_OK;
fail:
    safetensors_close(&s);
    return st;
}

void safetensors_close(safetensors **s)
{
    if (!*s) return;
    for (int i = 0; i < (*s)->n_files; i++) {
        st_file *f = &(*s)->files[i];
        json_close(&f->header);
        if (f->mapped)
            mapping_close(&f->mapping);
        else
            free(f->mapping.path);
    }
    free((*s)->files);
    free((*s)->tensors);
    free(*s);
    *s = NULL;
}

const st_tensor *safetensors_find(const safetensors *s, const char *name)
{
    st_tensor key = {.name = name};
    return s->n_tensors ? bsearch(&key, s->tensors, (size_t)s->n_tensors, sizeof key, by_name)
                        : NULL;
}

int safetensors_count(const safetensors *s)
{
    return s->n_tensors;
}

const st_tensor *safetensors_at(const safetensors *s, int i)
{
    assert(i >= 0 && i < s->n_tensors);
    return &s->tensors[i];
}

int safetensors_file_count(const safetensors *s)
{
    return s->n_files;
}

const char *safetensors_file_path(const safetensors *s, int file)
{
    assert(file >= 0 && file < s->n_files);
    return s->files[file].mapping.path;
}

size_t safetensors_bytes(const safetensors *s)
{
    size_t n = 0;
    for (int i = 0; i < s->n_files; i++) n += s->files[i].mapping.size;
    return n;
}

const char *safetensors_metadata(const safetensors *s, const char *key)
{
    for (int i = 0; i < s->n_files; i++) {
        const json_t *metadata = json_object_get(s->files[i].header.root, "__metadata__");
        const char *value = json_string_value(json_object_get(metadata, key));
        if (value) return value;
    }
    return NULL;
}

void safetensors_release(const safetensors *s, const st_tensor *t)
{
    const st_file *f = &s->files[t->file];
    if (f->mapped) mapping_release(&f->mapping, t->offset, t->bytes);
}

void safetensors_read_ahead(const safetensors *s, const st_tensor *t)
{
    enum { AHEAD_BYTES = 64 << 20 };
    const st_file *f = &s->files[t->file];
    if (f->mapped) mapping_prefetch(&f->mapping, t->offset, t->bytes + AHEAD_BYTES);
}
