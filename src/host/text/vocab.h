// SPDX-License-Identifier: MIT
/* What both tokenizers share: a map from byte strings to ids, growing buffers, characters. */
#ifndef SWD_TEXT_VOCAB_H
#define SWD_TEXT_VOCAB_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

enum { TEXT_TOKENS_MAX = 1 << 22 };

/* Owned copies of the keys; find returns -1 where there is none. A second put of one key replaces the id. */
typedef struct str_map {
    struct str_map_slot {
        uint32_t offset, length;
        int32_t id;
    } * slot; /* offset is 1-based, 0 = empty */
    size_t capacity, count;
    char *bytes;
    size_t n_bytes, bytes_capacity;
} str_map;
swd_status str_map_put(str_map *m, const char *key, size_t n, int32_t id, swd_err *err);
int32_t str_map_find(const str_map *m, const char *key, size_t n);
void str_map_free(str_map *m);

/* A growing byte string; a zeroed one is empty. */
typedef struct text_buf {
    char *data;
    size_t n, capacity;
} text_buf;
swd_status text_buf_add(text_buf *b, const void *data, size_t n, swd_err *err);
swd_status text_buf_add_char(text_buf *b, int32_t code_point, swd_err *err);

/* Ids with a limit: what is put beyond max is dropped (truncation). */
typedef struct text_ids {
    int32_t *id;
    int n, max;
} text_ids;
void text_ids_put(text_ids *ids, int32_t id);

/* The prompt must be valid UTF-8 (no surrogates, nothing over U+10FFFF); the message has the byte's position. */
swd_status text_check_utf8(const char *s, size_t n, swd_err *err);
/* Decodes one character of valid UTF-8. */
int32_t text_decode(const char *s, size_t n, size_t *length);
bool text_is_space(int32_t c); /* White_Space */
#endif
