// SPDX-License-Identifier: MIT
// AutoencoderTiny. block: y = relu(conv(relu(conv(relu(conv(x))))) + x); a stage is a convolution and its blocks.
// decode: 2 layers(3 tanh(x / 3)) - 1; encode: layers((x + 1) / 2).
#include "model/tiny_vae.h"
#include "base/memory.h"
#include "model/load.h"
#include "model/maps.h"
#include <stdio.h>

typedef struct block {
    swd_conv *conv[3];
} block;

typedef struct half {
    int n_stages;
    const int *n_blocks; // [n_stages], of the config
    int width;
    swd_conv *in, *out;
    swd_conv *sample
        [CONFIG_VAE_BLOCKS_MAX]; // encoder: before stage i > 0; decoder: after stage i < n - 1
    block *blocks;               // of all stages, in order
} half;

struct tiny_vae {
    holdings held;
    config_tiny_vae cfg;
    half *encoder, *decoder; // NULL: not asked for
};

// Layer number i of a side.
static void load_layer(loader *l, swd_conv **out, conv_shape c, int i)
{
    size_t here = load_enter(l, "%d", i);
    load_conv(l, out, c, "");
    load_leave(l, here);
}

static void load_block(loader *l, block *b, int width, int i)
{
    for (int k = 0; k < 3; k++) {
        size_t here = load_enter(l, "%d.conv.%d", i, 2 * k); // 1 and 3 are ReLU
        load_conv(l, &b->conv[k], conv3x3(width, width), "");
        load_leave(l, here);
    }
}

// The last layer's number follows from the counts: a wrong one puts it where there is none.
static void check_config(loader *l, const half *h, int in, int out, bool decoder)
{
    int n_blocks = 0;
    for (int k = 0; k < h->n_stages; k++) n_blocks += h->n_blocks[k];
    int last = decoder ? 2 + n_blocks + 2 * (h->n_stages - 1) : n_blocks + h->n_stages;
    char name[32];
    snprintf(name, sizeof name, "%d.weight", last);
    expect_there(l, decoder ? "num_decoder_blocks" : "num_encoder_blocks", true, name);
    expect_dim(l, decoder ? "decoder_block_out_channels" : "encoder_block_out_channels", h->width,
               "0.weight", 0);
    expect_dim(l, decoder ? "latent_channels" : "in_channels", in, "0.weight", 1);
    expect_dim(l, decoder ? "out_channels" : "latent_channels", out, name, 0);
}

static void load_half(loader *l, half *h, int in, int out, bool decoder)
{
    int i = 0, at = 0, n_blocks = 0, width = h->width;
    conv_shape sample = conv3x3(width, width);
    sample.bias = WITHOUT_BIAS;
    sample.upsample2x = decoder;
    sample.stride = decoder ? 1 : 2;
    for (int k = 0; k < h->n_stages; k++) n_blocks += h->n_blocks[k];
    h->blocks = load_array(l, (size_t)n_blocks, sizeof *h->blocks, "the blocks");
    if (!h->blocks) return;
    size_t here = load_enter(l, "%s.layers.", decoder ? "decoder" : "encoder");
    check_config(l, h, in, out, decoder);
    // numbered through, the layers without weights (ReLU, upsampling) included
    load_layer(l, &h->in, conv3x3(in, width), i++);
    i += decoder; // ReLU
    for (int k = 0; k < h->n_stages; k++) {
        if (!decoder && k) load_layer(l, &h->sample[k], sample, i++);
        for (int j = 0; j < h->n_blocks[k]; j++) load_block(l, &h->blocks[at++], width, i++);
        if (!decoder || k == h->n_stages - 1) continue;
        i++; // upsampling
        load_layer(l, &h->sample[k], sample, i++);
    }
    load_layer(l, &h->out, conv3x3(width, out), i);
    load_leave(l, here);
}

swd_status tiny_vae_create(tiny_vae **out, const config_tiny_vae *cfg, weights *w, swd_backend *be,
                           swd_dtype compute, bool with_encoder, bool with_decoder, swd_err *err)
{
    static const char *const of_encoder[] = {"encoder.", NULL}, *const of_decoder[] = {"decoder.",
                                                                                       NULL};
    tiny_vae *m;
    *out = NULL;
    SWD_TRY(swd_calloc(&m, 1, sizeof *m, "a tiny autoencoder", err), err);
    const config_tiny_vae *c = &m->cfg;
    m->cfg = *cfg;
    loader l = loader_begin(&m->held, w, be, compute, err);
    if (with_encoder) m->encoder = load_array(&l, 1, sizeof *m->encoder, "an encoder");
    if (with_decoder) m->decoder = load_array(&l, 1, sizeof *m->decoder, "a decoder");
    if (m->encoder) {
        *m->encoder = (half){.n_stages = c->n_encoder_blocks,
                             .n_blocks = c->num_encoder_blocks,
                             .width = c->encoder_block_out_channels[0]};
        load_half(&l, m->encoder, c->in_channels, c->latent_channels, false);
    }
    if (m->decoder) {
        *m->decoder = (half){.n_stages = c->n_decoder_blocks,
                             .n_blocks = c->num_decoder_blocks,
                             .width = c->decoder_block_out_channels[0]};
        load_half(&l, m->decoder, c->latent_channels, c->out_channels, true);
    }
    swd_status s = loader_end(&l, !with_encoder ? of_encoder : !with_decoder ? of_decoder : NULL);
    if (s != SWD_OK) tiny_vae_destroy(&m);
    *out = m;
    return s;
}

void tiny_vae_destroy(tiny_vae **m)
{
    if (!*m) return;
    holdings_release(&(*m)->held);
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
    return op_conv_rgb8(image, y, h->out, 1.0f, 0.0f, ex); // 2 y - 1 and its undoing cancel
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

swd_status tiny_vae_decode(swd_tensor image, swd_tensor latents, const tiny_vae *m, swd_exec *ex)
{
    if (!m->decoder)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "tiny_vae_decode: created without the decoder");
    RUN(maps_check(image, m->cfg.out_channels, latents, m->cfg.latent_channels,
                   m->decoder->n_stages, ex));
    return maps_run(decode, image, latents, m, ex);
}

swd_status tiny_vae_encode(swd_tensor latents, swd_tensor image, const tiny_vae *m, swd_exec *ex)
{
    if (!m->encoder)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "tiny_vae_encode: created without the encoder");
    RUN(maps_check(image, m->cfg.in_channels, latents, m->cfg.latent_channels, m->encoder->n_stages,
                   ex));
    return maps_run(encode, latents, image, m, ex);
}
