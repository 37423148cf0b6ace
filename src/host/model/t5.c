// SPDX-License-Identifier: MIT
// T5 encoder: RMS norms, attention without scaling and with one relative bias for all blocks, gated or plain MLP, no biases.
#include "model/t5.h"
#include "base/memory.h"
#include "model/load.h"
#include "model/qkv.h"
#include "model/relay.h"
#include <assert.h>

typedef struct layer {
    swd_tensor norm1, norm2;
    swd_linear *qkv, *out, *wi_0, *wi_1, *wo; // wi_1 NULL: not gated
} layer;

struct t5 {
    relay *relay; // where layers come from; NULL: all are there
    holdings held;
    config_t5 cfg;
    swd_act act;
    swd_tensor tokens, relative_bias, final_norm;
    layer *layers;
};

static void load_layer(loader *l, layer *y, const config_t5 *c)
{
    static const char *const names[] = {"SelfAttention.q", "SelfAttention.k", "SelfAttention.v"};
    int64_t d = c->d_model, wide = c->d_ff, inner = (int64_t)c->num_heads * c->d_kv;
    size_t here = load_enter(l, "layer.0.");
    load_vector(l, &y->norm1, d, "layer_norm.weight");
    load_stacked(l, &y->qkv, 3, names, inner, d, WITHOUT_BIAS);
    load_linear(l, &y->out, d, inner, WITHOUT_BIAS, "SelfAttention.o");
    load_leave(l, here);
    load_enter(l, "layer.1.");
    load_vector(l, &y->norm2, d, "layer_norm.weight");
    load_linear(l, &y->wi_0, wide, d, WITHOUT_BIAS,
                c->is_gated_act ? "DenseReluDense.wi_0" : "DenseReluDense.wi");
    if (c->is_gated_act) load_linear(l, &y->wi_1, wide, d, WITHOUT_BIAS, "DenseReluDense.wi_1");
    load_linear(l, &y->wo, d, wide, WITHOUT_BIAS, "DenseReluDense.wo");
    load_leave(l, here);
}

static void check_config(loader *l, const config_t5 *c)
{
    expect_dim(l, "vocab_size", c->vocab_size, "shared.weight", 0);
    expect_dim(l, "d_model", c->d_model, "shared.weight", 1);
    size_t here = load_enter(l, "encoder.");
    expect_count(l, "num_layers", c->num_layers, "block", "layer.0.SelfAttention.q.weight");
    load_enter(l, "block.0.layer.");
    expect_dim(l, "relative_attention_num_buckets", c->relative_attention_num_buckets,
               "0.SelfAttention.relative_attention_bias.weight", 0);
    expect_dim(l, "num_heads", c->num_heads, "0.SelfAttention.relative_attention_bias.weight", 1);
    expect_dim(l, "d_kv", (int64_t)c->num_heads * c->d_kv, "0.SelfAttention.q.weight", 0);
    expect_there(l, "feed_forward_proj", c->is_gated_act, "1.DenseReluDense.wi_0.weight");
    expect_dim(l, "d_ff", c->d_ff, "1.DenseReluDense.wo.weight", 1);
    load_leave(l, here);
}

static void load_tensors(loader *l, t5 *m, bool streamed)
{
    const config_t5 *c = &m->cfg;
    int64_t buckets[] = {c->relative_attention_num_buckets, c->num_heads};
    m->layers = load_array(l, (size_t)c->num_layers, sizeof *m->layers, "the layers");
    if (!m->layers) return;
    check_config(l, c);
    load_table(l, &m->tokens, c->vocab_size, c->d_model, "shared.weight");
    size_t here = load_enter(l, "encoder.");
    load_matrix(l, &m->relative_bias, buckets, 2,
                "block.0.layer.0.SelfAttention.relative_attention_bias.weight");
    for (int i = 0; i < c->num_layers; i++) {
        size_t mark = load_enter(l, "block.%d.", i);
        l->names_only = streamed;
        load_layer(l, &m->layers[i], c);
        l->names_only = false;
        load_leave(l, mark);
    }
    load_vector(l, &m->final_norm, c->d_model, "final_layer_norm.weight");
    load_leave(l, here);
}

static void load_place(loader *l, void *place, int i, const void *of)
{
    size_t here = load_enter(l, "encoder.block.%d.", i);
    load_layer(l, place, &((const t5 *)of)->cfg);
    load_leave(l, here);
}

