// SPDX-License-Identifier: MIT
// T5 encoder: RMS norms, attention without scaling and with one relative bias for all blocks, gated or plain MLP, no biases.
#include "model/t5.h"
#include "model/load.h"
#include <stdlib.h>

typedef struct layer {
    swd_tensor norm1, norm2;
    swd_linear *qkv, *out, *wi_0, *wi_1, *wo; // wi_1 NULL: not gated
} layer;

struct t5 {
    config_t5 cfg;
    swd_backend *be;
    swd_act act;
    swd_tensor tokens, relative_bias, final_norm;
    layer *layers;
};

static swd_status load_layer(const loader *ld, layer *l, const config_t5 *c, int i)
{
    static const char *const names[] = {"q", "k", "v"};
    int64_t d = c->d_model, inner = (int64_t)c->num_heads * c->d_kv;
    SWD_TRY(load_vector(ld, &l->norm1, d, "encoder.block.%d.layer.0.layer_norm.weight", i),
            ld->err);
    SWD_TRY(load_vector(ld, &l->norm2, d, "encoder.block.%d.layer.1.layer_norm.weight", i),
            ld->err);
    SWD_TRY(load_stacked(ld, &l->qkv, 3, names, inner, d, false,
                         "encoder.block.%d.layer.0.SelfAttention.", i),
            ld->err);
    SWD_TRY(
        load_linear(ld, &l->out, d, inner, false, "encoder.block.%d.layer.0.SelfAttention.o", i),
        ld->err);
    SWD_TRY(
        load_linear(ld, &l->wo, d, c->d_ff, false, "encoder.block.%d.layer.1.DenseReluDense.wo", i),
        ld->err);
    if (!c->is_gated_act)
        return load_linear(ld, &l->wi_0, c->d_ff, d, false,
                           "encoder.block.%d.layer.1.DenseReluDense.wi", i);
    SWD_TRY(load_linear(ld, &l->wi_0, c->d_ff, d, false,
                        "encoder.block.%d.layer.1.DenseReluDense.wi_0", i),
            ld->err);
    SWD_TRY(load_linear(ld, &l->wi_1, c->d_ff, d, false,
                        "encoder.block.%d.layer.1.DenseReluDense.wi_1", i),
            ld->err);
    return SWD_OK;
}

