/* SPDX-License-Identifier: MIT */
/* A picture at another size by the bicubic filter (a = -0.5) that widens with the reduction, the same bytes as Pillow's
 * Image.resize(size, BICUBIC): first along rows, then along columns, each rounded to bytes; weights are fixed-point numbers of 22 bits. */
#ifndef SWD_IMAGE_BICUBIC_H
#define SWD_IMAGE_BICUBIC_H
#include "base/status.h"
#include <stdint.h>

typedef struct bicubic_crop {
    int left, top, width, height;
} bicubic_crop;

/* rgb [in_height, in_width, 3] -> *out [height, width, 3], freed by the caller. All sides positive. */
swd_status bicubic_resize(uint8_t **out, int width, int height, const uint8_t *rgb, int in_width,
                          int in_height, swd_err *err);
/* The same, of which only a part inside width x height is computed: *out [part.height, part.width, 3]. */
swd_status bicubic_resize_crop(uint8_t **out, int width, int height, bicubic_crop part,
                               const uint8_t *rgb, int in_width, int in_height, swd_err *err);
#endif
