/* SPDX-License-Identifier: MIT */
/* Files that tests read, in the source tree, and write, in a folder of their own. What goes wrong ends the program. */
#ifndef SWD_TESTS_FILES_H
#define SWD_TESTS_FILES_H
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILES_PATH_MAX = 1024 };

static inline void files_need(int good, const char *path)
{
    if (good) return;
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    abort();
}

/* folder/name, valid until the 32nd call after this one. */
static inline char *path_in(const char *folder, const char *name)
{
    static char text[32][FILES_PATH_MAX];
    static int at;
    char *out = text[at++ % 32];
    size_t n = strlen(folder), m = strlen(name);
    files_need(n + m + 2 <= FILES_PATH_MAX, folder);
    memcpy(out, folder, n);
    out[n] = '/';
    memcpy(out + n + 1, name, m + 1);
    return out;
}

/* The same below the source tree. */
static inline char *in_source(const char *name)
{
    const char *root = getenv("SWD_SOURCE_DIR");
    return path_in(root ? root : ".", name);
}

static inline void make_temporary(char folder[64])
{
    strcpy(folder, "/tmp/swd-test-XXXXXX");
    files_need(mkdtemp(folder) != NULL, folder);
}

/* With all that is in it; links are not followed. */
static inline void remove_temporary(const char *folder)
{
    char command[FILES_PATH_MAX];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    files_need(system(command) == 0, folder);
}

static inline void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    files_need(f && fputs(text, f) >= 0, path);
    files_need(fclose(f) == 0, path);
}
#endif
