/* SPDX-License-Identifier: MIT */
/* One stream, image or text, of the blocks that SD3 and FLUX have in common: its part of a joint attention and its MLP. */
#ifndef SWD_MODEL_JOINT_H
#define SWD_MODEL_JOINT_H
#include "backend/ops.h"
#include "model/load.h"

typedef struct joint_attention {
    swd_linear *qkv, *out;     /* out NULL: its queries are not asked for */
    swd_tensor norm_q, norm_k; /* [head_dim], absent without QK norm */
} joint_attention;

typedef struct joint_mlp {
    swd_linear *in, *out;
} joint_mlp;

typedef enum joint_side { JOINT_IMAGE, JOINT_CONTEXT } joint_side;
typedef struct joint_names {
    const char *qkv[3], *norm_q, *norm_k, *out;
} joint_names;
extern const joint_names joint_names_of[2];

enum { JOINT_QK_NORM = 1, JOINT_OUT = 2 };
/* part.to_q, ... or part.add_q_proj, ...; with: JOINT_* */
void load_joint_attention(loader *l, joint_attention *a, int64_t d, int64_t head_dim,
                          const char *part, joint_side side, int with);
/* part.net.0.proj [4d, d], part.net.2 */
void load_joint_mlp(loader *l, joint_mlp *m, int64_t d, const char *part);

/* packed [B, N, 3D] = q, k and v of h, which part[] are heads [B, N, H, head_dim] of; q and k normed, and turned where there is a
 * cos. */
swd_status joint_project(swd_tensor part[3], swd_tensor packed, swd_tensor h, swd_tensor cos,
                         swd_tensor sin, const joint_attention *a, int64_t head_dim, swd_exec *ex);
/* x += gate * mlp(norm(x) * (1 + scale) + shift), the last three of the parts of mod [B, 6D or more] from 3 on */
swd_status joint_feed_forward(swd_tensor x, const joint_mlp *m, swd_tensor mod, swd_exec *ex);

static const float JOINT_NORM_EPS = 1e-6f;
#endif
