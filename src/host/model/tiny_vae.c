// SPDX-License-Identifier: MIT
// AutoencoderTiny. block: y = relu(conv(relu(conv(relu(conv(x))))) + x); a stage is a convolution and its blocks.
// decode: 2 layers(3 tanh(x / 3)) - 1; encode: layers((x + 1) / 2).
#include "model/tiny_vae.h"
#include "base/memory.h"
#include "model/maps.h"
#include <stdlib.h>

enum { KEY_MAX = 96 };

typedef struct block {
    swd_conv *conv[3];
} block;

typedef struct half {
    int n_stages, n_blocks_all;
    const int *n_blocks; // [n_stages], of the config
    int width;
    swd_conv *in, *out;
    swd_conv *sample
        [CONFIG_VAE_BLOCKS_MAX]; // encoder: before stage i > 0; decoder: after stage i < n - 1
    block *blocks;               // of all stages, in order
} half;

struct tiny_vae {
    config_tiny_vae cfg;
    swd_backend *be;
    half *encoder, *decoder;
};

static swd_status load_layer(swd_conv **out, map_conv c, const char *side, int layer,
                             const map_source *s)
{
    char key[KEY_MAX];
    c.kernel = 3;
    c.pad_before = c.pad_after = 1;
    if (!c.stride) c.stride = 1;
    SWD_TRY(map_name(key, sizeof key, s->err, "%s.layers.%d", side, layer), s->err);
    return map_conv_load(out, &c, key, s);
}

static swd_status load_block(block *b, int width, const char *side, int layer, const map_source *s)
{
    char key[KEY_MAX];
    map_conv c = {
        .in = width, .out = width, .kernel = 3, .stride = 1, .pad_before = 1, .pad_after = 1};
    for (int i = 0; i < 3; i++) {
        SWD_TRY(map_name(key, sizeof key, s->err, "%s.layers.%d.conv.%d", side, layer, 2 * i),
                s->err);
        SWD_TRY(map_conv_load(&b->conv[i], &c, key, s), s->err);
    }
    return SWD_OK;
}

// The layers are numbered through, those without weights (ReLU, upsampling) included.
static swd_status load_half(half *h, int in_channels, int out_channels, bool decoder,
                            const map_source *s)
{
    const char *side = decoder ? "decoder" : "encoder";
    int layer = 0, at = 0, w = h->width;
    for (int i = 0; i < h->n_stages; i++) h->n_blocks_all += h->n_blocks[i];
    SWD_TRY(swd_calloc(&h->blocks, (size_t)h->n_blocks_all, sizeof *h->blocks,
                       "the tiny autoencoder", s->err),
            s->err);
    SWD_TRY(load_layer(&h->in, (map_conv){.in = in_channels, .out = w}, side, layer++, s), s->err);
    layer += decoder; // ReLU
    for (int i = 0; i < h->n_stages; i++) {
        map_conv down = {.in = w, .out = w, .stride = 2, .no_bias = true},
                 up = {.in = w, .out = w, .upsample2x = true, .no_bias = true};
        if (!decoder && i) SWD_TRY(load_layer(&h->sample[i], down, side, layer++, s), s->err);
        for (int j = 0; j < h->n_blocks[i]; j++)
            SWD_TRY(load_block(&h->blocks[at++], w, side, layer++, s), s->err);
        if (!decoder || i == h->n_stages - 1) continue;
        layer++; // upsampling
        SWD_TRY(load_layer(&h->sample[i], up, side, layer++, s), s->err);
    }
    return load_layer(&h->out, (map_conv){.in = w, .out = out_channels}, side, layer, s);
}

static swd_status create(tiny_vae *m, weights *w, swd_dtype compute, bool with_encoder,
                         bool with_decoder, swd_err *err)
{
    map_source s = {w, m->be, compute, err};
    const config_tiny_vae *c = &m->cfg;
    if (c->upsampling_scaling_factor != 2)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "upsampling_scaling_factor %d: 2 is supported",
                        c->upsampling_scaling_factor);
    if (with_encoder) {
        SWD_TRY(swd_calloc(&m->encoder, 1, sizeof *m->encoder, "the tiny autoencoder", err), err);
        *m->encoder = (half){.n_stages = c->n_encoder_blocks,
                             .n_blocks = c->num_encoder_blocks,
                             .width = c->encoder_block_out_channels[0]};
        SWD_TRY(load_half(m->encoder, c->in_channels, c->latent_channels, false, &s), err);
    }
    if (with_decoder) {
        SWD_TRY(swd_calloc(&m->decoder, 1, sizeof *m->decoder, "the tiny autoencoder", err), err);
        *m->decoder = (half){.n_stages = c->n_decoder_blocks,
                             .n_blocks = c->num_decoder_blocks,
                             .width = c->decoder_block_out_channels[0]};
        SWD_TRY(load_half(m->decoder, c->latent_channels, c->out_channels, true, &s), err);
    }
    const char *unread[3] = {0};
    int n = 0;
    if (!with_encoder) unread[n++] = "encoder.";
    if (!with_decoder) unread[n++] = "decoder.";
    SWD_TRY(weights_check_unused(w, unread, err), err);
    return SWD_OK;
}

