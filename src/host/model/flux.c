// SPDX-License-Identifier: MIT
// FluxTransformer2DModel: FLUX.1.
//
//   s = [context, packed latents], one buffer: text tokens first, then the image's
//   double block: shift, scale, gate per half from silu(temb), for each stream with its own weights
//       s += gate * out(attention(q, k, v of all of s))          q and k: RMS norm, then turned by their place
//       s += gate * mlp(norm(s) * (1 + scale) + shift)
//   single block: n = norm(s) * (1 + scale) + shift
//       s += gate * out(attention(q, k, v of n), gelu(mlp_in(n)))
//   velocity = unpack(linear(norm(image) * (1 + scale) + shift))
//
// Place: a head's pairs (x0, x1) are turned by place * 10000^(-2 i / axis), pair i of each of three axes: the first knows no places, the others
// the row and the column of an image token. Text stands still: cos 1, sin 0.
#include "model/flux.h"
#include "base/memory.h"
#include "model/joint.h"
#include "model/qkv.h"
#include <math.h>
#include <stdio.h>

enum { ROW, COLUMN };
enum {
    PATCH = 2,                               // latents are packed in patches of 2 x 2
    PLACES = CONFIG_LATENT_SIDE_MAX / PATCH, // along each side of their grid
    SAMPLE_SIZE = 128                        // of the pipeline, the config has none
};

typedef struct double_block {
    joint_attention image, context;
    joint_mlp image_mlp, context_mlp;
} double_block;

// A row of its scratch is o, mlp, q, k, v: the first product fills all but o, the second reads o and mlp.
typedef struct single_block {
    swd_linear *in, *out; // [7D, D], [D, 5D]
    swd_tensor norm_q, norm_k;
} single_block;

typedef struct flux {
    denoiser base;
    config_flux cfg;
    swd_linear *image, *out;
    swd_tensor cos[2], sin[2]; // F32 [PLACES, axis / 2] of rows and columns
    double_block *doubles;
    single_block *singles;
} flux;

static flux *of(const denoiser *d)
{
    return (flux *)(uintptr_t)d;
}

/* ---- loading ---- */

static void load_double(loader *l, flux *m, int i)
{
    double_block *b = &m->doubles[i];
    int64_t d = m->cfg.inner_dim, head = m->cfg.attention_head_dim;
    size_t here = load_enter(l, "transformer_blocks.%d.", i);
    load_joint_attention(l, &b->image, d, head, "attn", JOINT_IMAGE, JOINT_QK_NORM | JOINT_OUT);
    load_joint_attention(l, &b->context, d, head, "attn", JOINT_CONTEXT, JOINT_QK_NORM | JOINT_OUT);
    load_joint_mlp(l, &b->image_mlp, d, "ff");
    load_joint_mlp(l, &b->context_mlp, d, "ff_context");
    load_leave(l, here);
}

static void load_single(loader *l, flux *m, int i)
{
    static const char *const in[] = {"proj_mlp", "attn.to_q", "attn.to_k", "attn.to_v"};
    single_block *b = &m->singles[i];
    int64_t d = m->cfg.inner_dim, head = m->cfg.attention_head_dim;
    size_t here = load_enter(l, "single_transformer_blocks.%d.", i);
    load_stacked_of(l, &b->in, 4, in, (int64_t[]){4 * d, d, d, d}, d, WITH_BIAS);
    load_vector(l, &b->norm_q, head, "attn.norm_q.weight");
    load_vector(l, &b->norm_k, head, "attn.norm_k.weight");
    load_linear(l, &b->out, d, 5 * d, WITH_BIAS, "proj_out");
    load_leave(l, here);
}

static int64_t load_modulation(loader *l, swd_linear **out, int k, const void *model)
{
    const config_flux *c = &((const flux *)model)->cfg;
    int single = k - 2 * c->num_layers;
    int64_t d = c->inner_dim, parts = single < 0 ? 6 : single < c->num_single_layers ? 3 : 2;
    size_t here = l->used;
    if (single < 0)
        load_enter(l, "transformer_blocks.%d.norm1%s.", k / 2, k % 2 ? "_context" : "");
    else if (single < c->num_single_layers)
        load_enter(l, "single_transformer_blocks.%d.norm.", single);
    else
        load_enter(l, "norm_out.");
    load_linear(l, out, parts * d, d, WITH_BIAS, "linear");
    load_leave(l, here);
    return parts * d;
}

