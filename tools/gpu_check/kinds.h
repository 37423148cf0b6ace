/* SPDX-License-Identifier: MIT */
/* How each op of the list is laid out and called; d[] is what each comment says. */
#ifndef SWD_TOOLS_GPU_CHECK_KINDS_H
#define SWD_TOOLS_GPU_CHECK_KINDS_H
#include "shapes.h"

extern const kind kind_linear, kind_linear_few; /* rows, in, out, activation */
extern const kind kind_linear_residual;         /* rows, in, out */
extern const kind kind_attention;      /* heads, head_dim, n, n of a second stream, causal, bias */
extern const kind kind_attention_wide; /* the same */
extern const kind kind_conv, kind_conv_1x1,
    kind_conv_out; /* side of the result, in, out, kernel, residual */
extern const kind kind_conv_rgb8, kind_upsample_conv;                           /* the same */
extern const kind kind_group_norm, kind_group_norm_silu;                        /* side, channels */
extern const kind kind_layernorm, kind_modulate, kind_modulate2, kind_rms_norm; /* rows, columns */
extern const kind kind_qk_norm, kind_qk_norm_rope; /* tokens, heads, head_dim */
extern const kind kind_gate_residual, kind_activation, kind_gated_gelu,
    kind_axpby;                                      /* rows, columns */
extern const kind kind_copy, kind_fill;              /* rows, columns */
extern const kind kind_guidance, kind_noise;         /* images, side of 16 channels */
extern const kind kind_resize;                       /* images, side, side of the result */
extern const kind kind_patchify, kind_unpatchify;    /* side of 16 channels */
extern const kind kind_add_position;                 /* side in tokens, columns */
extern const kind kind_to_nhwc, kind_to_nchw;        /* side, channels */
extern const kind kind_to_rgb8, kind_from_rgb8;      /* side */
extern const kind kind_embed;                        /* tokens, vocabulary, columns */
extern const kind kind_relative_bias, kind_sinusoid; /* tokens, heads; images, columns */
#endif
