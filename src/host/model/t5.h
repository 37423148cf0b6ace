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
/* Without the layers: these come one by one while it runs, two at a time in the backend's memory. w is borrowed until t5_destroy, their shapes
 * are checked now. t5_make_room() before it runs, also dry. */
swd_status t5_create_streamed(t5 **out, const config_t5 *cfg, weights *w, swd_backend *be,
                              swd_dtype compute, swd_err *err);
swd_status t5_make_room(t5 *m, swd_err *err);

/* ids I32 [B, N] -> hidden [B, N, d_model], after the final norm. No attention mask: the padding is seen, as SwD's students need it. */
swd_status t5_forward(swd_tensor hidden, swd_tensor ids, t5 *m, swd_exec *ex);
/* n of them, of one length, each as if it were alone: a layer that is streamed comes once for all. */
swd_status t5_forward_each(const swd_tensor *hidden, const swd_tensor *ids, int n, t5 *m,
                           swd_exec *ex);
enum { T5_EACH_MAX = 8 };
void t5_destroy(t5 **m); /* nothing of it is under way */
#endif
