/* SPDX-License-Identifier: MIT */
/* Attention: cuDNN's (9.13.1 or newer) or our kernels. With cuDNN: one stream of bf16 or fp16 with results of that type or float32, no mask
 * and no bias, at least 16 queries and keys, heads of up to 512 in multiples of 8, everything aligned to 16 bytes. Two joint streams lie in two tensors, which
 * cuDNN cannot read as one: they are ours. */
#ifndef SWD_CUDA_VENDOR_ATTENTION_H
#define SWD_CUDA_VENDOR_ATTENTION_H
#include "vendor/graph_choice.h"

/* NULL: our kernel. */
const graph_choice *vendor_attention_choice(const k_attention_args *a, swd_backend *b);
/* While memory is planned for weights that have no numbers nothing is chosen: as much workspace as a choice may need. */
size_t vendor_attention_planned(const k_attention_args *a, swd_backend *b);
/* false: these pointers are not aligned as the choice needs them. */
bool vendor_attention_takes(const k_attention_args *a);
swd_status vendor_attention_run(const graph_choice *o, const k_attention_args *a, void *workspace,
                                cudaStream_t stream, swd_err *err);
#endif
