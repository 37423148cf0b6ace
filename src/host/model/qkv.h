/* SPDX-License-Identifier: MIT */
/* q, k and v out of one product. */
#ifndef SWD_MODEL_QKV_H
#define SWD_MODEL_QKV_H
#include "backend/ops.h"

/* packed [B, N, 3 D] = q, k, v after each other -> three views [B, N, D / head_dim, head_dim] */
void qkv_split(swd_tensor part[3], swd_tensor packed, int64_t head_dim);
/* o [B, N, D] = attention among the N tokens of packed; args brings scale, causal, bias and nothing else. */
swd_status qkv_attention(swd_tensor o, swd_tensor packed, int64_t head_dim, attention_args args,
                         swd_exec *ex);
#endif
