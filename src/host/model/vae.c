// SPDX-License-Identifier: MIT
// AutoencoderKL. resnet: y = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x)))))).
// Order for memory: where there is a shortcut it is computed first, so that x can be normalised in place; the widest map of a
// decoder (the last upsampling's) is then joined by two maps of half its width and nothing else.
#include "model/vae.h"
#include "base/memory.h"
#include "model/maps.h"
#include <math.h>
#include <stdlib.h>

enum { KEY_MAX = 160 };
static const float NORM_EPS = 1e-6f;

typedef struct norm {
    swd_tensor gamma, beta;
} norm;

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
    config_vae cfg;
    swd_backend *be;
    half *encoder, *decoder;
};

static swd_status load_norm(norm *n, int c, const char *name, const map_source *s)
{
    char key[KEY_MAX];
    SWD_TRY(map_name(key, sizeof key, s->err, "%s.weight", name), s->err);
    SWD_TRY(map_vector_load(&n->gamma, c, key, s), s->err);
    SWD_TRY(map_name(key, sizeof key, s->err, "%s.bias", name), s->err);
    return map_vector_load(&n->beta, c, key, s);
}

static swd_status load_conv3(swd_conv **out, int in_channels, int out_channels, const char *name,
                             const map_source *s)
{
    map_conv c = {.in = in_channels,
                  .out = out_channels,
                  .kernel = 3,
                  .stride = 1,
                  .pad_before = 1,
                  .pad_after = 1};
    return map_conv_load(out, &c, name, s);
}

static swd_status load_resnet(resnet *r, int in_channels, int out_channels, const char *name,
                              const map_source *s)
{
    char key[KEY_MAX];
    r->in = in_channels;
    r->out = out_channels;
    SWD_TRY(map_name(key, sizeof key, s->err, "%s.norm1", name), s->err);
    SWD_TRY(load_norm(&r->norm1, in_channels, key, s), s->err);
    SWD_TRY(map_name(key, sizeof key, s->err, "%s.conv1", name), s->err);
    SWD_TRY(load_conv3(&r->conv1, in_channels, out_channels, key, s), s->err);
    SWD_TRY(map_name(key, sizeof key, s->err, "%s.norm2", name), s->err);
    SWD_TRY(load_norm(&r->norm2, out_channels, key, s), s->err);
    SWD_TRY(map_name(key, sizeof key, s->err, "%s.conv2", name), s->err);
    SWD_TRY(load_conv3(&r->conv2, out_channels, out_channels, key, s), s->err);
    if (in_channels == out_channels) return SWD_OK;
    SWD_TRY(map_name(key, sizeof key, s->err, "%s.conv_shortcut", name), s->err);
    map_conv c = {.in = in_channels, .out = out_channels, .kernel = 1, .stride = 1};
    return map_conv_load(&r->shortcut, &c, key, s);
}

static swd_status load_mid(half *h, int c, bool with_attention, const char *side,
                           const map_source *s)
{
    char key[KEY_MAX];
    for (int i = 0; i < 2; i++) {
        SWD_TRY(map_name(key, sizeof key, s->err, "%s.mid_block.resnets.%d", side, i), s->err);
        SWD_TRY(load_resnet(&h->mid[i], c, c, key, s), s->err);
    }
    if (!with_attention) return SWD_OK;
    if (c % 8 || c > 512)
        return SWD_FAIL(s->err, SWD_ERR_UNSUPPORTED,
                        "an autoencoder's middle attention of %d channels: a multiple of 8 up to "
                        "512 is supported",
                        c);
    SWD_TRY(map_name(key, sizeof key, s->err, "%s.mid_block.attentions.0.group_norm", side),
            s->err);
    SWD_TRY(load_norm(&h->attention.norm, c, key, s), s->err);
    swd_linear **to[4] = {&h->attention.q, &h->attention.k, &h->attention.v, &h->attention.out};
    static const char *const names[4] = {"to_q", "to_k", "to_v", "to_out.0"};
    for (int i = 0; i < 4; i++) {
        SWD_TRY(map_name(key, sizeof key, s->err, "%s.mid_block.attentions.0.%s", side, names[i]),
                s->err);
        SWD_TRY(map_linear_load(to[i], c, c, key, s), s->err);
    }
    return SWD_OK;
}

