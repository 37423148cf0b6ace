/* SPDX-License-Identifier: MIT */
/* The vision tower of CLIPModel and CLIPVisionModelWithProjection of transformers. */
#ifndef SWD_MODEL_CLIP_VISION_H
#define SWD_MODEL_CLIP_VISION_H
#include "backend/ops.h"
#include "io/config_vision.h"
#include "weights/weights.h"

typedef struct clip_vision clip_vision;

/* Reads and packs its weights; those of a text tower in the same files stay. compute: of the products, SWD_F32 or SWD_BF16. */
swd_status clip_vision_create(clip_vision **out, const config_clip_vision *cfg, weights *w,
                              swd_backend *be, swd_dtype compute, swd_err *err);
/* pixels F32 [B, 3, side, side], as the processor leaves them -> embeds F32 [B, projection_dim] = image_embeds, not normalized. */
swd_status clip_vision_forward(swd_tensor embeds, swd_tensor pixels, const clip_vision *m,
                               swd_exec *ex);
void clip_vision_destroy(clip_vision **m);
#endif
