// SPDX-License-Identifier: MIT
#include "train/train_config.h"
#include "base/memory.h"
#include "io/json.h"
#include "io/mapping.h"
#include "train/train_keys.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { CONFIG_BYTES_MAX = 1 << 20, VALUE_BYTES_MAX = 1 << 16 };

/* Where a message is about: "train.json: " or "". */
typedef struct place {
    const char *path;
    swd_status status;
    swd_err *err;
} place;

const swd_train_key *train_config_key(int i)
{
    return i >= 0 && i < train_n_keys ? &train_keys[i].pub : NULL;
}

/* ---- names ---- */

// How many letters must be put in, taken out or changed; at most 60 of each are looked at.
static int edit_distance(const char *a, const char *b)
{
    enum { MAX = 60 };
    int row[MAX + 1], n = (int)strnlen(a, MAX), m = (int)strnlen(b, MAX);
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int change = diagonal + (a[i - 1] != b[j - 1]);
            int shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = change < shorter ? change : shorter;
        }
    }
    return row[m];
}

static const train_key *find_key(const char *name)
{
    for (int i = 0; i < train_n_keys; i++)
        if (strcmp(train_keys[i].pub.name, name) == 0) return &train_keys[i];
    return NULL;
}

static swd_status unknown_key(const place *at, const char *name)
{
    const char *nearest = train_keys[0].pub.name;
    for (int i = 1; i < train_n_keys; i++)
        if (edit_distance(train_keys[i].pub.name, name) < edit_distance(nearest, name))
            nearest = train_keys[i].pub.name;
    return SWD_FAIL(at->err, at->status,
                    "%s%s\"%.60s\" is no key; the nearest is \"%s\" (swd train --help lists all)",
                    at->path, at->path[0] ? ": " : "", name, nearest);
}

/* ---- values ---- */

static swd_status wrong(const place *at, const train_key *k, const char *wanted)
{
    return SWD_FAIL(at->err, at->status, "%s%s%s: %s is needed", at->path, at->path[0] ? ": " : "",
                    k->pub.name, wanted);
}

static swd_status check_string(const json_t *v, size_t room, const train_key *k, const place *at)
{
    if (!json_is_string(v)) return wrong(at, k, "a text");
    if (json_string_length(v) >= room) return wrong(at, k, "a shorter text");
    return strlen(json_string_value(v)) == json_string_length(v)
               ? SWD_OK
               : wrong(at, k, "a text without zero bytes");
}

static swd_status check_number(const json_t *v, const train_key *k, const place *at)
{
    char wanted[128];
    bool whole = k->kind == KIND_INT || k->kind == KIND_LONG || k->kind == KIND_INTS;
    snprintf(wanted, sizeof wanted, "%s from %g to %g", whole ? "a whole number" : "a number",
             k->lo, k->hi);
    if (whole ? !json_is_integer(v) : !json_is_number(v)) return wrong(at, k, wanted);
    double x = json_number_value(v);
    return x >= k->lo && x <= k->hi ? SWD_OK : wrong(at, k, wanted);
}

static swd_status set_word(int *to, const json_t *v, const train_key *k, const place *at)
{
    for (int i = 0; json_is_string(v) && k->words[i]; i++)
        if (strcmp(k->words[i], json_string_value(v)) == 0) return *to = i, SWD_OK;
    return wrong(at, k, k->pub.type);
}

static swd_status set_list(swd_train_params *p, const json_t *v, const train_key *k,
                           const place *at)
{
    char *field = (char *)p + k->offset;
    bool strings = k->kind == KIND_STRINGS;
    size_t one = strings ? SWD_TRAIN_PATH_MAX : k->kind == KIND_INTS ? sizeof(int) : sizeof(double);
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    if (!json_is_array(v) && !strings) return wrong(at, k, "a list");
    if (n > k->size / one) return wrong(at, k, "a shorter list");
    memset(field, 0, k->size);
    for (size_t i = 0; i < n; i++) {
        const json_t *e = json_is_array(v) ? json_array_get(v, i) : v;
        char *to = field + i * one;
        SWD_TRY(strings ? check_string(e, one, k, at) : check_number(e, k, at), at->err);
        if (strings)
            strcpy(to, json_string_value(e));
        else if (k->kind == KIND_INTS)
            *(int *)(void *)to = (int)json_integer_value(e);
        else
            *(double *)(void *)to = json_number_value(e);
    }
    *(int *)(void *)((char *)p + k->count_offset) = (int)n;
    return SWD_OK;
}