static swd_status create(t5 **out, const config_t5 *cfg, weights *w, bool streamed, swd_backend *be,
                         swd_dtype compute, swd_err *err)
{
    static const char *const may_stay[] = {"encoder.embed_tokens.", "shared.", "decoder.",
                                           "lm_head.", NULL};
    t5 *m;
    *out = NULL;
    if (cfg->dense_act != (cfg->is_gated_act ? CONFIG_ACT_GELU_TANH : CONFIG_ACT_RELU))
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: config.json: feed_forward_proj is neither \"gated-gelu\" nor \"relu\"",
                        weights_path(w));
    SWD_TRY(weights_alias(w, "shared.weight", "encoder.embed_tokens.weight", err), err);
    SWD_TRY(swd_calloc(&m, 1, sizeof *m, "a T5 encoder", err), err);
    m->cfg = *cfg;
    m->act = cfg->is_gated_act ? SWD_ACT_NONE : SWD_ACT_RELU;
    loader l = loader_begin(&m->held, w, be, compute, err);
    load_tensors(&l, m, streamed);
    swd_status s = loader_end(&l, may_stay);
    const relay_source source = {.w = w,
                                 .compute = compute,
                                 .n = cfg->num_layers,
                                 .layer_bytes = sizeof(layer),
                                 .load = load_place,
                                 .of = m};
    if (streamed && s == SWD_OK) s = relay_create(&m->relay, &source, be, err);
    if (s != SWD_OK) t5_destroy(&m);
    *out = m;
    return s;
}

swd_status t5_create(t5 **out, const config_t5 *cfg, weights *w, swd_backend *be, swd_dtype compute,
                     swd_err *err)
{
    return create(out, cfg, w, false, be, compute, err);
}

swd_status t5_create_streamed(t5 **out, const config_t5 *cfg, weights *w, swd_backend *be,
                              swd_dtype compute, swd_err *err)
{
    return create(out, cfg, w, true, be, compute, err);
}

void t5_destroy(t5 **m)
{
    if (!*m) return;
    relay_destroy(&(*m)->relay);
    holdings_release(&(*m)->held);
    free(*m);
    *m = NULL;
}

swd_status t5_make_room(t5 *m, swd_err *err)
{
    return relay_make_room(m->relay, err);
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
    RUN(qkv_attention(o, qkv, m->cfg.d_kv, (attention_args){.scale = 1.0f, .bias = bias}, ex));
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

static swd_status run_layer(const swd_tensor *x, int n, swd_tensor bias, const layer *l,
                            const t5 *m, swd_exec *ex)
{
    for (int i = 0; i < n; i++) {
        RUN(attention(x[i], bias, l, m, ex));
        RUN(feed_forward(x[i], l, m, ex));
    }
    return SWD_OK;
}

static swd_status run_streamed(const swd_tensor *x, int n, swd_tensor bias, const t5 *m,
                               swd_exec *ex)
{
    int layers = ex->dry ? 1 : m->cfg.num_layers; // to measure, the first stands for all
    for (int i = 0; i < layers; i++) {
        void *place;
        RUN(relay_take(&place, m->relay, i, ex));
        RUN(run_layer(x, n, bias, place, m, ex));
        RUN(relay_done(m->relay, i, ex));
    }
    return SWD_OK;
}

swd_status t5_forward_each(const swd_tensor *hidden, const swd_tensor *ids, int n, t5 *m,
                           swd_exec *ex)
{
    int64_t b = ids[0].shape[0], tokens = ids[0].shape[1];
    size_t start = exec_mark(ex);
    swd_tensor x[T5_EACH_MAX], bias = exec3(ex, SWD_F32, m->cfg.num_heads, tokens, tokens);
    assert(n <= T5_EACH_MAX);
    for (int i = 0; i < n; i++) {
        x[i] = exec3(ex, SWD_F32, b, tokens, m->cfg.d_model);
        RUN(op_embed(x[i], m->tokens, ids[i], ex));
    }
    RUN(op_relative_bias(bias, m->relative_bias, m->cfg.relative_attention_max_distance, ex));
    if (m->relay) RUN(run_streamed(x, n, bias, m, ex));
    for (int i = 0; !m->relay && i < m->cfg.num_layers; i++)
        RUN(run_layer(x, n, bias, &m->layers[i], m, ex));
    for (int i = 0; i < n; i++)
        RUN(op_rms_norm(hidden[i], x[i], m->final_norm, (float)m->cfg.layer_norm_epsilon, ex));
    exec_rewind(ex, start);
    return SWD_OK;
}

swd_status t5_forward(swd_tensor hidden, swd_tensor ids, t5 *m, swd_exec *ex)
{
    return t5_forward_each(&hidden, &ids, 1, m, ex);
}
