/* SPDX-License-Identifier: MIT */
/* CLIPTextModelWithProjection (and CLIPTextModel) of transformers. */
#ifndef SWD_MODEL_CLIP_TEXT_H
#define SWD_MODEL_CLIP_TEXT_H
#include "backend/ops.h"
#include "io/config.h"
#include "weights/weights.h"

typedef struct clip_text clip_text;

/* Reads and packs every weight (w can be closed afterwards). compute: of the products, SWD_F32 or SWD_BF16. */
swd_status clip_text_create(clip_text **out, const config_clip_text *cfg, weights *w,
                            swd_backend *be, swd_dtype compute, swd_err *err);
/* ids I32 [B, N], N up to max_position_embeddings -> hidden [B, N, D] = hidden_states[-2], without the final norm;
 * pooled F32 [B, P]: the final norm's row at the end of text, projected where the model projects and cfg does not say unprojected. host_ids: the same ids on the host
 * (NULL while a plan is measured). */
swd_status clip_text_forward(swd_tensor hidden, swd_tensor pooled, swd_tensor ids,
                             const int32_t *host_ids, const clip_text *m, swd_exec *ex);
void clip_text_destroy(clip_text **m);
#endif