swd_status tiny_vae_create(tiny_vae **out, const config_tiny_vae *cfg, weights *w, swd_backend *be,
                           swd_dtype compute, bool with_encoder, bool with_decoder, swd_err *err)
{
    *out = NULL;
    tiny_vae *m;
    SWD_TRY(swd_calloc(&m, 1, sizeof *m, "the tiny autoencoder", err), err);
    m->cfg = *cfg;
    m->be = be;
    swd_status s = create(m, w, compute, with_encoder, with_decoder, err);
    if (s != SWD_OK) tiny_vae_destroy(&m);
    SWD_TRY(s, err);
    *out = m;
    return SWD_OK;
}

static void free_half(swd_backend *be, half *h)
{
    if (!h) return;
    for (int i = 0; h->blocks && i < h->n_blocks_all; i++)
        for (int j = 0; j < 3; j++) be->conv_destroy(be, &h->blocks[i].conv[j]);
    for (int i = 0; i < h->n_stages; i++) be->conv_destroy(be, &h->sample[i]);
    be->conv_destroy(be, &h->in);
    be->conv_destroy(be, &h->out);
    free(h->blocks);
    free(h);
}

void tiny_vae_destroy(tiny_vae **m)
{
    if (!*m) return;
    free_half((*m)->be, (*m)->encoder);
    free_half((*m)->be, (*m)->decoder);
    free(*m);
    *m = NULL;
}

// *x in the current region, before and after.
static swd_status run_block(swd_tensor x, const block *b, maps *p)
{
    swd_exec *ex = p->ex;
    swd_tensor u = maps_place(p, 1, ex->act, x.shape[0], x.shape[1], x.shape[2], x.shape[3]);
    swd_tensor v = maps_place(p, 2, ex->act, x.shape[0], x.shape[1], x.shape[2], x.shape[3]);
    RUN(op_conv(u, x, b->conv[0], SWD_ACT_RELU, tensor_none(), ex));
    RUN(op_conv(v, u, b->conv[1], SWD_ACT_RELU, tensor_none(), ex));
    RUN(op_conv(u, v, b->conv[2], SWD_ACT_NONE, x, ex));
    return op_activation(x, u, SWD_ACT_RELU, ex);
}

static swd_status run_half(swd_tensor *x, const half *h, bool decoder, maps *p)
{
    swd_exec *ex = p->ex;
    for (int i = 0, at = 0; i < h->n_stages; i++) {
        for (int part = 0; part < 2; part++) { // the encoder samples first, the decoder last
            if (part == (decoder ? 0 : 1)) {
                for (int j = 0; j < h->n_blocks[i]; j++) RUN(run_block(*x, &h->blocks[at++], p));
            } else if (h->sample[i]) {
                int64_t rows = decoder ? x->shape[1] * 2 : x->shape[1] / 2,
                        cols = decoder ? x->shape[2] * 2 : x->shape[2] / 2;
                swd_tensor y = maps_place(p, 1, ex->act, x->shape[0], rows, cols, h->width);
                RUN(op_conv(y, *x, h->sample[i], SWD_ACT_NONE, tensor_none(), ex));
                maps_move(p, 1);
                *x = y;
            }
        }
    }
    return SWD_OK;
}

