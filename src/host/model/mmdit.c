// SPDX-License-Identifier: MIT
// SD3Transformer2DModel: SD3, SD3.5-L (RMS norm of q and k), SD3.5-M (a second, image-only attention in some blocks).
//
//   x = patches(latents) + position     c = context     temb = MLP(sinusoid(t)) + MLP(pooled)
//   block: shift, scale, gate per half from silu(temb), for each stream
//       x += gate * out(attention(q, k, v of x, then of c))      (+ gate2 * attention2(x alone))
//       x += gate * mlp(norm(x) * (1 + scale) + shift)           and the same for c, but in the last block
//   velocity = unpatchify(linear(norm(x) * (1 + scale) + shift))
#include "model/mmdit.h"
#include "base/memory.h"
#include "model/load.h"
#include "model/qkv.h"
#include <math.h>

static const float NORM_EPS = 1e-6f;
enum { TIME_DIM = 256 };

typedef struct attention {
    swd_linear *qkv, *out;
    swd_tensor norm_q, norm_k; // [head_dim], absent without QK norm
} attention;

// One stream of a block: image or context.
typedef struct half {
    swd_linear *modulation; // [6D, 9D or 2D, D]
    attention attn;
    swd_linear *mlp_in, *mlp_out;
} half;

typedef struct block {
    half image, context;
    attention attn2; // of the image tokens alone
    bool dual, context_pre_only;
} block;

struct mmdit {
    holdings held;
    config_sd3 cfg;
    swd_linear *patch, *time1, *time2, *pooled1, *pooled2, *context, *norm_out, *out;
    swd_tensor position; // [max * max, D]
    block *blocks;
};

/* ---- loading ---- */

typedef struct attention_names {
    const char *qkv[3], *norm_q, *norm_k, *out;
} attention_names;

static const attention_names of_image = {
    .qkv = {"to_q", "to_k", "to_v"},
    .norm_q = "norm_q.weight",
    .norm_k = "norm_k.weight",
    .out = "to_out.0",
};
static const attention_names of_context = {
    .qkv = {"add_q_proj", "add_k_proj", "add_v_proj"},
    .norm_q = "norm_added_q.weight",
    .norm_k = "norm_added_k.weight",
    .out = "to_add_out",
};

static void load_attention(loader *l, attention *a, const config_sd3 *c, const char *part,
                           const attention_names *names, bool with_out)
{
    int64_t d = c->inner_dim, head = c->attention_head_dim;
    size_t here = load_enter(l, "%s.", part);
    load_stacked(l, &a->qkv, 3, names->qkv, d, d, WITH_BIAS);
    if (c->qk_norm_rms) load_vector(l, &a->norm_q, head, names->norm_q);
    if (c->qk_norm_rms) load_vector(l, &a->norm_k, head, names->norm_k);
    if (with_out) load_linear(l, &a->out, d, d, WITH_BIAS, names->out);
    load_leave(l, here);
}

static void load_mlp(loader *l, half *h, int64_t d, const char *part)
{
    size_t here = load_enter(l, "%s.net.", part);
    load_linear(l, &h->mlp_in, 4 * d, d, WITH_BIAS, "0.proj");
    load_linear(l, &h->mlp_out, d, 4 * d, WITH_BIAS, "2");
    load_leave(l, here);
}

static void load_block(loader *l, block *b, const config_sd3 *c, int i)
{
    int64_t d = c->inner_dim;
    b->dual = c->dual_attention[i];
    b->context_pre_only = i == c->num_layers - 1;
    half *x = &b->image, *y = &b->context;
    size_t here = load_enter(l, "transformer_blocks.%d.", i);
    load_linear(l, &x->modulation, (b->dual ? 9 : 6) * d, d, WITH_BIAS, "norm1.linear");
    load_attention(l, &x->attn, c, "attn", &of_image, true);
    if (b->dual) load_attention(l, &b->attn2, c, "attn2", &of_image, true);
    load_mlp(l, x, d, "ff");
    load_linear(l, &y->modulation, (b->context_pre_only ? 2 : 6) * d, d, WITH_BIAS,
                "norm1_context.linear");
    load_attention(l, &y->attn, c, "attn", &of_context, !b->context_pre_only);
    if (!b->context_pre_only) load_mlp(l, y, d, "ff_context");
    load_leave(l, here);
}

