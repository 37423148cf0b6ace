// SPDX-License-Identifier: MIT
#include "train/checkpoint.h"
#include "base/memory.h"
#include "io/digest.h"
#include "io/json.h"
#include "io/mapping.h"
#include "io/safetensors_write.h"
#include "train/durable.h"
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char TENSORS[] = "state.safetensors", STATE[] = "state.json";

/* ---- counters ---- */

bool checkpoint_get(int64_t *value, const checkpoint_state *state, const char *name)
{
    for (int i = 0; i < state->n_counters; i++)
        if (strcmp(state->counter[i].name, name) == 0)
            return *value = state->counter[i].value, true;
    return false;
}

void checkpoint_put(checkpoint_state *state, const char *name, int64_t value)
{
    int i = 0;
    while (i < state->n_counters && strcmp(state->counter[i].name, name) != 0) i++;
    assert(i < CHECKPOINT_COUNTERS_MAX && strlen(name) < CHECKPOINT_NAME_MAX);
    if (i == state->n_counters) state->n_counters++;
    snprintf(state->counter[i].name, CHECKPOINT_NAME_MAX, "%s", name);
    state->counter[i].value = value;
}

void checkpoint_state_free(checkpoint_state *state)
{
    free(state->config);
    *state = (checkpoint_state){0};
}

/* ---- state.json ---- */

static char *state_json(const checkpoint_state *s, uint64_t sum)
{
    char hex[24];
    json_t *counters = json_object();
    for (int i = 0; i < s->n_counters; i++)
        json_object_set_new(counters, s->counter[i].name, json_integer(s->counter[i].value));
    snprintf(hex, sizeof hex, "%016" PRIx64, sum);
    json_t *o = json_pack("{s:i, s:I, s:s, s:o, s:s}", "version", 1, "step", (json_int_t)s->step,
                          "sum", hex, "counters", counters, "config", s->config ? s->config : "");
    char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
    json_decref(o);
    return text;
}

static swd_status parse_counters(checkpoint_state *out, const swd_json *j, swd_err *err)
{
    swd_json sub;
    SWD_TRY(json_sub(&sub, j, "counters", err), err);
    swd_status s = SWD_OK;
    const char *name;
    json_t *v;
    json_object_foreach(sub.root, name, v)
    {
        if (out->n_counters == CHECKPOINT_COUNTERS_MAX || strlen(name) >= CHECKPOINT_NAME_MAX ||
            !json_is_integer(v)) {
            s = SWD_FAIL(err, SWD_ERR_FILE,
                         "%s: counters: at most %d whole numbers with names under %d bytes are "
                         "needed",
                         j->path, CHECKPOINT_COUNTERS_MAX, CHECKPOINT_NAME_MAX);
            break;
        }
        checkpoint_put(out, name, json_integer_value(v));
    }
    json_close(&sub);
    return s;
}

static swd_status parse_fields(checkpoint_state *out, uint64_t *sum, const swd_json *j,
                               swd_err *err)
{
    int64_t version;
    const char *hex, *config;
    SWD_TRY(json_int(&version, j, "version", 0, 0, INT32_MAX, err), err);
    if (version != 1)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: version %" PRId64 "; this program reads 1", j->path,
                        version);
    SWD_TRY(json_int(&out->step, j, "step", -1, 0, INT64_MAX, err), err);
    SWD_TRY(json_str(&hex, j, "sum", "", err), err);
    SWD_TRY(json_str(&config, j, "config", "", err), err);
    if (out->step < 0) return SWD_FAIL(err, SWD_ERR_FILE, "%s: step is missing", j->path);
    if (strlen(hex) != 16 || strspn(hex, "0123456789abcdef") != 16)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: sum is not 16 hexadecimal digits", j->path);
    *sum = strtoull(hex, NULL, 16);
    SWD_TRY(parse_counters(out, j, err), err);
    return swd_strdup(&out->config, config, err);
}

swd_status checkpoint_parse_state(checkpoint_state *out, uint64_t *sum, const char *path,
                                  const void *text, size_t n, swd_err *err)
{
    swd_json j;
    *out = (checkpoint_state){0};
    SWD_TRY(json_parse(&j, path, text, n, err), err);
    swd_status s = parse_fields(out, sum, &j, err);
    json_close(&j);
    if (s != SWD_OK) checkpoint_state_free(out);
    return s;
}

