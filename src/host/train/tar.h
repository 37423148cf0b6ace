/* SPDX-License-Identifier: MIT */
/* tar in memory: ustar, the path and size records of pax, the long names of GNU. Blocks of 512 bytes:
 *     header (name 100, mode.. 24, size 12 at 124, checksum 8 at 148, type at 156, magic 6 at 257, prefix 155 at 345), data, padding */
#ifndef SWD_TRAIN_TAR_H
#define SWD_TRAIN_TAR_H
#include "text/vocab.h"

enum { TAR_NAME_BYTES_MAX = 4096 };

typedef struct tar_reader {
    const char *path;          /* for messages; borrowed */
    const unsigned char *data; /* borrowed */
    size_t n, at;
    text_buf name, long_name; /* long_name: for the next header */
    int64_t pax_size;         /* for the next header; -1: it has its own */
} tar_reader;

typedef struct tar_entry {
    const char *name;    /* valid until the next call */
    size_t offset, size; /* of the data in the file */
} tar_entry;

tar_reader tar_begin(const char *path, const void *data, size_t n);
/* The next regular file; folders, links and devices are passed over. *more is false at the end: a block of zeros, or where the file
 * ends between two members. A header with a wrong checksum, one that reaches beyond the file, a sparse file: SWD_ERR_FILE with the byte. */
swd_status tar_next(tar_entry *entry, bool *more, tar_reader *r, swd_err *err);
void tar_end(tar_reader *r);
#endif
