/* SPDX-License-Identifier: MIT */
/* Finding shared libraries at run time, on a machine that may have them anywhere: nothing of them is needed to build or to start. */
#ifndef SWD_CUDA_VENDOR_LIBRARY_H
#define SWD_CUDA_VENDOR_LIBRARY_H
#include <stdbool.h>
#include <stddef.h>

/* dlopen of the first of names (ends with NULL) that is there: in folder `where` if it is given, else in the folders of
 * SWD_VENDOR_LIBS (separated by colons), as the system finds it, in /usr/local/cuda/lib64, and where Python packages keep it
 * (site-packages/nvidia/<any>/lib below VIRTUAL_ENV, CONDA_PREFIX, ~/.local, /usr/local, /usr). Its symbols are global: libraries find
 * each other. path: of the file, or the name that the system knew it by. NULL: not found; path: "", or why one that is there does not
 * load. */
void *library_open(char *path, size_t path_bytes, const char *const *names, const char *where);
void library_close(void **library); /* writes NULL; accepts it */
/* Function `name` of a library into *function_pointer; false, and NULL, where it has none. */
bool library_take(void *function_pointer, void *library, const char *name);

typedef struct library_outcome {
    const void *library;
    const char *path, *missing; /* of library_open(); a function that it lacks, or NULL */
    int status;                 /* of making a handle, 0: there is one */
    size_t version;
} library_outcome;
/* In words, for people. */
void library_tell(char *found, size_t found_bytes, const library_outcome *o);
#endif
