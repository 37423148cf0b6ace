// SPDX-License-Identifier: MIT
#include "shapes.h"
#include "kinds.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static shape list[SHAPES_MAX];
static int n_list;

static SWD_PRINTF(3, 4) void add(const kind *k, const int64_t *d, const char *fmt, ...)
{
    assert(n_list < SHAPES_MAX);
    shape *s = &list[n_list++];
    va_list ap;
    *s = (shape){.kind = k};
    memcpy(s->d, d, sizeof s->d);
    int at = snprintf(s->name, sizeof s->name, "%s: ", k->op);
    va_start(ap, fmt);
    vsnprintf(s->name + at, sizeof s->name - (size_t)at, fmt, ap);
    va_end(ap);
}

#define D(...)                                                                                     \
    (const int64_t[DIMS_MAX])                                                                      \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

/* ---- linear layers ---- */

typedef struct layer {
    const char *name;
    int64_t in, out;
    bool residual; // with gate and residual
    swd_act act;
} layer;

// One layer at several numbers of rows; few_rows: the kernel for up to 16.
static void add_layers(const char *model, const layer *l, int n_layers, const int64_t *rows,
                       int n_rows)
{
    for (int i = 0; i < n_layers; i++, l++)
        for (int r = 0; r < n_rows; r++) {
            const kind *k = l->residual ? &kind_linear_residual : &kind_linear;
            add(k, D(rows[r], l->in, l->out, l->act), "%s %s, %d rows", model, l->name,
                (int)rows[r]);
        }
}

static void add_linears(void)
{
    static const layer sd35m[] = {{"qkv", 1536, 4608, false, SWD_ACT_NONE},
                                  {"out", 1536, 1536, true, SWD_ACT_NONE},
                                  {"mlp in", 1536, 6144, false, SWD_ACT_GELU_TANH},
                                  {"mlp out", 6144, 1536, true, SWD_ACT_NONE}};
    static const layer sd35l[] = {{"qkv", 2432, 7296, false, SWD_ACT_NONE},
                                  {"out", 2432, 2432, true, SWD_ACT_NONE},
                                  {"mlp in", 2432, 9728, false, SWD_ACT_GELU_TANH},
                                  {"mlp out", 9728, 2432, true, SWD_ACT_NONE}};
    static const layer flux[] = {{"qkv", 3072, 9216, false, SWD_ACT_NONE},
                                 {"mlp in", 3072, 12288, false, SWD_ACT_GELU_TANH},
                                 {"mlp out", 12288, 3072, true, SWD_ACT_NONE},
                                 {"single in", 3072, 21504, false, SWD_ACT_NONE},
                                 {"single out", 15360, 3072, true, SWD_ACT_NONE}};
    static const layer t5[] = {{"qkv", 4096, 12288, false, SWD_ACT_NONE},
                               {"wi", 4096, 10240, false, SWD_ACT_NONE},
                               {"wo", 10240, 4096, true, SWD_ACT_NONE}};
    static const layer vae[] = {{"middle q", 512, 512, false, SWD_ACT_NONE}};
    static const int64_t rows[] = {64, 256, 1024, 4096}, text[] = {333}, tokens[] = {512},
                         pixels[] = {16384};
    add_layers("SD3.5-M", sd35m, 4, rows, 4);
    add_layers("SD3.5-M", sd35m, 1, text, 1);
    add_layers("SD3.5-L", sd35l, 4, rows + 1, 3);
    add_layers("FLUX", flux, 5, rows + 1, 3);
    add_layers("T5-XXL", t5, 3, tokens, 1);
    add_layers("VAE", vae, 1, pixels, 1);
    add(&kind_linear_few, D(1, 1536, 13824), "SD3.5-M modulation, 1 row");
    add(&kind_linear_few, D(8, 1536, 13824), "SD3.5-M modulation, 8 rows");
    add(&kind_linear_few, D(1, 3072, 18432), "FLUX modulation, 1 row");
}

/* ---- attention ---- */

