/* SPDX-License-Identifier: MIT */
/* Linear layers by cuBLASLt. */
#ifndef SWD_TOOLS_GPU_CHECK_CUBLASLT_H
#define SWD_TOOLS_GPU_CHECK_CUBLASLT_H
#include "peers.h"

typedef struct cublaslt cublaslt;

/* *out NULL where the library, one of its functions or its handle is not to be had; a fact of the machine says so. */
swd_status cublaslt_open(cublaslt **out, report *r, const char *where, cudaStream_t stream,
                         swd_err *err);
void cublaslt_close(cublaslt **lt);
/* y = act(x w^T + bias) of a linear job, without gate and residual: the fastest of the algorithms that it proposes. *out NULL:
 * it proposes none. */
swd_status cublaslt_make(peer **out, const cublaslt *lt, const job *j, timer *t, swd_err *err);
#endif
