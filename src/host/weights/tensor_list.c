// SPDX-License-Identifier: MIT
#include "weights/tensor_list.h"
#include "base/memory.h"
#include <math.h>
#include <stdio.h>

static const float BIAS_DEVIATION = 0.02f, NORM_DEVIATION = 0.1f, GATE_GAIN = 0.3f;
enum { TIME_DIM = 256 };

// The list being made; the first failure stays. Names are made of prefix, name and suffix.
typedef struct maker {
    tensor_list *list;
    char prefix[TENSOR_NAME_MAX];
    swd_status status;
    swd_err *err;
} maker;

static void within(maker *m, const char *fmt, ...) SWD_PRINTF(2, 3);
static void within(maker *m, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(m->prefix, sizeof m->prefix, fmt, args);
    va_end(args);
}

static void add(maker *m, float mean, float deviation, int ndim, const int64_t *shape,
                const char *name, const char *suffix)
{
    tensor_list *l = m->list;
    if (m->status == SWD_OK)
        m->status = swd_grow(&l->at, &l->capacity, l->n + 1, sizeof *l->at, "tensors", m->err);
    if (m->status != SWD_OK) return;
    random_tensor *t = &l->at[l->n++];
    *t = (random_tensor){.ndim = ndim, .mean = mean, .deviation = deviation};
    for (int i = 0; i < ndim; i++) t->shape[i] = shape[i];
    int n = snprintf(t->name, sizeof t->name, "%s%s%s", m->prefix, name, suffix);
    if (n < 0 || n >= (int)sizeof t->name)
        m->status = SWD_FAIL(m->err, SWD_ERR_ARGUMENT, "the name of %s%s%s is too long", m->prefix,
                             name, suffix);
}

static void matrix(maker *m, int64_t n, int64_t k, float gain, const char *name, const char *suffix)
{
    add(m, 0, gain / sqrtf((float)k), 2, (int64_t[]){n, k}, name, suffix);
}

static void vector(maker *m, int64_t n, float mean, float deviation, const char *name,
                   const char *suffix)
{
    add(m, mean, deviation, 1, &n, name, suffix);
}

static void linear(maker *m, int64_t n, int64_t k, float gain, const char *name)
{
    matrix(m, n, k, gain, name, ".weight");
    vector(m, n, 0, BIAS_DEVIATION, name, ".bias");
}

static void conv(maker *m, int64_t out, int64_t in, int64_t side, const char *name)
{
    add(m, 0, 1 / sqrtf((float)(in * side * side)), 4, (int64_t[]){out, in, side, side}, name,
        ".weight");
    vector(m, out, 0, BIAS_DEVIATION, name, ".bias");
}

static void norm(maker *m, int64_t n, const char *name)
{
    vector(m, n, 1, NORM_DEVIATION, name, ".weight");
    vector(m, n, 0, BIAS_DEVIATION, name, ".bias");
}

/* ---- transformer ---- */

static void attention(maker *m, int64_t d, int64_t norm_width, bool joint, bool context_out)
{
    static const char *const image[] = {"to_q", "to_k", "to_v"},
                             *const text[] = {"add_q_proj", "add_k_proj", "add_v_proj"},
                             *const norms[] = {"norm_q", "norm_k", "norm_added_q", "norm_added_k"};
    for (int i = 0; i < 3; i++) {
        linear(m, d, d, 1, image[i]);
        if (joint) linear(m, d, d, 1, text[i]);
    }
    for (int i = 0; norm_width && i < (joint ? 4 : 2); i++)
        vector(m, norm_width, 1, NORM_DEVIATION, norms[i], ".weight");
    linear(m, d, d, 1, "to_out.0");
    if (context_out) linear(m, d, d, 1, "to_add_out");
}

static void sd3_block(maker *m, const config_sd3 *c, int i)
{
    bool last = i == c->num_layers - 1, dual = c->dual_attention[i];
    int64_t d = c->inner_dim, norm_width = c->qk_norm_rms ? c->attention_head_dim : 0;
    within(m, "transformer_blocks.%d.", i);
    linear(m, (dual ? 9 : 6) * d, d, GATE_GAIN, "norm1.linear");
    linear(m, (last ? 2 : 6) * d, d, GATE_GAIN, "norm1_context.linear");
    linear(m, 4 * d, d, 1, "ff.net.0.proj");
    linear(m, d, 4 * d, 1, "ff.net.2");
    if (!last) {
        linear(m, 4 * d, d, 1, "ff_context.net.0.proj");
        linear(m, d, 4 * d, 1, "ff_context.net.2");
    }
    within(m, "transformer_blocks.%d.attn.", i);
    attention(m, d, norm_width, true, !last);
    if (!dual) return;
    within(m, "transformer_blocks.%d.attn2.", i);
    attention(m, d, norm_width, false, false);
}

