// SPDX-License-Identifier: MIT
#include "vendor/library.h"
#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct search {
    const char *const *names;
    char *path;
    size_t path_bytes;
    char why[512]; // the first that is there does not load; "": none is
} search;

static void *open_in(search *s, const char *folder, size_t folder_length)
{
    for (const char *const *name = s->names; *name; name++) {
        int n = snprintf(s->path, s->path_bytes, "%.*s%s%s", (int)folder_length, folder,
                         folder_length ? "/" : "", *name);
        if (n >= (int)s->path_bytes) continue;
        void *library = dlopen(s->path, RTLD_NOW | RTLD_GLOBAL);
        if (library) return library;
        const char *why = dlerror();
        // Of a file that is not there it names what was asked for; of one that is: its path, or what that needs.
        bool absent = !why || (strncmp(why, s->path, (size_t)n) == 0 && access(s->path, F_OK) != 0);
        if (!absent && !s->why[0]) snprintf(s->why, sizeof s->why, "%s", why);
    }
    return NULL;
}

// Folders separated by colons.
static void *open_in_any(search *s, const char *folders)
{
    while (*folders) {
        size_t n = strcspn(folders, ":");
        void *library = n ? open_in(s, folders, n) : NULL;
        if (library) return library;
        folders += n + (folders[n] == ':');
    }
    return NULL;
}

// Where pip and conda put NVIDIA's packages, PyTorch's among them; the newest Python last in the list, tried first.
static void *open_in_packages(search *s, const char *prefix, const char *below)
{
    char pattern[1024];
    glob_t found;
    void *library = NULL;
    if (!prefix || !*prefix) return NULL;
    snprintf(pattern, sizeof pattern, "%s%s/nvidia/*/lib", prefix, below);
    if (glob(pattern, 0, NULL, &found) != 0) return NULL;
    for (size_t i = found.gl_pathc; i > 0 && !library; i--)
        library = open_in(s, found.gl_pathv[i - 1], strlen(found.gl_pathv[i - 1]));
    globfree(&found);
    return library;
}

static void *open_in_python(search *s)
{
    const struct {
        const char *prefix, *below;
    } places[] = {{getenv("VIRTUAL_ENV"), "/lib/python3*/site-packages"},
                  {getenv("CONDA_PREFIX"), "/lib/python3*/site-packages"},
                  {getenv("HOME"), "/.local/lib/python3*/site-packages"},
                  {"/usr/local", "/lib/python3*/dist-packages"},
                  {"/usr/local", "/lib/python3*/site-packages"},
                  {"/usr", "/lib/python3/dist-packages"},
                  {"/opt/conda", "/lib/python3*/site-packages"}};
    void *library = NULL;
    for (size_t i = 0; i < sizeof places / sizeof *places && !library; i++)
        library = open_in_packages(s, places[i].prefix, places[i].below);
    return library;
}

static void *open_anywhere(search *s)
{
    const char *named = getenv("SWD_VENDOR_LIBS");
    void *library = named ? open_in_any(s, named) : NULL;
    if (!library) library = open_in(s, "", 0);
    if (!library) library = open_in_any(s, "/usr/local/cuda/lib64");
    return library ? library : open_in_python(s);
}

void *library_open(char *path, size_t path_bytes, const char *const *names, const char *where)
{
    search s = {.names = names, .path = path, .path_bytes = path_bytes};
    void *library = where ? open_in_any(&s, where) : open_anywhere(&s);
    if (!library) snprintf(path, path_bytes, "%s", s.why);
    return library;
}

void library_tell(char *found, size_t found_bytes, const library_outcome *o)
{
    if (!o->library)
        snprintf(found, found_bytes, "%s%s", o->path[0] ? "does not load: " : "not found", o->path);
    else if (o->missing)
        snprintf(found, found_bytes, "%s has no %s", o->path, o->missing);
    else if (o->status)
        snprintf(found, found_bytes, "%s gives no handle (status %d)", o->path, o->status);
    else
        snprintf(found, found_bytes, "%s, version %zu", o->path, o->version);
}

void library_close(void **library)
{
    if (*library) (void)dlclose(*library);
    *library = NULL;
}

bool library_take(void *function_pointer, void *library, const char *name)
{
    void *symbol = dlsym(library, name); // ISO C has no cast from void * to a function
    memcpy(function_pointer, &symbol, sizeof symbol);
    return symbol != NULL;
}
