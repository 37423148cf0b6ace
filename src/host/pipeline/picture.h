/* SPDX-License-Identifier: MIT */
/* A picture at another size: each output pixel is the area mean of what it covers when shrinking, linear between pixels when growing. */
#ifndef SWD_PIPELINE_PICTURE_H
#define SWD_PIPELINE_PICTURE_H
#include "base/status.h"
#include <stdint.h>

/* rgb [in_height, in_width, 3] -> *out [height, width, 3], freed by the caller. */
swd_status picture_resize(uint8_t **out, int width, int height, const uint8_t *rgb, int in_width,
                          int in_height, swd_err *err);
#endif
