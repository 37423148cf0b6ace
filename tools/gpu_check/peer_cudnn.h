/* SPDX-License-Identifier: MIT */
/* Convolutions by cuDNN. */
#ifndef SWD_TOOLS_GPU_CHECK_CUDNN_H
#define SWD_TOOLS_GPU_CHECK_CUDNN_H
#include "peers.h"

typedef struct cudnn cudnn;

/* *out NULL where the library, one of its functions or its handle is not to be had; a fact of the machine says so. */
swd_status cudnn_open(cudnn **out, report *r, const char *where, cudaStream_t stream, swd_err *err);
void cudnn_close(cudnn **dnn);
/* y = conv(x) of a convolution's job, without bias and residual; of an upsampled map, which exists in memory. The fastest of its
 * algorithms; *out NULL: it has none. */
swd_status cudnn_make(peer **out, const cudnn *dnn, const job *j, swd_err *err);
#endif
