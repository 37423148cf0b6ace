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

/* ---- Attention: attention_backward.cu, attention_backward_plain.cu ---- */

/* Gradients of k_attention from the log-sum-exp that it saved. Fast is bf16 throughout, o apart, with head_dim a multiple of 8 up to
 * 128 and 16-byte alignment of pointers and strides. */
typedef struct k_attention_backward_args {
    /* With o and lse of every q; without cu, causal and bias. block_rows: 64 or 128, where there is a choice, with the same results. */
    k_attention_args forward;
    k_view d_o[2];              /* as o; o, d_o and gradients have any storage */
    k_grad dq[2], dk[2], dv[2]; /* as q, k and v */
} k_attention_backward_args;
/* n_q: 0 where a stream has no queries. */
size_t k_attention_backward_workspace(int batch, int heads, const int n_q[2]);
cudaError_t k_attention_backward(const k_attention_backward_args *args, void *workspace,
                                 cudaStream_t stream);

/* ---- Norms: norm_backward.cu ---- */

/* Of y_i = xhat (one + factor_i) + shift_i, xhat = (x - mean) r, or x r where rms. Any storages. */
typedef struct k_norm_backward_args {
    k_grad dx;                    /* optional; as x. May be dy[0] where no sum is wanted. */
    k_view x, dy[2];              /* [n0, n1, n2, dim]; the second dy optional */
    k_view factor[2];             /* optional: [dim], or [n0, dim] per sample */
    k_grad dfactor[2], dshift[2]; /* optional: the same shapes */
    int64_t shape[4];
    bool rms, per_sample; /* per sample: factors stand for 1 + factor, n0 < 65536 */
    float eps;
} k_norm_backward_args;
/* n_sums: how many of dfactor and dshift are wanted. */
size_t k_norm_backward_workspace(const int64_t shape[4], bool per_sample, int n_sums);
cudaError_t k_norm_backward(const k_norm_backward_args *a, void *workspace, cudaStream_t stream);

/* ---- Rows and elements: training.cu ---- */

/* One pass over d [n0, n1, n2, dim]:
 *   out (+)= d * gate        sums (+)= scale times the sum over rows of d * y
 * Without d it counts as 1. */
typedef struct k_row_sums_args {
    k_grad out;  /* optional; may be d */
    k_grad sums; /* optional: [dim], or [n0, dim] per sample */
    k_view d, y; /* y optional */
    k_view gate; /* optional: as sums */
    float out_scale, sums_scale;
    int64_t shape[4];
    bool per_sample; /* n0 < 65536 */
} k_row_sums_args;
size_t k_row_sums_workspace(const int64_t shape[4], bool per_sample); /* where sums are wanted */
cudaError_t k_row_sums(const k_row_sums_args *a, void *workspace, cudaStream_t stream);

/* dx (+)= dy act'(x); dx may be dy */
cudaError_t k_activation_backward(k_grad dx, k_view x, k_view dy, k_act act, const int64_t shape[4],
                                  cudaStream_t stream);
/* Latents [B, C, h, w] (+)= what lies in tokens [B, h/p * w/p, p*p*C] in the order (c, p, q). */
cudaError_t k_patchify_backward(float *dx, bool add, k_view dy, int patch, int64_t batch, int64_t c,
                                int64_t h, int64_t w, cudaStream_t stream);
/* Tokens in the order (p, q, c) (+)= latents. */
cudaError_t k_unpatchify_backward(k_grad dy, const float *dx, int patch, int64_t batch, int64_t c,
                                  int64_t h, int64_t w, cudaStream_t stream);
/* Of k_resize_renoise, all [B, C, h, w] contiguous: dx (+)= (1 - sigma_next) times the transposed resize of dy, dv (+)= -sigma times that. */
typedef struct k_resize_backward_args {
    float *dx, *dv; /* optional */
    bool add_x, add_v;
    const float *dy;            /* [B, C, out_h, out_w] */
    const k_resize_step *steps; /* device, [B] */
    int64_t batch, c;
    int h, w, out_h, out_w;
} k_resize_backward_args;
cudaError_t k_resize_backward(const k_resize_backward_args *a, cudaStream_t stream);

/* ---- The optimizer: optimizer.cu ---- */

/* p = p decay - size m / (sqrt(v) root + eps) after m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, g times g_scale */
typedef struct k_adamw_args {
    float *p, *m, *v;
    const float *g;
    int64_t n;
    float g_scale, b1, c1, b2, c2; /* c1, c2: 1 - b1, 1 - b2 */
    float decay, size, root, eps;
} k_adamw_args;
cudaError_t k_adamw(const k_adamw_args *a, cudaStream_t stream);

/* out[0], on the device, becomes the sum of the squares of n floats; out[1 ..] is scratch. */
enum { K_SUM_SQUARES = 1025 }; /* doubles of out */
cudaError_t k_sum_squares(double *out, const float *x, int64_t n, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
