// SPDX-License-Identifier: MIT
#include "io/json.h"
#include "base/memory.h"
#include "io/mapping.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// jansson recurses; the depth is counted before it sees the text. Returns the byte where it is exceeded, or n.
static size_t too_deep_at(const unsigned char *s, size_t n)
{
    int depth = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '"') {
            for (i++; i < n && s[i] != '"'; i++)
                if (s[i] == '\\') i++;
        } else if (s[i] == '{' || s[i] == '[') {
            if (++depth > SWD_JSON_DEPTH_MAX) return i;
        } else if (s[i] == '}' || s[i] == ']') {
            depth--;
        }
    }
    return n;
}

swd_status json_parse(swd_json *out, const char *path, const void *text, size_t n, swd_err *err)
{
    *out = (swd_json){0};
    if (n == 0) return SWD_FAIL(err, SWD_ERR_FILE, "%s: empty; a JSON object is needed", path);
    if (n > SWD_JSON_BYTES_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: %zu bytes of JSON, more than %d", path, n,
                        SWD_JSON_BYTES_MAX);
    size_t deep = too_deep_at(text, n);
    if (deep < n)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: JSON nested deeper than %d at byte %zu", path,
                        SWD_JSON_DEPTH_MAX, deep);
    json_error_t e;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    if (!root) {
        if (json_error_code(&e) == json_error_out_of_memory)
            return SWD_FAIL(err, SWD_ERR_MEMORY, "%s: out of memory for its JSON", path);
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: malformed JSON at byte %d, line %d: %s", path,
                        e.position, e.line, e.text);
    }
    if (!json_is_object(root)) {
        json_decref(root);
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: the JSON is not an object", path);
    }
    char *copy;
    swd_status s = swd_strdup(&copy, path, err);
    if (s != SWD_OK) {
        json_decref(root);
        return s;
    }
    out->root = root;
    out->path = copy;
    return SWD_OK;
}

swd_status json_open(swd_json *out, const char *path, swd_err *err)
{
    *out = (swd_json){0};
    swd_mapping m;
    SWD_TRY(mapping_open(&m, path, SWD_JSON_BYTES_MAX, err), err);
    swd_status s = json_parse(out, path, m.data, m.size, err);
    mapping_close(&m);
    return s;
}

void json_close(swd_json *j)
{
    json_decref(j->root);
    free((char *)j->path);
    *j = (swd_json){0};
}

swd_status json_read(void *out, size_t size, const char *path, json_reader *read, swd_err *err)
{
    swd_json j;
    memset(out, 0, size);
    SWD_TRY(json_open(&j, path, err), err);
    swd_status s = read(out, &j, err);
    json_close(&j);
    if (s != SWD_OK) memset(out, 0, size);
    return s;
}

static const char *type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "something else";
}

// NULL if absent or null.
static json_t *value_of(const swd_json *j, const char *field)
{
    json_t *v = json_object_get(j->root, field);
    return v && !json_is_null(v) ? v : NULL;
}

// index < 0: not an element of a list.
static swd_status check_int(int64_t *out, const json_t *v, const swd_json *j, const char *field,
                            int index, int64_t lo, int64_t hi, swd_err *err)
{
    char at[16] = "";
    if (index >= 0) snprintf(at, sizeof at, "[%d]", index);
    if (!json_is_integer(v))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\"%s is %s, an integer is needed",
                        j->path, field, at, type_name(v));
    int64_t x = json_integer_value(v);
    if (x < lo || x > hi)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\"%s is %lld, outside %lld .. %lld",
                        j->path, field, at, (long long)x, (long long)lo, (long long)hi);
    *out = x;
    return SWD_OK;
}

