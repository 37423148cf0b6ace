/* SPDX-License-Identifier: MIT */
/* FluxTransformer2DModel of diffusers: FLUX.1. */
#ifndef SWD_MODEL_FLUX_H
#define SWD_MODEL_FLUX_H
#include "model/denoiser_class.h"

extern const denoiser_class flux_class;
#endif
