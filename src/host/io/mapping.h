/* SPDX-License-Identifier: MIT */
/* A whole file, read-only in memory. */
#ifndef SWD_IO_MAPPING_H
#define SWD_IO_MAPPING_H
#include "base/status.h"
#include <stdint.h>

typedef struct swd_mapping {
    const unsigned char *data; /* NULL if the file is empty */
    size_t size;
    char *path; /* for messages */
} swd_mapping;

/* Maps a regular file (a directory, a FIFO or a file over max_bytes is an error; 0 = no limit). On failure *out is zeroed. */
swd_status mapping_open(swd_mapping *out, const char *path, size_t max_bytes, swd_err *err);
/* Tells the kernel that [offset, offset + length) will not be read again soon (whole pages inside the range). */
void mapping_release(const swd_mapping *m, size_t offset, size_t length);
/* Tells the kernel that [offset, offset + length) will be read soon; what lies beyond the end is left out. */
void mapping_prefetch(const swd_mapping *m, size_t offset, size_t length);
void mapping_close(swd_mapping *m); /* accepts a zeroed one */
#endif
