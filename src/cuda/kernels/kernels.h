/* SPDX-License-Identifier: MIT */
/* Launchers of the CUDA kernels, in plain C: one section a file of kernels. The formulas stand at the head of each .cu.
 *
 * Outputs first, then inputs, dimensions, stream last; everything is queued on the stream and nothing waits. Arguments are
 * trusted (op_*() has checked them); a launcher returns cudaErrorInvalidValue only for what it has no kernel for.
 * Accumulation is float32 whatever the storage; a store rounds once, to nearest even. Any pointer needs its element's
 * alignment only: kernels take 16-byte accesses where pointers and strides allow them, and scalar ones elsewhere.
 * Where a launcher needs scratch, k_NAME_workspace gives its bytes (256-byte aligned), 0 for none. */
#ifndef SWD_CUDA_KERNELS_KERNELS_H
#define SWD_CUDA_KERNELS_KERNELS_H
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum k_dtype { K_F32, K_BF16, K_F16 } k_dtype; /* storage */

/* As swd_act (backend/ops_types.h), in the same order. */
typedef enum k_act {
    K_ACT_NONE,
    K_ACT_SILU,
    K_ACT_GELU_TANH,
    K_ACT_GELU_ERF,
    K_ACT_QUICK_GELU,
    K_ACT_RELU,
    K_ACT_TANH
} k_act;

/* A view of device memory whose innermost dimension is contiguous; shapes are given beside it. */
typedef struct k_view {
    void *data; /* NULL: absent */
    k_dtype dtype;
    int64_t stride
        [3]; /* in elements, of all dimensions but the innermost, outermost first: of [B, n, D] stride[0] is a sample's,
                          stride[1] a row's; of [B, N, H, d] sample, token, head */
} k_view;

#ifdef __cplusplus
extern "C" {
#endif

/* ---- norm.cu ---- */

/* ---- elementwise.cu ---- */

/* ---- text.cu ---- */

/* ---- layout.cu ---- */

/* ---- resize.cu ---- */

/* ---- attention.cu ---- */

/* ---- gemm.cu ---- */

/* ---- group_norm.cu ---- */

/* ---- conv.cu ---- */

#ifdef __cplusplus
}
#endif
#endif
