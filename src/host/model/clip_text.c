// SPDX-License-Identifier: MIT
// CLIP text encoder: token + position embeddings, pre-norm blocks with causal attention; what diffusion models read is the
// state before the last block (hidden_states[-2]) and the projected row at the end of text.
#include "model/clip_text.h"
#include "model/load.h"
#include <math.h>
#include <stdlib.h>

typedef struct layer {
    swd_tensor norm1_w, norm1_b, norm2_w, norm2_b;
    swd_linear *qkv, *out, *fc1, *fc2;
} layer;

struct clip_text {
    config_clip_text cfg;
    swd_backend *be;
    swd_act act;
    swd_tensor tokens, positions, final_w, final_b;
    layer *layers;
    swd_linear *projection; // NULL: none
};

static swd_status act_of(swd_act *out, config_act act, swd_err *err)
{
    switch (act) {
    case CONFIG_ACT_QUICK_GELU:
        *out = SWD_ACT_QUICK_GELU;
        return SWD_OK;
    case CONFIG_ACT_GELU_ERF:
        *out = SWD_ACT_GELU_ERF;
        return SWD_OK;
    default:
        break;
    }
    return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                    "hidden_act of a CLIP text encoder must be quick_gelu or gelu");
}

static swd_status load_layer(const loader *ld, layer *l, const config_clip_text *c, int i)
{
    static const char *const names[] = {"q_proj", "k_proj", "v_proj"};
    int64_t d = c->hidden_size, wide = c->intermediate_size;
    SWD_TRY(load_vector(ld, &l->norm1_w, d, "text_model.encoder.layers.%d.layer_norm1.weight", i),
            ld->err);
    SWD_TRY(load_vector(ld, &l->norm1_b, d, "text_model.encoder.layers.%d.layer_norm1.bias", i),
            ld->err);
    SWD_TRY(load_vector(ld, &l->norm2_w, d, "text_model.encoder.layers.%d.layer_norm2.weight", i),
            ld->err);
    SWD_TRY(load_vector(ld, &l->norm2_b, d, "text_model.encoder.layers.%d.layer_norm2.bias", i),
            ld->err);
    SWD_TRY(load_stacked(ld, &l->qkv, 3, names, d, d, true,
                         "text_model.encoder.layers.%d.self_attn.", i),
            ld->err);
    SWD_TRY(
        load_linear(ld, &l->out, d, d, true, "text_model.encoder.layers.%d.self_attn.out_proj", i),
        ld->err);
    SWD_TRY(load_linear(ld, &l->fc1, wide, d, true, "text_model.encoder.layers.%d.mlp.fc1", i),
            ld->err);
    SWD_TRY(load_linear(ld, &l->fc2, d, wide, true, "text_model.encoder.layers.%d.mlp.fc2", i),
            ld->err);
    return SWD_OK;
}

static swd_status load_all(const loader *ld, clip_text *m)
{
    static const char *const may_stay[] = {"text_model.embeddings.position_ids", NULL};
    const config_clip_text *c = &m->cfg;
    int64_t d = c->hidden_size;
    SWD_TRY(act_of(&m->act, c->hidden_act, ld->err), ld->err);
    SWD_TRY(load_table(ld, &m->tokens, c->vocab_size, d,
                       "text_model.embeddings.token_embedding.weight"),
            ld->err);
    SWD_TRY(load_matrix(ld, &m->positions, (int64_t[]){c->max_position_embeddings, d}, 2,
                        "text_model.embeddings.position_embedding.weight"),
            ld->err);
    for (int i = 0; i < c->num_hidden_layers; i++)
        SWD_TRY(load_layer(ld, &m->layers[i], c, i), ld->err);
    SWD_TRY(load_vector(ld, &m->final_w, d, "text_model.final_layer_norm.weight"), ld->err);
    SWD_TRY(load_vector(ld, &m->final_b, d, "text_model.final_layer_norm.bias"), ld->err);
    if (c->with_projection)
        SWD_TRY(load_linear(ld, &m->projection, c->projection_dim, d, false, "text_projection"),
                ld->err);
    return weights_check_unused(ld->w, may_stay, ld->err);
}

swd_status clip_text_create(clip_text **out, const config_clip_text *cfg, weights *w,
                            swd_backend *be, swd_dtype compute, swd_err *err)
{
    loader ld = {w, be, compute, err};
    clip_text *m = calloc(1, sizeof *m);
    *out = NULL;
    if (m) m->layers = calloc((size_t)cfg->num_hidden_layers, sizeof *m->layers);
    if (!m || !m->layers) {
        free(m);
        return SWD_FAIL(err, SWD_ERR_MEMORY, "out of memory");
    }
    m->cfg = *cfg;
    m->be = be;
    swd_status s = load_all(&ld, m);
    if (s != SWD_OK) clip_text_destroy(&m);
    *out = m;
    return s;
}

