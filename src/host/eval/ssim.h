/* SPDX-License-Identifier: MIT */
/* Two pictures of one size compared; rgb [height, width, 3]. PSNR in dB over all values, 100 where the pictures are equal; SSIM of Wang et
 * al. 2004 with a Gaussian window (deviation 1.5, 11 x 11), the mean over the places where the window fits and over channels. */
#ifndef SWD_EVAL_SSIM_H
#define SWD_EVAL_SSIM_H
#include "base/status.h"
#include <stdint.h>

enum { SSIM_SIDE_MIN = 11 };

double metric_psnr(const uint8_t *a, const uint8_t *b, int width, int height);
/* Sides of at least SSIM_SIDE_MIN, else SWD_ERR_ARGUMENT. */
swd_status metric_ssim(double *out, const uint8_t *a, const uint8_t *b, int width, int height,
                       swd_err *err);
#endif