static void embedder(maker *m, int64_t d, int64_t pooled, bool guided)
{
    static const char *const parts[] = {"timestep_embedder", "guidance_embedder", "text_embedder"};
    for (int i = 0; i < 3; i++) {
        if (i == 1 && !guided) continue;
        within(m, "time_text_embed.%s.", parts[i]);
        linear(m, d, i == 2 ? pooled : TIME_DIM, 1, "linear_1");
        linear(m, d, d, 1, "linear_2");
    }
    within(m, "%s", "");
}

static void sd3(maker *m, const config_sd3 *c)
{
    int64_t d = c->inner_dim, side = c->pos_embed_max_size;
    conv(m, d, c->in_channels, c->patch_size, "pos_embed.proj");
    add(m, 0, 0.5f, 3, (int64_t[]){1, side * side, d}, "pos_embed.pos_embed", "");
    embedder(m, d, c->pooled_projection_dim, false);
    linear(m, d, c->joint_attention_dim, 1, "context_embedder");
    linear(m, 2 * d, d, GATE_GAIN, "norm_out.linear");
    linear(m, (int64_t)c->patch_size * c->patch_size * c->out_channels, d, 1, "proj_out");
    for (int i = 0; i < c->num_layers; i++) sd3_block(m, c, i);
}

static void flux_double(maker *m, const config_flux *c, int i)
{
    int64_t d = c->inner_dim;
    within(m, "transformer_blocks.%d.", i);
    linear(m, 6 * d, d, GATE_GAIN, "norm1.linear");
    linear(m, 6 * d, d, GATE_GAIN, "norm1_context.linear");
    linear(m, 4 * d, d, 1, "ff.net.0.proj");
    linear(m, d, 4 * d, 1, "ff.net.2");
    linear(m, 4 * d, d, 1, "ff_context.net.0.proj");
    linear(m, d, 4 * d, 1, "ff_context.net.2");
    within(m, "transformer_blocks.%d.attn.", i);
    attention(m, d, c->attention_head_dim, true, true);
}

static void flux_single(maker *m, const config_flux *c, int i)
{
    static const char *const in[] = {"to_q", "to_k", "to_v"};
    int64_t d = c->inner_dim;
    within(m, "single_transformer_blocks.%d.", i);
    linear(m, 3 * d, d, GATE_GAIN, "norm.linear");
    linear(m, 4 * d, d, 1, "proj_mlp");
    linear(m, d, 5 * d, 1, "proj_out");
    within(m, "single_transformer_blocks.%d.attn.", i);
    for (int j = 0; j < 3; j++) linear(m, d, d, 1, in[j]);
    vector(m, c->attention_head_dim, 1, NORM_DEVIATION, "norm_q", ".weight");
    vector(m, c->attention_head_dim, 1, NORM_DEVIATION, "norm_k", ".weight");
}

static void flux(maker *m, const config_flux *c)
{
    int64_t d = c->inner_dim;
    linear(m, d, c->in_channels, 1, "x_embedder");
    linear(m, d, c->joint_attention_dim, 1, "context_embedder");
    embedder(m, d, c->pooled_projection_dim, c->guidance_embeds);
    linear(m, 2 * d, d, GATE_GAIN, "norm_out.linear");
    linear(m, c->in_channels, d, 1, "proj_out");
    for (int i = 0; i < c->num_layers; i++) flux_double(m, c, i);
    for (int i = 0; i < c->num_single_layers; i++) flux_single(m, c, i);
}

swd_status tensors_transformer(tensor_list *out, const config_denoiser *c, swd_err *err)
{
    maker m = {.list = out, .err = err};
    if (c->kind == DENOISER_FLUX)
        flux(&m, &c->flux);
    else
        sd3(&m, &c->sd3);
    return m.status;
}

/* ---- autoencoder ---- */

static void resnet(maker *m, int64_t in, int64_t out)
{
    norm(m, in, "norm1");
    conv(m, out, in, 3, "conv1");
    norm(m, out, "norm2");
    conv(m, out, out, 3, "conv2");
    if (in != out) conv(m, out, in, 1, "conv_shortcut");
}

static void middle(maker *m, int64_t width, bool with_attention, const char *half)
{
    static const char *const parts[] = {"to_q", "to_k", "to_v", "to_out.0"};
    for (int i = 0; i < 2; i++) {
        within(m, "%s.mid_block.resnets.%d.", half, i);
        resnet(m, width, width);
    }
    if (!with_attention) return;
    within(m, "%s.mid_block.attentions.0.", half);
    norm(m, width, "group_norm");
    for (int i = 0; i < 4; i++) linear(m, width, width, 1, parts[i]);
}