void clip_text_destroy(clip_text **out)
{
    clip_text *m = *out;
    if (!m) return;
    swd_backend *be = m->be;
    for (int i = 0; i < m->cfg.num_hidden_layers; i++) {
        layer *l = &m->layers[i];
        swd_tensor *vectors[] = {&l->norm1_w, &l->norm1_b, &l->norm2_w, &l->norm2_b};
        swd_linear **linears[] = {&l->qkv, &l->out, &l->fc1, &l->fc2};
        for (int k = 0; k < 4; k++)
            load_release(be, vectors[k]), be->linear_destroy(be, linears[k]);
    }
    swd_tensor *tables[] = {&m->tokens, &m->positions, &m->final_w, &m->final_b};
    for (int k = 0; k < 4; k++) load_release(be, tables[k]);
    be->linear_destroy(be, &m->projection);
    free(m->layers);
    free(m);
    *out = NULL;
}

static swd_status run_layer(swd_tensor x, const layer *l, const clip_text *m, swd_exec *ex)
{
    int64_t b = x.shape[0], n = x.shape[1], d = x.shape[2];
    float eps = (float)m->cfg.layer_norm_eps;
    size_t mark = exec_mark(ex);
    swd_tensor h = exec3(ex, ex->act, b, n, d), qkv = exec3(ex, ex->act, b, n, 3 * d),
               o = exec3(ex, ex->act, b, n, d);
    swd_tensor wide = exec3(ex, ex->act, b, n, m->cfg.intermediate_size);
    RUN(op_layernorm(h, x, l->norm1_w, l->norm1_b, eps, ex));
    RUN(op_linear(qkv, h, l->qkv, SWD_ACT_NONE, ex));
    attention_args a = {
        .n_streams = 1, .causal = true, .scale = 1.0f / sqrtf((float)m->cfg.head_dim)};
    swd_tensor *parts[] = {&a.q[0], &a.k[0], &a.v[0]};
    for (int i = 0; i < 3; i++)
        *parts[i] = tensor_split_last(tensor_slice(qkv, 2, i * d, d), m->cfg.head_dim);
    a.o[0] = tensor_split_last(o, m->cfg.head_dim);
    RUN(op_attention(&a, ex));
    RUN(op_linear_residual(x, x, tensor_none(), o, l->out, ex));
    RUN(op_layernorm(h, x, l->norm2_w, l->norm2_b, eps, ex));
    RUN(op_linear(wide, h, l->fc1, m->act, ex));
    RUN(op_linear_residual(x, x, tensor_none(), wide, l->fc2, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

// Where the text ends. eos_token_id 2 is the old convention: the largest id is the end. Without any end-of-text: position 0.
static int64_t end_of_text(const int32_t *ids, int64_t n, int eos)
{
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        if (eos != 2 && ids[i] == eos) return i;
        if (eos == 2 && ids[i] > ids[at]) at = i;
    }
    return at;
}

swd_status clip_text_forward(swd_tensor hidden, swd_tensor pooled, swd_tensor ids,
                             const int32_t *host_ids, const clip_text *m, swd_exec *ex)
{
    int64_t b = ids.shape[0], n = ids.shape[1], d = m->cfg.hidden_size;
    if (n > m->cfg.max_position_embeddings)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT,
                        "%lld tokens for a CLIP text encoder of %d positions", (long long)n,
                        m->cfg.max_position_embeddings);
    size_t start = exec_mark(ex);
    swd_tensor x = exec3(ex, SWD_F32, b, n, d), rows = exec2(ex, SWD_F32, b, d);
    RUN(op_embed(x, m->tokens, ids, ex));
    swd_tensor flat = tensor_reshape(x, (int64_t[]){b, n * d}, 2),
               positions = tensor_slice(m->positions, 0, 0, n);
    for (int64_t i = 0; i < b; i++) { // x[i] += positions
        swd_tensor row = tensor_reshape(tensor_slice(flat, 0, i, 1), (int64_t[]){n, d}, 2);
        RUN(op_axpby(row, 1, row, 1, positions, ex));
    }
    for (int i = 0; i < m->cfg.num_hidden_layers; i++) {
        if (i == m->cfg.num_hidden_layers - 1) RUN(op_copy(hidden, x, ex));
        RUN(run_layer(x, &m->layers[i], m, ex));
    }
    for (int64_t i = 0; i < b; i++) {
        int64_t at = host_ids ? end_of_text(host_ids + i * n, n, m->cfg.eos_token_id) : 0;
        swd_tensor row = tensor_reshape(tensor_slice(flat, 0, i, 1), (int64_t[]){n, d}, 2);
        RUN(op_copy(tensor_slice(rows, 0, i, 1), tensor_slice(row, 0, at, 1), ex));
    }
    RUN(op_layernorm(rows, rows, m->final_w, m->final_b, (float)m->cfg.layer_norm_eps, ex));
    if (m->projection)
        RUN(op_linear(pooled, rows, m->projection, SWD_ACT_NONE, ex));
    else
        RUN(op_copy(pooled, rows, ex));
    exec_rewind(ex, start);
    return SWD_OK;
}
