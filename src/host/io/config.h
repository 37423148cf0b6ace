/* SPDX-License-Identifier: MIT */
/* Model configurations: the JSON files of a diffusers folder as plain structs, fields named as in the files.
 * Every reader: an absent or null field gets the default of the diffusers (transformers) class; one of the wrong type or out of
 * range is SWD_ERR_FILE, a variant that the networks here do not have is SWD_ERR_UNSUPPORTED; both name file and field.
 * Nothing is allocated: the structs own no memory and may be copied. On failure *out is zeroed. Thread-safe. */
#ifndef SWD_IO_CONFIG_H
#define SWD_IO_CONFIG_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    CONFIG_LAYERS_MAX = 128,
    CONFIG_VAE_BLOCKS_MAX = 8,
    CONFIG_NAME_MAX = 96,
    CONFIG_COMPONENTS_MAX = 32,
    CONFIG_PRESETS_MAX = 32,
    CONFIG_STEPS_MAX = 256,
    CONFIG_LATENT_SIDE_MAX = 4096
};

/* Activations by what they compute; the loader of a model maps them to the ops'. */
typedef enum config_act {
    CONFIG_ACT_RELU,
    CONFIG_ACT_SILU,
    CONFIG_ACT_GELU_ERF,  /* "gelu" */
    CONFIG_ACT_GELU_TANH, /* "gelu_new", "gelu_pytorch_tanh" */
    CONFIG_ACT_QUICK_GELU
} config_act;

/* SD3Transformer2DModel. inner_dim = num_attention_heads * attention_head_dim = caption_projection_dim (checked). */
typedef struct config_sd3 {
    int sample_size, patch_size;
    int in_channels, out_channels; /* out_channels null: as in_channels */
    int num_layers, num_attention_heads,
        attention_head_dim; /* head_dim: a multiple of 8 up to 512 */
    int inner_dim;
    int joint_attention_dim, caption_projection_dim, pooled_projection_dim;
    int pos_embed_max_size;
    int n_dual;                             /* how many of dual_attention are set */
    bool dual_attention[CONFIG_LAYERS_MAX]; /* from dual_attention_layers */
    bool qk_norm_rms;                       /* qk_norm: "rms_norm", else none */
} config_sd3;

/* FluxTransformer2DModel. Its channels are those of packed latents: patches of 2 x 2 of a quarter as many. */
typedef struct config_flux {
    int in_channels;                   /* = out_channels (checked), a multiple of 4 */
    int num_layers, num_single_layers; /* of two streams and of one */
    int num_attention_heads, attention_head_dim;
    int inner_dim;
    int joint_attention_dim, pooled_projection_dim;
    bool guidance_embeds;
    int axes_dims_rope[3]; /* even; together attention_head_dim */
} config_flux;

/* Any of them. */
typedef enum denoiser_kind { DENOISER_SD3, DENOISER_FLUX, DENOISER_KINDS } denoiser_kind;
typedef struct config_denoiser {
    denoiser_kind kind;
    union {
        config_sd3 sd3;
        config_flux flux;
    };
} config_denoiser;

/* AutoencoderKL with DownEncoderBlock2D and UpDecoderBlock2D throughout, SiLU. */
typedef struct config_vae {
    int in_channels, out_channels, latent_channels;
    int n_blocks; /* length of block_out_channels; the picture is 2^(n_blocks - 1) times the latents */
    int block_out_channels[CONFIG_VAE_BLOCKS_MAX]; /* each a multiple of norm_num_groups */
    int layers_per_block;                          /* the decoder has one more */
    int norm_num_groups;
    int sample_size;
    double scaling_factor, shift_factor; /* shift_factor null: 0 */
    bool use_quant_conv, use_post_quant_conv, mid_block_add_attention;
} config_vae;

/* AutoencoderTiny with ReLU and nearest upsampling; all widths of a side are equal, as its convolutions need. */
typedef struct config_tiny_vae {
    int in_channels, out_channels, latent_channels;
    int n_encoder_blocks, n_decoder_blocks; /* lengths of the lists; equal scale: 2^(n - 1) */
    int encoder_block_out_channels[CONFIG_VAE_BLOCKS_MAX],
        decoder_block_out_channels[CONFIG_VAE_BLOCKS_MAX];
    int num_encoder_blocks[CONFIG_VAE_BLOCKS_MAX], num_decoder_blocks[CONFIG_VAE_BLOCKS_MAX];
    int upsampling_scaling_factor; /* 2 */
    double latent_magnitude, latent_shift, scaling_factor, shift_factor;
} config_tiny_vae;

