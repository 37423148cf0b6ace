// SPDX-License-Identifier: MIT
#include "train/dataset.h"
#include "base/memory.h"
#include "io/digest.h"
#include "io/mapping.h"
#include "text/vocab.h"
#include "train/csv.h"
#include "train/tar.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

typedef struct file_entry { // of a source
    char *name;
    size_t offset, size; // tar
} file_entry;

typedef struct source {
    const char *path; // owned by dataset.paths
    bool is_tar, mapped;
    swd_mapping tar;  // data borrowed if !mapped
    file_entry *file; // by name
    size_t n_files, capacity;
} source;

typedef struct item {
    char *name, *caption;
    int source;
    size_t file; // index in its source
} item;

struct dataset {
    source source[DATASET_SOURCES_MAX];
    char *paths[DATASET_SOURCES_MAX];
    int n_sources;
    item *item;
    size_t n, capacity;
    struct bad {
        char *file, *reason;
    } * bad;
    size_t n_bad, bad_capacity;
};

/* ---- what is left out ---- */

swd_status dataset_reject(dataset *d, const char *file, const char *reason, swd_err *err)
{
    struct bad b = {0};
    SWD_TRY(swd_grow(&d->bad, &d->bad_capacity, d->n_bad + 1, sizeof b, "a list of files", err),
            err);
    SWD_TRY(swd_strdup(&b.file, file, err), err);
    swd_status s = swd_strdup(&b.reason, reason, err);
    if (s != SWD_OK) return free(b.file), s;
    d->bad[d->n_bad++] = b;
    return SWD_OK;
}

// The same with the source's path before the name.
static swd_status reject_in(dataset *d, const source *s, const char *file, const char *reason,
                            swd_err *err)
{
    char *name;
    SWD_TRY(path_join(&name, s->path, file, err), err);
    swd_status st = dataset_reject(d, name, reason, err);
    free(name);
    return st;
}

/* ---- the files of a source ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const file_entry *)a)->name, ((const file_entry *)b)->name);
}

static const file_entry *find_file(const source *s, const char *name)
{
    file_entry key = {.name = (char *)name};
    return s->n_files ? bsearch(&key, s->file, s->n_files, sizeof key, by_name) : NULL;
}

static swd_status add_file(source *s, const char *name, size_t offset, size_t size, swd_err *err)
{
    if (s->n_files >= DATASET_ITEMS_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: more than %d files; split it", s->path,
                        DATASET_ITEMS_MAX);
    SWD_TRY(
        swd_grow(&s->file, &s->capacity, s->n_files + 1, sizeof *s->file, "a list of files", err),
        err);
    file_entry e = {.offset = offset, .size = size};
    SWD_TRY(swd_strdup(&e.name, name, err), err);
    s->file[s->n_files++] = e;
    return SWD_OK;
}

static swd_status list_folder(source *s, swd_err *err)
{
    DIR *dir = opendir(s->path);
    if (!dir)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: cannot be listed: %s", s->path, strerror(errno));
    swd_status st = SWD_OK;
    for (struct dirent *e; st == SWD_OK && (e = readdir(dir));)
        if (e->d_name[0] != '.' && e->d_type != DT_DIR) st = add_file(s, e->d_name, 0, 0, err);
    closedir(dir);
    return st;
}

static swd_status list_tar(source *s, swd_err *err)
{
    tar_reader r = tar_begin(s->path, s->tar.data, s->tar.size);
    tar_entry e;
    bool more = true;
    swd_status st = SWD_OK;
    while (st == SWD_OK && more) {
        st = tar_next(&e, &more, &r, err);
        if (st == SWD_OK && more)
            st = add_file(s, str_starts(e.name, "./") ? e.name + 2 : e.name, e.offset, e.size, err);
    }
    tar_end(&r);
    return st;
}

/* The bytes of a file; m is to be closed. */
static swd_status map_file(swd_mapping *m, const source *s, const file_entry *f, size_t max,
                           swd_err *err)
{
    *m = (swd_mapping){0};
    char *path;
    SWD_TRY(path_join(&path, s->path, f->name, err), err);
    swd_status st = SWD_OK;
    if (!s->is_tar)
        st = mapping_open(m, path, max, err);
    else if (f->size > max)
        st = SWD_FAIL(err, SWD_ERR_FILE, "%s: %zu bytes, more than %zu", path, f->size, max);
    else
        *m = (swd_mapping){.data = f->size ? s->tar.data + f->offset : NULL, .size = f->size};
    free(path);
    return st;
}

static void unmap_file(swd_mapping *m, const source *s)
{
    if (!s->is_tar) mapping_close(m);
}

/* ---- captions ---- */