static void add_attention(void)
{
    static const int64_t image[] = {256, 576, 1024, 1600, 2304, 4096};
    for (int i = 0; i < 6; i++)
        add(&kind_attention, D(24, 64, image[i], 333), "SD3.5-M joint, %d tokens",
            (int)image[i] + 333);
    add(&kind_attention, D(24, 64, 4096), "SD3.5-M dual, 4096 tokens");
    add(&kind_attention, D(38, 64, 1024, 333), "SD3.5-L joint, 1357 tokens");
    add(&kind_attention, D(38, 64, 4096, 333), "SD3.5-L joint, 4429 tokens");
    add(&kind_attention, D(24, 128, 1024, 512), "FLUX, 1536 tokens");
    add(&kind_attention, D(24, 128, 4096, 512), "FLUX, 4608 tokens");
    add(&kind_attention, D(12, 64, 77, 0, 1), "CLIP-L, 77 tokens, causal");
    add(&kind_attention, D(20, 64, 77, 0, 1), "CLIP-G, 77 tokens, causal");
    add(&kind_attention, D(64, 64, 512, 0, 0, 1), "T5-XXL, 512 tokens, bias");
    add(&kind_attention_wide, D(1, 512, 4096), "VAE middle, 512 px, 4096 keys");
    add(&kind_attention_wide, D(1, 512, 16384), "VAE middle, 1024 px, 16384 keys");
}

/* ---- the decoder of SD3's autoencoder at 1024 px ---- */

static void add_decoder(void)
{
    add(&kind_conv, D(128, 16, 512, 3), "VAE in 16 to 512, 128 px");
    add(&kind_conv, D(128, 512, 512, 3, 1), "VAE 512 to 512, 128 px");
    add(&kind_upsample_conv, D(256, 512, 512, 3), "VAE 512 to 512, 256 px");
    add(&kind_conv, D(256, 512, 512, 3, 1), "VAE 512 to 512, 256 px");
    add(&kind_upsample_conv, D(512, 512, 512, 3), "VAE 512 to 512, 512 px");
    add(&kind_conv, D(512, 512, 256, 3), "VAE 512 to 256, 512 px");
    add(&kind_conv_1x1, D(512, 512, 256, 1), "VAE 1x1 512 to 256, 512 px");
    add(&kind_conv, D(512, 256, 256, 3, 1), "VAE 256 to 256, 512 px");
    add(&kind_upsample_conv, D(1024, 256, 256, 3), "VAE 256 to 256, 1024 px");
    add(&kind_conv, D(1024, 256, 128, 3), "VAE 256 to 128, 1024 px");
    add(&kind_conv_1x1, D(1024, 256, 128, 1), "VAE 1x1 256 to 128, 1024 px");
    add(&kind_conv, D(1024, 128, 128, 3, 1), "VAE 128 to 128, 1024 px");
    add(&kind_conv_out, D(1024, 128, 3, 3), "VAE out 128 to 3, 1024 px");
    add(&kind_conv_rgb8, D(1024, 128, 3, 3), "VAE out 128 to 3, 1024 px");
    add(&kind_group_norm, D(128, 512), "VAE middle, 512 channels, 128 px");
    static const int64_t maps[][2] = {{128, 512}, {256, 512},  {512, 512},
                                      {512, 256}, {1024, 256}, {1024, 128}};
    for (int i = 0; i < 6; i++)
        add(&kind_group_norm_silu, D(maps[i][0], maps[i][1]), "VAE %d channels, %d px",
            (int)maps[i][1], (int)maps[i][0]);
    add(&kind_to_nhwc, D(128, 16), "latents of 1024 px");
    add(&kind_to_nchw, D(128, 16), "latents of 1024 px");
    add(&kind_to_rgb8, D(1024), "1024 px");
    add(&kind_from_rgb8, D(1024), "1024 px");
}

/* ---- rows ---- */

