// SPDX-License-Identifier: MIT
// Any bytes as a checkpoint's state.json: refused with a message, or every counter can be found again.
#include "train/checkpoint.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swd_err err = {0};
    checkpoint_state s;
    uint64_t sum;
    if (checkpoint_parse_state(&s, &sum, "fuzz", data, size, &err) != SWD_OK) {
        if (err.message[0] == 0 || s.config) abort();
        return 0;
    }
    if (s.step < 0 || !s.config) abort();
    for (int i = 0; i < s.n_counters; i++) {
        int64_t v;
        if (!checkpoint_get(&v, &s, s.counter[i].name) || v != s.counter[i].value) abort();
    }
    checkpoint_state_free(&s);
    return 0;
}
