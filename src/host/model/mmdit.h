/* SPDX-License-Identifier: MIT */
/* SD3Transformer2DModel of diffusers: SD3, SD3.5-M, SD3.5-L. */
#ifndef SWD_MODEL_MMDIT_H
#define SWD_MODEL_MMDIT_H
#include "model/denoiser_class.h"

extern const denoiser_class mmdit_class;
#endif
