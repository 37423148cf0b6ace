/* SPDX-License-Identifier: MIT */
/* A 64-bit sum over bytes, to notice that a file has changed or was damaged (no defence against somebody who wants it unnoticed):
 *     h = rotate(h ^ w * M1, 31) * M2 + M3 for each little-endian word w, the last one filled with zeros, then the length, then a finish */
#ifndef SWD_TRAIN_DIGEST_H
#define SWD_TRAIN_DIGEST_H
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
#endif
