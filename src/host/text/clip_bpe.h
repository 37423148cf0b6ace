// SPDX-License-Identifier: MIT
/* CLIP's byte-level BPE, as transformers' CLIPTokenizerFast: NFC, blanks folded, lower case; words, digits and runs of
 * other characters apart; bytes of a word merged by rank, its last one marked "</w>". */
#ifndef SWD_TEXT_CLIP_BPE_H
#define SWD_TEXT_CLIP_BPE_H
#include "base/status.h"
#include <stdint.h>

typedef struct clip_bpe clip_bpe;

/* Reads vocab.json, merges.txt and (if there) tokenizer_config.json of dir. On failure *out is NULL. */
swd_status clip_bpe_open(clip_bpe **out, const char *dir, swd_err *err);
/* The same from memory; config may be NULL. */
swd_status clip_bpe_open_memory(clip_bpe **out, const void *vocab, size_t n_vocab,
                                const void *merges, size_t n_merges, const void *config,
                                size_t n_config, swd_err *err);
void clip_bpe_close(clip_bpe **t); /* accepts NULL and a NULL in it */
/* model_max_length; 77 where it is absent or huge. */
int clip_bpe_max_length(const clip_bpe *t);
/* ids[max_length] = bos, the first max_length - 2 tokens, eos, pad...; *n_used (may be NULL) counts all but the padding.
 * Any bytes of valid UTF-8, NUL included; else SWD_ERR_ARGUMENT. max_length >= 2. Thread-safe. */
swd_status clip_bpe_encode(const clip_bpe *t, int32_t *ids, int max_length, int *n_used,
                           const char *utf8, size_t n, swd_err *err);
#endif
