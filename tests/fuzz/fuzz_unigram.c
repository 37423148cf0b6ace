// SPDX-License-Identifier: MIT
// Two bytes of length, that many of spiece.model, the rest is a prompt. Where its first byte is '{', the prompt is
// tokenizer_config.json as well.
#include "text/t5_unigram.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swd_err err = {0};
    t5_unigram *t;
    if (size < 2) return 0;
    size_t n_model = (size_t)data[0] | (size_t)data[1] << 8;
    if (n_model > size - 2) return 0;
    const uint8_t *model = data + 2, *prompt = model + n_model;
    size_t n = (size_t)(data + size - prompt);
    const uint8_t *config = n && prompt[0] == '{' ? prompt : NULL;
    if (t5_unigram_open_memory(&t, model, n_model, config, config ? n : 0, &err) != SWD_OK) {
        if (err.message[0] == 0 || t) abort();
        return 0;
    }
    int32_t ids[77];
    int used = 0;
    for (int length = 1; length <= 77; length += 76) {
        err = (swd_err){0};
        if (t5_unigram_encode(t, ids, length, &used, (const char *)prompt, n, &err) != SWD_OK) {
            if (err.message[0] == 0) abort();
        } else if (used < 1 || used > length) {
            abort();
        }
    }
    t5_unigram_close(&t);
    return 0;
}
