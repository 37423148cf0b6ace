/* SPDX-License-Identifier: MIT */
/* A 64-bit sum over bytes, to notice that a file has changed or was damaged (no defence against somebody who wants it unnoticed):
 *     h = rotate(h ^ w * M1, 31) * M2 + M3 for each little-endian word w, the last one filled with zeros, then the length, then a finish
 * Each step is a bijection of h and of w: bytes that differ in one word differ in their sum. */
#ifndef SWD_IO_DIGEST_H
#define SWD_IO_DIGEST_H
#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

enum { DIGEST_SEED = 0x5d };

/* of n bytes, going on from h (DIGEST_SEED at first) */
uint64_t digest_bytes(uint64_t h, const void *data, size_t n);
uint64_t digest_string(uint64_t h, const char *s); /* with its end */
uint64_t digest_u64(uint64_t h, uint64_t v);
/* of a file: its size and up to `blocks` pieces of 4 KB spread over it, the first and the last among them. A file that cannot be
 * read counts as empty. */
uint64_t digest_file(uint64_t h, const char *path, int blocks);
uint64_t digest_sample(uint64_t h, const void *data, size_t n, int blocks);
/* Goes on from *h with a folder's regular files, those with a dot in front left out: names, sizes and contents, above 4 MB in samples (a
 * network that was fine-tuned differs everywhere). A folder that is not there counts, too; a file that cannot be read fails. */
swd_status digest_folder(uint64_t *h, const char *path, swd_err *err);
#endif