// NULL if text [n] can be a caption, else why not.
static const char *caption_fault(const char *text, size_t n)
{
    if (n > DATASET_CAPTION_BYTES_MAX) return "the caption is too long";
    if (n && memchr(text, 0, n)) return "the caption has a zero byte";
    if (text_check_utf8(text, n, NULL) != SWD_OK) return "the caption is not UTF-8";
    return NULL;
}

static swd_status add_item(dataset *d, int source_index, const file_entry *f, const char *caption,
                           size_t n, swd_err *err)
{
    const source *s = &d->source[source_index];
    const char *fault = caption_fault(caption, n);
    if (fault) return reject_in(d, s, f->name, fault, err);
    if (d->n >= DATASET_ITEMS_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: more than %d pictures", s->path, DATASET_ITEMS_MAX);
    SWD_TRY(swd_grow(&d->item, &d->capacity, d->n + 1, sizeof *d->item, "a list of pictures", err),
            err);
    item it = {.source = source_index, .file = (size_t)(f - s->file)};
    SWD_TRY(path_join(&it.name, s->path, f->name, err), err);
    swd_status st = swd_malloc(&it.caption, n + 1, 1, "a caption", err);
    if (st != SWD_OK) return free(it.name), st;
    if (n) memcpy(it.caption, caption, n);
    it.caption[n] = '\0';
    d->item[d->n++] = it;
    return SWD_OK;
}

static swd_status add_row(dataset *d, int index, const csv_row *row, swd_err *err)
{
    const source *s = &d->source[index];
    char where[64];
    snprintf(where, sizeof where, "metainfo.csv:%d", row->line);
    if (row->n < 3)
        return reject_in(d, s, where, "fewer than three fields: index, file name, caption", err);
    const file_entry *f = find_file(s, csv_field(row, 1));
    if (!f || strlen(f->name) != row->length[1])
        return reject_in(d, s, where, "names a file that is not there", err);
    return add_item(d, index, f, csv_field(row, 2), row->length[2], err);
}

// The first row has titles.
static swd_status read_csv(dataset *d, int index, const char *path, const swd_mapping *m,
                           swd_err *err)
{
    csv_reader r = csv_begin(path, m->data ? (const char *)m->data : "", m->size);
    csv_row row = {0};
    bool more = true;
    swd_status st = SWD_OK;
    for (int64_t i = 0; st == SWD_OK && more; i++) {
        st = csv_next(&row, &more, &r, err);
        if (st == SWD_OK && more && i > 0) st = add_row(d, index, &row, err);
    }
    csv_row_free(&row);
    return st;
}

// Where the suffix starts: of a tar's members at the first dot of the last part, of files at the last.
static size_t stem_length(const char *name, bool is_tar)
{
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    const char *dot = is_tar ? strchr(base, '.') : strrchr(base, '.');
    return dot ? (size_t)(dot - name) : strlen(name);
}

static bool is_picture(const char *suffix)
{
    return strcasecmp(suffix, ".jpg") == 0 || strcasecmp(suffix, ".jpeg") == 0 ||
           strcasecmp(suffix, ".png") == 0;
}

static swd_status add_with_text(dataset *d, int index, const file_entry *picture, swd_err *err)
{
    const source *s = &d->source[index];
    size_t stem = stem_length(picture->name, s->is_tar);
    char *name;
    swd_mapping m;
    SWD_TRY(swd_asprintf(&name, err, "%.*s.txt", (int)stem, picture->name), err);
    const file_entry *f = find_file(s, name);
    free(name);
    if (!f) return reject_in(d, s, picture->name, "has no caption: a .txt of its name", err);
    if (map_file(&m, s, f, DATASET_CAPTION_BYTES_MAX, NULL) != SWD_OK)
        return reject_in(d, s, picture->name, "its caption cannot be read, or is too long", err);
    const char *text = m.data ? (const char *)m.data : "";
    size_t n = m.size;
    while (n && (text[n - 1] == '\n' || text[n - 1] == '\r')) n--;
    swd_status st = add_item(d, index, picture, text, n, err);
    unmap_file(&m, s);
    return st;
}

static swd_status read_texts(dataset *d, int index, swd_err *err)
{
    const source *s = &d->source[index];
    for (size_t i = 0; i < s->n_files; i++) {
        const file_entry *f = &s->file[i];
        if (is_picture(f->name + stem_length(f->name, s->is_tar)))
            SWD_TRY(add_with_text(d, index, f, err), err);
    }
    return SWD_OK;
}

/* ---- opening ---- */

static swd_status read_source(dataset *d, int index, swd_err *err)
{
    source *s = &d->source[index];
    swd_mapping m;
    SWD_TRY(s->is_tar ? list_tar(s, err) : list_folder(s, err), err);
    if (s->n_files) qsort(s->file, s->n_files, sizeof *s->file, by_name);
    const file_entry *csv = find_file(s, "metainfo.csv");
    if (!csv) return read_texts(d, index, err);
    SWD_TRY(map_file(&m, s, csv, DATASET_CSV_BYTES_MAX, err), err);
    char *path = NULL;
    swd_status st = path_join(&path, s->path, csv->name, err);
    if (st == SWD_OK) st = read_csv(d, index, path, &m, err);
    free(path);
    unmap_file(&m, s);
    return st;
}

static swd_status add_source(dataset *d, const char *path, const void *data, size_t n, swd_err *err)
{
    int index = d->n_sources;
    source *s = &d->source[index];
    SWD_TRY(swd_strdup(&d->paths[index], path, err), err);
    d->n_sources++;
    s->path = d->paths[index];
    s->is_tar = data || !path_is_dir(path);
    if (data) {
        s->tar = (swd_mapping){.data = data, .size = n};
    } else if (s->is_tar) {
        if (!path_exists(path))
            return SWD_FAIL(err, SWD_ERR_FILE, "data %s: no such folder or tar", path);
        SWD_TRY(mapping_open(&s->tar, path, 0, err), err);
        s->mapped = true;
    }
    return read_source(d, index, err);
}

static swd_status check_not_empty(const dataset *d, swd_err *err)
{
    if (d->n) return SWD_OK;
    if (d->n_bad)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "data %s: no picture with a caption; the first of %zu left out: %s: %s",
                        d->paths[0], d->n_bad, d->bad[0].file, d->bad[0].reason);
    return SWD_FAIL(err, SWD_ERR_FILE,
                    "data %s: no pictures; give a folder or tar with metainfo.csv, or with a .txt "
                    "beside each .jpg or .png",
                    d->paths[0]);
}

