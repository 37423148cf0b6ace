/* SPDX-License-Identifier: MIT */
/* Linear layers by cuBLASLt. */
#ifndef SWD_TOOLS_GPU_CHECK_PEER_CUBLASLT_H
#define SWD_TOOLS_GPU_CHECK_PEER_CUBLASLT_H
#include "peers.h"
#include "vendor/cublaslt.h"

/* y = act(x w^T + bias) of a linear job, without gate and residual: the fastest of the algorithms that it proposes. *out NULL:
 * it proposes none. */
swd_status peer_cublaslt_make(peer **out, const cublaslt *lt, const job *j, timer *t, swd_err *err);
#endif