static swd_status read_state(checkpoint_state *out, uint64_t *sum, const char *path, swd_err *err)
{
    char *file;
    swd_mapping m;
    *out = (checkpoint_state){0};
    SWD_TRY(path_join(&file, path, STATE, err), err);
    swd_status s = mapping_open(&m, file, CHECKPOINT_CONFIG_BYTES_MAX * 2, err);
    if (s == SWD_OK) {
        s = checkpoint_parse_state(out, sum, file, m.data, m.size, err);
        mapping_close(&m);
    }
    free(file);
    return s;
}

swd_status checkpoint_read_state(checkpoint_state *out, const char *path, swd_err *err)
{
    uint64_t sum;
    return read_state(out, &sum, path, err);
}

/* ---- which there are ---- */

/* Steps of the folders step-N in dir, newest first; *steps is freed by the caller. No dir: none. */
static swd_status list_steps(int64_t **steps, size_t *n, const char *dir, swd_err *err)
{
    size_t capacity = 0;
    *steps = NULL;
    *n = 0;
    DIR *d = opendir(dir);
    if (!d && errno == ENOENT) return SWD_OK;
    if (!d) return SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be listed: %s", dir, strerror(errno));
    swd_status s = SWD_OK;
    for (struct dirent *e; s == SWD_OK && (e = readdir(d));) {
        int64_t step;
        int end = 0;
        if (sscanf(e->d_name, "step-%" SCNd64 "%n", &step, &end) != 1 || e->d_name[end] || step < 0)
            continue;
        s = swd_grow(steps, &capacity, *n + 1, sizeof **steps, "a list of checkpoints", err);
        if (s != SWD_OK) break;
        size_t at = (*n)++;
        for (; at && (*steps)[at - 1] < step; at--) (*steps)[at] = (*steps)[at - 1];
        (*steps)[at] = step;
    }
    closedir(d);
    return s;
}

static swd_status step_path(char **out, const char *dir, int64_t step, const char *suffix,
                            swd_err *err)
{
    return swd_asprintf(out, err, "%s/step-%08" PRId64 "%s", dir, step, suffix);
}

/* Does the tensors' file have the sum that state.json names? */
static swd_status check_sum(const char *path, swd_err *err)
{
    checkpoint_state state;
    uint64_t sum = 0, found = 0;
    char *file = NULL;
    swd_mapping m;
    SWD_TRY(read_state(&state, &sum, path, err), err);
    checkpoint_state_free(&state);
    SWD_TRY(path_join(&file, path, TENSORS, err), err);
    swd_status s = mapping_open(&m, file, 0, err);
    if (s == SWD_OK) {
        found = digest_bytes(DIGEST_SEED, m.data, m.size);
        mapping_close(&m);
    }
    if (s == SWD_OK && found != sum)
        s = SWD_FAIL(err, SWD_ERR_FILE, "%s is damaged: its sum is not the one in %s", file, STATE);
    free(file);
    return s;
}

swd_status checkpoint_newest(char **path, const char *dir, const swd_log *log, swd_err *err)
{
    int64_t *steps;
    size_t n;
    *path = NULL;
    swd_status s = list_steps(&steps, &n, dir, err);
    for (size_t i = 0; i < n && s == SWD_OK && !*path; i++) {
        swd_err why = {0};
        char *candidate = NULL;
        s = step_path(&candidate, dir, steps[i], "", err);
        if (s == SWD_OK && check_sum(candidate, &why) == SWD_OK) {
            *path = candidate;
        } else {
            if (s == SWD_OK)
                log_print(log, SWD_LOG_WARNING, "checkpoint %s is passed over: %s", candidate,
                          why.message);
            free(candidate);
        }
    }
    free(steps);
    return s;
}

/* ---- saving ---- */

typedef struct source {
    const checkpoint_args *a;
    swd_tensor t;
    swd_err *err;
    swd_status status;
} source;

