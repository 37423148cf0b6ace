/* SPDX-License-Identifier: MIT */
/* Files that a call names, one by one or by their folder. */
#ifndef TOOLS_SWD_FILES_H
#define TOOLS_SWD_FILES_H
#include <jansson.h>
#include <stdbool.h>

typedef struct file_list {
    char **items; /* paths */
    int n, capacity;
} file_list;

typedef bool (*file_filter)(const char *name);
bool is_picture(const char *name);       /* .jpg, .jpeg, .png in any case */
bool is_latents(const char *name);       /* .safetensors */
const char *file_name(const char *path); /* after the last slash */

/* Adds path itself, or if it is a folder those of its files that the filter takes, sorted by name in byte order (hidden ones left out).
 * A file that the filter does not take is left to the next filter; a folder may add nothing. Prints an error on failure. */
bool files_add(file_list *out, const char *path, file_filter filter);
void files_free(file_list *f);

/* Writes it under a temporary name, then renames; releases j. Prints an error on failure. */
bool json_write(const char *path, json_t *j);
#endif