// Blocks in the order they run: widths rise in the encoder, fall in the decoder.
static swd_status load_blocks(half *h, const config_vae *c, bool decoder, const map_source *s)
{
    char key[KEY_MAX];
    const char *blocks = decoder ? "decoder.up_blocks" : "encoder.down_blocks";
    int n = c->n_blocks, width = h->width;
    h->n_block = c->layers_per_block + decoder;
    SWD_TRY(swd_calloc(&h->resnets, (size_t)(n * h->n_block), sizeof *h->resnets, "the autoencoder",
                       s->err),
            s->err);
    for (int i = 0; i < n; i++) {
        int wide = c->block_out_channels[decoder ? n - 1 - i : i];
        for (int j = 0; j < h->n_block; j++, width = wide) {
            SWD_TRY(map_name(key, sizeof key, s->err, "%s.%d.resnets.%d", blocks, i, j), s->err);
            SWD_TRY(load_resnet(&h->resnets[i * h->n_block + j], width, wide, key, s), s->err);
        }
        if (i == n - 1) break;
        map_conv conv = {.in = wide,
                         .out = wide,
                         .kernel = 3,
                         .stride = decoder ? 1 : 2,
                         .pad_before = decoder,
                         .pad_after = 1,
                         .upsample2x = decoder};
        SWD_TRY(map_name(key, sizeof key, s->err, "%s.%d.%s.0.conv", blocks, i,
                         decoder ? "upsamplers" : "downsamplers"),
                s->err);
        SWD_TRY(map_conv_load(&h->sample[i], &conv, key, s), s->err);
    }
    return SWD_OK;
}

static swd_status load_decoder(half *h, const config_vae *c, const map_source *s)
{
    int latent = c->latent_channels, last = c->block_out_channels[0];
    h->width = c->block_out_channels[c->n_blocks - 1];
    map_conv quant = {.in = latent, .out = latent, .kernel = 1, .stride = 1};
    if (c->use_post_quant_conv)
        SWD_TRY(map_conv_load(&h->quant, &quant, "post_quant_conv", s), s->err);
    SWD_TRY(load_conv3(&h->in, latent, h->width, "decoder.conv_in", s), s->err);
    SWD_TRY(load_mid(h, h->width, c->mid_block_add_attention, "decoder", s), s->err);
    SWD_TRY(load_blocks(h, c, true, s), s->err);
    SWD_TRY(load_norm(&h->norm_out, last, "decoder.conv_norm_out", s), s->err);
    return load_conv3(&h->out, last, c->out_channels, "decoder.conv_out", s);
}

// Only the mean is ever used: the last layer keeps the rows that make it.
static swd_status load_encoder(half *h, const config_vae *c, const map_source *s)
{
    int latent = c->latent_channels, last = c->block_out_channels[c->n_blocks - 1];
    h->width = c->block_out_channels[0];
    SWD_TRY(load_conv3(&h->in, c->in_channels, h->width, "encoder.conv_in", s), s->err);
    SWD_TRY(load_blocks(h, c, false, s), s->err);
    SWD_TRY(load_mid(h, last, c->mid_block_add_attention, "encoder", s), s->err);
    SWD_TRY(load_norm(&h->norm_out, last, "encoder.conv_norm_out", s), s->err);
    map_conv out = {.in = last,
                    .out = c->use_quant_conv ? 2 * latent : latent,
                    .file_out = 2 * latent,
                    .kernel = 3,
                    .stride = 1,
                    .pad_before = 1,
                    .pad_after = 1};
    SWD_TRY(map_conv_load(&h->out, &out, "encoder.conv_out", s), s->err);
    map_conv quant = {
        .in = 2 * latent, .out = latent, .file_out = 2 * latent, .kernel = 1, .stride = 1};
    return c->use_quant_conv ? map_conv_load(&h->quant, &quant, "quant_conv", s) : SWD_OK;
}