static void check_config(loader *l, const config_sd3 *c)
{
    int patch = c->patch_size, side = c->pos_embed_max_size;
    expect_count(l, "num_layers", c->num_layers, "transformer_blocks", "norm1.linear.weight");
    expect_dim(l, "caption_projection_dim", c->inner_dim, "pos_embed.proj.weight", 0);
    expect_dim(l, "in_channels", c->in_channels, "pos_embed.proj.weight", 1);
    expect_dim(l, "patch_size", patch, "pos_embed.proj.weight", 2);
    expect_dim(l, "out_channels", (int64_t)patch * patch * c->out_channels, "proj_out.weight", 0);
    expect_dim(l, "pos_embed_max_size", (int64_t)side * side, "pos_embed.pos_embed", 1);
    expect_dim(l, "joint_attention_dim", c->joint_attention_dim, "context_embedder.weight", 1);
    expect_dim(l, "pooled_projection_dim", c->pooled_projection_dim,
               "time_text_embed.text_embedder.linear_1.weight", 1);
    expect_there(l, "qk_norm", c->qk_norm_rms, "transformer_blocks.0.attn.norm_q.weight");
    expect_dim(l, "attention_head_dim", c->attention_head_dim,
               "transformer_blocks.0.attn.norm_q.weight", 0);
    for (int i = 0; i < c->num_layers; i++) {
        size_t here = load_enter(l, "transformer_blocks.%d.", i);
        expect_there(l, "dual_attention_layers", c->dual_attention[i], "attn2.to_q.weight");
        load_leave(l, here);
    }
}

static void load_tensors(loader *l, mmdit *m)
{
    const config_sd3 *c = &m->cfg;
    int64_t d = c->inner_dim, places = (int64_t)c->pos_embed_max_size * c->pos_embed_max_size;
    int64_t patch = (int64_t)c->patch_size * c->patch_size * c->out_channels;
    m->blocks = load_array(l, (size_t)c->num_layers, sizeof *m->blocks, "the blocks");
    if (!m->blocks) return;
    check_config(l, c);
    load_patch_linear(l, &m->patch, d, c->in_channels, c->patch_size, "pos_embed.proj");
    load_matrix(l, &m->position, (int64_t[]){1, places, d}, 3, "pos_embed.pos_embed");
    size_t here = load_enter(l, "time_text_embed.");
    load_linear(l, &m->time1, d, TIME_DIM, WITH_BIAS, "timestep_embedder.linear_1");
    load_linear(l, &m->time2, d, d, WITH_BIAS, "timestep_embedder.linear_2");
    load_linear(l, &m->pooled1, d, c->pooled_projection_dim, WITH_BIAS, "text_embedder.linear_1");
    load_linear(l, &m->pooled2, d, d, WITH_BIAS, "text_embedder.linear_2");
    load_leave(l, here);
    load_linear(l, &m->context, d, c->joint_attention_dim, WITH_BIAS, "context_embedder");
    for (int i = 0; i < c->num_layers; i++) load_block(l, &m->blocks[i], c, i);
    load_linear(l, &m->norm_out, 2 * d, d, WITH_BIAS, "norm_out.linear");
    load_linear(l, &m->out, patch, d, WITH_BIAS, "proj_out");
    if (l->status == SWD_OK) m->position = tensor_reshape(m->position, (int64_t[]){places, d}, 2);
}

swd_status mmdit_create(mmdit **out, const config_sd3 *cfg, weights *w, swd_backend *be,
                        swd_dtype compute, swd_err *err)
{
    mmdit *m;
    *out = NULL;
    SWD_TRY(swd_calloc(&m, 1, sizeof *m, "an MMDiT", err), err);
    m->cfg = *cfg;
    loader l = loader_begin(&m->held, w, be, compute, err);
    load_tensors(&l, m);
    swd_status s = loader_end(&l, NULL);
    if (s != SWD_OK) mmdit_destroy(&m);
    *out = m;
    return s;
}

void mmdit_destroy(mmdit **m)
{
    if (!*m) return;
    holdings_release(&(*m)->held);
    free(*m);
    *m = NULL;
}

/* ---- running ---- */

// Third i of width D of a modulation row [B, n * D].
static swd_tensor chunk(swd_tensor t, int i, int64_t d)
{
    return tensor_slice(t, 1, i * d, d);
}

