/* SPDX-License-Identifier: MIT */
/* torch's F.interpolate(mode="area"), which is adaptive average pooling:
 *
 *     y[o] = mean of x[floor(o I / O) .. ceil((o + 1) I / O))       along each axis, I inputs to O outputs
 *
 * The windows of neighbours overlap where I is no multiple of O. Larger than the input, inputs repeat. */
#ifndef SWD_TRAIN_AREA_H
#define SWD_TRAIN_AREA_H
#include "base/status.h"
#include "image/image.h"

enum { AREA_CHANNELS = 3 };

/* dst [out_h, out_w, 3] from src [in_h, in_w, 3]; sums in double. SWD_ERR_MEMORY. */
swd_status area_resize(float *dst, int out_h, int out_w, const float *src, int in_h, int in_w,
                       swd_err *err);
/* The square in the middle of a picture as dst [side, side, 3], byte b as 2 b / 255 - 1; side is the shorter one of the picture's. */
void area_square(float *dst, const image_rgb8 *image);
#endif
