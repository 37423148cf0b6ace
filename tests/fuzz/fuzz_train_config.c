// SPDX-License-Identifier: MIT
// Any bytes as a training config: refused with a message and nothing changed, or written and read back it is the same.
#include "train/train_config.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static swd_train_params p, before, again;
    swd_err err = {0};
    train_config_default(&before);
    p = before;
    if (train_config_parse(&p, "fuzz", data, size, &err) != SWD_OK) {
        if (err.message[0] == 0 || memcmp(&p, &before, sizeof p) != 0) abort();
        return 0;
    }
    char *text;
    if (train_config_write(&text, &p, &err) != SWD_OK) abort();
    again = before;
    if (train_config_parse(&again, "fuzz", text, strlen(text), &err) != SWD_OK) abort();
    if (memcmp(&p, &again, sizeof p) != 0) abort();
    if (train_config_agrees(&p, "fuzz", text, &err) != SWD_OK) abort();
    free(text);
    train_config_check(&p, &err);
    return 0;
}