static void check_config(loader *l, const config_flux *c)
{
    expect_count(l, "num_layers", c->num_layers, "transformer_blocks", "norm1.linear.weight");
    expect_count(l, "num_single_layers", c->num_single_layers, "single_transformer_blocks",
                 "norm.linear.weight");
    expect_dim(l, "in_channels", c->in_channels, "x_embedder.weight", 1);
    expect_dim(l, "out_channels", c->in_channels, "proj_out.weight", 0);
    expect_dim(l, "joint_attention_dim", c->joint_attention_dim, "context_embedder.weight", 1);
    expect_dim(l, "pooled_projection_dim", c->pooled_projection_dim,
               "time_text_embed.text_embedder.linear_1.weight", 1);
    expect_there(l, "guidance_embeds", c->guidance_embeds,
                 "time_text_embed.guidance_embedder.linear_1.weight");
    expect_dim(l, "attention_head_dim", c->attention_head_dim,
               "transformer_blocks.0.attn.norm_q.weight", 0);
    expect_dim(l, "attention_head_dim", c->attention_head_dim,
               "single_transformer_blocks.0.attn.norm_q.weight", 0);
    expect_dim(l, "num_attention_heads", c->inner_dim, "x_embedder.weight", 0);
}

// Angles in double precision, as the class has them.
static void make_places(loader *l, flux *m, int axis)
{
    int64_t n = m->cfg.axes_dims_rope[1 + axis] / 2;
    if (!n) return;
    float *cosines = load_array(l, (size_t)(PLACES * n), sizeof *cosines, "cosines"),
          *sines = load_array(l, (size_t)(PLACES * n), sizeof *sines, "sines");
    if (!cosines || !sines) return;
    for (int64_t i = 0; i < n; i++) {
        double frequency = 1.0 / pow(10000.0, (double)(2 * i) / (double)(2 * n));
        for (int64_t place = 0; place < PLACES; place++) {
            cosines[place * n + i] = (float)cos((double)place * frequency);
            sines[place * n + i] = (float)sin((double)place * frequency);
        }
    }
    load_values(l, &m->cos[axis], cosines, PLACES, n, "cosines");
    load_values(l, &m->sin[axis], sines, PLACES, n, "sines");
}

// Modulations: image and context of each double block, each single block's, the output norm's.
static void load(loader *l, denoiser *base, const config_denoiser *cfg, bool streamed)
{
    flux *m = of(base);
    const config_flux *c = &m->cfg;
    m->cfg = cfg->flux;
    int64_t d = c->inner_dim;
    int n = 2 * c->num_layers + c->num_single_layers + 1;
    base->width = d;
    base->patch = PATCH;
    m->doubles = load_array(l, (size_t)c->num_layers, sizeof *m->doubles, "the blocks");
    m->singles = load_array(l, (size_t)c->num_single_layers, sizeof *m->singles, "the blocks");
    if (l->status != SWD_OK) return;
    check_config(l, c);
    load_linear(l, &m->image, d, c->in_channels, WITH_BIAS, "x_embedder");
    load_linear(l, &m->base.context, d, c->joint_attention_dim, WITH_BIAS, "context_embedder");
    load_embedder(l, &m->base.embedder, d, c->pooled_projection_dim, c->guidance_embeds);
    for (int i = 0; i < c->num_layers; i++) load_double(l, m, i);
    for (int i = 0; i < c->num_single_layers; i++) load_single(l, m, i);
    load_modulations(l, &m->base.modulations, n, load_modulation, m, streamed);
    load_unpatch_linear(l, &m->out, c->in_channels / (PATCH * PATCH), PATCH, d, "proj_out");
    make_places(l, m, ROW);
    make_places(l, m, COLUMN);
}

/* ---- a step ---- */

// The tokens of a step: all of them, and the two parts as views; cos and sin are theirs, F32 [all, head_dim / 2].
typedef struct tokens {
    int64_t n_text, n_image;
    swd_tensor all, text, image, cos, sin;
} tokens;

