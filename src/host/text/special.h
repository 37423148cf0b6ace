// SPDX-License-Identifier: MIT
/* Special ("added") tokens: cut out of a prompt before (normalized = false) or after (normalized = true) it is normalised; and what else
 * tokenizer_config.json says. */
#ifndef SWD_TEXT_SPECIAL_H
#define SWD_TEXT_SPECIAL_H
#include "io/json.h"
#include "text/vocab.h"

enum { TEXT_ADDED_MAX = 4096, TEXT_ADDED_BYTES_MAX = 1024 };

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
void added_tokens_free(added_tokens *a);
/* The next token of the wanted kind at or after *at: leftmost, then longest. False: none, the rest is plain text.
 * [*start, *stop) is the token with the blanks that it swallows. */
bool added_tokens_next(const added_tokens *a, bool normalized, const char *s, size_t n, size_t at,
                       size_t *start, size_t *stop, int32_t *id);

/* What is not as these tokenizers do it is SWD_ERR_UNSUPPORTED: sides other than the right, specials that are split. Without a file
 * (root NULL) everything below takes its default. */
swd_status tokenizer_config_check(const swd_json *config, swd_err *err);
/* model_max_length: absent or more than limit -> dflt. */
swd_status max_length_read(int *out, const swd_json *config, int dflt, int limit, swd_err *err);

typedef struct special_source {
    added_tokens *added;    /* filled */
    const swd_json *config; /* tokenizer_config.json */
    const str_map *vocab;
    const char *vocab_path; /* for messages */
    int32_t next_id;        /* for a token that the vocabulary lacks */
} special_source;

/* added_tokens_decoder. Ids of the vocabulary win; written ones count for their order alone. */
swd_status special_tokens_read_decoder(special_source *s, swd_err *err);
/* The token under a key, a string or an AddedToken; absent: dflt. One that neither s->added nor the vocabulary has, and null, are
 * SWD_ERR_FILE. normalized: for one that does not say. id may be NULL. */
swd_status special_token_id(int32_t *id, special_source *s, const char *field, const char *dflt,
                            bool normalized, swd_err *err);
swd_status special_tokens_read_additional(special_source *s, swd_err *err);
#endif
