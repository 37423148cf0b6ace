/* SPDX-License-Identifier: MIT */
/* What was found to be fastest, kept on disk: one text file for each device, driver, runtime and version of the libraries.
 *
 *   swd choices 1
 *   NVIDIA H100 80GB HBM3, sm_90, ...          (the identity; a file of another one is not read)
 *   <key> TAB <choice>                          a line each
 *   end <lines> <checksum>
 */
#ifndef SWD_CUDA_VENDOR_TUNE_H
#define SWD_CUDA_VENDOR_TUNE_H
#include "base/status.h"
#include <stdint.h>

enum { TUNE_TEXT_MAX = 224, TUNE_LINES_MAX = 65536 };

typedef struct tune_line {
    char key[TUNE_TEXT_MAX], choice[TUNE_TEXT_MAX];
} tune_line;

typedef struct tune_table {
    char *path; /* NULL: nothing is kept on disk */
    char identity[384];
    tune_line *lines;
    size_t n, capacity;
} tune_table;

/* Reads what is kept for this identity below $XDG_CACHE_HOME/swd, or ~/.cache/swd. note: "" or why a file that is there was not used. */
swd_status tune_open(tune_table *t, const char *identity, char *note, size_t note_bytes,
                     swd_err *err);
void tune_close(tune_table *t);                              /* accepts a zeroed one */
const char *tune_find(const tune_table *t, const char *key); /* NULL: not known */
/* Another line; the file is written anew and takes the old one's place whole. That a disk refuses is no failure: note says so. */
swd_status tune_add(tune_table *t, const char *key, const char *choice, char *note,
                    size_t note_bytes, swd_err *err);
#endif