static swd_status open_all(dataset **out, const char *const *paths, int n_paths, const void *data,
                           size_t n, swd_err *err)
{
    dataset *d = *out = NULL;
    if (n_paths < 1 || n_paths > DATASET_SOURCES_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d data folders; give 1 to %d", n_paths,
                        DATASET_SOURCES_MAX);
    SWD_TRY(swd_calloc(&d, 1, sizeof *d, "a data set", err), err);
    swd_status s = SWD_OK;
    for (int i = 0; i < n_paths && s == SWD_OK; i++) s = add_source(d, paths[i], data, n, err);
    if (s == SWD_OK) s = check_not_empty(d, err);
    if (s != SWD_OK) dataset_close(&d);
    *out = d;
    return s;
}

swd_status dataset_open(dataset **out, const char *const *paths, int n_paths, swd_err *err)
{
    return open_all(out, paths, n_paths, NULL, 0, err);
}

swd_status dataset_open_tar(dataset **out, const char *path, const void *data, size_t n,
                            swd_err *err)
{
    return open_all(out, &path, 1, data, n, err);
}

void dataset_close(dataset **d)
{
    dataset *o = *d;
    if (!o) return;
    for (int i = 0; i < o->n_sources; i++) {
        source *s = &o->source[i];
        for (size_t k = 0; k < s->n_files; k++) free(s->file[k].name);
        free(s->file);
        if (s->mapped) mapping_close(&s->tar);
        free(o->paths[i]);
    }
    for (size_t i = 0; i < o->n; i++) {
        free(o->item[i].name);
        free(o->item[i].caption);
    }
    for (size_t i = 0; i < o->n_bad; i++) {
        free(o->bad[i].file);
        free(o->bad[i].reason);
    }
    free(o->item);
    free(o->bad);
    free(o);
    *d = NULL;
}

/* ---- use ---- */

int64_t dataset_count(const dataset *d)
{
    return (int64_t)d->n;
}

const char *dataset_name(const dataset *d, int64_t i)
{
    return d->item[i].name;
}

const char *dataset_caption(const dataset *d, int64_t i)
{
    return d->item[i].caption;
}

int64_t dataset_bad_count(const dataset *d)
{
    return (int64_t)d->n_bad;
}

dataset_bad dataset_bad_at(const dataset *d, int64_t i)
{
    return (dataset_bad){d->bad[i].file, d->bad[i].reason};
}

uint64_t dataset_digest(const dataset *d)
{
    uint64_t h = digest_u64(DIGEST_SEED, d->n);
    for (size_t i = 0; i < d->n; i++) {
        const item *it = &d->item[i];
        const source *s = &d->source[it->source];
        const file_entry *f = &s->file[it->file];
        h = digest_string(digest_string(h, f->name), it->caption);
        h = s->is_tar ? digest_sample(h, s->tar.data + f->offset, f->size, 3)
                      : digest_file(h, it->name, 3);
    }
    return h;
}

swd_status dataset_read(image_rgb8 *out, const dataset *d, int64_t i, swd_err *err)
{
    const item *it = &d->item[i];
    const source *s = &d->source[it->source];
    if (!s->is_tar) return image_read(out, it->name, err);
    const file_entry *f = &s->file[it->file];
    return image_decode(out, s->tar.data + f->offset, f->size, it->name, err);
}
