/* SPDX-License-Identifier: MIT */
/* Checked memory and strings. Everything here is freed with free(). */
#ifndef SWD_BASE_MEMORY_H
#define SWD_BASE_MEMORY_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/* n * size bytes, zeroed (never NULL on success, not even for 0); what: for the message. */
swd_status swd_calloc(void *out_pointer, size_t n, size_t size, const char *what, swd_err *err);
/* As above, uninitialised and 64-byte aligned. */
swd_status swd_malloc(void *out_pointer, size_t n, size_t size, const char *what, swd_err *err);
/* *array (of *capacity elements of size bytes) gets room for at least n elements: a growing array. Both change only on success. */
swd_status swd_grow(void *array_pointer, size_t *capacity, size_t n, size_t size, const char *what,
                    swd_err *err);

swd_status swd_strdup(char **out, const char *s, swd_err *err);
swd_status swd_asprintf(char **out, swd_err *err, const char *fmt, ...) SWD_PRINTF(3, 4);
/* "a/b"; one slash between, a may be "" (gives b); an absolute b is not special. */
swd_status path_join(char **out, const char *a, const char *b, swd_err *err);
bool path_is_dir(const char *path);
bool path_exists(const char *path);
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);

/* false on overflow (or a negative operand of the int64 forms); *out is then unspecified. */
static inline bool size_mul(size_t *out, size_t a, size_t b)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool size_add(size_t *out, size_t a, size_t b)
{
    return !__builtin_add_overflow(a, b, out);
}
static inline bool i64_mul(int64_t *out, int64_t a, int64_t b)
{
    return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, out);
}
static inline bool i64_add(int64_t *out, int64_t a, int64_t b)
{
    return a >= 0 && b >= 0 && !__builtin_add_overflow(a, b, out);
}
#endif