static swd_status create(vae *m, weights *w, swd_dtype compute, bool with_encoder,
                         bool with_decoder, swd_err *err)
{
    map_source s = {w, m->be, compute, err};
    if (with_encoder) {
        SWD_TRY(swd_calloc(&m->encoder, 1, sizeof *m->encoder, "the autoencoder", err), err);
        SWD_TRY(load_encoder(m->encoder, &m->cfg, &s), err);
    }
    if (with_decoder) {
        SWD_TRY(swd_calloc(&m->decoder, 1, sizeof *m->decoder, "the autoencoder", err), err);
        SWD_TRY(load_decoder(m->decoder, &m->cfg, &s), err);
    }
    const char *unread[5] = {0};
    int n = 0;
    if (!with_encoder) unread[n++] = "encoder.", unread[n++] = "quant_conv.";
    if (!with_decoder) unread[n++] = "decoder.", unread[n++] = "post_quant_conv.";
    SWD_TRY(weights_check_unused(w, unread, err), err);
    return SWD_OK;
}

swd_status vae_create(vae **out, const config_vae *cfg, weights *w, swd_backend *be,
                      swd_dtype compute, bool with_encoder, bool with_decoder, swd_err *err)
{
    *out = NULL;
    vae *m;
    SWD_TRY(swd_calloc(&m, 1, sizeof *m, "the autoencoder", err), err);
    m->cfg = *cfg;
    m->be = be;
    swd_status s = create(m, w, compute, with_encoder, with_decoder, err);
    if (s != SWD_OK) vae_destroy(&m);
    SWD_TRY(s, err);
    *out = m;
    return SWD_OK;
}

static void free_norm(swd_backend *be, norm *n)
{
    be->release(be, n->gamma.data);
    be->release(be, n->beta.data);
}

static void free_resnet(swd_backend *be, resnet *r)
{
    free_norm(be, &r->norm1);
    free_norm(be, &r->norm2);
    be->conv_destroy(be, &r->conv1);
    be->conv_destroy(be, &r->conv2);
    be->conv_destroy(be, &r->shortcut);
}

static void free_half(swd_backend *be, half *h, int n_blocks)
{
    if (!h) return;
    for (int i = 0; i < 2; i++) free_resnet(be, &h->mid[i]);
    for (int i = 0; h->resnets && i < n_blocks * h->n_block; i++) free_resnet(be, &h->resnets[i]);
    for (int i = 0; i < n_blocks; i++) be->conv_destroy(be, &h->sample[i]);
    free_norm(be, &h->norm_out);
    free_norm(be, &h->attention.norm);
    be->linear_destroy(be, &h->attention.q);
    be->linear_destroy(be, &h->attention.k);
    be->linear_destroy(be, &h->attention.v);
    be->linear_destroy(be, &h->attention.out);
    be->conv_destroy(be, &h->in);
    be->conv_destroy(be, &h->out);
    be->conv_destroy(be, &h->quant);
    free(h->resnets);
    free(h);
}

