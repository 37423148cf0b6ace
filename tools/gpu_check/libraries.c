// SPDX-License-Identifier: MIT
#include "libraries.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FOLDERS_BYTES = 8192 };

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

// Where pip puts NVIDIA's libraries, PyTorch's among them.
static void ask_python(char *folders, size_t bytes)
{
    static const char command[] =
        "python3 -c 'import glob, sys; print(\":\".join(f for p in sys.path if p "
        "for f in sorted(glob.glob(p + \"/nvidia/*/lib\"))))' 2>/dev/null";
    FILE *f = popen(command, "r");
    folders[0] = '\0';
    if (!f) return;
    if (!fgets(folders, (int)bytes, f)) folders[0] = '\0';
    (void)pclose(f);
    folders[strcspn(folders, "\n")] = '\0';
}

void *library_open(char *path, size_t path_bytes, const char *const *names, const char *where)
{
    static char python_folders[FOLDERS_BYTES];
    static bool asked;
    const char *named = getenv("SWD_VENDOR_LIBS");
    if (where) return open_in_any(path, path_bytes, names, where);
    void *library = named ? open_in_any(path, path_bytes, names, named) : NULL;
    if (!library) library = open_in(path, path_bytes, names, "", 0);
    if (!library) library = open_in_any(path, path_bytes, names, "/usr/local/cuda/lib64");
    if (library) return library;
    if (!asked) ask_python(python_folders, sizeof python_folders);
    asked = true;
    return open_in_any(path, path_bytes, names, python_folders);
}

bool library_take(void *function_pointer, void *library, const char *name)
{
    void *symbol = dlsym(library, name); // ISO C has no cast from void * to a function
    memcpy(function_pointer, &symbol, sizeof symbol);
    return symbol != NULL;
}
