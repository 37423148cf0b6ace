// SPDX-License-Identifier: MIT
// CLIP text encoder: token + position embeddings, pre-norm blocks with causal attention; what diffusion models read is the
// state before the last block (hidden_states[-2]) and the projected row at the end of text.
#include "model/clip_text.h"
#include "base/memory.h"
#include "model/clip_layer.h"

struct clip_text {
    holdings held;
    config_clip_text cfg;
    clip_layer_shape shape;
    swd_tensor tokens, positions;
    norm final;
    clip_layer *layers;
    swd_linear *projection; // NULL: none
};

static void check_config(loader *l, const config_clip_text *c)
{
    static const char tokens[] = "embeddings.token_embedding.weight",
                      positions[] = "embeddings.position_embedding.weight";
    size_t here = load_enter(l, "text_model.");
    expect_dim(l, "vocab_size", c->vocab_size, tokens, 0);
    expect_dim(l, "hidden_size", c->hidden_size, tokens, 1);
    expect_dim(l, "max_position_embeddings", c->max_position_embeddings, positions, 0);
    expect_count(l, "num_hidden_layers", c->num_hidden_layers, "encoder.layers", "mlp.fc1.weight");
    expect_dim(l, "intermediate_size", c->intermediate_size, "encoder.layers.0.mlp.fc1.weight", 0);
    load_leave(l, here);
    if (c->unprojected) return;
    expect_there(l, "architectures", c->with_projection, "text_projection.weight");
    expect_dim(l, "projection_dim", c->projection_dim, "text_projection.weight", 0);
}

static void load_tensors(loader *l, clip_text *m)
{
    const config_clip_text *c = &m->cfg;
    int64_t d = c->hidden_size, positions[] = {c->max_position_embeddings, d};
    m->layers = load_array(l, (size_t)c->num_hidden_layers, sizeof *m->layers, "the layers");
    if (!m->layers) return;
    check_config(l, c);
    size_t here = load_enter(l, "text_model.");
    load_table(l, &m->tokens, c->vocab_size, d, "embeddings.token_embedding.weight");
    load_matrix(l, &m->positions, positions, 2, "embeddings.position_embedding.weight");
    for (int i = 0; i < c->num_hidden_layers; i++) {
        size_t mark = load_enter(l, "encoder.layers.%d.", i);
        clip_layer_load(l, &m->layers[i], &m->shape);
        load_leave(l, mark);
    }
    load_norm(l, &m->final, d, "final_layer_norm");
    load_leave(l, here);
    if (c->with_projection && !c->unprojected)
        load_linear(l, &m->projection, c->projection_dim, d, WITHOUT_BIAS, "text_projection");
}

swd_status clip_text_create(clip_text **out, const config_clip_text *cfg, weights *w,
                            swd_backend *be, swd_dtype compute, swd_err *err)
{
    // A file of both towers has the rest, too.
    const char *const may_stay[] = {"text_model.embeddings.position_ids",
                                    "vision_model.",
                                    "visual_projection.",
                                    "logit_scale",
                                    cfg->unprojected ? "text_projection." : NULL,
                                    NULL};
    clip_text *m;
    swd_act act;
    *out = NULL;
    SWD_TRY(clip_layer_act(&act, cfg->hidden_act, weights_path(w), err), err);
    SWD_TRY(swd_calloc(&m, 1, sizeof *m, "a CLIP text encoder", err), err);
    m->cfg = *cfg;
    m->shape = (clip_layer_shape){.d = cfg->hidden_size,
                                  .wide = cfg->intermediate_size,
                                  .head_dim = cfg->head_dim,
                                  .eps = (float)cfg->layer_norm_eps,
                                  .act = act,
                                  .causal = true};
    loader l = loader_begin(&m->held, w, be, compute, err);
    load_tensors(&l, m);
    swd_status s = loader_end(&l, may_stay);
    if (s != SWD_OK) clip_text_destroy(&m);
    *out = m;
    return s;
}

void clip_text_destroy(clip_text **m)
{
    if (!*m) return;
    holdings_release(&(*m)->held);
    free(*m);
    *m = NULL;
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
        RUN(clip_layer_run(x, &m->layers[i], &m->shape, ex));
    }
    for (int64_t i = 0; i < b; i++) {
        int64_t at = host_ids ? end_of_text(host_ids + i * n, n, m->cfg.eos_token_id) : 0;
        swd_tensor row = tensor_reshape(tensor_slice(flat, 0, i, 1), (int64_t[]){n, d}, 2);
        RUN(op_copy(tensor_slice(rows, 0, i, 1), tensor_slice(row, 0, at, 1), ex));
    }
    RUN(op_layernorm(rows, rows, m->final.weight, m->final.bias, (float)m->cfg.layer_norm_eps, ex));
    if (m->projection)
        RUN(op_linear(pooled, rows, m->projection, SWD_ACT_NONE, ex));
    else
        RUN(op_copy(pooled, rows, ex));
    exec_rewind(ex, start);
    return SWD_OK;
}
