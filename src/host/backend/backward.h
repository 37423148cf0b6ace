/* SPDX-License-Identifier: MIT */
/* The ops of training: what backward passes, losses and optimizers call. They are checked like those of ops.h, and rest on a table of
 * slots of their own, which a backend may lack: then they fail with SWD_ERR_UNSUPPORTED.
 *
 * A gradient has the strides of what it is the gradient of; a swd_grad is either written or added to. Sums over rows have an order that
 * shapes decide, not the number of threads: the CPU makes them in double, CUDA in float32 by slabs of rows, then in double.
 * None of these calls goes to a hook but op_mean_tokens. */
#ifndef SWD_BACKEND_BACKWARD_H
#define SWD_BACKEND_BACKWARD_H
#include "backend/ops.h"

/* Where a gradient goes; t absent: it is not wanted. */
typedef struct swd_grad {
    swd_tensor t;
    bool add;
} swd_grad;

typedef struct gemm_args {
    swd_tensor c;    /* [m, n], F32, or BF16 if a and b are; rows at any stride */
    swd_tensor a, b; /* [m, k], [k, n] of one type, F32 or BF16; one of the two strides is 1 */
    swd_tensor bias; /* optional, F32 [n] */
    bool add;        /* c += */
} gemm_args;

typedef struct attention_backward_args {
    attention_args forward; /* with o and lse; without causal, bias, samples */
    swd_tensor d_o[2];      /* as o */
    swd_grad dq[2], dk[2], dv[2];
} attention_backward_args;

/* y[i] = (x - mean) * r * (one + factor[i]) + shift[i], r = 1 / sqrt(var + eps); for an RMS norm mean = 0 and var = mean of squares.
 * one: 1 where factors are per sample (modulation: [B, D] beside [B, n, D]), else 0 (weights: F32 [D]); an absent factor is 1. */
typedef struct norm_backward_args {
    swd_grad dx;
    swd_tensor x;         /* [.., D] */
    swd_tensor dy[2];     /* as x; the second is optional */
    swd_tensor factor[2]; /* optional */
    swd_grad dfactor[2], dshift[2];
    float eps;
    bool rms, per_sample;
} norm_backward_args;

typedef struct adamw_args {
    swd_tensor p, m, v, g; /* F32 [n]; g is read */
    double lr, beta1, beta2, eps, weight_decay;
    double g_scale; /* times g: clipping, and 1 / micro-batches */
    int64_t step;   /* from 1 */
} adamw_args;

typedef struct swd_backward {
    size_t (*gemm_workspace)(swd_backend *, const gemm_args *); /* the same for any pointers */
    swd_status (*gemm)(swd_backend *, const gemm_args *, void *ws, swd_stream *, swd_err *);
    size_t (*attention_workspace)(swd_backend *, const attention_backward_args *);
    swd_status (*attention)(swd_backend *, const attention_backward_args *, void *ws, swd_stream *,
                            swd_err *);
    size_t (*norm_workspace)(swd_backend *, const norm_backward_args *);
    swd_status (*norm)(swd_backend *, const norm_backward_args *, void *ws, swd_stream *,
                       swd_err *);
    swd_status (*activation)(swd_backend *, swd_grad dx, swd_tensor x, swd_tensor dy, swd_act,
                             swd_stream *, swd_err *);
    /* Of sums over rows of d, of all or of each sample's: of gate where dgate is wanted, column_sums, mean_tokens. */
    size_t (*sums_workspace)(swd_backend *, swd_tensor d, bool per_sample);
    swd_status (*gate)(swd_backend *, swd_grad dy, swd_grad dgate, swd_tensor d, swd_tensor y,
                       swd_tensor gate, void *ws, swd_stream *, swd_err *);
    swd_status (*column_sums)(swd_backend *, swd_grad sums, swd_tensor d, void *ws, swd_stream *,
                              swd_err *);
    swd_status (*patchify)(swd_backend *, swd_grad dx, swd_tensor dy, int patch, swd_stream *,
                           swd_err *);
    swd_status (*unpatchify)(swd_backend *, swd_grad dy, swd_tensor dx, int patch, swd_stream *,
                             swd_err *);
    swd_status (*mean_tokens)(swd_backend *, swd_tensor y, swd_tensor x, void *ws, swd_stream *,
                              swd_err *);
    swd_status (*mean_tokens_backward)(swd_backend *, swd_grad dx, swd_tensor dy, swd_stream *,
                                       swd_err *);
    swd_status (*resize)(swd_backend *, swd_grad dx, swd_grad dv, const resize_renoise_args *,
                         swd_tensor dy, swd_stream *, swd_err *);
    swd_status (*adamw)(swd_backend *, const adamw_args *, swd_stream *, swd_err *);
    swd_status (*sum_squares)(swd_backend *, double *out, swd_tensor x, swd_stream *, swd_err *);
} swd_backward;

/* c (+)= a b (+ bias) */
swd_status op_gemm(const gemm_args *a, swd_exec *ex);
swd_status op_attention_backward(const attention_backward_args *a, swd_exec *ex);
swd_status op_norm_backward(const norm_backward_args *a, swd_exec *ex);
/* dx (+)= dy act'(x) */
swd_status op_activation_backward(swd_grad dx, swd_tensor x, swd_tensor dy, swd_act act,
                                  swd_exec *ex);
/* Of x + gate * y, whose gradient is d [B, n, D]: dy (+)= gate * d; dgate [B, D] (+)= sum over n of d * y. gate absent: 1. */
swd_status op_gate_backward(swd_grad dy, swd_grad dgate, swd_tensor d, swd_tensor y,
                            swd_tensor gate, swd_exec *ex);
/* sums F32 [D] (+)= over all rows of d [.., D] */
swd_status op_column_sums(swd_grad sums, swd_tensor d, swd_exec *ex);
/* dx F32 [B, C, h, w] (+)= from dy [B, n, p p C] */
swd_status op_patchify_backward(swd_grad dx, swd_tensor dy, int patch, swd_exec *ex);
/* dy [B, n, p p C] (+)= from dx F32 [B, C, h, w] */
swd_status op_unpatchify_backward(swd_grad dy, swd_tensor dx, int patch, swd_exec *ex);
/* y [B, D] = mean over n of x [B, n, D] */
swd_status op_mean_tokens(swd_tensor y, swd_tensor x, swd_exec *ex);
swd_status op_mean_tokens_backward(swd_grad dx, swd_tensor dy, swd_exec *ex);
/* Of op_resize_renoise: dx, dv F32 as x and v from dy as y. */
swd_status op_resize_renoise_backward(swd_grad dx, swd_grad dv, const resize_renoise_args *a,
                                      swd_tensor dy, swd_exec *ex);
/* p -= lr (weight_decay p + mhat / (sqrt(vhat) + eps)), as torch.optim.AdamW */
swd_status op_adamw(const adamw_args *a, swd_exec *ex);
/* *out, on the host, is there when the call returns. x F32, contiguous. */
swd_status op_sum_squares(double *out, swd_tensor x, swd_exec *ex);
#endif