// Elements of a tensor in backend memory, as safetensors_write asks for them.
static void fill(void *ctx, void *to, int64_t first, int64_t n)
{
    source *s = ctx;
    size_t size = dtype_size(s->t.dtype);
    swd_backend *be = s->a->be;
    unsigned char *from = (unsigned char *)s->t.data + (size_t)first * size;
    memset(to, 0, (size_t)n * size);
    if (s->status != SWD_OK) return;
    if (!be) {
        memcpy(to, from, (size_t)n * size);
        return;
    }
    s->status = be->download(be, to, tensor1(from, s->t.dtype, n), NULL, s->err);
    if (s->status == SWD_OK) s->status = be->synchronize(be, NULL, s->err);
}

static swd_status write_tensors(const char *file, const checkpoint_args *a, swd_err *err)
{
    st_write_tensor *w;
    source *from = NULL;
    size_t n = (size_t)a->n_tensors;
    SWD_TRY(swd_calloc(&w, n, sizeof *w, "a checkpoint", err), err);
    swd_status s = swd_calloc(&from, n, sizeof *from, "a checkpoint", err);
    for (size_t i = 0; i < n && s == SWD_OK; i++) {
        swd_tensor t = a->tensors[i].t;
        assert(tensor_contiguous(t));
        from[i] = (source){.a = a, .t = t, .err = err};
        w[i] = (st_write_tensor){.name = a->tensors[i].name,
                                 .dtype = t.dtype,
                                 .ndim = t.ndim,
                                 .fill = fill,
                                 .ctx = &from[i]};
        memcpy(w[i].shape, t.shape, (size_t)t.ndim * sizeof t.shape[0]);
    }
    if (s == SWD_OK) s = safetensors_write(file, w, a->n_tensors, NULL, 0, err);
    for (size_t i = 0; i < n && s == SWD_OK; i++) s = from[i].status;
    free(w);
    free(from);
    return s;
}

static swd_status write_text(const char *file, const char *text, swd_err *err)
{
    FILE *f = fopen(file, "wbx");
    bool ok = f && fwrite(text, 1, strlen(text), f) == strlen(text);
    ok = f && fclose(f) == 0 && ok;
    return ok ? SWD_OK
              : SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be written: %s", file, strerror(errno));
}

static swd_status write_state(const char *part, const char *tensors, const checkpoint_state *state,
                              swd_err *err)
{
    swd_mapping m;
    char *file = NULL;
    SWD_TRY(mapping_open(&m, tensors, 0, err), err);
    uint64_t sum = digest_bytes(DIGEST_SEED, m.data, m.size);
    mapping_close(&m);
    char *text = state_json(state, sum);
    swd_status s = text ? path_join(&file, part, STATE, err)
                        : SWD_FAIL(err, SWD_ERR_ARGUMENT, "the state is no UTF-8");
    if (s == SWD_OK) s = write_text(file, text, err);
    free(file);
    free(text);
    return s;
}

/* Every file in the folder, then the folder; folders in it are synced the same way. What links lead to is not ours. */
static swd_status sync_folder(const char *path, swd_err *err)
{
    DIR *d = opendir(path);
    if (!d) return SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be listed: %s", path, strerror(errno));
    swd_status s = SWD_OK;
    for (struct dirent *e; s == SWD_OK && (e = readdir(d));) {
        char *file = NULL;
        if (e->d_name[0] == '.' || e->d_type == DT_LNK) continue;
        s = path_join(&file, path, e->d_name, err);
        if (s == SWD_OK) s = path_is_dir(file) ? sync_folder(file, err) : durable_sync(file, err);
        free(file);
    }
    closedir(d);
    return s == SWD_OK ? durable_sync(path, err) : s;
}

