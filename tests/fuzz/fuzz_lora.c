// SPDX-License-Identifier: MIT
// Two bytes of length, that many of adapter_config.json (none: diffusers' layout), then the safetensors file.
#include "base/memory.h"
#include "weights/lora.h"
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swd_err err = {0};
    lora *l;
    if (size < 2) return 0;
    size_t n = (size_t)data[0] | (size_t)data[1] << 8;
    if (n > size - 2) return 0;
    const uint8_t *file = data + 2 + n;
    if (lora_parse(&l, "fuzz", n ? data + 2 : NULL, n, file, size - 2 - n, &err) != SWD_OK) {
        if (err.message[0] == 0 || l) abort();
        return 0;
    }
    for (int i = 0; i < lora_count(l); i++) {
        const lora_module *m = lora_at(l, i);
        float *a = malloc((size_t)m->a->numel * sizeof *a),
              *b = malloc((size_t)m->b->numel * sizeof *b);
        if (!a || !b || lora_find(l, m->name) != m) abort();
        if (lora_read_a(a, l, m, &err) == SWD_OK) lora_read_b(b, l, m, &err);
        free(a);
        free(b);
    }
    lora_close(&l);
    return 0;
}