/* CLIPTextModelWithProjection or CLIPTextModel. */
typedef struct config_clip_text {
    int vocab_size, hidden_size, intermediate_size, projection_dim;
    int num_hidden_layers, num_attention_heads, max_position_embeddings;
    int head_dim; /* hidden_size / num_attention_heads, checked */
    double layer_norm_eps;
    config_act hidden_act;
    int pad_token_id, bos_token_id;
    int eos_token_id; /* 2 means: the pooled row is that of the largest id; else of the first eos_token_id */
    bool with_projection;
    bool
        unprojected; /* not of the file: who sets it wants the state before the projection, which is not loaded */
} config_clip_text;

/* T5EncoderModel. */
typedef struct config_t5 {
    int vocab_size, d_model, d_kv, d_ff, num_layers, num_heads;
    int relative_attention_num_buckets, relative_attention_max_distance;
    double layer_norm_epsilon;
    config_act dense_act;
    bool is_gated_act; /* wi_0, wi_1 instead of wi */
    int pad_token_id, eos_token_id;
} config_t5;

/* FlowMatchEulerDiscreteScheduler. */
typedef struct config_scheduler {
    int num_train_timesteps;
    double shift;
    bool use_dynamic_shifting;
    double base_shift, max_shift;
    int base_image_seq_len, max_image_seq_len;
    bool time_shift_linear; /* time_shift_type: "linear", else "exponential" */
    char unsupported
        [48]; /* name of an option in use that the euler sampler lacks (use_karras_sigmas, ...); "" if none */
} config_scheduler;

typedef struct config_component {
    char name[CONFIG_NAME_MAX], library[CONFIG_NAME_MAX], class_name[CONFIG_NAME_MAX];
} config_component;

/* model_index.json; components that are [null, null] are left out. */
typedef struct config_model_index {
    char class_name[CONFIG_NAME_MAX]; /* "StableDiffusion3Pipeline" */
    int n_components;
    config_component components[CONFIG_COMPONENTS_MAX];
} config_model_index;

/* As the file has it, not empty; whether it makes a schedule is for sample/schedule to say. */
typedef struct config_preset {
    char name[CONFIG_NAME_MAX];
    int n_steps, n_sigmas;        /* of the lists */
    int scales[CONFIG_STEPS_MAX]; /* latent sides */
    double sigmas[CONFIG_STEPS_MAX + 1];
} config_preset;

/* swd.json */
typedef struct config_swd {
    int n_presets;
    config_preset presets[CONFIG_PRESETS_MAX];
    char
        default_preset[CONFIG_NAME_MAX]; /* "" if the file names none; may name a built-in preset */
    int max_tokens;                      /* 0: not given */
    bool has_steps, has_guidance, has_shift; /* of baseline */
    int steps;
    double guidance, shift;
} config_swd;

swd_status config_sd3_read(config_sd3 *out, const char *path, swd_err *err);
swd_status config_flux_read(config_flux *out, const char *path, swd_err *err);
swd_status config_vae_read(config_vae *out, const char *path, swd_err *err);
swd_status config_tiny_vae_read(config_tiny_vae *out, const char *path, swd_err *err);
swd_status config_clip_text_read(config_clip_text *out, const char *path, swd_err *err);
swd_status config_t5_read(config_t5 *out, const char *path, swd_err *err);
swd_status config_scheduler_read(config_scheduler *out, const char *path, swd_err *err);
swd_status config_model_index_read(config_model_index *out, const char *path, swd_err *err);
/* config_swd is large (about 100 KB): not for a small stack. */
swd_status config_swd_read(config_swd *out, const char *path, swd_err *err);

/* The component of that name, or NULL. */
const config_component *config_model_index_find(const config_model_index *m, const char *name);
/* The value of "_class_name" of any config.json into buf ("" if absent): AutoencoderKL or AutoencoderTiny? */
swd_status config_class_name(char *buf, size_t n, const char *path, swd_err *err);
#endif