// q, k and v of one stream as views [B, N, H, d] of one product, q and k normed in place.
static swd_status project(swd_tensor qkv[3], swd_tensor h, const attention *a, const mmdit *m,
                          swd_exec *ex)
{
    swd_tensor packed = exec3(ex, ex->act, h.shape[0], h.shape[1], 3 * m->cfg.inner_dim);
    RUN(op_linear(packed, h, a->qkv, SWD_ACT_NONE, ex));
    qkv_split(qkv, packed, m->cfg.attention_head_dim);
    if (!m->cfg.qk_norm_rms) return SWD_OK;
    return op_qk_norm(qkv[0], qkv[1], a->norm_q, a->norm_k, NORM_EPS, ex);
}

// x += gate * mlp(norm(x) * (1 + scale) + shift)
static swd_status feed_forward(swd_tensor x, const half *h, swd_tensor mod, const mmdit *m,
                               swd_exec *ex)
{
    int64_t d = m->cfg.inner_dim;
    size_t mark = exec_mark(ex);
    swd_tensor normed = exec3(ex, ex->act, x.shape[0], x.shape[1], d),
               wide = exec3(ex, ex->act, x.shape[0], x.shape[1], 4 * d);
    RUN(op_layernorm_modulate(normed, x, chunk(mod, 3, d), chunk(mod, 4, d), NORM_EPS, ex));
    RUN(op_linear(wide, normed, h->mlp_in, SWD_ACT_GELU_TANH, ex));
    RUN(op_linear_residual(x, x, chunk(mod, 5, d), wide, h->mlp_out, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

// The second attention of SD3.5-M: from h2, made of the same x as the first one's input.
static swd_status image_attention(swd_tensor x, swd_tensor h2, swd_tensor gate, const block *b,
                                  const mmdit *m, swd_exec *ex)
{
    size_t mark = exec_mark(ex);
    swd_tensor qkv[3], o = exec3(ex, ex->act, x.shape[0], x.shape[1], x.shape[2]);
    RUN(project(qkv, h2, &b->attn2, m, ex));
    attention_args a = {.n_streams = 1, .scale = 1.0f / sqrtf((float)m->cfg.attention_head_dim)};
    a.q[0] = qkv[0], a.k[0] = qkv[1], a.v[0] = qkv[2],
    a.o[0] = tensor_split_last(o, m->cfg.attention_head_dim);
    RUN(op_attention(&a, ex));
    RUN(op_linear_residual(x, x, gate, o, b->attn2.out, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

static swd_status joint_attention(swd_tensor x, swd_tensor c, swd_tensor mod_x, swd_tensor mod_c,
                                  const block *b, const mmdit *m, swd_exec *ex)
{
    int64_t d = m->cfg.inner_dim, head = m->cfg.attention_head_dim;
    swd_tensor hx = exec3(ex, ex->act, x.shape[0], x.shape[1], d),
               hc = exec3(ex, ex->act, c.shape[0], c.shape[1], d), h2 = {0};
    if (b->dual) {
        h2 = exec3(ex, ex->act, x.shape[0], x.shape[1], d);
        const swd_tensor shift[] = {chunk(mod_x, 0, d), chunk(mod_x, 6, d)},
                         scale[] = {chunk(mod_x, 1, d), chunk(mod_x, 7, d)};
        RUN(op_layernorm_modulate2((swd_tensor[]){hx, h2}, x, shift, scale, NORM_EPS, ex));
    } else {
        RUN(op_layernorm_modulate(hx, x, chunk(mod_x, 0, d), chunk(mod_x, 1, d), NORM_EPS, ex));
    }
    // the last block's context has the order of AdaLayerNormContinuous: scale, then shift
    RUN(op_layernorm_modulate(hc, c, chunk(mod_c, b->context_pre_only ? 1 : 0, d),
                              chunk(mod_c, b->context_pre_only ? 0 : 1, d), NORM_EPS, ex));
    size_t mark = exec_mark(ex);
    swd_tensor qx[3], qc[3], ox = exec3(ex, ex->act, x.shape[0], x.shape[1], d), oc = {0};
    RUN(project(qx, hx, &b->image.attn, m, ex));
    RUN(project(qc, hc, &b->context.attn, m, ex));
    attention_args a = {.n_streams = 2, .scale = 1.0f / sqrtf((float)head)};
    a.q[0] = qx[0], a.k[0] = qx[1], a.v[0] = qx[2], a.o[0] = tensor_split_last(ox, head);
    a.k[1] = qc[1], a.v[1] = qc[2];
    if (!b->context_pre_only) {
        oc = exec3(ex, ex->act, c.shape[0], c.shape[1], d);
        a.q[1] = qc[0], a.o[1] = tensor_split_last(oc, head);
    }
    RUN(op_attention(&a, ex));
    RUN(op_linear_residual(x, x, chunk(mod_x, 2, d), ox, b->image.attn.out, ex));
    if (!b->context_pre_only)
        RUN(op_linear_residual(c, c, chunk(mod_c, 2, d), oc, b->context.attn.out, ex));
    exec_rewind(ex, mark);
    if (b->dual) RUN(image_attention(x, h2, chunk(mod_x, 8, d), b, m, ex));
    return SWD_OK;
}

static swd_status run_block(swd_tensor x, swd_tensor c, swd_tensor mod_x, swd_tensor mod_c,
                            const block *b, const mmdit *m, swd_exec *ex)
{
    size_t mark = exec_mark(ex);
    RUN(joint_attention(x, c, mod_x, mod_c, b, m, ex));
    exec_rewind(ex, mark);
    RUN(feed_forward(x, &b->image, mod_x, m, ex));
    if (!b->context_pre_only) RUN(feed_forward(c, &b->context, mod_c, m, ex));
    return SWD_OK;
}

/* ---- conditions ---- */

// Layer k of the modulations in the order of their matrices: image and context of each block, then the output norm's. NULL behind it.
static const swd_linear *modulation_layer(const mmdit *m, int k)
{
    const block *b = &m->blocks[k / 2];
    int n = 2 * m->cfg.num_layers;
    return k > n    ? NULL
           : k == n ? m->norm_out
           : k % 2  ? b->context.modulation
                    : b->image.modulation;
}

// The next `rows` rows from `first` on of the matrix of a layer; *at counts the elements of those before it.
static swd_tensor next_modulation(int64_t *at, const swd_linear *layer, const mmdit_conditions *c,
                                  int64_t first, int64_t rows)
{
    int64_t n = linear_facts(layer)->n;
    swd_tensor matrix = tensor_slice(c->modulation, 0, *at, c->rows * n);
    *at += c->rows * n;
    return tensor_slice(tensor_reshape(matrix, (int64_t[]){c->rows, n}, 2), 0, first, rows);
}

mmdit_conditions mmdit_conditions_alloc(int64_t rows, int64_t batch, int64_t text_tokens,
                                        const mmdit *m, swd_exec *ex)
{
    int64_t width = 0;
    for (int k = 0; modulation_layer(m, k); k++) width += linear_facts(modulation_layer(m, k))->n;
    return (mmdit_conditions){.modulation = exec1(ex, SWD_F32, rows * width),
                              .context = exec3(ex, SWD_F32, batch, text_tokens, m->cfg.inner_dim),
                              .rows = rows};
}

swd_status mmdit_embed_context(const mmdit_conditions *c, swd_tensor context, const mmdit *m,
                               swd_exec *ex)
{
    return op_linear(c->context, context, m->context, SWD_ACT_NONE, ex);
}

// y [B, N] = a layer of x [B, K], whose rows are samples and steps: none of their results may depend on how many there are.
static swd_status linear_of_rows(swd_tensor y, swd_tensor x, const swd_linear *w, swd_act act,
                                 swd_exec *ex)
{
    int64_t rows = x.shape[0];
    return op_linear(tensor_reshape(y, (int64_t[]){rows, 1, y.shape[1]}, 3),
                     tensor_reshape(x, (int64_t[]){rows, 1, x.shape[1]}, 3), w, act, ex);
}

// silu(MLP(sinusoid(t)) + MLP(pooled)): every use of temb is behind a SiLU
static swd_status time_embedding(swd_tensor temb_silu, swd_tensor t, swd_tensor pooled,
                                 const mmdit *m, swd_exec *ex)
{
    size_t mark = exec_mark(ex);
    int64_t rows = t.shape[0], batch = pooled.shape[0], d = m->cfg.inner_dim;
    swd_tensor sinusoid = exec2(ex, SWD_F32, rows, TIME_DIM), hidden = exec2(ex, SWD_F32, rows, d),
               hidden_text = exec2(ex, SWD_F32, batch, d), text = exec2(ex, SWD_F32, batch, d);
    RUN(op_timestep_sinusoid(sinusoid, t, ex));
    RUN(linear_of_rows(hidden, sinusoid, m->time1, SWD_ACT_SILU, ex));
    RUN(linear_of_rows(temb_silu, hidden, m->time2, SWD_ACT_NONE, ex));
    RUN(linear_of_rows(hidden_text, pooled, m->pooled1, SWD_ACT_SILU, ex));
    RUN(linear_of_rows(text, hidden_text, m->pooled2, SWD_ACT_NONE, ex));
    for (int64_t r = 0; r < rows; r += batch) {
        swd_tensor step = tensor_slice(temb_silu, 0, r, batch);
        RUN(op_axpby(step, 1, step, 1, text, ex));
    }
    RUN(op_activation(temb_silu, temb_silu, SWD_ACT_SILU, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

swd_status mmdit_modulate(const mmdit_conditions *c, swd_tensor t, swd_tensor pooled,
                          const mmdit *m, swd_exec *ex)
{
    size_t mark = exec_mark(ex);
    int64_t rows = t.shape[0], at = 0;
    swd_tensor temb_silu = exec2(ex, SWD_F32, rows, m->cfg.inner_dim);
    RUN(time_embedding(temb_silu, t, pooled, m, ex));
    for (int k = 0; modulation_layer(m, k); k++) {
        const swd_linear *layer = modulation_layer(m, k);
        swd_tensor y = next_modulation(&at, layer, c, 0, rows);
        RUN(linear_of_rows(y, temb_silu, layer, SWD_ACT_NONE, ex));
    }
    exec_rewind(ex, mark);
    return SWD_OK;
}

/* ---- a step ---- */

swd_status mmdit_forward(swd_tensor velocity, swd_tensor latents, const mmdit_conditions *cond,
                         int64_t first_row, const mmdit *m, swd_exec *ex)
{
    int64_t batch = latents.shape[0], d = m->cfg.inner_dim, patch = m->cfg.patch_size, at = 0;
    int64_t grid_h = latents.shape[2] / patch, grid_w = latents.shape[3] / patch,
            tokens = grid_h * grid_w;
    size_t start = exec_mark(ex);
    swd_tensor x = exec3(ex, SWD_F32, batch, tokens, d),
               c = exec_alloc(ex, SWD_F32, cond->context.shape, 3);
    RUN(op_copy(c, cond->context, ex));
    size_t mark = exec_mark(ex);
    swd_tensor patches = exec3(ex, SWD_F32, batch, tokens, patch * patch * latents.shape[1]);
    RUN(op_patchify(patches, latents, (int)patch, ex));
    RUN(op_linear(x, patches, m->patch, SWD_ACT_NONE, ex));
    RUN(op_add_position(x, m->position, (int)grid_h, (int)grid_w, ex));
    exec_rewind(ex, mark);

    for (int i = 0; i < m->cfg.num_layers; i++) {
        const block *b = &m->blocks[i];
        swd_tensor mod_x = next_modulation(&at, b->image.modulation, cond, first_row, batch),
                   mod_c = next_modulation(&at, b->context.modulation, cond, first_row, batch);
        RUN(run_block(x, c, mod_x, mod_c, b, m, ex));
    }

    swd_tensor mod = next_modulation(&at, m->norm_out, cond, first_row, batch);
    swd_tensor normed = exec3(ex, ex->act, batch, tokens, d);
    swd_tensor y = exec3(ex, SWD_F32, batch, tokens, patch * patch * m->cfg.out_channels);
    RUN(op_layernorm_modulate(normed, x, chunk(mod, 1, d), chunk(mod, 0, d), NORM_EPS, ex));
    RUN(op_linear(y, normed, m->out, SWD_ACT_NONE, ex));
    RUN(op_unpatchify(velocity, y, (int)patch, ex));
    exec_rewind(ex, start);
    return SWD_OK;
}

double mmdit_flops(const mmdit *m, int64_t batch, int64_t h, int64_t w, int64_t text_tokens)
{
    const config_sd3 *c = &m->cfg;
    double d = c->inner_dim, patch = c->patch_size,
           n = (double)(h / c->patch_size) * (double)(w / c->patch_size), l = (double)text_tokens;
    double total =
        n * d * patch * patch * (c->in_channels + c->out_channels) + l * d * c->joint_attention_dim;
    total += d * (TIME_DIM + c->pooled_projection_dim + 2 * d + 2 * d);
    for (int i = 0; i < c->num_layers; i++) {
        bool last = i == c->num_layers - 1, dual = c->dual_attention[i];
        total += n * 12 * d * d + (last ? 3 : 12) * l * d * d; // qkv 3, out 1, mlp 8
        total += 2 * (last ? n : n + l) * (n + l) * d;
        total += (dual ? 9 : 6) * d * d + (last ? 2 : 6) * d * d;
        if (dual) total += 4 * n * d * d + 2 * n * n * d;
    }
    return 2 * (double)batch * total;
}