// The blocks of a half, from the picture inwards (encoder) or from the latents outwards (decoder).
static void half_blocks(maker *m, const config_vae *c, bool decoder)
{
    int n = c->n_blocks, resnets = c->layers_per_block + decoder;
    const char *blocks = decoder ? "decoder.up_blocks" : "encoder.down_blocks";
    int64_t in = c->block_out_channels[decoder ? n - 1 : 0];
    for (int i = 0; i < n; i++) {
        int64_t out = c->block_out_channels[decoder ? n - 1 - i : i];
        for (int j = 0; j < resnets; j++) {
            within(m, "%s.%d.resnets.%d.", blocks, i, j);
            resnet(m, j ? out : in, out);
        }
        in = out;
        if (i == n - 1) break;
        within(m, "%s.%d.%s.0.", blocks, i, decoder ? "upsamplers" : "downsamplers");
        conv(m, out, out, 3, "conv");
    }
}

swd_status tensors_vae(tensor_list *out, const config_vae *c, swd_err *err)
{
    maker m = {.list = out, .err = err};
    int64_t first = c->block_out_channels[0], last = c->block_out_channels[c->n_blocks - 1],
            latent = c->latent_channels;
    conv(&m, first, c->in_channels, 3, "encoder.conv_in");
    norm(&m, last, "encoder.conv_norm_out");
    conv(&m, 2 * latent, last, 3, "encoder.conv_out");
    conv(&m, last, latent, 3, "decoder.conv_in");
    norm(&m, first, "decoder.conv_norm_out");
    conv(&m, c->out_channels, first, 3, "decoder.conv_out");
    half_blocks(&m, c, false);
    middle(&m, last, c->mid_block_add_attention, "encoder");
    middle(&m, last, c->mid_block_add_attention, "decoder");
    half_blocks(&m, c, true);
    return m.status;
}

/* ---- text encoders ---- */

swd_status tensors_clip(tensor_list *out, const config_clip_text *c, swd_err *err)
{
    static const char *const parts[] = {"q_proj", "k_proj", "v_proj", "out_proj"};
    maker m = {.list = out, .err = err};
    int64_t d = c->hidden_size, wide = c->intermediate_size;
    add(&m, 0, 1, 2, (int64_t[]){c->vocab_size, d}, "text_model.embeddings.token_embedding",
        ".weight");
    add(&m, 0, 0.1f, 2, (int64_t[]){c->max_position_embeddings, d},
        "text_model.embeddings.position_embedding", ".weight");
    norm(&m, d, "text_model.final_layer_norm");
    if (c->with_projection) matrix(&m, c->projection_dim, d, 1, "text_projection", ".weight");
    for (int i = 0; i < c->num_hidden_layers; i++) {
        within(&m, "text_model.encoder.layers.%d.", i);
        norm(&m, d, "layer_norm1");
        norm(&m, d, "layer_norm2");
        linear(&m, wide, d, 1, "mlp.fc1");
        linear(&m, d, wide, 1, "mlp.fc2");
        within(&m, "text_model.encoder.layers.%d.self_attn.", i);
        for (int j = 0; j < 4; j++) linear(&m, d, d, 1, parts[j]);
    }
    return m.status;
}

swd_status tensors_t5(tensor_list *out, const config_t5 *c, swd_err *err)
{
    maker m = {.list = out, .err = err};
    int64_t d = c->d_model, inner = (int64_t)c->num_heads * c->d_kv;
    add(&m, 0, 1, 2, (int64_t[]){c->vocab_size, d}, "shared", ".weight");
    add(&m, 0, 0.5f, 2, (int64_t[]){c->relative_attention_num_buckets, c->num_heads},
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias", ".weight");
    vector(&m, d, 1, NORM_DEVIATION, "encoder.final_layer_norm", ".weight");
    for (int i = 0; i < c->num_layers; i++) {
        within(&m, "encoder.block.%d.layer.0.", i);
        vector(&m, d, 1, NORM_DEVIATION, "layer_norm", ".weight");
        // T5 divides by no sqrt(d_kv): that is in the weights of q
        matrix(&m, inner, d, 1 / sqrtf((float)c->d_kv), "SelfAttention.q", ".weight");
        matrix(&m, inner, d, 1, "SelfAttention.k", ".weight");
        matrix(&m, inner, d, 1, "SelfAttention.v", ".weight");
        matrix(&m, d, inner, 1, "SelfAttention.o", ".weight");
        within(&m, "encoder.block.%d.layer.1.", i);
        vector(&m, d, 1, NORM_DEVIATION, "layer_norm", ".weight");
        matrix(&m, c->d_ff, d, 1, "DenseReluDense.wi_0", ".weight");
        matrix(&m, c->d_ff, d, 1, "DenseReluDense.wi_1", ".weight");
        matrix(&m, d, c->d_ff, 1, "DenseReluDense.wo", ".weight");
    }
    return m.status;
}

int64_t tensor_list_parameters(const tensor_list *l)
{
    int64_t sum = 0;
    for (size_t i = 0; i < l->n; i++) {
        int64_t n = 1;
        for (int k = 0; k < l->at[i].ndim; k++) n *= l->at[i].shape[k];
        sum += n;
    }
    return sum;
}
