/* SPDX-License-Identifier: MIT */
/* Convolutions: cuDNN's or our kernels. With cuDNN: bf16 or fp16 throughout, channels in multiples of 8, no activation or ReLU, no
 * upsampling in front and no RGB8 behind (there cuDNN would need a map in memory that ours don't). */
#ifndef SWD_CUDA_VENDOR_CONV_H
#define SWD_CUDA_VENDOR_CONV_H
#include "vendor/graph_choice.h"

typedef struct vendor_conv {
    k_conv_args args; /* maps without place while sizes are added up */
    const void *
        filter; /* the weight as [out, kh, kw, in] in the type of the arithmetic; NULL: none was made */
    bool residual;
} vendor_conv;

/* Whether a weight of this shape may ever be cuDNN's: then it wants the filter, a second copy. What is fused cuDNN compiles: without
 * vendor_compiles() none is. */
bool vendor_conv_wants(const k_conv_shape *s, swd_backend *b);
/* NULL: our kernel. */
const graph_choice *vendor_conv_choice(const vendor_conv *c, swd_backend *b);
/* While memory is planned for weights that have no numbers nothing is chosen: as much workspace as a choice may need. */
size_t vendor_conv_planned(const vendor_conv *c, swd_backend *b);
/* false: these pointers are not aligned as the choice needs them. */
bool vendor_conv_takes(const vendor_conv *c);
swd_status vendor_conv_run(const graph_choice *o, const vendor_conv *c, void *workspace,
                           cudaStream_t stream, swd_err *err);
#endif
