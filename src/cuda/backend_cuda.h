/* SPDX-License-Identifier: MIT */
/* The CUDA backend: memory, streams and the table of slots that the op_*() of backend/ops.h reach. Its files talk to the
 * runtime API in plain C; tests link the same objects with the emulator in place of the runtime. */
#ifndef SWD_CUDA_BACKEND_CUDA_H
#define SWD_CUDA_BACKEND_CUDA_H
#include "backend/backward.h"
#include "device.h"
#include "kernels/training.h"
#include "device_memory.h"
#include <cuda_runtime_api.h>

/* A backend on this device (0 is the first). On failure *out is NULL; SWD_ERR_DEVICE where there is none. One thread at a time.
 * Host code finds it through backend/devices.h. */
swd_status backend_cuda_create(swd_backend **out, int device, swd_err *err);

typedef struct cuda_state {
    cuda_device device;
    cudaStream_t stream;        /* what a NULL swd_stream means; ordered with no other stream */
    size_t weight_bytes;        /* of packed weights, kept by the adapters that pack them */
    void *nvtx_domain;          /* NULL: no profiler listens */
    struct cuda_vendor *vendor; /* NVIDIA's libraries, and which work is theirs (vendor/vendor.h) */
    struct cuda_nccl *nccl;     /* NULL: not looked for yet (vendor/nccl.h) */
    swd_backward backward;      /* slots of training */
    cuda_account account;
    cuda_staging staging;
    void *raw;       /* device, CUDA_STAGE_BYTES: weights on their way into another type */
    double *squares; /* device, K_SUM_SQUARES of them */
    int *bad_id,
        *bad_id_seen; /* device, pinned host: 1 + the position of a token id outside its table, 0: none */
} cuda_state;

static inline cuda_state *cuda_of(swd_backend *b)
{
    return b->state;
}

static inline cudaStream_t cuda_stream(swd_backend *b, swd_stream *s)
{
    return s ? (cudaStream_t)s : cuda_of(b)->stream;
}

/* Memory that is given out is not there (backend/slab.h): no copy to it and no launch. */
static inline bool cuda_planning(swd_backend *b)
{
    return cuda_of(b)->account.planning > 0;
}

/* swd_status of a call of the runtime or a launcher: SWD_ERR_MEMORY or SWD_ERR_DEVICE with the error's name in the message. */
swd_status cuda_status(cudaError_t e, const char *what, swd_err *err);
/* Returns on failure. */
#define SWD_CUDA(call, err) SWD_TRY(cuda_status((call), #call, (err)), (err))

/* t as the launchers take it; at most 4 dimensions, the innermost contiguous. The absent tensor gives data = NULL. */
k_view cuda_view(swd_tensor t);
k_dtype cuda_dtype(swd_dtype dtype); /* of F32, BF16, F16 */
static inline int64_t cuda_size_of(k_dtype dtype)
{
    return dtype == K_F32 ? 4 : 2;
}
static inline k_grad cuda_grad(swd_grad g)
{
    return (k_grad){cuda_view(g.t), g.add};
}

/* Each adapter fills the slots of its family. */
void cuda_conv_slots(swd_backend *b);
void cuda_elementwise_slots(swd_ops *ops);
void cuda_group_norm_slots(swd_ops *ops);
void cuda_layout_slots(swd_ops *ops);
void cuda_linear_slots(swd_backend *b);
void cuda_norm_slots(swd_ops *ops);
void cuda_resize_slots(swd_ops *ops);
void cuda_text_slots(swd_ops *ops);
void cuda_attention_slots(swd_ops *ops);
/* The same for the slots of training, in cuda_state's table. */
void cuda_gemm_slots(swd_backend *b);
void cuda_attention_backward_slots(swd_backend *b);
void cuda_norm_backward_slots(swd_backend *b);
void cuda_training_slots(swd_backend *b); /* rows, elements, the optimizer */
#endif
