/* SPDX-License-Identifier: MIT */
/* PNG in memory, through libspng. See image.h for what is accepted. */
#ifndef SWD_IMAGE_PNG_H
#define SWD_IMAGE_PNG_H
#include "image/image.h"

swd_status png_decode(image_rgb8 *out, const uint8_t *data, size_t n, const char *name,
                      swd_err *err);
/* *out is to be freed with free() on success, NULL otherwise. The size was checked. */
swd_status png_encode(uint8_t **out, size_t *n, const uint8_t *rgb, int width, int height,
                      const char *comment, swd_err *err);
#endif
