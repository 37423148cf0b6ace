/* SPDX-License-Identifier: MIT */
/* JSON files through jansson, with getters whose errors name file and field. (json_str, not json_string: that is jansson's.) */
#ifndef SWD_IO_JSON_H
#define SWD_IO_JSON_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct swd_json {
    void *root;       /* json_t *, owned; an object */
    const char *path; /* for messages; owned */
} swd_json;

enum { SWD_JSON_BYTES_MAX = 256 << 20, SWD_JSON_DEPTH_MAX = 64 };

/* Duplicate keys, depth over SWD_JSON_DEPTH_MAX, trailing text and a root that is no object are errors. */
swd_status json_open(swd_json *out, const char *path, swd_err *err);
swd_status json_parse(swd_json *out, const char *path_for_messages, const void *text, size_t n,
                      swd_err *err);
void json_close(swd_json *j);

/* A file into a struct of size bytes by read(), which takes it zeroed; zero again after a failure. */
typedef swd_status json_reader(void *out, const swd_json *j, swd_err *err);
swd_status json_read(void *out, size_t size, const char *path, json_reader *read, swd_err *err);

/* field is a key of the root; absent or null -> the default; wrong type or out of [lo, hi] -> SWD_ERR_FILE naming file and field. */
swd_status json_int(int64_t *out, const swd_json *j, const char *field, int64_t dflt, int64_t lo,
                    int64_t hi, swd_err *err);
swd_status json_int32(int *out, const swd_json *j, const char *field, int dflt, int lo, int hi,
                      swd_err *err);
swd_status json_float(double *out, const swd_json *j, const char *field, double dflt, double lo,
                      double hi, swd_err *err);
swd_status json_bool(bool *out, const swd_json *j, const char *field, bool dflt, swd_err *err);
/* *out points into j (valid until json_close); dflt may be NULL. */
swd_status json_str(const char **out, const swd_json *j, const char *field, const char *dflt,
                    swd_err *err);
/* A list of up to max integers; absent or null -> *n = -1. */
swd_status json_ints(int64_t *out, int *n, int max, const swd_json *j, const char *field,
                     int64_t lo, int64_t hi, swd_err *err);
/* The same of numbers (an integer counts as one). */
swd_status json_floats(double *out, int *n, int max, const swd_json *j, const char *field,
                       double lo, double hi, swd_err *err);
/* The object under a key of the root, as a swd_json of its own (close it; it outlives j); its messages name path and field.
 * Absent or null -> out->root = NULL, which json_close accepts. */
swd_status json_sub(swd_json *out, const swd_json *j, const char *field, swd_err *err);
#endif