void vae_destroy(vae **m)
{
    if (!*m) return;
    free_half((*m)->be, (*m)->encoder, (*m)->cfg.n_blocks);
    free_half((*m)->be, (*m)->decoder, (*m)->cfg.n_blocks);
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
    return (silu ? op_group_norm_silu : op_group_norm)(y, x, n->gamma, n->beta, c->norm_num_groups,
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
    int64_t b = x.shape[0], n = x.shape[1] * x.shape[2], d = x.shape[3];
    int64_t rows[3] = {b, n, d}, heads[4] = {b, n, 1, d};
    swd_tensor normed = place_like(p, 1, x, d);
    swd_tensor qkv = maps_place(p, 2, ex->act, 3, b, n, d), part[3];
    RUN(run_norm(normed, x, &a->norm, c, false, ex));
    swd_tensor in = tensor_reshape(normed, rows, 3), stream = tensor_reshape(x, rows, 3);
    const swd_linear *to[3] = {a->q, a->k, a->v};
    for (int i = 0; i < 3; i++) {
        part[i] = tensor_reshape(tensor_slice(qkv, 0, i, 1), rows, 3);
        RUN(op_linear(part[i], in, to[i], SWD_ACT_NONE, ex));
        part[i] = tensor_reshape(part[i], heads, 4);
    }
    attention_args args = {.n_streams = 1,
                           .o = {tensor_reshape(in, heads, 4)},
                           .q = {part[0]},
                           .k = {part[1]},
                           .v = {part[2]},
                           .scale = 1.0f / sqrtf((float)d)};
    RUN(op_attention(&args, ex));
    RUN(op_linear_residual(stream, stream, tensor_none(), in, a->out, ex));
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
    swd_tensor rgb = maps_place(p, 1, SWD_F32, b, y.shape[1], y.shape[2], c->out_channels);
    RUN(op_conv(rgb, y, h->out, SWD_ACT_NONE, tensor_none(), ex));
    return op_to_rgb8(image, rgb, 0.5f, 0.5f, ex);
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
    int moments = h->quant ? 2 * c->latent_channels : c->latent_channels;
    x = maps_place(p, 1, SWD_F32, y.shape[0], y.shape[1], y.shape[2], moments);
    RUN(op_conv(x, y, h->out, SWD_ACT_NONE, tensor_none(), ex));
    if (h->quant) {
        y = maps_place(p, 2, SWD_F32, x.shape[0], x.shape[1], x.shape[2], c->latent_channels);
        RUN(op_conv(y, x, h->quant, SWD_ACT_NONE, tensor_none(), ex));
        x = y;
    }
    return op_nhwc_to_nchw(latents, x, (float)c->scaling_factor,
                           (float)(-c->shift_factor * c->scaling_factor), ex);
}

static swd_status check(swd_tensor image, int channels, swd_tensor latents, const config_vae *c,
                        swd_exec *ex)
{
    int64_t f = (int64_t)1 << (c->n_blocks - 1);
    char ti[96], tl[96];
    if (latents.ndim == 4 && latents.dtype == SWD_F32 && latents.shape[1] == c->latent_channels &&
        latents.shape[0] > 0 && latents.shape[2] > 0 && latents.shape[3] > 0 && image.ndim == 4 &&
        (image.dtype == SWD_F32 || (image.dtype == SWD_U8 && channels == 3)) &&
        image.shape[0] == latents.shape[0] && image.shape[1] == f * latents.shape[2] &&
        image.shape[2] == f * latents.shape[3] && image.shape[3] == channels)
        return SWD_OK;
    return SWD_FAIL(
        ex->err, SWD_ERR_ARGUMENT,
        "an autoencoder of %d latent channels and factor %d has no picture %s for latents %s",
        c->latent_channels, (int)f, tensor_describe(image, ti, sizeof ti),
        tensor_describe(latents, tl, sizeof tl));
}

swd_status vae_decode(swd_tensor image, swd_tensor latents, const vae *m, swd_exec *ex)
{
    if (!m->decoder)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "vae_decode: created without the decoder");
    RUN(check(image, m->cfg.out_channels, latents, &m->cfg, ex));
    return maps_run(decode, image, latents, m, ex);
}

swd_status vae_encode(swd_tensor latents, swd_tensor image, const vae *m, swd_exec *ex)
{
    if (!m->encoder)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "vae_encode: created without the encoder");
    RUN(check(image, m->cfg.in_channels, latents, &m->cfg, ex));
    return maps_run(encode, latents, image, m, ex);
}