static swd_status set_value(swd_train_params *p, const json_t *v, const train_key *k,
                            const place *at)
{
    void *field = (char *)p + k->offset;
    switch (k->kind) {
    case KIND_STRING:
        SWD_TRY(check_string(v, k->size, k, at), at->err);
        memset(field, 0, k->size);
        strcpy(field, json_string_value(v));
        return SWD_OK;
    case KIND_INT:
        SWD_TRY(check_number(v, k, at), at->err);
        *(int *)field = (int)json_integer_value(v);
        return SWD_OK;
    case KIND_LONG:
        SWD_TRY(check_number(v, k, at), at->err);
        *(int64_t *)field = json_integer_value(v);
        return SWD_OK;
    case KIND_NUMBER:
        SWD_TRY(check_number(v, k, at), at->err);
        *(double *)field = json_number_value(v);
        return SWD_OK;
    case KIND_SWITCH:
        if (!json_is_boolean(v)) return wrong(at, k, k->pub.type);
        *(int *)field = json_is_true(v);
        return SWD_OK;
    case KIND_WORD:
        return set_word(field, v, k, at);
    default:
        return set_list(p, v, k, at);
    }
}

/* ---- from text ---- */

// A number as JSON, NULL if it is none: whole ones stay whole.
static json_t *number_of(const char *s, bool whole)
{
    char *end;
    errno = 0;
    long long i = strtoll(s, &end, 10);
    if (*s && !*end && !errno) return json_integer(i);
    if (whole) return json_null(); // of the wrong type: told so
    double d = strtod(s, &end);
    return *s && !*end && d - d == 0 ? json_real(d) : json_null();
}

static json_t *scalar_of(const char *s, train_kind kind)
{
    switch (kind) {
    case KIND_INT:
    case KIND_LONG:
    case KIND_INTS:
        return number_of(s, true);
    case KIND_NUMBER:
    case KIND_NUMBERS:
        return number_of(s, false);
    case KIND_SWITCH:
        return strcmp(s, "true") == 0    ? json_true()
               : strcmp(s, "false") == 0 ? json_false()
                                         : json_null();
    default:
        return json_string(s);
    }
}

// NULL: out of memory, or no UTF-8.
static json_t *value_of_text(const char *text, train_kind kind)
{
    bool list = kind == KIND_INTS || kind == KIND_NUMBERS || kind == KIND_STRINGS;
    if (!list) return scalar_of(text, kind);
    json_t *array = json_array();
    char *copy = strdup(text), *rest = copy, *piece;
    bool ok = array && copy;
    while (ok && text[0] && (piece = strsep(&rest, ",")))
        ok = json_array_append_new(array, scalar_of(piece, kind)) == 0;
    free(copy);
    if (ok) return array;
    json_decref(array);
    return NULL;
}

static swd_status set_text(swd_train_params *p, const char *value, const train_key *k,
                           const place *at)
{
    if (strlen(value) > VALUE_BYTES_MAX) return wrong(at, k, "a shorter value");
    json_t *v = value_of_text(value, k->kind);
    swd_status s = v ? set_value(p, v, k, at) : wrong(at, k, "a text in UTF-8");
    json_decref(v);
    return s;
}

swd_status train_config_set(swd_train_params *p, const char *key, const char *value, swd_err *err)
{
    place at = {"", SWD_ERR_ARGUMENT, err};
    const train_key *k = find_key(key);
    if (!k) return unknown_key(&at, key);
    swd_train_params changed = *p;
    SWD_TRY(set_text(&changed, value, k, &at), err);
    *p = changed;
    return SWD_OK;
}

void train_config_default(swd_train_params *p)
{
    place at = {"", SWD_ERR_ARGUMENT, NULL};
    memset(p, 0, sizeof *p);
    p->size = sizeof *p;
    for (int i = 0; i < train_n_keys;
         i++) /* cannot fail but for memory; a test holds each to its table */
        (void)set_text(p, train_keys[i].pub.default_value, &train_keys[i], &at);
}

/* ---- from and to JSON ---- */

swd_status train_config_parse(swd_train_params *p, const char *path, const void *text, size_t n,
                              swd_err *err)
{
    place at = {path, SWD_ERR_FILE, err};
    swd_json j;
    if (n > CONFIG_BYTES_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: %zu bytes; a config has at most %d", path, n,
                        CONFIG_BYTES_MAX);
    SWD_TRY(json_parse(&j, path, text, n, err), err);
    swd_train_params changed = *p;
    swd_status s = SWD_OK;
    const char *name;
    json_t *v;
    json_object_foreach(j.root, name, v)
    {
        const train_key *k = find_key(name);
        s = k ? set_value(&changed, v, k, &at) : unknown_key(&at, name);
        if (s != SWD_OK) break;
    }
    json_close(&j);
    if (s == SWD_OK) *p = changed;
    return s;
}

