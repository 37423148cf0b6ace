// SPDX-License-Identifier: MIT
/* T5's SentencePiece unigram model, as transformers' T5TokenizerFast: the file's character map on graphemes, blanks to
 * U+2581, then the segmentation of each word with the highest sum of scores (Viterbi). */
#ifndef SWD_TEXT_T5_UNIGRAM_H
#define SWD_TEXT_T5_UNIGRAM_H
#include "base/status.h"
#include <stdint.h>

typedef struct t5_unigram t5_unigram;

/* Reads spiece.model and (if there) tokenizer_config.json of dir. On failure *out is NULL. */
swd_status t5_unigram_open(t5_unigram **out, const char *dir, swd_err *err);
/* The same from memory; config may be NULL. */
swd_status t5_unigram_open_memory(t5_unigram **out, const void *model, size_t n_model,
                                  const void *config, size_t n_config, swd_err *err);
void t5_unigram_close(t5_unigram **t); /* accepts NULL and a NULL in it */
/* model_max_length; 512 where it is absent or huge. */
int t5_unigram_max_length(const t5_unigram *t);
/* ids[max_length] = the first max_length - 1 tokens, eos, pad...; *n_used (may be NULL) counts all but the padding.
 * Any bytes of valid UTF-8, NUL included; else SWD_ERR_ARGUMENT. max_length >= 1. Thread-safe. */
swd_status t5_unigram_encode(const t5_unigram *t, int32_t *ids, int max_length, int *n_used,
                             const char *utf8, size_t n, swd_err *err);
#endif
