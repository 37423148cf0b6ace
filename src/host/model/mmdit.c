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
#include "model/joint.h"
#include <math.h>
#include <stdio.h>

// One stream of a block: image or context.
typedef struct half {
    joint_attention attn;
    joint_mlp mlp;
} half;

typedef struct block {
    half image, context;
    joint_attention attn2; // of the image tokens alone
    bool dual, context_pre_only;
} block;

typedef struct mmdit {
    denoiser base;
    config_sd3 cfg;
    swd_linear *patch, *out;
    swd_tensor position; // [max * max, D]
    block *blocks;
} mmdit;

static mmdit *of(const denoiser *d)
{
    return (mmdit *)(uintptr_t)d;
}

/* ---- loading ---- */

static void load_block(loader *l, mmdit *m, int i)
{
    const config_sd3 *c = &m->cfg;
    block *b = &m->blocks[i];
    int64_t d = c->inner_dim, head = c->attention_head_dim;
    int qk_norm = c->qk_norm_rms ? JOINT_QK_NORM : 0;
    b->dual = c->dual_attention[i];
    b->context_pre_only = i == c->num_layers - 1;
    half *x = &b->image, *y = &b->context;
    size_t here = load_enter(l, "transformer_blocks.%d.", i);
    load_joint_attention(l, &x->attn, d, head, "attn", JOINT_IMAGE, qk_norm | JOINT_OUT);
    if (b->dual)
        load_joint_attention(l, &b->attn2, d, head, "attn2", JOINT_IMAGE, qk_norm | JOINT_OUT);
    load_joint_mlp(l, &x->mlp, d, "ff");
    load_joint_attention(l, &y->attn, d, head, "attn", JOINT_CONTEXT,
                         qk_norm | (b->context_pre_only ? 0 : JOINT_OUT));
    if (!b->context_pre_only) load_joint_mlp(l, &y->mlp, d, "ff_context");
    load_leave(l, here);
}

