// SPDX-License-Identifier: MIT
// Any bytes as a tar with a data set: refused with a message, or every picture is decoded or refused, every caption is text.
#include "train/dataset.h"
#include "text/vocab.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swd_err err = {0};
    dataset *d;
    if (dataset_open_tar(&d, "fuzz", data, size, &err) != SWD_OK) {
        if (err.message[0] == 0 || d) abort();
        return 0;
    }
    dataset_digest(d);
    for (int64_t i = 0; i < dataset_count(d); i++) {
        image_rgb8 image;
        const char *caption = dataset_caption(d, i);
        if (text_check_utf8(caption, strlen(caption), NULL) != SWD_OK) abort();
        if (dataset_read(&image, d, i, &err) == SWD_OK) image_free(&image);
    }
    dataset_close(&d);
    return 0;
}