swd_status train_config_read(swd_train_params *p, const char *path, swd_err *err)
{
    swd_mapping m;
    SWD_TRY(mapping_open(&m, path, CONFIG_BYTES_MAX, err), err);
    swd_status s = train_config_parse(p, path, m.data, m.size, err);
    mapping_close(&m);
    return s;
}

static json_t *list_json(const swd_train_params *p, const train_key *k)
{
    const char *field = (const char *)p + k->offset;
    int n = *(const int *)(const void *)((const char *)p + k->count_offset);
    json_t *a = json_array();
    for (int i = 0; i < n; i++) {
        json_t *v;
        if (k->kind == KIND_STRINGS)
            v = json_string(field + (size_t)i * SWD_TRAIN_PATH_MAX);
        else if (k->kind == KIND_INTS)
            v = json_integer(((const int *)(const void *)field)[i]);
        else
            v = json_real(((const double *)(const void *)field)[i]);
        json_array_append_new(a, v);
    }
    return a;
}

static json_t *key_json(const swd_train_params *p, const train_key *k)
{
    const void *field = (const char *)p + k->offset;
    switch (k->kind) {
    case KIND_STRING:
        return json_string(field);
    case KIND_INT:
        return json_integer(*(const int *)field);
    case KIND_LONG:
        return json_integer(*(const int64_t *)field);
    case KIND_NUMBER:
        return json_real(*(const double *)field);
    case KIND_SWITCH:
        return json_boolean(*(const int *)field);
    case KIND_WORD:
        return json_string(k->words[*(const int *)field]);
    default:
        return list_json(p, k);
    }
}

swd_status train_config_write(char **out, const swd_train_params *p, swd_err *err)
{
    json_t *o = json_object();
    bool ok = o != NULL;
    for (int i = 0; i < train_n_keys; i++)
        ok = json_object_set_new(o, train_keys[i].pub.name, key_json(p, &train_keys[i])) == 0 && ok;
    *out = ok ? json_dumps(o, JSON_INDENT(2)) : NULL;
    json_decref(o);
    return *out ? SWD_OK
                : SWD_FAIL(err, SWD_ERR_ARGUMENT,
                           "the config cannot be written as JSON: a path is not UTF-8, or memory "
                           "is out");
}

swd_status train_config_agrees(const swd_train_params *p, const char *path, const char *saved,
                               swd_err *err)
{
    swd_train_params then;
    train_config_default(&then);
    SWD_TRY(train_config_parse(&then, path, saved, strlen(saved), err), err);
    for (int i = 0; i < train_n_keys; i++) {
        const train_key *k = &train_keys[i];
        json_t *a = k->free ? NULL : key_json(&then, k), *b = k->free ? NULL : key_json(p, k);
        bool same = k->free || json_equal(a, b);
        char *was = same ? NULL : json_dumps(a, JSON_ENCODE_ANY | JSON_COMPACT),
             *is = same ? NULL : json_dumps(b, JSON_ENCODE_ANY | JSON_COMPACT);
        json_decref(a);
        json_decref(b);
        swd_status s = same
                           ? SWD_OK
                           : SWD_FAIL(err, SWD_ERR_ARGUMENT,
                                      "%s was trained with %s %.80s, now it is %.80s; set it back, "
                                      "or start in another output folder",
                                      path, k->pub.name, was ? was : "?", is ? is : "?");
        free(was);
        free(is);
        if (s != SWD_OK) return s;
    }
    return SWD_OK;
}

swd_status train_config_check(const swd_train_params *p, swd_err *err)
{
    if (p->n_data == 0)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "data is empty; name a folder or tar of pictures with captions");
    if (!p->output[0])
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "output is empty; name a folder for the results");
    if (p->preset[0] && (p->n_scales || p->n_sigmas))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "preset and scales are both given; one of them makes the schedule");
    bool student = p->mode != SWD_TRAIN_FLOW_MATCHING;
    if (student && (p->n_scales > 0) != (p->n_sigmas > 0))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "scales and sigmas make a schedule together; %s are missing",
                        p->n_scales ? "sigmas" : "scales");
    if (!student && (p->preset[0] || p->n_sigmas))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "flow-matching takes scales, and no %s: it learns all noise levels",
                        p->preset[0] ? "preset" : "sigmas");
    if (p->init_lora[0] && p->weights == SWD_TRAIN_WHOLE)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "init_lora is where an adapter starts from, but weights are whole");
    if (p->micro_batch && p->batch % p->micro_batch)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "micro_batch %d does not divide batch %d",
                        p->micro_batch, p->batch);
    return SWD_OK;
}
