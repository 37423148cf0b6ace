// SPDX-License-Identifier: MIT
// AutoencoderKL. resnet: y = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x)))))).
// Order for memory: where there is a shortcut it is computed first, so that x can be normalised in place; the widest map of a
// decoder (the last upsampling's) is then joined by two maps of half its width and nothing else.
#include "model/vae.h"
#include "base/memory.h"
#include "model/load.h"
#include "model/maps.h"
#include <math.h>

static const float NORM_EPS = 1e-6f;

typedef struct resnet {
    int in, out;
    norm norm1, norm2;
    swd_conv *conv1, *conv2, *shortcut; // shortcut: NULL where in == out
} resnet;

typedef struct mid_attention {
    norm norm;
    swd_linear *q, *k, *v, *out; // NULL: no attention
} mid_attention;

typedef struct half {           // the encoder or the decoder
    swd_conv *in, *out, *quant; // quant: after out (encoder), before in (decoder), or NULL
    int width;                  // of in's result
    int n_block;                // resnets per block
    resnet mid[2];
    mid_attention attention;
    resnet *resnets; // [n_blocks][n_block]
    swd_conv *sample[CONFIG_VAE_BLOCKS_MAX];
    norm norm_out;
} half;

struct vae {
    holdings held;
    config_vae cfg;
    half *encoder, *decoder; // NULL: not asked for
};

static void load_resnet(loader *l, resnet *r, int in, int out)
{
    r->in = in;
    r->out = out;
    load_norm(l, &r->norm1, in, "norm1");
    load_conv(l, &r->conv1, conv3x3(in, out), "conv1");
    load_norm(l, &r->norm2, out, "norm2");
    load_conv(l, &r->conv2, conv3x3(out, out), "conv2");
    if (in != out) load_conv(l, &r->shortcut, conv1x1(in, out), "conv_shortcut");
}

// Attention takes heads of a multiple of 8: the one head of c channels is padded with zeros, which change no product.
static int padded_head(int64_t c)
{
    return (int)(c + 7) / 8 * 8;
}

static void load_attention(loader *l, mid_attention *a, int c)
{
    int head = padded_head(c);
    load_norm(l, &a->norm, c, "group_norm");
    load_linear_padded(l, &a->q, c, c, head, c, WITH_BIAS, "to_q");
    load_linear_padded(l, &a->k, c, c, head, c, WITH_BIAS, "to_k");
    load_linear_padded(l, &a->v, c, c, head, c, WITH_BIAS, "to_v");
    load_linear_padded(l, &a->out, c, c, c, head, WITH_BIAS, "to_out.0");
}

static void load_mid(loader *l, half *h, int c, bool with_attention)
{
    for (int i = 0; i < 2; i++) {
        size_t here = load_enter(l, "mid_block.resnets.%d.", i);
        load_resnet(l, &h->mid[i], c, c);
        load_leave(l, here);
    }
    if (!with_attention) return;
    size_t here = load_enter(l, "mid_block.attentions.0.");
    load_attention(l, &h->attention, c);
    load_leave(l, here);
}

static void load_sample(loader *l, swd_conv **out, int width, bool decoder)
{
    conv_shape up = conv3x3(width, width), down = up;
    up.upsample2x = true;
    down.stride = 2;
    down.pad_before = 0;
    load_conv(l, out, decoder ? up : down, decoder ? "upsamplers.0.conv" : "downsamplers.0.conv");
}

// Blocks in the order they run: widths rise in the encoder, fall in the decoder.
static void load_blocks(loader *l, half *h, const config_vae *c, bool decoder)
{
    int n = c->n_blocks, width = h->width;
    h->n_block = c->layers_per_block + decoder;
    h->resnets = load_array(l, (size_t)(n * h->n_block), sizeof *h->resnets, "the resnets");
    for (int i = 0; h->resnets && i < n; i++) {
        size_t here = load_enter(l, "%s_blocks.%d.", decoder ? "up" : "down", i);
        int wide = c->block_out_channels[decoder ? n - 1 - i : i];
        for (int j = 0; j < h->n_block; j++, width = wide) {
            size_t block = load_enter(l, "resnets.%d.", j);
            load_resnet(l, &h->resnets[i * h->n_block + j], width, wide);
            load_leave(l, block);
        }
        if (i < n - 1) load_sample(l, &h->sample[i], wide, decoder);
        load_leave(l, here);
    }
}

