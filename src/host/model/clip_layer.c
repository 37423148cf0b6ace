// SPDX-License-Identifier: MIT
#include "model/clip_layer.h"
#include "model/qkv.h"
#include <math.h>

swd_status clip_layer_act(swd_act *out, config_act act, const char *path, swd_err *err)
{
    if (act != CONFIG_ACT_QUICK_GELU && act != CONFIG_ACT_GELU_ERF)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: config.json: hidden_act is neither \"quick_gelu\" nor \"gelu\"", path);
    *out = act == CONFIG_ACT_GELU_ERF ? SWD_ACT_GELU_ERF : SWD_ACT_QUICK_GELU;
    return SWD_OK;
}

void clip_layer_load(loader *l, clip_layer *y, const clip_layer_shape *s)
{
    static const char *const names[] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
    load_norm(l, &y->norm1, s->d, "layer_norm1");
    load_stacked(l, &y->qkv, 3, names, s->d, s->d, WITH_BIAS);
    load_linear(l, &y->out, s->d, s->d, WITH_BIAS, "self_attn.out_proj");
    load_norm(l, &y->norm2, s->d, "layer_norm2");
    load_linear(l, &y->fc1, s->wide, s->d, WITH_BIAS, "mlp.fc1");
    load_linear(l, &y->fc2, s->d, s->wide, WITH_BIAS, "mlp.fc2");
}

swd_status clip_layer_run(swd_tensor x, const clip_layer *l, const clip_layer_shape *s,
                          swd_exec *ex)
{
    int64_t b = x.shape[0], n = x.shape[1];
    size_t mark = exec_mark(ex);
    swd_tensor h = exec3(ex, ex->act, b, n, s->d), qkv = exec3(ex, ex->act, b, n, 3 * s->d),
               o = exec3(ex, ex->act, b, n, s->d), wide = exec3(ex, ex->act, b, n, s->wide);
    RUN(op_layernorm(h, x, l->norm1.weight, l->norm1.bias, s->eps, ex));
    RUN(op_linear(qkv, h, l->qkv, SWD_ACT_NONE, ex));
    attention_args a = {.causal = s->causal, .scale = 1.0f / sqrtf((float)s->head_dim)};
    RUN(qkv_attention(o, qkv, s->head_dim, a, ex));
    RUN(op_linear_residual(x, x, tensor_none(), o, l->out, ex));
    RUN(op_layernorm(h, x, l->norm2.weight, l->norm2.bias, s->eps, ex));
    RUN(op_linear(wide, h, l->fc1, s->act, ex));
    RUN(op_linear_residual(x, x, tensor_none(), wide, l->fc2, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}