static swd_status load_all(const loader *ld, t5 *m)
{
    static const char *const may_stay[] = {"encoder.embed_tokens.", "shared.", "decoder.",
                                           "lm_head.", NULL};
    const config_t5 *c = &m->cfg;
    if (c->is_gated_act ? c->dense_act != CONFIG_ACT_GELU_TANH : c->dense_act != CONFIG_ACT_RELU)
        return SWD_FAIL(ld->err, SWD_ERR_UNSUPPORTED,
                        "%s: config.json: feed_forward_proj is neither \"gated-gelu\" nor \"relu\"",
                        weights_path(ld->w));
    m->act = c->is_gated_act ? SWD_ACT_NONE : SWD_ACT_RELU;
    SWD_TRY(weights_alias(ld->w, "shared.weight", "encoder.embed_tokens.weight", ld->err), ld->err);
    SWD_TRY(load_table(ld, &m->tokens, c->vocab_size, c->d_model, "shared.weight"), ld->err);
    SWD_TRY(load_matrix(ld, &m->relative_bias,
                        (int64_t[]){c->relative_attention_num_buckets, c->num_heads}, 2,
                        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
            ld->err);
    for (int i = 0; i < c->num_layers; i++) SWD_TRY(load_layer(ld, &m->layers[i], c, i), ld->err);
    SWD_TRY(load_vector(ld, &m->final_norm, c->d_model, "encoder.final_layer_norm.weight"),
            ld->err);
    return weights_check_unused(ld->w, may_stay, ld->err);
}

swd_status t5_create(t5 **out, const config_t5 *cfg, weights *w, swd_backend *be, swd_dtype compute,
                     swd_err *err)
{
    loader ld = {w, be, compute, err};
    t5 *m = calloc(1, sizeof *m);
    *out = NULL;
    if (m) m->layers = calloc((size_t)cfg->num_layers, sizeof *m->layers);
    if (!m || !m->layers) {
        free(m);
        return SWD_FAIL(err, SWD_ERR_MEMORY, "out of memory");
    }
    m->cfg = *cfg;
    m->be = be;
    swd_status s = load_all(&ld, m);
    if (s != SWD_OK) t5_destroy(&m);
    *out = m;
    return s;
}

void t5_destroy(t5 **out)
{
    t5 *m = *out;
    if (!m) return;
    swd_backend *be = m->be;
    for (int i = 0; i < m->cfg.num_layers; i++) {
        layer *l = &m->layers[i];
        swd_linear **linears[] = {&l->qkv, &l->out, &l->wi_0, &l->wi_1, &l->wo};
        for (int k = 0; k < 5; k++) be->linear_destroy(be, linears[k]);
        load_release(be, &l->norm1);
        load_release(be, &l->norm2);
    }
    load_release(be, &m->tokens);
    load_release(be, &m->relative_bias);
    load_release(be, &m->final_norm);
    free(m->layers);
    free(m);
    *out = NULL;
}

static swd_status attention(swd_tensor x, swd_tensor bias, const layer *l, const t5 *m,
                            swd_exec *ex)
{
    int64_t b = x.shape[0], n = x.shape[1], inner = (int64_t)m->cfg.num_heads * m->cfg.d_kv;
    size_t mark = exec_mark(ex);
    swd_tensor h = exec3(ex, ex->act, b, n, x.shape[2]), qkv = exec3(ex, ex->act, b, n, 3 * inner),
               o = exec3(ex, ex->act, b, n, inner);
    RUN(op_rms_norm(h, x, l->norm1, (float)m->cfg.layer_norm_epsilon, ex));
    RUN(op_linear(qkv, h, l->qkv, SWD_ACT_NONE, ex));
    attention_args a = {.n_streams = 1, .scale = 1.0f, .bias = bias};
    swd_tensor *parts[] = {&a.q[0], &a.k[0], &a.v[0]};
    for (int i = 0; i < 3; i++)
        *parts[i] = tensor_split_last(tensor_slice(qkv, 2, i * inner, inner), m->cfg.d_kv);
    a.o[0] = tensor_split_last(o, m->cfg.d_kv);
    RUN(op_attention(&a, ex));
    RUN(op_linear_residual(x, x, tensor_none(), o, l->out, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

static swd_status feed_forward(swd_tensor x, const layer *l, const t5 *m, swd_exec *ex)
{
    int64_t b = x.shape[0], n = x.shape[1];
    size_t mark = exec_mark(ex);
    swd_tensor h = exec3(ex, ex->act, b, n, x.shape[2]),
               wide = exec3(ex, ex->act, b, n, m->cfg.d_ff);
    RUN(op_rms_norm(h, x, l->norm2, (float)m->cfg.layer_norm_epsilon, ex));
    RUN(op_linear(wide, h, l->wi_0, m->act, ex));
    if (l->wi_1) {
        swd_tensor gate = exec3(ex, ex->act, b, n, m->cfg.d_ff);
        RUN(op_linear(gate, h, l->wi_1, SWD_ACT_NONE, ex));
        RUN(op_gated_gelu(wide, wide, gate, ex));
    }
    RUN(op_linear_residual(x, x, tensor_none(), wide, l->wo, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

swd_status t5_forward(swd_tensor hidden, swd_tensor ids, const t5 *m, swd_exec *ex)
{
    int64_t b = ids.shape[0], n = ids.shape[1];
    size_t start = exec_mark(ex);
    swd_tensor x = exec3(ex, SWD_F32, b, n, m->cfg.d_model),
               bias = exec3(ex, SWD_F32, m->cfg.num_heads, n, n);
    RUN(op_embed(x, m->tokens, ids, ex));
    RUN(op_relative_bias(bias, m->relative_bias, m->cfg.relative_attention_max_distance, ex));
    for (int i = 0; i < m->cfg.num_layers; i++) {
        RUN(attention(x, bias, &m->layers[i], m, ex));
        RUN(feed_forward(x, &m->layers[i], m, ex));
    }
    RUN(op_rms_norm(hidden, x, m->final_norm, (float)m->cfg.layer_norm_epsilon, ex));
    exec_rewind(ex, start);
    return SWD_OK;
}
