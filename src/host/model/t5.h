/* SPDX-License-Identifier: MIT */
/* T5EncoderModel of transformers. */
#ifndef SWD_MODEL_T5_H
#define SWD_MODEL_T5_H
#include "backend/ops.h"
#include "io/config.h"
#include "weights/weights.h"

typedef struct t5 t5;

/* Reads and packs every weight (w can be closed afterwards). compute: of the products, SWD_F32 or SWD_BF16. */
swd_status t5_create(t5 **out, const config_t5 *cfg, weights *w, swd_backend *be, swd_dtype compute,
                     swd_err *err);
/* ids I32 [B, N] -> hidden [B, N, d_model], after the final norm. No attention mask: the padding is seen, as SwD's students need it. */
swd_status t5_forward(swd_tensor hidden, swd_tensor ids, const t5 *m, swd_exec *ex);
void t5_destroy(t5 **m);
#endif
