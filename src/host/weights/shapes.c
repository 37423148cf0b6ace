// SPDX-License-Identifier: MIT
#include "weights/shapes.h"
#include <string.h>

#define DUAL_0_TO_12                                                                               \
    {                                                                                              \
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1                                                      \
    }
#define SD3(heads, layers, position, ...)                                                          \
    {                                                                                              \
        .kind = DENOISER_SD3, .sd3 = {                                                             \
            .sample_size = 128,                                                                    \
            .patch_size = 2,                                                                       \
            .in_channels = 16,                                                                     \
            .out_channels = 16,                                                                    \
            .num_layers = (layers),                                                                \
            .num_attention_heads = (heads),                                                        \
            .attention_head_dim = 64,                                                              \
            .inner_dim = (heads)*64,                                                               \
            .caption_projection_dim = (heads)*64,                                                  \
            .joint_attention_dim = 4096,                                                           \
            .pooled_projection_dim = 2048,                                                         \
            .pos_embed_max_size = (position),                                                      \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define FLUX(guided)                                                                               \
    {                                                                                              \
        .kind = DENOISER_FLUX, .flux = {                                                           \
            .in_channels = 64,                                                                     \
            .num_layers = 19,                                                                      \
            .num_single_layers = 38,                                                               \
            .num_attention_heads = 24,                                                             \
            .attention_head_dim = 128,                                                             \
            .inner_dim = 3072,                                                                     \
            .joint_attention_dim = 4096,                                                           \
            .pooled_projection_dim = 768,                                                          \
            .guidance_embeds = (guided),                                                           \
            .axes_dims_rope = {16, 56, 56}                                                         \
        }                                                                                          \
    }
#define STATIC_SHIFT(s)                                                                            \
    {                                                                                              \
        .num_train_timesteps = 1000, .shift = (s), .base_shift = 0.5, .max_shift = 1.15,           \
        .base_image_seq_len = 256, .max_image_seq_len = 4096                                       \
    }
#define DYNAMIC_SHIFT                                                                              \
    {                                                                                              \
        .num_train_timesteps = 1000, .shift = 3, .use_dynamic_shifting = true, .base_shift = 0.5,  \
        .max_shift = 1.15, .base_image_seq_len = 256, .max_image_seq_len = 4096                    \
    }
#define PUBLISHED_VAE(scaling, shift)                                                              \
    {                                                                                              \
        .in_channels = 3, .out_channels = 3, .latent_channels = 16, .n_blocks = 4,                 \
        .block_out_channels = {128, 256, 512, 512}, .layers_per_block = 2, .norm_num_groups = 32,  \
        .sample_size = 1024, .scaling_factor = (scaling), .shift_factor = (shift),                 \
        .mid_block_add_attention = true                                                            \
    }
#define TINY_VAE(scaling, shift)                                                                   \
    {                                                                                              \
        .in_channels = 3, .out_channels = 3, .latent_channels = 16, .n_blocks = 4,                 \
        .block_out_channels = {16, 16, 32, 32}, .layers_per_block = 1, .norm_num_groups = 8,       \
        .sample_size = 128, .scaling_factor = (scaling), .shift_factor = (shift),                  \
        .mid_block_add_attention = true                                                            \
    }
#define CLIP(width, n_layers, n_heads, act, projected)                                             \
    {                                                                                              \
        .vocab_size = 49408, .hidden_size = (width), .intermediate_size = 4 * (width),             \
        .projection_dim = (width), .with_projection = (projected),                                 \
        .head_dim = (width) / (n_heads), .num_hidden_layers = (n_layers),                          \
        .num_attention_heads = (n_heads), .max_position_embeddings = 77, .layer_norm_eps = 1e-5,   \
        .hidden_act = (act), .pad_token_id = 1, .bos_token_id = 0, .eos_token_id = 2               \
    }
#define PUBLISHED_CLIPS                                                                            \
    {                                                                                              \
        CLIP(768, 12, 12, CONFIG_ACT_QUICK_GELU, true),                                            \
            CLIP(1280, 32, 20, CONFIG_ACT_GELU_ERF, true)                                          \
    }
#define T5(width, wide, n_layers, heads)                                                           \
    {                                                                                              \
        .vocab_size = 32128, .d_model = (width), .d_kv = 64, .d_ff = (wide),                       \
        .num_layers = (n_layers), .num_heads = (heads), .relative_attention_num_buckets = 32,      \
        .relative_attention_max_distance = 128, .layer_norm_epsilon = 1e-6,                        \
        .dense_act = CONFIG_ACT_GELU_TANH, .is_gated_act = true, .pad_token_id = 0,                \
        .eos_token_id = 1                                                                          \
    }

#define DEMO_CLIP(act, pad)                                                                        \
    {                                                                                              \
        .vocab_size = 2048, .hidden_size = 96, .intermediate_size = 384, .projection_dim = 96,     \
        .num_hidden_layers = 3, .num_attention_heads = 3, .max_position_embeddings = 16,           \
        .head_dim = 32, .layer_norm_eps = 1e-5, .hidden_act = (act), .pad_token_id = (pad),        \
        .bos_token_id = 2046, .eos_token_id = 2047, .with_projection = true                        \
    }

static const model_shape shapes[] = {
    {"sd3.5-medium", "2.5 billion parameters, dual attention in 13 layers",
     SD3(24, 24, 384, .qk_norm_rms = true, .n_dual = 13, .dual_attention = DUAL_0_TO_12),
     PUBLISHED_VAE(1.5305, 0.0609), PUBLISHED_CLIPS, T5(4096, 10240, 24, 64), STATIC_SHIFT(3)},
    {"sd3.5-large", "8.1 billion parameters", SD3(38, 38, 192, .qk_norm_rms = true),
     PUBLISHED_VAE(1.5305, 0.0609), PUBLISHED_CLIPS, T5(4096, 10240, 24, 64), STATIC_SHIFT(3)},
    {"sd3-medium", "2 billion parameters, no norm of q and k",
     SD3(24, 24, 192, .qk_norm_rms = false), PUBLISHED_VAE(1.5305, 0.0609), PUBLISHED_CLIPS,
     T5(4096, 10240, 24, 64), STATIC_SHIFT(3)},
    {"flux-dev",
     "12 billion parameters, with guidance",
     FLUX(true),
     PUBLISHED_VAE(0.3611, 0.1159),
     {CLIP(768, 12, 12, CONFIG_ACT_QUICK_GELU, false)},
     T5(4096, 10240, 24, 64),
     DYNAMIC_SHIFT},
    {"flux-schnell",
     "12 billion parameters, without",
     FLUX(false),
     PUBLISHED_VAE(0.3611, 0.1159),
     {CLIP(768, 12, 12, CONFIG_ACT_QUICK_GELU, false)},
     T5(4096, 10240, 24, 64),
     STATIC_SHIFT(1)},
    {"demo",
     "of the bundled model",
     {.kind = DENOISER_SD3,
      .sd3 = {.sample_size = 16,
              .patch_size = 2,
              .in_channels = 16,
              .out_channels = 16,
              .num_layers = 8,
              .num_attention_heads = 3,
              .attention_head_dim = 64,
              .inner_dim = 192,
              .caption_projection_dim = 192,
              .joint_attention_dim = 192,
              .pooled_projection_dim = 192,
              .pos_embed_max_size = 16,
              .qk_norm_rms = true,
              .n_dual = 2,
              .dual_attention = {1, 1}}},
     {.in_channels = 3,
      .out_channels = 3,
      .latent_channels = 16,
      .n_blocks = 4,
      .block_out_channels = {32, 64, 96, 96},
      .layers_per_block = 1,
      .norm_num_groups = 8,
      .sample_size = 128,
      .scaling_factor = 0.8455773903268442,
      .shift_factor = -0.22051960229873657,
      .mid_block_add_attention = true},
     {DEMO_CLIP(CONFIG_ACT_QUICK_GELU, 2047), DEMO_CLIP(CONFIG_ACT_GELU_ERF, 0)},
     {.vocab_size = 2000,
      .d_model = 192,
      .d_kv = 48,
      .d_ff = 384,
      .num_layers = 3,
      .num_heads = 4,
      .relative_attention_num_buckets = 32,
      .relative_attention_max_distance = 128,
      .layer_norm_epsilon = 1e-6,
      .dense_act = CONFIG_ACT_GELU_TANH,
      .is_gated_act = true,
      .pad_token_id = 0,
      .eos_token_id = 1},
     STATIC_SHIFT(3)},
    {"tiny",
     "SD3.5-M's layout in seconds: all parts, small",
     {.kind = DENOISER_SD3,
      .sd3 = {.sample_size = 16,
              .patch_size = 2,
              .in_channels = 16,
              .out_channels = 16,
              .num_layers = 3,
              .num_attention_heads = 2,
              .attention_head_dim = 32,
              .inner_dim = 64,
              .caption_projection_dim = 64,
              .joint_attention_dim = 128,
              .pooled_projection_dim = 128,
              .pos_embed_max_size = 16,
              .qk_norm_rms = true,
              .n_dual = 1,
              .dual_attention = {1}}},
     TINY_VAE(1.5305, 0.0609),
     {CLIP(64, 2, 2, CONFIG_ACT_QUICK_GELU, true), CLIP(64, 2, 2, CONFIG_ACT_GELU_ERF, true)},
     T5(128, 256, 2, 2),
     STATIC_SHIFT(3)},
    {"tiny-flux",
     "FLUX's layout in seconds: all parts, small",
     {.kind = DENOISER_FLUX,
      .flux = {.in_channels = 64,
               .num_layers = 2,
               .num_single_layers = 2,
               .num_attention_heads = 2,
               .attention_head_dim = 32,
               .inner_dim = 64,
               .joint_attention_dim = 128,
               .pooled_projection_dim = 64,
               .guidance_embeds = true,
               .axes_dims_rope = {8, 12, 12}}},
     TINY_VAE(0.3611, 0.1159),
     {CLIP(64, 2, 2, CONFIG_ACT_QUICK_GELU, false)},
     T5(128, 256, 2, 2),
     DYNAMIC_SHIFT},
};

const model_shape *shape_at(int i)
{
    return i >= 0 && i < (int)(sizeof shapes / sizeof *shapes) ? &shapes[i] : NULL;
}

const model_shape *shape_find(const char *name)
{
    for (int i = 0; shape_at(i); i++)
        if (strcmp(shapes[i].name, name) == 0) return &shapes[i];
    return NULL;
}
