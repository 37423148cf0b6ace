/* SPDX-License-Identifier: MIT */
/* JPEG in memory, through libjpeg-turbo. See image.h for what is accepted. */
#ifndef SWD_IMAGE_JPEG_H
#define SWD_IMAGE_JPEG_H
#include "image/image.h"

enum { JPEG_QUALITY = 95, JPEG_COMMENT_BYTES_MAX = 65533 };

swd_status jpeg_decode(image_rgb8 *out, const uint8_t *data, size_t n, const char *name,
                       swd_err *err);
/* *out is to be freed with free() on success, NULL otherwise. The size was checked. */
swd_status jpeg_encode(uint8_t **out, size_t *n, const uint8_t *rgb, int width, int height,
                       const char *comment, swd_err *err);
#endif