// What both halves can tell; after load_enter of "encoder." or "decoder.".
static void check_config(loader *l, const config_vae *c, bool decoder)
{
    int n = c->n_blocks;
    const char *blocks = decoder ? "up_blocks" : "down_blocks";
    expect_count(l, "block_out_channels", n, blocks, "resnets.0.conv1.weight");
    for (int i = 0; i < n; i++) {
        size_t here = load_enter(l, "%s.%d.", blocks, i);
        expect_dim(l, "block_out_channels", c->block_out_channels[decoder ? n - 1 - i : i],
                   "resnets.0.conv1.weight", 0);
        expect_count(l, "layers_per_block", c->layers_per_block + decoder, "resnets",
                     "conv1.weight");
        load_leave(l, here);
    }
    expect_there(l, "mid_block_add_attention", c->mid_block_add_attention,
                 "mid_block.attentions.0.to_q.weight");
    expect_dim(l, "latent_channels", decoder ? c->latent_channels : 2 * c->latent_channels,
               decoder ? "conv_in.weight" : "conv_out.weight", decoder ? 1 : 0);
    expect_dim(l, decoder ? "out_channels" : "in_channels",
               decoder ? c->out_channels : c->in_channels,
               decoder ? "conv_out.weight" : "conv_in.weight", decoder ? 0 : 1);
}

static void load_decoder(loader *l, half *h, const config_vae *c)
{
    int latent = c->latent_channels, last = c->block_out_channels[0];
    h->width = c->block_out_channels[c->n_blocks - 1];
    expect_there(l, "use_post_quant_conv", c->use_post_quant_conv, "post_quant_conv.weight");
    if (c->use_post_quant_conv) load_conv(l, &h->quant, conv1x1(latent, latent), "post_quant_conv");
    size_t here = load_enter(l, "decoder.");
    check_config(l, c, true);
    load_conv(l, &h->in, conv3x3(latent, h->width), "conv_in");
    load_mid(l, h, h->width, c->mid_block_add_attention);
    load_blocks(l, h, c, true);
    load_norm(l, &h->norm_out, last, "conv_norm_out");
    load_conv(l, &h->out, conv3x3(last, c->out_channels), "conv_out");
    load_leave(l, here);
}

static void load_encoder(loader *l, half *h, const config_vae *c)
{
    int moments = 2 * c->latent_channels, last = c->block_out_channels[c->n_blocks - 1];
    h->width = c->block_out_channels[0];
    expect_there(l, "use_quant_conv", c->use_quant_conv, "quant_conv.weight");
    size_t here = load_enter(l, "encoder.");
    check_config(l, c, false);
    load_conv(l, &h->in, conv3x3(c->in_channels, h->width), "conv_in");
    load_blocks(l, h, c, false);
    load_mid(l, h, last, c->mid_block_add_attention);
    load_norm(l, &h->norm_out, last, "conv_norm_out");
    load_conv(l, &h->out, conv3x3(last, moments), "conv_out");
    load_leave(l, here);
    if (c->use_quant_conv) load_conv(l, &h->quant, conv1x1(moments, moments), "quant_conv");
}

swd_status vae_create(vae **out, const config_vae *cfg, weights *w, swd_backend *be,
                      swd_dtype compute, bool with_encoder, bool with_decoder, swd_err *err)
{
    static const char *const of_encoder[] = {"encoder.", "quant_conv.", NULL},
                             *const of_decoder[] = {"decoder.", "post_quant_conv.", NULL};
    vae *m;
    *out = NULL;
    SWD_TRY(swd_calloc(&m, 1, sizeof *m, "an autoencoder", err), err);
    m->cfg = *cfg;
    loader l = loader_begin(&m->held, w, be, compute, err);
    if (with_encoder) m->encoder = load_array(&l, 1, sizeof *m->encoder, "an encoder");
    if (with_decoder) m->decoder = load_array(&l, 1, sizeof *m->decoder, "a decoder");
    if (m->encoder) load_encoder(&l, m->encoder, cfg);
    if (m->decoder) load_decoder(&l, m->decoder, cfg);
    swd_status s = loader_end(&l, !with_encoder ? of_encoder : !with_decoder ? of_decoder : NULL);
    if (s != SWD_OK) vae_destroy(&m);
    *out = m;
    return s;
}

void vae_destroy(vae **m)
{
    if (!*m) return;
    holdings_release(&(*m)->held);
    free(*m);
    *m = NULL;
}

static swd_tensor place_like(maps *p, int ahead, swd_tensor x, int64_t c)
{
    return maps_place(p, ahead, p->ex->act, x.shape[0], x.shape[1], x.shape[2], c);
}

static swd_status run_norm(swd_tensor y, swd_tensor x, const norm *n, const config_vae *c,
                           bool silu, swd_exec *ex)
{
    return (silu ? op_group_norm_silu : op_group_norm)(y, x, n->weight, n->bias, c->norm_num_groups,
                                                       NORM_EPS, ex);
}

