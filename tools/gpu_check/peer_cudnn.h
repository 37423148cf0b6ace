/* SPDX-License-Identifier: MIT */
/* Convolutions and attention by cuDNN. */
#ifndef SWD_TOOLS_GPU_CHECK_PEER_CUDNN_H
#define SWD_TOOLS_GPU_CHECK_PEER_CUDNN_H
#include "peers.h"
#include "vendor/cudnn.h"

/* The fastest of the ways that it proposes; *out NULL: it has none. A convolution with bias and residual; where the job upsamples, of a map
 * that exists in memory. Attention over one packed tensor: where the job has two streams, of both, one after the other. */
swd_status peer_cudnn_conv(peer **out, const cudnn *dnn, const job *j, timer *t, swd_err *err);
swd_status peer_cudnn_attention(peer **out, const cudnn *dnn, const job *j, timer *t, swd_err *err);
#endif