static swd_tensor text_of(swd_tensor all, const tokens *t)
{
    return tensor_slice(all, 1, 0, t->n_text);
}

static swd_tensor image_of(swd_tensor all, const tokens *t)
{
    return tensor_slice(all, 1, t->n_text, t->n_image);
}

// The columns from `first` on of the image tokens' rows = those of a table, picked by the row or the column of the grid.
static swd_status spread(swd_tensor rows, swd_tensor table, int64_t first, int axis, int64_t grid_h,
                         int64_t grid_w, const tokens *t, swd_exec *ex)
{
    if (!tensor_present(table)) return SWD_OK;
    int64_t n = table.shape[1], stride = rows.shape[1];
    swd_tensor image = tensor_slice(tensor_slice(rows, 0, t->n_text, t->n_image), 1, first, n);
    swd_tensor to = image, from = table;
    to.ndim = from.ndim = 3;
    to.shape[0] = from.shape[0] = grid_h, to.shape[1] = from.shape[1] = grid_w;
    to.shape[2] = from.shape[2] = n;
    to.stride[0] = grid_w * stride, to.stride[1] = stride, to.stride[2] = 1;
    from.stride[0] = axis == ROW ? n : 0, from.stride[1] = axis == ROW ? 0 : n, from.stride[2] = 1;
    return op_copy(to, from, ex);
}

static swd_status place(tokens *t, int64_t grid_h, int64_t grid_w, const flux *m, swd_exec *ex)
{
    const int *axes = m->cfg.axes_dims_rope;
    int64_t n = t->n_text + t->n_image, first[] = {axes[0] / 2, (axes[0] + axes[1]) / 2};
    t->cos = exec2(ex, SWD_F32, n, m->cfg.attention_head_dim / 2);
    t->sin = exec2(ex, SWD_F32, n, m->cfg.attention_head_dim / 2);
    RUN(op_fill(t->cos, 1, ex));
    RUN(op_fill(t->sin, 0, ex));
    for (int axis = ROW; axis <= COLUMN; axis++) {
        RUN(spread(t->cos, m->cos[axis], first[axis], axis, grid_h, grid_w, t, ex));
        RUN(spread(t->sin, m->sin[axis], first[axis], axis, grid_h, grid_w, t, ex));
    }
    return SWD_OK;
}

static swd_status attend(swd_tensor o, swd_tensor q, swd_tensor k, swd_tensor v, const flux *m,
                         swd_exec *ex)
{
    int64_t head = m->cfg.attention_head_dim;
    attention_args a = {.n_streams = 1, .scale = 1.0f / sqrtf((float)head)};
    a.q[0] = q, a.k[0] = k, a.v[0] = v, a.o[0] = tensor_split_last(o, head);
    return op_attention(&a, ex);
}