// *x, in the current region, becomes the resnet's result, in the region that is current then.
static swd_status run_resnet(swd_tensor *x, const resnet *r, const config_vae *c, maps *p)
{
    swd_exec *ex = p->ex;
    swd_tensor h = place_like(p, 2, *x, r->out);
    if (r->shortcut) {
        swd_tensor skip = place_like(p, 1, *x, r->out), y = place_like(p, 0, *x, r->out);
        RUN(op_conv(skip, *x, r->shortcut, SWD_ACT_NONE, tensor_none(), ex));
        RUN(run_norm(*x, *x, &r->norm1, c, true, ex));
        RUN(op_conv(h, *x, r->conv1, SWD_ACT_NONE, tensor_none(), ex));
        RUN(run_norm(h, h, &r->norm2, c, true, ex));
        RUN(op_conv(y, h, r->conv2, SWD_ACT_NONE, skip, ex));
        *x = y;
        return SWD_OK;
    }
    swd_tensor y = place_like(p, 1, *x, r->out);
    RUN(run_norm(y, *x, &r->norm1, c, true, ex));
    RUN(op_conv(h, y, r->conv1, SWD_ACT_NONE, tensor_none(), ex));
    RUN(run_norm(h, h, &r->norm2, c, true, ex));
    RUN(op_conv(y, h, r->conv2, SWD_ACT_NONE, *x, ex));
    maps_move(p, 1);
    *x = y;
    return SWD_OK;
}

static swd_status run_attention(swd_tensor x, const mid_attention *a, const config_vae *c, maps *p)
{
    swd_exec *ex = p->ex;
    int64_t b = x.shape[0], n = x.shape[1] * x.shape[2], d = x.shape[3], head = padded_head(d);
    int64_t rows[3] = {b, n, d}, wide[3] = {b, n, head}, heads[4] = {b, n, 1, head};
    swd_tensor normed = place_like(p, 1, x, d);
    swd_tensor qkv = maps_place(p, 2, ex->act, 3, b, n, head), part[3];
    RUN(run_norm(normed, x, &a->norm, c, false, ex));
    swd_tensor in = tensor_reshape(normed, rows, 3), stream = tensor_reshape(x, rows, 3);
    const swd_linear *to[3] = {a->q, a->k, a->v};
    for (int i = 0; i < 3; i++) {
        part[i] = tensor_reshape(tensor_slice(qkv, 0, i, 1), wide, 3);
        RUN(op_linear(part[i], in, to[i], SWD_ACT_NONE, ex));
        part[i] = tensor_reshape(part[i], heads, 4);
    }
    swd_tensor o = place_like(p, 1, x, head); // over normed, which is no longer needed
    attention_args args = {.n_streams = 1,
                           .o = {tensor_reshape(o, heads, 4)},
                           .q = {part[0]},
                           .k = {part[1]},
                           .v = {part[2]},
                           .scale = 1.0f / sqrtf((float)d)};
    RUN(op_attention(&args, ex));
    o = tensor_reshape(o, wide, 3);
    RUN(op_linear_residual(stream, stream, tensor_none(), o, a->out, ex));
    return SWD_OK;
}

static swd_status run_mid(swd_tensor *x, const half *h, const config_vae *c, maps *p)
{
    swd_exec *ex = p->ex;
    RUN(run_resnet(x, &h->mid[0], c, p));
    if (h->attention.q) RUN(run_attention(*x, &h->attention, c, p));
    RUN(run_resnet(x, &h->mid[1], c, p));
    return SWD_OK;
}

static swd_status run_blocks(swd_tensor *x, const half *h, const config_vae *c, bool decoder,
                             maps *p)
{
    swd_exec *ex = p->ex;
    for (int i = 0; i < c->n_blocks; i++) {
        for (int j = 0; j < h->n_block; j++)
            RUN(run_resnet(x, &h->resnets[i * h->n_block + j], c, p));
        if (!h->sample[i]) continue;
        swd_tensor s = *x;
        int64_t rows = decoder ? s.shape[1] * 2 : s.shape[1] / 2,
                cols = decoder ? s.shape[2] * 2 : s.shape[2] / 2;
        swd_tensor y = maps_place(p, 1, ex->act, s.shape[0], rows, cols, s.shape[3]);
        RUN(decoder ? op_upsample_conv(y, s, h->sample[i], ex)
                    : op_conv(y, s, h->sample[i], SWD_ACT_NONE, tensor_none(), ex));
        maps_move(p, 1);
        *x = y;
    }
    return SWD_OK;
}