static swd_status decode(swd_tensor image, swd_tensor latents, const void *model, maps *p)
{
    const tiny_vae *m = model;
    const config_tiny_vae *c = &m->cfg;
    const half *h = m->decoder;
    swd_exec *ex = p->ex;
    int64_t b = latents.shape[0], rows = latents.shape[2], cols = latents.shape[3];
    swd_tensor x = maps_place(p, 0, SWD_F32, b, rows, cols, c->latent_channels);
    RUN(op_nchw_to_nhwc(x, latents, (float)(1.0 / c->scaling_factor / 3.0),
                        (float)(c->shift_factor / 3.0), ex));
    RUN(op_activation(x, x, SWD_ACT_TANH, ex));
    RUN(op_axpby(x, 3.0f, x, 0.0f, tensor_none(), ex));
    swd_tensor y = maps_place(p, 1, ex->act, b, rows, cols, h->width);
    RUN(op_conv(y, x, h->in, SWD_ACT_RELU, tensor_none(), ex));
    maps_move(p, 1);
    RUN(run_half(&y, h, true, p));
    if (image.dtype == SWD_F32) {
        RUN(op_conv(image, y, h->out, SWD_ACT_NONE, tensor_none(), ex));
        swd_tensor one =
            maps_place(p, 0, SWD_F32, b, image.shape[1], image.shape[2], c->out_channels);
        RUN(op_fill(one, 1.0f, ex));
        return op_axpby(image, 2.0f, image, -1.0f, one, ex);
    }
    swd_tensor rgb = maps_place(p, 1, SWD_F32, b, y.shape[1], y.shape[2], c->out_channels);
    RUN(op_conv(rgb, y, h->out, SWD_ACT_NONE, tensor_none(), ex));
    return op_to_rgb8(image, rgb, 1.0f, 0.0f, ex); // 2 y - 1 and its undoing cancel
}

static swd_status encode(swd_tensor latents, swd_tensor image, const void *model, maps *p)
{
    const tiny_vae *m = model;
    const config_tiny_vae *c = &m->cfg;
    const half *h = m->encoder;
    swd_exec *ex = p->ex;
    int64_t b = image.shape[0], rows = image.shape[1], cols = image.shape[2];
    swd_tensor x = maps_place(p, 0, SWD_F32, b, rows, cols, c->in_channels);
    if (image.dtype == SWD_U8) {
        RUN(op_from_rgb8(x, image, 1.0f, 0.0f, ex));
    } else {
        swd_tensor one = maps_place(p, 1, SWD_F32, b, rows, cols, c->in_channels);
        RUN(op_fill(one, 1.0f, ex));
        RUN(op_axpby(x, 0.5f, image, 0.5f, one, ex));
    }
    swd_tensor y = maps_place(p, 1, ex->act, b, rows, cols, h->width);
    RUN(op_conv(y, x, h->in, SWD_ACT_NONE, tensor_none(), ex));
    maps_move(p, 1);
    RUN(run_half(&y, h, false, p));
    x = maps_place(p, 1, SWD_F32, b, y.shape[1], y.shape[2], c->latent_channels);
    RUN(op_conv(x, y, h->out, SWD_ACT_NONE, tensor_none(), ex));
    return op_nhwc_to_nchw(latents, x, (float)c->scaling_factor,
                           (float)(-c->shift_factor * c->scaling_factor), ex);
}

static swd_status check(swd_tensor image, int channels, swd_tensor latents, int n_stages,
                        const config_tiny_vae *c, swd_exec *ex)
{
    int64_t f = (int64_t)1 << (n_stages - 1);
    char ti[96], tl[96];
    if (latents.ndim == 4 && latents.dtype == SWD_F32 && latents.shape[1] == c->latent_channels &&
        latents.shape[0] > 0 && latents.shape[2] > 0 && latents.shape[3] > 0 && image.ndim == 4 &&
        (image.dtype == SWD_F32 || (image.dtype == SWD_U8 && channels == 3)) &&
        image.shape[0] == latents.shape[0] && image.shape[1] == f * latents.shape[2] &&
        image.shape[2] == f * latents.shape[3] && image.shape[3] == channels)
        return SWD_OK;
    return SWD_FAIL(
        ex->err, SWD_ERR_ARGUMENT,
        "a tiny autoencoder of %d latent channels and factor %d has no picture %s for latents %s",
        c->latent_channels, (int)f, tensor_describe(image, ti, sizeof ti),
        tensor_describe(latents, tl, sizeof tl));
}

swd_status tiny_vae_decode(swd_tensor image, swd_tensor latents, const tiny_vae *m, swd_exec *ex)
{
    if (!m->decoder)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "tiny_vae_decode: created without the decoder");
    RUN(check(image, m->cfg.out_channels, latents, m->decoder->n_stages, &m->cfg, ex));
    return maps_run(decode, image, latents, m, ex);
}

swd_status tiny_vae_encode(swd_tensor latents, swd_tensor image, const tiny_vae *m, swd_exec *ex)
{
    if (!m->encoder)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "tiny_vae_encode: created without the encoder");
    RUN(check(image, m->cfg.in_channels, latents, m->encoder->n_stages, &m->cfg, ex));
    return maps_run(encode, latents, image, m, ex);
}