static void add_rows(void)
{
    static const struct {
        const char *model;
        int64_t rows, columns;
    } streams[] = {{"SD3.5-M", 64, 1536},   {"SD3.5-M", 333, 1536},  {"SD3.5-M", 1024, 1536},
                   {"SD3.5-M", 4096, 1536}, {"SD3.5-L", 4096, 2432}, {"FLUX", 4096, 3072}};
    for (int i = 0; i < 6; i++)
        add(&kind_modulate, D(streams[i].rows, streams[i].columns), "%s, %d rows", streams[i].model,
            (int)streams[i].rows);
    add(&kind_modulate2, D(1024, 1536), "SD3.5-M dual, 1024 rows");
    add(&kind_modulate2, D(4096, 1536), "SD3.5-M dual, 4096 rows");
    add(&kind_gate_residual, D(1024, 1536), "SD3.5-M, 1024 rows");
    add(&kind_gate_residual, D(4096, 1536), "SD3.5-M, 4096 rows");
    add(&kind_qk_norm, D(1024, 24, 64), "SD3.5-M, 1024 tokens");
    add(&kind_qk_norm, D(4096, 24, 64), "SD3.5-M, 4096 tokens");
    add(&kind_qk_norm_rope, D(4608, 24, 128), "FLUX, 4608 tokens");
    add(&kind_layernorm, D(77, 1280), "CLIP-G, 77 rows");
    add(&kind_rms_norm, D(512, 4096), "T5-XXL, 512 rows");
    add(&kind_gated_gelu, D(512, 10240), "T5-XXL, 512 rows");
    add(&kind_activation, D(1, 1536), "SD3.5-M, 1 row, SiLU");
    add(&kind_axpby, D(1, 1536), "SD3.5-M, 1 row");
    add(&kind_copy, D(4096, 1536), "4096 x 1536, f32 to bf16");
    add(&kind_fill, D(4096, 1536), "4096 x 1536");
    add(&kind_embed, D(512, 32128, 4096), "T5-XXL, 512 tokens");
    add(&kind_relative_bias, D(512, 64), "T5-XXL, 512 tokens");
    add(&kind_sinusoid, D(8, 256), "8 images");
}

static void add_latents(void)
{
    add(&kind_patchify, D(128), "1024 px");
    add(&kind_unpatchify, D(128), "1024 px");
    add(&kind_add_position, D(64, 1536), "SD3.5-M, 4096 tokens");
    add(&kind_guidance, D(8, 128), "8 images, 1024 px");
    add(&kind_noise, D(8, 128), "8 images, 1024 px");
    add(&kind_resize, D(1, 32, 48), "32 to 48");
    add(&kind_resize, D(1, 96, 128), "96 to 128");
    add(&kind_resize, D(8, 96, 128), "8 images, 96 to 128");
}

static void add_tiny(void)
{
    static const kind *const all[] = {
        &kind_linear,         &kind_linear_few,    &kind_linear_residual, &kind_attention,
        &kind_attention_wide, &kind_conv,          &kind_conv_1x1,        &kind_conv_out,
        &kind_upsample_conv,  &kind_group_norm,    &kind_group_norm_silu, &kind_layernorm,
        &kind_modulate,       &kind_rms_norm,      &kind_qk_norm,         &kind_qk_norm_rope,
        &kind_gate_residual,  &kind_activation,    &kind_gated_gelu,      &kind_axpby,
        &kind_copy,           &kind_fill,          &kind_guidance,        &kind_noise,
        &kind_resize,         &kind_patchify,      &kind_unpatchify,      &kind_add_position,
        &kind_to_nhwc,        &kind_to_nchw,       &kind_to_rgb8,         &kind_from_rgb8,
        &kind_embed,          &kind_relative_bias, &kind_sinusoid,        &kind_modulate2,
        &kind_conv_rgb8};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        add(all[i], all[i]->tiny, "toy, %s", all[i]->kernel);
}

const shape *shapes_list(int *n, bool tiny)
{
    n_list = 0;
    if (tiny) {
        add_tiny();
    } else {
        add_attention();
        add_linears();
        add_decoder();
        add_rows();
        add_latents();
    }
    *n = n_list;
    return list;
}
