/* SPDX-License-Identifier: MIT */
/* Launchers of the kernels of training, for plain C; views and dtypes as in kernels.h. A gradient is written, or added to where `add`. */
#ifndef SWD_CUDA_KERNELS_TRAINING_H
#define SWD_CUDA_KERNELS_TRAINING_H
#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct k_grad {
    k_view view; /* absent: not wanted */
    bool add;
} k_grad;

/* ---- Products: gemm_strided.cu, gemm_strided_plain.cu ---- */

typedef enum k_gemm_tile { K_TILE_AUTO, K_TILE_64, K_TILE_128 } k_gemm_tile;

/* c (+)= a b (+ bias), c [m, n], a [m, k], b [k, n]. Of the two strides of a, and of b, one is 1: each may lie as it is or transposed. */
typedef struct k_gemm_strided_args {
    k_view c; /* stride[0]: a row's; F32, or BF16 where a and b are */
    const void *a, *b;
    k_dtype dtype; /* of a and b: F32 or BF16, and of the arithmetic; sums are float32 */
    int64_t a_stride[2], b_stride[2]; /* of rows, of columns */
    const float *bias;                /* optional, [n] */
    bool add;
    int64_t m, n, k; /* each below 2^31 */
    k_gemm_tile tile;
    int splits; /* parts of k that blocks of their own sum up; 0: as many as fill the device */
} k_gemm_strided_args;
/* The same for any pointers. */
size_t k_gemm_strided_workspace(const k_gemm_strided_args *a);
cudaError_t k_gemm_strided(const k_gemm_strided_args *a, void *workspace, cudaStream_t stream);

/* ---- Attention ---- */

/* ---- Norms ---- */

/* ---- Rows and elements ---- */

/* ---- The optimizer ---- */

#ifdef __cplusplus
}
#endif
#endif
