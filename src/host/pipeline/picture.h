/* SPDX-License-Identifier: MIT */
/* A picture at another size, as the autoencoder takes it. Along an axis that shrinks, output o is the mean of the inputs
 * [floor(o r), ceil((o + 1) r)), r = in / out: torch's "area", which made what the students were trained on; along one that grows,
 * linear between pixel centres. */
#ifndef SWD_PIPELINE_PICTURE_H
#define SWD_PIPELINE_PICTURE_H
#include "base/status.h"
#include <stdint.h>

/* rgb [in_height, in_width, 3] -> *out [height, width, 3] in [-1, 1], freed by the caller. */
swd_status picture_resize(float **out, int width, int height, const uint8_t *rgb, int in_width,
                          int in_height, swd_err *err);
#endif
