/* SPDX-License-Identifier: MIT */
/* Finding shared libraries on a machine that may have them anywhere. */
#ifndef SWD_TOOLS_GPU_CHECK_LIBRARIES_H
#define SWD_TOOLS_GPU_CHECK_LIBRARIES_H
#include "report.h"
#include <stddef.h>

/* dlopen of the first of names (ends with NULL) that is there: in folder `where` if it is given, else in the folders of
 * SWD_VENDOR_LIBS, as the system finds it, in /usr/local/cuda/lib64, in site-packages/nvidia/<any>/lib of the python3 in PATH. Its symbols are global:
 * libraries find each other. NULL: not found. path: of the file, or the name that the system knew it by. */
void *library_open(char *path, size_t path_bytes, const char *const *names, const char *where);
/* Function `name` of a library into *function_pointer; false, and NULL, where it has none. */
bool library_take(void *function_pointer, void *library, const char *name);
#endif
