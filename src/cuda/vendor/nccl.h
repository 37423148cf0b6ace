/* SPDX-License-Identifier: MIT */
/* NCCL: sums over the devices of several processes, behind backend.h's swd_collective. Looked for (vendor/library.h) when a group of
 * processes first sums something here; nothing of it is needed to build. */
#ifndef SWD_CUDA_VENDOR_NCCL_H
#define SWD_CUDA_VENDOR_NCCL_H
#include "backend_cuda.h"

extern const swd_collective cuda_collective;
void nccl_close(swd_backend *b);

/* ---- its ABI, as far as it is used; tests/emu/nccl_abi.c holds it against NVIDIA's header ---- */

enum { NCCL_SUM = 0, NCCL_BYTES = 1, NCCL_FLOATS = 7 };
typedef struct nccl_id {
    char bytes[COLLECTIVE_ID_BYTES];
} nccl_id;

/* name, arguments; all return an int, 0 is success */
#define NCCL_FUNCTIONS(X)                                                                          \
    X(GetVersion, (int *version))                                                                  \
    X(GetUniqueId, (nccl_id * id))                                                                 \
    X(CommInitRank, (void **comm, int n, nccl_id id, int rank))                                    \
    X(CommDestroy, (void *comm))                                                                   \
    X(AllReduce,                                                                                   \
      (const void *from, void *to, size_t n, int type, int op, void *comm, cudaStream_t stream))   \
    X(Broadcast,                                                                                   \
      (const void *from, void *to, size_t n, int type, int root, void *comm, cudaStream_t stream))
#endif