static swd_status decode(swd_tensor image, swd_tensor latents, const void *model, maps *p)
{
    const vae *m = model;
    const config_vae *c = &m->cfg;
    const half *h = m->decoder;
    swd_exec *ex = p->ex;
    int64_t b = latents.shape[0], rows = latents.shape[2], cols = latents.shape[3];
    swd_tensor x = maps_place(p, 0, SWD_F32, b, rows, cols, c->latent_channels);
    RUN(op_nchw_to_nhwc(x, latents, (float)(1.0 / c->scaling_factor), (float)c->shift_factor, ex));
    if (h->quant) {
        swd_tensor y = maps_place(p, 1, SWD_F32, b, rows, cols, c->latent_channels);
        RUN(op_conv(y, x, h->quant, SWD_ACT_NONE, tensor_none(), ex));
        maps_move(p, 1);
        x = y;
    }
    swd_tensor y = place_like(p, 1, x, h->width);
    RUN(op_conv(y, x, h->in, SWD_ACT_NONE, tensor_none(), ex));
    maps_move(p, 1);
    RUN(run_mid(&y, h, c, p));
    RUN(run_blocks(&y, h, c, true, p));
    RUN(run_norm(y, y, &h->norm_out, c, true, ex));
    if (image.dtype == SWD_F32) return op_conv(image, y, h->out, SWD_ACT_NONE, tensor_none(), ex);
    return op_conv_rgb8(image, y, h->out, 0.5f, 0.5f, ex);
}

static swd_status encode(swd_tensor latents, swd_tensor image, const void *model, maps *p)
{
    const vae *m = model;
    const config_vae *c = &m->cfg;
    const half *h = m->encoder;
    swd_exec *ex = p->ex;
    swd_tensor x = image;
    if (image.dtype == SWD_U8) {
        x = maps_place(p, 0, SWD_F32, image.shape[0], image.shape[1], image.shape[2],
                       image.shape[3]);
        RUN(op_from_rgb8(x, image, 2.0f, -1.0f, ex));
    }
    swd_tensor y = place_like(p, 1, x, h->width);
    RUN(op_conv(y, x, h->in, SWD_ACT_NONE, tensor_none(), ex));
    maps_move(p, 1);
    RUN(run_blocks(&y, h, c, false, p));
    RUN(run_mid(&y, h, c, p));
    RUN(run_norm(y, y, &h->norm_out, c, true, ex));
    int64_t latent = c->latent_channels;
    x = maps_place(p, 1, SWD_F32, y.shape[0], y.shape[1], y.shape[2], 2 * latent);
    RUN(op_conv(x, y, h->out, SWD_ACT_NONE, tensor_none(), ex));
    if (h->quant) {
        y = maps_place(p, 2, SWD_F32, x.shape[0], x.shape[1], x.shape[2], 2 * latent);
        RUN(op_conv(y, x, h->quant, SWD_ACT_NONE, tensor_none(), ex));
        x = y;
    }
    if (latents.shape[1] != latent) return op_nhwc_to_nchw(latents, x, 1.0f, 0.0f, ex);
    swd_tensor mean =
        maps_place(p, h->quant ? 0 : 2, SWD_F32, x.shape[0], x.shape[1], x.shape[2], latent);
    RUN(op_copy(mean, tensor_slice(x, 3, 0, latent), ex));
    return op_nhwc_to_nchw(latents, mean, (float)c->scaling_factor,
                           (float)(-c->shift_factor * c->scaling_factor), ex);
}

swd_status vae_decode(swd_tensor image, swd_tensor latents, const vae *m, swd_exec *ex)
{
    if (!m->decoder)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "vae_decode: created without the decoder");
    RUN(maps_check(image, m->cfg.out_channels, latents, m->cfg.latent_channels, m->cfg.n_blocks,
                   ex));
    return maps_run(decode, image, latents, m, ex);
}

static swd_status encode_channels(swd_tensor latents, swd_tensor image, int channels, const vae *m,
                                  swd_exec *ex)
{
    if (!m->encoder)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "vae_encode: created without the encoder");
    RUN(maps_check(image, m->cfg.in_channels, latents, channels, m->cfg.n_blocks, ex));
    return maps_run(encode, latents, image, m, ex);
}

swd_status vae_encode(swd_tensor latents, swd_tensor image, const vae *m, swd_exec *ex)
{
    return encode_channels(latents, image, m->cfg.latent_channels, m, ex);
}

swd_status vae_encode_moments(swd_tensor moments, swd_tensor image, const vae *m, swd_exec *ex)
{
    return encode_channels(moments, image, 2 * m->cfg.latent_channels, m, ex);
}
