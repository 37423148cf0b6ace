// SPDX-License-Identifier: MIT
#include "base/memory.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { ALIGNMENT = 64 };

static swd_status out_of_memory(size_t n, size_t size, const char *what, swd_err *err)
{
    return SWD_FAIL(err, SWD_ERR_MEMORY, "out of memory: %zu x %zu bytes for %s", n, size, what);
}

static void store(void *out_pointer, void *p)
{
    memcpy(out_pointer, &p, sizeof p);
}

swd_status swd_calloc(void *out_pointer, size_t n, size_t size, const char *what, swd_err *err)
{
    void *p = calloc(n ? n : 1, size ? size : 1);
    store(out_pointer, p);
    return p ? SWD_OK : out_of_memory(n, size, what, err);
}

swd_status swd_malloc(void *out_pointer, size_t n, size_t size, const char *what, swd_err *err)
{
    size_t bytes, padded;
    void *p = NULL;
    if (size_mul(&bytes, n, size) && size_add(&padded, bytes, ALIGNMENT))
        p = aligned_alloc(ALIGNMENT, padded / ALIGNMENT * ALIGNMENT);
    store(out_pointer, p);
    return p ? SWD_OK : out_of_memory(n, size, what, err);
}

swd_status swd_grow(void *array_pointer, size_t *capacity, size_t n, size_t size, const char *what,
                    swd_err *err)
{
    if (n <= *capacity) return SWD_OK;
    size_t grown = *capacity < 8 ? 8 : *capacity, bytes;
    while (grown < n) {
        if (!size_mul(&grown, grown, 2)) return out_of_memory(n, size, what, err);
    }
    if (!size_mul(&bytes, grown, size)) return out_of_memory(n, size, what, err);
    void *p;
    memcpy(&p, array_pointer, sizeof p);
    p = realloc(p, bytes);
    if (!p) return out_of_memory(n, size, what, err);
    store(array_pointer, p);
    *capacity = grown;
    return SWD_OK;
}

swd_status swd_strdup(char **out, const char *s, swd_err *err)
{
    *out = strdup(s);
    return *out ? SWD_OK : out_of_memory(strlen(s) + 1, 1, "a string", err);
}

swd_status swd_asprintf(char **out, swd_err *err, const char *fmt, ...)
{
    va_list ap;
    *out = NULL;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a string could not be formatted");
    char *s = malloc((size_t)n + 1);
    if (!s) return out_of_memory((size_t)n + 1, 1, "a string", err);
    va_start(ap, fmt);
    vsnprintf(s, (size_t)n + 1, fmt, ap);
    va_end(ap);
    *out = s;
    return SWD_OK;
}

swd_status path_join(char **out, const char *a, const char *b, swd_err *err)
{
    size_t n = strlen(a);
    return swd_asprintf(out, err, "%s%s%s", a, n && a[n - 1] != '/' ? "/" : "", b);
}

bool path_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool path_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}
