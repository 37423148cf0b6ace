/* SPDX-License-Identifier: MIT */
/* The families of op cases, one file per kind; case.c has the list. */
#ifndef SWD_TESTS_OPS_FAMILIES_H
#define SWD_TESTS_OPS_FAMILIES_H
#include "case.h"

extern const op_family linear_family, linear_residual_family;               /* linear.c */
extern const op_family conv_family, upsample_conv_family, conv_rgb8_family; /* conv.c */
extern const op_family attention_family, joint_attention_family,
    samples_attention_family;                                     /* attention.c */
extern const op_family group_norm_family, group_norm_silu_family; /* group_norm.c */
extern const op_family layernorm_family, modulate_family, modulate2_family,
    rms_norm_family;                                        /* norm.c */
extern const op_family qk_norm_family, qk_norm_rope_family; /* qk_norm.c */
extern const op_family gate_residual_family, activation_family,
    gated_gelu_family; /* elementwise.c */
extern const op_family axpby_family, copy_family, fill_family, guidance_family;
extern const op_family embed_family, relative_bias_family, sinusoid_family;     /* text.c */
extern const op_family add_position_family, patchify_family, unpatchify_family; /* layout.c */
extern const op_family nchw_to_nhwc_family, nhwc_to_nchw_family, to_rgb8_family, from_rgb8_family;
extern const op_family resize_renoise_family, noise_family; /* resize.c */
#endif
