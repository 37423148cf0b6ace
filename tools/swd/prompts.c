// SPDX-License-Identifier: MIT
#include "commands.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES_MAX = 1 << 30 };

bool read_all(char **text, size_t *n, FILE *f)
{
    size_t capacity = 0;
    for (;;) {
        if (capacity - *n < 2) {
            capacity = capacity ? capacity * 2 : 65536;
            char *grown = capacity <= TEXT_BYTES_MAX ? realloc(*text, capacity) : NULL;
            if (!grown) return errno = ENOMEM, false;
            *text = grown;
        }
        size_t got = fread(*text + *n, 1, capacity - *n - 1, f);
        *n += got;
        if (!got) break;
    }
    (*text)[*n] = '\0';
    return !ferror(f);
}

bool prompts_read(prompt_list *out, const char *path)
{
    *out = (prompt_list){0};
    bool standard = strcmp(path, "-") == 0;
    FILE *f = standard ? stdin : fopen(path, "rb");
    size_t n = 0;
    bool ok = f && read_all(&out->text, &n, f);
    if (!ok) print_error("prompts %s: %s", path, strerror(errno));
    if (f && !standard) fclose(f);
    if (!ok) return false;
    if (strlen(out->text) != n) {
        print_error("prompts %s: a zero byte in line text; give plain UTF-8", path);
        return false;
    }
    size_t lines = 1;
    for (size_t i = 0; i < n; i++) lines += out->text[i] == '\n';
    out->items = calloc(lines, sizeof(*out->items));
    if (!out->items) {
        print_error("prompts %s: out of memory", path);
        return false;
    }
    for (char *p = out->text, *end = p + n; p < end;) {
        char *newline = memchr(p, '\n', (size_t)(end - p));
        char *stop = newline ? newline : end;
        if (stop > p && stop[-1] == '\r') stop[-1] = '\0';
        *stop = '\0';
        out->items[out->n++] = p;
        p = stop + 1;
    }
    if (out->n == 0) print_error("prompts %s: no line in it", path);
    return out->n > 0;
}

void prompts_free(prompt_list *p)
{
    free(p->items);
    free(p->text);
    *p = (prompt_list){0};
}
