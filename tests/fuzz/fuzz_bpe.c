// SPDX-License-Identifier: MIT
// Two lengths of two bytes each, that many bytes of vocab.json and of merges.txt, the rest is a prompt. Where the first
// byte of the prompt is '{', the prompt is tokenizer_config.json as well.
#include "text/clip_bpe.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swd_err err = {0};
    clip_bpe *t;
    if (size < 4) return 0;
    size_t n_vocab = (size_t)data[0] | (size_t)data[1] << 8,
           n_merges = (size_t)data[2] | (size_t)data[3] << 8;
    if (n_vocab + n_merges > size - 4) return 0;
    const uint8_t *vocab = data + 4, *merges = vocab + n_vocab, *prompt = merges + n_merges;
    size_t n = (size_t)(data + size - prompt);
    const uint8_t *config = n && prompt[0] == '{' ? prompt : NULL;
    if (clip_bpe_open_memory(&t, vocab, n_vocab, merges, n_merges, config, config ? n : 0, &err) !=
        SWD_OK) {
        if (err.message[0] == 0 || t) abort();
        return 0;
    }
    int32_t ids[77];
    int used = 0;
    for (int length = 2; length <= 77; length += 75) {
        err = (swd_err){0};
        if (clip_bpe_encode(t, ids, length, &used, (const char *)prompt, n, &err) != SWD_OK) {
            if (err.message[0] == 0) abort();
        } else if (used < 2 || used > length) {
            abort();
        }
    }
    clip_bpe_close(&t);
    return 0;
}
