// SPDX-License-Identifier: MIT
// Any bytes as a PNG: refused with a message, or a picture whose every byte is set.
#include "image/png.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    swd_err err = {0};
    image_rgb8 image;
    if (png_decode(&image, data, size, "fuzz", &err) != SWD_OK) {
        if (err.message[0] == 0 || image.rgb || image.comment) abort();
        return 0;
    }
    unsigned sum = image.comment ? (unsigned)strlen(image.comment) : 0;
    for (size_t i = 0; i < (size_t)image.width * (size_t)image.height * 3; i++) sum += image.rgb[i];
    image_free(&image);
    return sum == 0xffffffff; // never, but the reads cannot be optimised away
}
