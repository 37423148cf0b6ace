/* SPDX-License-Identifier: MIT */
/* Argument structs of the larger ops; ops.h documents them. */
#ifndef SWD_BACKEND_OPS_TYPES_H
#define SWD_BACKEND_OPS_TYPES_H
#include "tensor/tensor.h"

typedef enum swd_act {
    SWD_ACT_NONE,
    SWD_ACT_SILU,
    SWD_ACT_GELU_TANH,
    SWD_ACT_GELU_ERF,
    SWD_ACT_QUICK_GELU, /* x * sigmoid(1.702 x) */
    SWD_ACT_RELU,
    SWD_ACT_TANH
} swd_act;

struct swd_linear;
struct swd_conv;

typedef struct linear_args {
    swd_tensor y, x; /* [.., N], [.., K]: rows of stride >= N, K */
    const struct swd_linear *w;
    swd_act act;
    swd_tensor residual,
        gate; /* optional: y = residual + gate * act(x W^T + b); residual as y, gate [B, N] over [B, n, N] */
} linear_args;

typedef struct conv_args {
    swd_tensor y, x; /* NHWC: [B, Ho, Wo, O], [B, H, W, I] */
    const struct swd_conv *w;
    swd_act act;
    swd_tensor residual; /* optional, as y: y = act(conv(x) + b) + residual */
    float scale, shift;  /* where y is U8: round(clamp(of all that * scale + shift, 0, 1) * 255) */
} conv_args;

/* Samples of different lengths: B is 1, and sample b has rows starts[i][b] to starts[i][b + 1] of stream i. */
typedef struct attention_samples {
    int n;
    const int32_t *starts[2]; /* [n + 1], on the host: rising from 0 to the rows of the stream */
    swd_tensor on_device[2];  /* I32 [n + 1], the same in the backend's memory */
} attention_samples;

typedef struct attention_args {
    int n_streams; /* 1, or 2: keys of both streams, in this order, are seen by the queries of both */
    swd_tensor o[2], q[2], k[2],
        v[2];        /* [B, N_i, H, d]; q and o of a stream may be absent (it is only looked at) */
    float scale;     /* times q.k; the softmax is over all keys */
    bool causal;     /* key j seen by query i only if j <= i (one stream) */
    swd_tensor bias; /* optional, F32 [H, Nq, Nk], added to scale * q.k (one stream) */
    const attention_samples
        *samples; /* NULL: all are of one length. Neither causal nor with a bias */
    swd_tensor lse
        [2]; /* optional, F32 [B, H, N_i] where q is: log of the sum of exp of a query's scores, for the backward pass */
} attention_args;

typedef struct group_norm_args {
    swd_tensor y, x;        /* NHWC [B, H, W, C]; y may be x */
    swd_tensor gamma, beta; /* F32 [C] */
    int groups;
    float eps;
    bool silu;
} group_norm_args;

typedef struct norm_args {
    swd_tensor y, x;         /* [.., D]; y may be x */
    swd_tensor weight, bias; /* F32 [D], optional */
    float eps;
} norm_args;

typedef struct modulate_args {
    swd_tensor y[2]; /* [B, n, D], of one dtype; y[0] may be x; y[1] is optional */
    swd_tensor x;
    swd_tensor shift[2], scale[2]; /* [B, D] */
    float eps;
} modulate_args;

typedef struct qk_norm_args {
    swd_tensor q, k;               /* [B, N, H, d], in place, of one dtype */
    swd_tensor weight_q, weight_k; /* F32 [d]; RMS norm over d; absent: no norm */
    float eps;
    swd_tensor cos,
        sin; /* optional, F32 [N, d / 2]: interleaved pairs (x0 c - x1 s, x1 c + x0 s) after the norm */
} qk_norm_args;

/* What an image's request says of a step between two scales. Ops read it in the backend's memory when they run, so that one recorded
 * graph serves all requests: a tensor U8 [B, sizeof(renoise_step)], aligned to 8 bytes. */
typedef struct renoise_step {
    uint64_t seed;
    uint32_t draw; /* of the seed's noise: the step of base/rng.h */
    float sigma;
    float sigma_next; /* 0 to 1; 0: no noise is drawn */
    uint32_t unused;
} renoise_step;

typedef struct resize_renoise_args {
    swd_tensor y;     /* F32 [B, C, h', w']: (1 - sigma_next) * bicubic(x0) + sigma_next * eps */
    swd_tensor x, v;  /* F32 [B, C, h, w]: x0 = x - sigma * v; v absent: x is x0 */
    swd_tensor x0;    /* optional, F32 as x: the x0 of this scale, for looking and saving */
    swd_tensor eps;   /* F32 as y: noise from memory; absent: Philox noise of seed and draw */
    swd_tensor steps; /* of renoise_step, [B] */
} resize_renoise_args;

/* A checked call of an op_*(), as a hook gets it (ops.h). */
typedef enum op_kind {
    OP_LINEAR,
    OP_ATTENTION,
    OP_LAYERNORM,
    OP_MODULATE,
    OP_RMS_NORM,
    OP_QK_NORM,
    OP_GATE_RESIDUAL,     /* x, y, gate */
    OP_ACTIVATION,        /* y, x, act */
    OP_AXPBY,             /* y, a, x, b, z */
    OP_COPY,              /* y, x */
    OP_FILL,              /* y, a */
    OP_TIMESTEP_SINUSOID, /* y, x */
    OP_PATCHIFY,          /* y, x, n */
    OP_UNPATCHIFY,        /* y (latents), x (tokens), n */
    OP_ADD_POSITION,      /* y (in place), x (table), n, m */
    OP_GUIDANCE_COMBINE,  /* y, x (cond), z (uncond), a */
    OP_RESIZE_RENOISE,
    OP_NOISE,       /* y, x (steps) */
    OP_MEAN_TOKENS, /* y, x */
    OP_KINDS
} op_kind;

typedef struct op_call {
    op_kind op;
    union {
        linear_args linear;
        attention_args attention;
        norm_args norm; /* OP_LAYERNORM, OP_RMS_NORM */
        modulate_args modulate;
        qk_norm_args qk_norm;
        resize_renoise_args resize;
        struct {
            swd_tensor y, x, z; /* the result first */
            float a, b;
            int n, m;
            swd_act act;
        } plain; /* all others, with the members that their lines name */
    };
} op_call;
#endif
