// SPDX-License-Identifier: MIT
// Any bytes as a safetensors file: refused with a message, or every tensor can be read to its last byte.
#include "base/memory.h"
#include "io/safetensors.h"
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swd_err err = {0};
    safetensors *s;
    if (safetensors_parse(&s, "fuzz", data, size, &err) != SWD_OK) {
        if (err.message[0] == 0 || s) abort();
        return 0;
    }
    unsigned sum = 0;
    for (int i = 0; i < safetensors_count(s); i++) {
        const st_tensor *t = safetensors_at(s, i);
        if (t->offset > size || t->bytes > size - t->offset || safetensors_find(s, t->name) != t)
            abort();
        for (size_t k = 0; k < t->bytes; k++) sum += t->data[k];
    }
    safetensors_metadata(s, "format");
    safetensors_close(&s);
    return sum == 0xffffffff; // never, but the reads cannot be optimised away
}
