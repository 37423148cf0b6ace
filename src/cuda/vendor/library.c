// SPDX-License-Identifier: MIT
#include "vendor/library.h"
#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *open_in(char *path, size_t path_bytes, const char *const *names, const char *folder,
                     size_t folder_length)
{
    for (; *names; names++) {
        snprintf(path, path_bytes, "%.*s%s%s", (int)folder_length, folder, folder_length ? "/" : "",
                 *names);
        void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
        if (library) return library;
    }
    return NULL;
}

// Folders separated by colons.
static void *open_in_any(char *path, size_t path_bytes, const char *const *names,
                         const char *folders)
{
    while (*folders) {
        size_t n = strcspn(folders, ":");
        void *library = n ? open_in(path, path_bytes, names, folders, n) : NULL;
        if (library) return library;
        folders += n + (folders[n] == ':');
    }
    return NULL;
}

// Where pip and conda put NVIDIA's packages, PyTorch's among them; the newest Python last in the list, tried first.
static void *open_in_packages(char *path, size_t path_bytes, const char *const *names,
                              const char *prefix, const char *below)
{
    char pattern[1024];
    glob_t found;
    void *library = NULL;
    if (!prefix || !*prefix) return NULL;
    snprintf(pattern, sizeof pattern, "%s%s/nvidia/*/lib", prefix, below);
    if (glob(pattern, 0, NULL, &found) != 0) return NULL;
    for (size_t i = found.gl_pathc; i > 0 && !library; i--)
        library =
            open_in(path, path_bytes, names, found.gl_pathv[i - 1], strlen(found.gl_pathv[i - 1]));
    globfree(&found);
    return library;
}

static void *open_in_python(char *path, size_t path_bytes, const char *const *names)
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
        library = open_in_packages(path, path_bytes, names, places[i].prefix, places[i].below);
    return library;
}

void *library_open(char *path, size_t path_bytes, const char *const *names, const char *where)
{
    const char *named = getenv("SWD_VENDOR_LIBS");
    if (where) return open_in_any(path, path_bytes, names, where);
    void *library = named ? open_in_any(path, path_bytes, names, named) : NULL;
    if (!library) library = open_in(path, path_bytes, names, "", 0);
    if (!library) library = open_in_any(path, path_bytes, names, "/usr/local/cuda/lib64");
    return library ? library : open_in_python(path, path_bytes, names);
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
