/* SPDX-License-Identifier: MIT */
/* The same work by NVIDIA's libraries, which are looked for and loaded at run time: cuBLASLt for linear layers (product, bias,
 * activation), cuDNN for convolutions and attention. By the wrappers that the backend has (src/cuda/vendor). */
#ifndef SWD_TOOLS_GPU_CHECK_PEERS_H
#define SWD_TOOLS_GPU_CHECK_PEERS_H
#include "jobs.h"
#include "report.h"
#include "timer.h"

typedef struct peers peers;

typedef struct peer {
    const char *name; /* "cublaslt", "cudnn" */
    swd_status (*run)(void *peer, swd_err *err);
    void (*close)(struct peer *p);
    void *y;   /* the result on the device, bf16, in the order of the job's first operand */
    bool same; /* it should be that operand, but for rounding */
} peer;

/* where: a folder, "none", or NULL to look around. What is found, or where it was looked for, becomes facts of the machine. */
swd_status peers_open(peers **out, report *r, const char *where, swd_err *err);
void peers_close(peers **p);
/* The fastest of what the library offers for this job, by a few runs; *out NULL: no library does this one. */
swd_status peers_make(peer **out, peers *p, const job *j, timer *t, swd_err *err);

/* For their makers: new device memory with these bytes of the host, there when this returns. */
swd_status peer_upload(void **out, const void *host, size_t bytes, cudaStream_t stream,
                       swd_err *err);
#endif