static swd_status check_float(double *out, const json_t *v, const swd_json *j, const char *field,
                              int index, double lo, double hi, swd_err *err)
{
    char at[16] = "";
    if (index >= 0) snprintf(at, sizeof at, "[%d]", index);
    if (!json_is_number(v))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\"%s is %s, a number is needed", j->path,
                        field, at, type_name(v));
    double x = json_number_value(v);
    if (!(x >= lo && x <= hi))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\"%s is %g, outside %g .. %g", j->path,
                        field, at, x, lo, hi);
    *out = x;
    return SWD_OK;
}

swd_status json_int(int64_t *out, const swd_json *j, const char *field, int64_t dflt, int64_t lo,
                    int64_t hi, swd_err *err)
{
    json_t *v = value_of(j, field);
    *out = dflt;
    return v ? check_int(out, v, j, field, -1, lo, hi, err) : SWD_OK;
}

swd_status json_int32(int *out, const swd_json *j, const char *field, int dflt, int lo, int hi,
                      swd_err *err)
{
    int64_t x;
    SWD_TRY(json_int(&x, j, field, dflt, lo, hi, err), err);
    *out = (int)x;
    return SWD_OK;
}

swd_status json_float(double *out, const swd_json *j, const char *field, double dflt, double lo,
                      double hi, swd_err *err)
{
    json_t *v = value_of(j, field);
    *out = dflt;
    return v ? check_float(out, v, j, field, -1, lo, hi, err) : SWD_OK;
}

swd_status json_bool(bool *out, const swd_json *j, const char *field, bool dflt, swd_err *err)
{
    json_t *v = value_of(j, field);
    *out = dflt;
    if (!v) return SWD_OK;
    if (!json_is_boolean(v))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\" is %s, true or false is needed",
                        j->path, field, type_name(v));
    *out = json_is_true(v);
    return SWD_OK;
}

swd_status json_str(const char **out, const swd_json *j, const char *field, const char *dflt,
                    swd_err *err)
{
    json_t *v = value_of(j, field);
    *out = dflt;
    if (!v) return SWD_OK;
    if (!json_is_string(v))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\" is %s, a string is needed", j->path,
                        field, type_name(v));
    *out = json_string_value(v);
    return SWD_OK;
}

// *list = NULL if absent.
static swd_status check_list(json_t **list, int *n, int max, const swd_json *j, const char *field,
                             swd_err *err)
{
    *list = value_of(j, field);
    *n = -1;
    if (!*list) return SWD_OK;
    if (!json_is_array(*list))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\" is %s, a list is needed", j->path,
                        field, type_name(*list));
    size_t size = json_array_size(*list);
    if (size > (size_t)max)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\" has %zu entries, more than %d",
                        j->path, field, size, max);
    *n = (int)size;
    return SWD_OK;
}

swd_status json_ints(int64_t *out, int *n, int max, const swd_json *j, const char *field,
                     int64_t lo, int64_t hi, swd_err *err)
{
    json_t *list;
    SWD_TRY(check_list(&list, n, max, j, field, err), err);
    for (int i = 0; i < *n; i++)
        SWD_TRY(check_int(&out[i], json_array_get(list, (size_t)i), j, field, i, lo, hi, err), err);
    return SWD_OK;
}

swd_status json_floats(double *out, int *n, int max, const swd_json *j, const char *field,
                       double lo, double hi, swd_err *err)
{
    json_t *list;
    SWD_TRY(check_list(&list, n, max, j, field, err), err);
    for (int i = 0; i < *n; i++)
        SWD_TRY(check_float(&out[i], json_array_get(list, (size_t)i), j, field, i, lo, hi, err),
                err);
    return SWD_OK;
}

swd_status json_sub(swd_json *out, const swd_json *j, const char *field, swd_err *err)
{
    *out = (swd_json){0};
    json_t *v = value_of(j, field);
    if (!v) return SWD_OK;
    if (!json_is_object(v))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\" is %s, an object is needed", j->path,
                        field, type_name(v));
    char *path;
    SWD_TRY(swd_asprintf(&path, err, "%s: %s", j->path, field), err);
    out->root = json_incref(v);
    out->path = path;
    return SWD_OK;
}
