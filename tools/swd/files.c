// SPDX-License-Identifier: MIT
#include "files.h"
#include "options.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

static bool ends(const char *name, const char *suffix)
{
    size_t n = strlen(name), k = strlen(suffix);
    return n > k && strcasecmp(name + n - k, suffix) == 0;
}

bool is_picture(const char *name)
{
    return ends(name, ".jpg") || ends(name, ".jpeg") || ends(name, ".png");
}

bool is_latents(const char *name)
{
    return ends(name, ".safetensors");
}

const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* folder may be NULL. */
static bool add(file_list *out, const char *folder, const char *name)
{
    if (out->n == out->capacity) {
        int more = out->capacity ? 2 * out->capacity : 64;
        char **grown = realloc(out->items, (size_t)more * sizeof(*grown));
        if (!grown) return false;
        out->items = grown;
        out->capacity = more;
    }
    size_t n = strlen(name) + (folder ? strlen(folder) : 0) + 2;
    char *path = malloc(n);
    if (!path) return false;
    snprintf(path, n, "%s%s%s", folder ? folder : "", folder ? "/" : "", name);
    out->items[out->n++] = path;
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool files_add(file_list *out, const char *path, file_filter filter)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        print_error("%s: %s", path, strerror(errno));
        return false;
    }
    if (!S_ISDIR(st.st_mode)) {
        if (!filter(file_name(path)) || add(out, NULL, path)) return true;
        print_error("out of memory");
        return false;
    }
    DIR *d = opendir(path);
    if (!d) {
        print_error("%s: %s", path, strerror(errno));
        return false;
    }
    int first = out->n;
    bool ok = true;
    for (struct dirent *e; ok && (e = readdir(d));)
        if (e->d_name[0] != '.' && filter(e->d_name)) ok = add(out, path, e->d_name);
    closedir(d);
    if (!ok) print_error("out of memory");
    if (out->n > first)
        qsort(out->items + first, (size_t)(out->n - first), sizeof(*out->items), by_name);
    return ok;
}

void files_free(file_list *f)
{
    for (int i = 0; i < f->n; i++) free(f->items[i]);
    free(f->items);
    *f = (file_list){0};
}

bool json_write(const char *path, json_t *j)
{
    size_t n = strlen(path) + 32;
    char *temporary = malloc(n);
    if (!j || !temporary) {
        print_error("%s: out of memory", path);
        json_decref(j);
        free(temporary);
        return false;
    }
    snprintf(temporary, n, "%s.%ld.tmp", path, (long)getpid());
    bool ok = json_dump_file(j, temporary, JSON_INDENT(2)) == 0 && rename(temporary, path) == 0;
    if (!ok) {
        print_error("%s: cannot be written: %s", path, strerror(errno));
        unlink(temporary);
    }
    json_decref(j);
    free(temporary);
    return ok;
}