static swd_status write_part(const char *part, const checkpoint_args *a,
                             const checkpoint_state *state, swd_err *err)
{
    char *tensors = NULL;
    SWD_TRY(durable_remove(part, err), err);
    if (mkdir(a->dir, 0777) != 0 && errno != EEXIST)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be made: %s", a->dir, strerror(errno));
    if (mkdir(part, 0777) != 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be made: %s", part, strerror(errno));
    SWD_TRY(path_join(&tensors, part, TENSORS, err), err);
    swd_status s = write_tensors(tensors, a, err);
    if (s == SWD_OK) s = write_state(part, tensors, state, err);
    free(tensors);
    if (s == SWD_OK && a->extra) s = a->extra(a->user, part, err);
    return s == SWD_OK ? sync_folder(part, err) : s;
}

/* What saves that were killed have left. */
static swd_status remove_parts(const char *dir, swd_err *err)
{
    DIR *d = opendir(dir);
    if (!d) return SWD_FAIL(err, SWD_ERR_FILE, "%s cannot be listed: %s", dir, strerror(errno));
    swd_status s = SWD_OK;
    for (struct dirent *e; s == SWD_OK && (e = readdir(d));) {
        char *path = NULL;
        if (!str_starts(e->d_name, "step-") || !str_ends(e->d_name, ".part")) continue;
        s = path_join(&path, dir, e->d_name, err);
        if (s == SWD_OK) s = durable_remove(path, err);
        free(path);
    }
    closedir(d);
    return s;
}

/* Of those up to step `saved`, the newest stay. Later ones were passed over as damaged, or a run would have gone on from them: they
 * do not count, and are replaced when it comes to their step. */
static swd_status remove_old(const checkpoint_args *a, int64_t saved, swd_err *err)
{
    SWD_TRY(remove_parts(a->dir, err), err);
    int64_t *steps;
    size_t n, first = 0;
    swd_status s = list_steps(&steps, &n, a->dir, err);
    while (first < n && steps[first] > saved) first++;
    for (size_t i = first + (size_t)a->keep; i < n && s == SWD_OK; i++) {
        char *path = NULL;
        s = step_path(&path, a->dir, steps[i], "", err);
        if (s == SWD_OK) s = durable_remove(path, err);
        free(path);
    }
    free(steps);
    return s;
}

swd_status checkpoint_save(char **path, const checkpoint_args *a, const checkpoint_state *state,
                           swd_err *err)
{
    char *part = NULL, *whole = NULL;
    if (path) *path = NULL;
    swd_status s = step_path(&part, a->dir, state->step, ".part", err);
    if (s == SWD_OK) s = step_path(&whole, a->dir, state->step, "", err);
    if (s == SWD_OK && check_sum(whole, NULL) != SWD_OK) { /* not there, or damaged */
        s = write_part(part, a, state, err);
        if (s == SWD_OK) s = durable_remove(whole, err);
        if (s == SWD_OK) s = durable_rename(part, whole, err);
        if (s == SWD_OK) s = remove_old(a, state->step, err);
    }
    if (s == SWD_OK && path) {
        *path = whole;
        whole = NULL;
    }
    free(part);
    free(whole);
    return s;
}

/* ---- loading ---- */

static swd_status check_tensors(const safetensors *file, const char *path, const checkpoint_args *a,
                                swd_err *err)
{
    if (safetensors_count(file) != a->n_tensors)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s has %d tensors; this run has %d", path,
                        safetensors_count(file), a->n_tensors);
    for (int i = 0; i < a->n_tensors; i++) {
        const checkpoint_tensor *want = &a->tensors[i];
        const st_tensor *t = safetensors_find(file, want->name);
        char have[96], need[96];
        if (!t) return SWD_FAIL(err, SWD_ERR_FILE, "%s has no tensor %s", path, want->name);
        bool fits = t->dtype == want->t.dtype && t->ndim == want->t.ndim;
        for (int k = 0; fits && k < t->ndim; k++) fits = t->shape[k] == want->t.shape[k];
        if (!fits)
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: %s is %s%s; this run has %s", path, want->name,
                            t->dtype_text, st_describe_shape(t->shape, t->ndim, have, sizeof have),
                            tensor_describe(want->t, need, sizeof need));
    }
    return SWD_OK;
}

swd_status checkpoint_load(const char *path, const checkpoint_args *a, swd_err *err)
{
    safetensors *file = NULL;
    char *name = NULL;
    SWD_TRY(check_sum(path, err), err);
    SWD_TRY(path_join(&name, path, TENSORS, err), err);
    swd_status s = safetensors_open(&file, name, "state", err);
    if (s == SWD_OK) s = check_tensors(file, name, a, err);
    for (int i = 0; i < a->n_tensors && s == SWD_OK; i++) {
        swd_tensor t = a->tensors[i].t;
        const st_tensor *from = safetensors_find(file, a->tensors[i].name);
        if (!a->be)
            memcpy(t.data, from->data, from->bytes);
        else
            s = a->be->upload(a->be, t, from->data, NULL, err);
    }
    if (s == SWD_OK && a->be) s = a->be->synchronize(a->be, NULL, err);
    safetensors_close(&file);
    free(name);
    return s;
}