static swd_status double_attention(const tokens *t, swd_tensor mod_x, swd_tensor mod_c,
                                   const double_block *b, const flux *m, swd_exec *ex)
{
    int64_t batch = t->all.shape[0], n = t->all.shape[1], d = m->cfg.inner_dim,
            head = m->cfg.attention_head_dim;
    size_t mark = exec_mark(ex);
    swd_tensor qkv = exec3(ex, ex->act, batch, n, 3 * d), o = exec3(ex, ex->act, batch, n, d);
    size_t norms = exec_mark(ex);
    swd_tensor hx = exec3(ex, ex->act, batch, t->n_image, d),
               hc = exec3(ex, ex->act, batch, t->n_text, d), part[3];
    RUN(op_layernorm_modulate(hx, t->image, modulation_part(mod_x, 0, d),
                              modulation_part(mod_x, 1, d), JOINT_NORM_EPS, ex));
    RUN(op_layernorm_modulate(hc, t->text, modulation_part(mod_c, 0, d),
                              modulation_part(mod_c, 1, d), JOINT_NORM_EPS, ex));
    RUN(joint_project(part, image_of(qkv, t), hx, tensor_slice(t->cos, 0, t->n_text, t->n_image),
                      tensor_slice(t->sin, 0, t->n_text, t->n_image), &b->image, head, ex));
    RUN(joint_project(part, text_of(qkv, t), hc, tensor_none(), tensor_none(), &b->context, head,
                      ex));
    exec_rewind(ex, norms);
    qkv_split(part, qkv, head);
    RUN(attend(o, part[0], part[1], part[2], m, ex));
    RUN(op_linear_residual(t->image, t->image, modulation_part(mod_x, 2, d), image_of(o, t),
                           b->image.out, ex));
    RUN(op_linear_residual(t->text, t->text, modulation_part(mod_c, 2, d), text_of(o, t),
                           b->context.out, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

static swd_status run_double(const tokens *t, swd_tensor mod_x, swd_tensor mod_c,
                             const double_block *b, const flux *m, swd_exec *ex)
{
    RUN(double_attention(t, mod_x, mod_c, b, m, ex));
    RUN(joint_feed_forward(t->image, &b->image_mlp, mod_x, ex));
    return joint_feed_forward(t->text, &b->context_mlp, mod_c, ex);
}

static swd_status run_single(const tokens *t, swd_tensor mod, const single_block *b, const flux *m,
                             swd_exec *ex)
{
    int64_t batch = t->all.shape[0], n = t->all.shape[1], d = m->cfg.inner_dim,
            head = m->cfg.attention_head_dim;
    size_t mark = exec_mark(ex);
    swd_tensor wide = exec3(ex, ex->act, batch, n, 8 * d), normed = exec3(ex, ex->act, batch, n, d),
               mlp = tensor_slice(wide, 2, d, 4 * d), part[3];
    RUN(op_layernorm_modulate(normed, t->all, modulation_part(mod, 0, d),
                              modulation_part(mod, 1, d), JOINT_NORM_EPS, ex));
    RUN(op_linear(tensor_slice(wide, 2, d, 7 * d), normed, b->in, SWD_ACT_NONE, ex));
    RUN(op_activation(mlp, mlp, SWD_ACT_GELU_TANH, ex));
    qkv_split(part, tensor_slice(wide, 2, 5 * d, 3 * d), head);
    RUN(op_qk_norm_rope(part[0], part[1], b->norm_q, b->norm_k, JOINT_NORM_EPS, t->cos, t->sin,
                        ex));
    RUN(attend(tensor_slice(wide, 2, 0, d), part[0], part[1], part[2], m, ex));
    RUN(op_linear_residual(t->all, t->all, modulation_part(mod, 2, d),
                           tensor_slice(wide, 2, 0, 5 * d), b->out, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

static swd_status embed_image(const tokens *t, swd_tensor latents, const flux *m, swd_exec *ex)
{
    size_t mark = exec_mark(ex);
    swd_tensor patches = exec3(ex, SWD_F32, latents.shape[0], t->n_image, m->cfg.in_channels);
    RUN(op_patchify(patches, latents, PATCH, ex));
    RUN(op_linear(t->image, patches, m->image, SWD_ACT_NONE, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

// The end's modulation has the order of AdaLayerNormContinuous: scale, then shift.
static swd_status read_velocity(swd_tensor velocity, const tokens *t, swd_tensor mod, const flux *m,
                                swd_exec *ex)
{
    int64_t batch = velocity.shape[0], d = m->cfg.inner_dim;
    swd_tensor normed = exec3(ex, ex->act, batch, t->n_image, d),
               y = exec3(ex, SWD_F32, batch, t->n_image, m->cfg.in_channels);
    RUN(op_layernorm_modulate(normed, t->image, modulation_part(mod, 1, d),
                              modulation_part(mod, 0, d), JOINT_NORM_EPS, ex));
    RUN(op_linear(y, normed, m->out, SWD_ACT_NONE, ex));
    return op_unpatchify(velocity, y, PATCH, ex);
}

static swd_status check_latents(swd_tensor latents, const flux *m, swd_exec *ex)
{
    char text[96];
    if (latents.ndim == 4 && latents.shape[1] * PATCH * PATCH == m->cfg.in_channels &&
        latents.shape[2] <= CONFIG_LATENT_SIDE_MAX && latents.shape[3] <= CONFIG_LATENT_SIDE_MAX)
        return SWD_OK;
    return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT,
                    "a FLUX transformer of %d packed channels has no velocity for latents %s",
                    m->cfg.in_channels, tensor_describe(latents, text, sizeof text));
}

static swd_status forward(swd_tensor velocity, swd_tensor latents, const conditions *c,
                          int64_t first_row, const denoiser *d, swd_exec *ex)
{
    const flux *m = of(d);
    RUN(check_latents(latents, m, ex));
    int64_t batch = latents.shape[0], grid_h = latents.shape[2] / PATCH,
            grid_w = latents.shape[3] / PATCH;
    size_t start = exec_mark(ex);
    tokens t = {.n_text = c->context.shape[1], .n_image = grid_h * grid_w};
    t.all = exec3(ex, SWD_F32, batch, t.n_text + t.n_image, m->cfg.inner_dim);
    t.text = text_of(t.all, &t);
    t.image = image_of(t.all, &t);
    RUN(place(&t, grid_h, grid_w, m, ex));
    RUN(op_copy(t.text, c->context, ex));
    RUN(embed_image(&t, latents, m, ex));
    modulation_walk walk = modulation_begin(c, &m->base.modulations, first_row, batch);
    for (int i = 0; i < m->cfg.num_layers; i++) {
        swd_tensor mod_x = modulation_next(&walk), mod_c = modulation_next(&walk);
        RUN(run_double(&t, mod_x, mod_c, &m->doubles[i], m, ex));
    }
    for (int i = 0; i < m->cfg.num_single_layers; i++)
        RUN(run_single(&t, modulation_next(&walk), &m->singles[i], m, ex));
    RUN(read_velocity(velocity, &t, modulation_next(&walk), m, ex));
    exec_rewind(ex, start);
    return SWD_OK;
}

static double flops(const denoiser *of_model, int64_t batch, int64_t h, int64_t w,
                    int64_t text_tokens)
{
    const flux *m = of(of_model);
    const config_flux *c = &m->cfg;
    double d = c->inner_dim, l = (double)text_tokens,
           image = (double)(h / PATCH) * (double)(w / PATCH), n = image + l;
    double attention = 2 * n * n * d,
           total = 2 * image * d * c->in_channels + l * d * c->joint_attention_dim + 2 * d * d;
    total +=
        linear_facts(m->base.embedder.time[0])->k * d + c->pooled_projection_dim * d + 2 * d * d;
    if (c->guidance_embeds) total += linear_facts(m->base.embedder.guidance[0])->k * d + d * d;
    total += c->num_layers * (n * 12 * d * d + attention + 12 * d * d);
    total += c->num_single_layers * (n * 12 * d * d + attention + 3 * d * d);
    return 2 * (double)batch * total;
}

/* ---- the class ---- */

// The pipeline divides by 1000 in float32, the class multiplies by it.
static float timestep(float sigma)
{
    return 1000.0f * sigma / 1000.0f * 1000.0f;
}

static swd_status read_config(config_denoiser *out, const char *path, swd_err *err)
{
    return config_flux_read(&out->flux, path, err);
}

static denoiser_facts facts_of(const config_denoiser *c)
{
    const config_flux *f = &c->flux;
    return (denoiser_facts){.channels = f->in_channels / (PATCH * PATCH),
                            .patch = PATCH,
                            .sample_size = SAMPLE_SIZE,
                            .side_max = PLACES * PATCH,
                            .context_width = f->joint_attention_dim,
                            .pooled_width = f->pooled_projection_dim,
                            .guided = f->guidance_embeds};
}

static void describe(const config_denoiser *c, char *buf, size_t n)
{
    const config_flux *f = &c->flux;
    snprintf(buf, n,
             "%d double and %d single blocks, %d heads of %d (%d + %d + %d), %s, %d channels",
             f->num_layers, f->num_single_layers, f->num_attention_heads, f->attention_head_dim,
             f->axes_dims_rope[0], f->axes_dims_rope[1], f->axes_dims_rope[2],
             f->guidance_embeds ? "guidance embedding" : "no guidance",
             f->in_channels / (PATCH * PATCH));
}

const denoiser_class flux_class = {
    .name = "FluxTransformer2DModel",
    .bytes = sizeof(flux),
    .read = read_config,
    .facts = facts_of,
    .describe = describe,
    .load = load,
    .timestep = timestep,
    .forward = forward,
    .flops = flops,
};