static int64_t load_modulation(loader *l, swd_linear **out, int k, const void *model)
{
    const config_sd3 *c = &((const mmdit *)model)->cfg;
    int i = k / 2;
    bool end = i == c->num_layers, context = k % 2;
    int64_t d = c->inner_dim, parts = end || (context && i == c->num_layers - 1) ? 2
                                      : !context && c->dual_attention[i]         ? 9
                                                                                 : 6;
    size_t here = l->used;
    if (end)
        load_enter(l, "norm_out.");
    else
        load_enter(l, "transformer_blocks.%d.norm1%s.", i, context ? "_context" : "");
    load_linear(l, out, parts * d, d, WITH_BIAS, "linear");
    load_leave(l, here);
    return parts * d;
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

// Modulations: image and context of each block, then the output norm's.
static void load(loader *l, denoiser *base, const config_denoiser *cfg, bool streamed)
{
    mmdit *m = of(base);
    const config_sd3 *c = &m->cfg;
    m->cfg = cfg->sd3;
    int64_t d = c->inner_dim, places = (int64_t)c->pos_embed_max_size * c->pos_embed_max_size;
    int64_t patch = (int64_t)c->patch_size * c->patch_size * c->out_channels;
    int n = 2 * c->num_layers + 1;
    base->width = d;
    base->patch = c->patch_size;
    m->blocks = load_array(l, (size_t)c->num_layers, sizeof *m->blocks, "the blocks");
    if (l->status != SWD_OK) return;
    check_config(l, c);
    load_patch_linear(l, &m->patch, d, c->in_channels, c->patch_size, WITH_BIAS, "pos_embed.proj");
    load_matrix(l, &m->position, (int64_t[]){1, places, d}, 3, "pos_embed.pos_embed");
    load_embedder(l, &m->base.embedder, d, c->pooled_projection_dim, false);
    load_linear(l, &m->base.context, d, c->joint_attention_dim, WITH_BIAS, "context_embedder");
    for (int i = 0; i < c->num_layers; i++) load_block(l, m, i);
    load_modulations(l, &m->base.modulations, n, load_modulation, m, streamed);
    load_linear(l, &m->out, patch, d, WITH_BIAS, "proj_out");
    if (l->status == SWD_OK) m->position = tensor_reshape(m->position, (int64_t[]){places, d}, 2);
}

/* ---- running ---- */

// q, k and v of one stream as views [B, N, H, d] of one product, q and k normed in place.
static swd_status project(swd_tensor qkv[3], swd_tensor h, const joint_attention *a, const mmdit *m,
                          swd_exec *ex)
{
    swd_tensor packed = exec3(ex, ex->act, h.shape[0], h.shape[1], 3 * m->cfg.inner_dim);
    return joint_project(qkv, packed, h, tensor_none(), tensor_none(), a, m->cfg.attention_head_dim,
                         ex);
}

// The second attention of SD3.5-M: from h2, made of the same x as the first one's input.
static swd_status image_attention(swd_tensor x, swd_tensor h2, swd_tensor gate, const block *b,
                                  const mixed_batch *mix, const mmdit *m, swd_exec *ex)
{
    size_t mark = exec_mark(ex);
    swd_tensor qkv[3], o = exec3(ex, ex->act, x.shape[0], x.shape[1], x.shape[2]);
    RUN(project(qkv, mixed_flat(h2, mix), &b->attn2, m, ex));
    attention_args a = {.n_streams = 1,
                        .scale = 1.0f / sqrtf((float)m->cfg.attention_head_dim),
                        .samples = mix ? &mix->samples : NULL};
    a.q[0] = qkv[0], a.k[0] = qkv[1], a.v[0] = qkv[2],
    a.o[0] = tensor_split_last(mixed_flat(o, mix), m->cfg.attention_head_dim);
    RUN(op_attention(&a, ex));
    RUN(op_linear_residual(x, x, gate, o, b->attn2.out, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

static swd_status attend(swd_tensor x, swd_tensor c, swd_tensor mod_x, swd_tensor mod_c,
                         const block *b, const mixed_batch *mix, const mmdit *m, swd_exec *ex)
{
    int64_t d = m->cfg.inner_dim, head = m->cfg.attention_head_dim;
    swd_tensor hx = exec3(ex, ex->act, x.shape[0], x.shape[1], d),
               hc = exec3(ex, ex->act, c.shape[0], c.shape[1], d), h2 = {0};
    if (b->dual) {
        h2 = exec3(ex, ex->act, x.shape[0], x.shape[1], d);
        const swd_tensor shift[] = {modulation_part(mod_x, 0, d), modulation_part(mod_x, 6, d)},
                         scale[] = {modulation_part(mod_x, 1, d), modulation_part(mod_x, 7, d)};
        RUN(op_layernorm_modulate2((swd_tensor[]){hx, h2}, x, shift, scale, JOINT_NORM_EPS, ex));
    } else {
        RUN(op_layernorm_modulate(hx, x, modulation_part(mod_x, 0, d), modulation_part(mod_x, 1, d),
                                  JOINT_NORM_EPS, ex));
    }
    // the last block's context has the order of AdaLayerNormContinuous: scale, then shift
    RUN(op_layernorm_modulate(hc, c, modulation_part(mod_c, b->context_pre_only ? 1 : 0, d),
                              modulation_part(mod_c, b->context_pre_only ? 0 : 1, d),
                              JOINT_NORM_EPS, ex));
    size_t mark = exec_mark(ex);
    swd_tensor qx[3], qc[3], ox = exec3(ex, ex->act, x.shape[0], x.shape[1], d), oc = {0};
    RUN(project(qx, mixed_flat(hx, mix), &b->image.attn, m, ex));
    RUN(project(qc, mixed_flat(hc, mix), &b->context.attn, m, ex));
    attention_args a = {
        .n_streams = 2, .scale = 1.0f / sqrtf((float)head), .samples = mix ? &mix->samples : NULL};
    a.q[0] = qx[0], a.k[0] = qx[1], a.v[0] = qx[2];
    a.o[0] = tensor_split_last(mixed_flat(ox, mix), head);
    a.k[1] = qc[1], a.v[1] = qc[2];
    if (!b->context_pre_only) {
        oc = exec3(ex, ex->act, c.shape[0], c.shape[1], d);
        a.q[1] = qc[0], a.o[1] = tensor_split_last(mixed_flat(oc, mix), head);
    }
    RUN(op_attention(&a, ex));
    RUN(op_linear_residual(x, x, modulation_part(mod_x, 2, d), ox, b->image.attn.out, ex));
    if (!b->context_pre_only)
        RUN(op_linear_residual(c, c, modulation_part(mod_c, 2, d), oc, b->context.attn.out, ex));
    exec_rewind(ex, mark);
    if (b->dual) RUN(image_attention(x, h2, modulation_part(mod_x, 8, d), b, mix, m, ex));
    return SWD_OK;
}

typedef struct block_call {
    swd_tensor x, c, mod_x, mod_c;
    const block *b;
    const mixed_batch *mix;
    const mmdit *m;
} block_call;

static swd_status run_block(const void *args, swd_exec *ex)
{
    const block_call *a = args;
    const block *b = a->b;
    size_t mark = exec_mark(ex);
    RUN(attend(a->x, a->c, a->mod_x, a->mod_c, b, a->mix, a->m, ex));
    exec_rewind(ex, mark);
    RUN(joint_feed_forward(a->x, &b->image.mlp, a->mod_x, ex));
    if (!b->context_pre_only) RUN(joint_feed_forward(a->c, &b->context.mlp, a->mod_c, ex));
    return SWD_OK;
}

/* ---- a step ---- */

static swd_status add_places(swd_tensor x, swd_tensor latents, const mmdit *m, swd_exec *ex)
{
    int patch = m->cfg.patch_size;
    return op_add_position(x, m->position, (int)latents.shape[2] / patch,
                           (int)latents.shape[3] / patch, ex);
}

// The image tokens as they are after a block, copied; where only they are wanted the blocks behind it are left out.
typedef struct block_tap {
    swd_tensor to; // absent: there is none
    int after;
    bool only;
} block_tap;

// x [B, n, D] through all blocks, and the output layer's row for each token: y [B, n, patch^2 channels], whose order unpatchify knows.
static swd_status run_blocks(swd_tensor y, swd_tensor x, const conditions *cond, int64_t first_row,
                             const mixed_batch *mix, block_tap tap, const mmdit *m, swd_exec *ex)
{
    int64_t d = m->cfg.inner_dim, samples = mix ? mix->samples.n : x.shape[0];
    size_t start = exec_mark(ex);
    swd_tensor c = exec_alloc(ex, SWD_F32, cond->context.shape, 3), mod_x;
    RUN(op_copy(c, cond->context, ex));
    modulation_walk walk = modulation_begin(cond, &m->base.modulations, first_row, samples);
    for (int i = 0; i < m->cfg.num_layers; i++) {
        size_t mark = exec_mark(ex);
        RUN(mixed_spread(&mod_x, modulation_next(&walk), mix, ex));
        block_call call = {x, c, mod_x, modulation_next(&walk), &m->blocks[i], mix, m};
        RUN(exec_segment(ex, run_block, &call, sizeof call, (swd_tensor[]){x, c}, 2));
        exec_rewind(ex, mark);
        if (i == tap.after && tensor_present(tap.to)) RUN(op_copy(tap.to, x, ex));
        if (i == tap.after && tap.only) {
            exec_rewind(ex, start);
            return SWD_OK;
        }
    }
    swd_tensor normed = exec_alloc(ex, ex->act, x.shape, 3);
    RUN(mixed_spread(&mod_x, modulation_next(&walk), mix, ex));
    RUN(op_layernorm_modulate(normed, x, modulation_part(mod_x, 1, d), modulation_part(mod_x, 0, d),
                              JOINT_NORM_EPS, ex));
    RUN(op_linear(y, normed, m->out, SWD_ACT_NONE, ex));
    exec_rewind(ex, start);
    return SWD_OK;
}

// Each block is a segment.
static swd_status forward_features(swd_tensor velocity, swd_tensor features, int after,
                                   swd_tensor latents, const conditions *cond, int64_t first_row,
                                   const denoiser *d, swd_exec *ex)
{
    const mmdit *m = of(d);
    const block_tap tap = {features, after, !tensor_present(velocity)};
    int64_t batch = latents.shape[0], patch = m->cfg.patch_size, square = patch * patch,
            tokens = latents.shape[2] / patch * (latents.shape[3] / patch);
    size_t start = exec_mark(ex);
    swd_tensor x = exec3(ex, SWD_F32, batch, tokens, m->cfg.inner_dim);
    size_t mark = exec_mark(ex);
    swd_tensor patches = exec3(ex, SWD_F32, batch, tokens, square * latents.shape[1]);
    RUN(op_patchify(patches, latents, (int)patch, ex));
    RUN(op_linear(x, patches, m->patch, SWD_ACT_NONE, ex));
    RUN(add_places(x, latents, m, ex));
    exec_rewind(ex, mark);
    swd_tensor y = exec3(ex, SWD_F32, batch, tokens, square * m->cfg.out_channels);
    RUN(run_blocks(y, x, cond, first_row, NULL, tap, m, ex));
    if (!tap.only) RUN(op_unpatchify(velocity, y, (int)patch, ex));
    exec_rewind(ex, start);
    return SWD_OK;
}

static swd_status forward(swd_tensor velocity, swd_tensor latents, const conditions *cond,
                          int64_t first_row, const denoiser *d, swd_exec *ex)
{
    return forward_features(velocity, tensor_none(), 0, latents, cond, first_row, d, ex);
}

// Equal to a call for each image but for the order of sums.
static swd_status forward_mixed(const mixed_batch *mix, const conditions *cond, const denoiser *d,
                                swd_exec *ex)
{
    const mmdit *m = of(d);
    int patch = m->cfg.patch_size, square = patch * patch;
    size_t start = exec_mark(ex);
    swd_tensor x = exec3(ex, SWD_F32, 1, mix->rows, m->cfg.inner_dim);
    size_t mark = exec_mark(ex);
    swd_tensor patches = exec3(ex, SWD_F32, 1, mix->rows, square * mix->part[0].latents.shape[1]);
    for (int i = 0; i < mix->n_parts; i++)
        RUN(op_patchify(mixed_part_of(patches, i, patch, mix), mix->part[i].latents, patch, ex));
    RUN(op_linear(x, patches, m->patch, SWD_ACT_NONE, ex));
    for (int i = 0; i < mix->n_parts; i++)
        RUN(add_places(mixed_part_of(x, i, patch, mix), mix->part[i].latents, m, ex));
    exec_rewind(ex, mark);
    swd_tensor y = exec3(ex, SWD_F32, 1, mix->rows, square * m->cfg.out_channels);
    RUN(run_blocks(mixed_chunks(y, mix), mixed_chunks(x, mix), cond, 0, mix,
                   (block_tap){.after = -1}, m, ex));
    for (int i = 0; i < mix->n_parts; i++)
        RUN(op_unpatchify(mix->part[i].velocity, mixed_part_of(y, i, patch, mix), patch, ex));
    exec_rewind(ex, start);
    return SWD_OK;
}

static double flops(const denoiser *of_model, int64_t batch, int64_t h, int64_t w,
                    int64_t text_tokens)
{
    const mmdit *m = of(of_model);
    const config_sd3 *c = &m->cfg;
    double d = c->inner_dim, patch = c->patch_size,
           n = (double)(h / c->patch_size) * (double)(w / c->patch_size), l = (double)text_tokens;
    double total =
        n * d * patch * patch * (c->in_channels + c->out_channels) + l * d * c->joint_attention_dim;
    total += d * ((double)linear_facts(m->base.embedder.time[0])->k + c->pooled_projection_dim +
                  2 * d + 2 * d);
    for (int i = 0; i < c->num_layers; i++) {
        bool last = i == c->num_layers - 1, dual = c->dual_attention[i];
        total += n * 12 * d * d + (last ? 3 : 12) * l * d * d; // qkv 3, out 1, mlp 8
        total += 2 * (last ? n : n + l) * (n + l) * d;
        total += (dual ? 9 : 6) * d * d + (last ? 2 : 6) * d * d;
        if (dual) total += 4 * n * d * d + 2 * n * n * d;
    }
    return 2 * (double)batch * total;
}

/* ---- the class ---- */

static float timestep(float sigma)
{
    return 1000.0f * sigma;
}

static swd_status read_config(config_denoiser *out, const char *path, swd_err *err)
{
    return config_sd3_read(&out->sd3, path, err);
}

static denoiser_facts facts_of(const config_denoiser *c)
{
    const config_sd3 *s = &c->sd3;
    return (denoiser_facts){.channels = s->in_channels,
                            .patch = s->patch_size,
                            .sample_size = s->sample_size,
                            .side_max = s->pos_embed_max_size * s->patch_size,
                            .context_width = s->joint_attention_dim,
                            .pooled_width = s->pooled_projection_dim};
}

static void describe(const config_denoiser *c, char *buf, size_t n)
{
    const config_sd3 *s = &c->sd3;
    snprintf(buf, n, "%d layers, %d heads of %d, dual attention in %d, %s, patch %d, %d channels",
             s->num_layers, s->num_attention_heads, s->attention_head_dim, s->n_dual,
             s->qk_norm_rms ? "QK RMS norm" : "no QK norm", s->patch_size, s->in_channels);
}

const denoiser_class mmdit_class = {
    .name = "SD3Transformer2DModel",
    .bytes = sizeof(mmdit),
    .read = read_config,
    .facts = facts_of,
    .describe = describe,
    .load = load,
    .timestep = timestep,
    .forward = forward,
    .flops = flops,
    .forward_mixed = forward_mixed,
    .forward_features = forward_features,
};
