// SPDX-License-Identifier: MIT
/* What both tokenizers share: a map from byte strings to ids, growing buffers, and special ("added") tokens, which are
 * cut out of a prompt before (normalized = false) or after (normalized = true) it is normalised. */
#ifndef SWD_TEXT_VOCAB_H
#define SWD_TEXT_VOCAB_H
#include "base/status.h"
#include "io/json.h"
#include <stdbool.h>
#include <stdint.h>

enum { TEXT_TOKENS_MAX = 1 << 22, TEXT_ADDED_MAX = 4096, TEXT_ADDED_BYTES_MAX = 1024 };

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

typedef struct added_token {
    char *text; /* owned */
    size_t n;
    int32_t id;
    bool normalized, lstrip, rstrip, single_word;
} added_token;
typedef struct added_tokens {
    added_token *token;
    int n, capacity;
} added_tokens;

/* Adds a copy, unless the text is empty or there already. */
swd_status added_tokens_put(added_tokens *a, const added_token *t, swd_err *err);
const added_token *added_tokens_by_text(const added_tokens *a, const char *text);
/* Reads added_tokens_decoder; ids of the vocabulary win over the written ones. Absent: nothing is added. */
swd_status added_tokens_read(added_tokens *a, const swd_json *config, const str_map *vocab,
                             swd_err *err);
void added_tokens_free(added_tokens *a);
/* The special token under a key of tokenizer_config.json: a string or an object with "content"; else dflt. *text points into config. */
swd_status special_token_read(const char **text, const swd_json *config, const char *field,
                              const char *dflt, swd_err *err);
/* model_max_length: absent or more than limit -> limit. */
swd_status max_length_read(int *out, const swd_json *config, int dflt, int limit, swd_err *err);

/* The next token of the wanted kind at or after *at: leftmost, then longest. False: none, the rest is plain text.
 * [*start, *stop) is the token with the blanks that it swallows. */
bool added_tokens_next(const added_tokens *a, bool normalized, const char *s, size_t n, size_t at,
                       size_t *start, size_t *stop, int32_t *id);

/* The prompt must be valid UTF-8 (no surrogates, nothing over U+10FFFF); the message has the byte's position. */
swd_status text_check_utf8(const char *s, size_t n, swd_err *err);
/* Decodes one character of valid UTF-8. */
int32_t text_decode(const char *s, size_t n, size_t *length);
bool text_is_space(int32_t c); /* White_Space */
#endif
