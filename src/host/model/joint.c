// SPDX-License-Identifier: MIT
// A stream of a joint block.
#include "model/joint.h"
#include "model/conditions.h"
#include "model/qkv.h"

const joint_names joint_names_of[2] = {
    [JOINT_IMAGE] = {.qkv = {"to_q", "to_k", "to_v"},
                     .norm_q = "norm_q.weight",
                     .norm_k = "norm_k.weight",
                     .out = "to_out.0"},
    [JOINT_CONTEXT] = {.qkv = {"add_q_proj", "add_k_proj", "add_v_proj"},
                       .norm_q = "norm_added_q.weight",
                       .norm_k = "norm_added_k.weight",
                       .out = "to_add_out"},
};

void load_joint_attention(loader *l, joint_attention *a, int64_t d, int64_t head_dim,
                          const char *part, joint_side side, int with)
{
    const joint_names *names = &joint_names_of[side];
    size_t here = load_enter(l, "%s.", part);
    load_stacked(l, &a->qkv, 3, names->qkv, d, d, WITH_BIAS);
    if (with & JOINT_QK_NORM) load_vector(l, &a->norm_q, head_dim, names->norm_q);
    if (with & JOINT_QK_NORM) load_vector(l, &a->norm_k, head_dim, names->norm_k);
    if (with & JOINT_OUT) load_linear(l, &a->out, d, d, WITH_BIAS, names->out);
    load_leave(l, here);
}

void load_joint_mlp(loader *l, joint_mlp *m, int64_t d, const char *part)
{
    size_t here = load_enter(l, "%s.net.", part);
    load_linear(l, &m->in, 4 * d, d, WITH_BIAS, "0.proj");
    load_linear(l, &m->out, d, 4 * d, WITH_BIAS, "2");
    load_leave(l, here);
}

swd_status joint_project(swd_tensor part[3], swd_tensor packed, swd_tensor h, swd_tensor cos,
                         swd_tensor sin, const joint_attention *a, int64_t head_dim, swd_exec *ex)
{
    RUN(op_linear(packed, h, a->qkv, SWD_ACT_NONE, ex));
    qkv_split(part, packed, head_dim);
    if (!tensor_present(a->norm_q)) return SWD_OK;
    return op_qk_norm_rope(part[0], part[1], a->norm_q, a->norm_k, JOINT_NORM_EPS, cos, sin, ex);
}

swd_status joint_feed_forward(swd_tensor x, const joint_mlp *m, swd_tensor mod, swd_exec *ex)
{
    int64_t d = x.shape[2];
    size_t mark = exec_mark(ex);
    swd_tensor normed = exec3(ex, ex->act, x.shape[0], x.shape[1], d),
               wide = exec3(ex, ex->act, x.shape[0], x.shape[1], 4 * d);
    RUN(op_layernorm_modulate(normed, x, modulation_part(mod, 3, d), modulation_part(mod, 4, d),
                              JOINT_NORM_EPS, ex));
    RUN(op_linear(wide, normed, m->in, SWD_ACT_GELU_TANH, ex));
    RUN(op_linear_residual(x, x, modulation_part(mod, 5, d), wide, m->out, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}
