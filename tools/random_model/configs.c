// SPDX-License-Identifier: MIT
#include "configs.h"
#include "pipeline/family.h"

static json_t *config_of_flux(const config_flux *c)
{
    return json_pack("{s:s, s:s, s:i, s:[iii], s:b, s:i, s:i, s:i, s:i, s:i, s:n, s:i, s:i}",
                     "_class_name", "FluxTransformer2DModel", "_diffusers_version", "0.31.0",
                     "attention_head_dim", c->attention_head_dim, "axes_dims_rope",
                     c->axes_dims_rope[0], c->axes_dims_rope[1], c->axes_dims_rope[2],
                     "guidance_embeds", c->guidance_embeds, "in_channels", c->in_channels,
                     "joint_attention_dim", c->joint_attention_dim, "num_attention_heads",
                     c->num_attention_heads, "num_layers", c->num_layers, "num_single_layers",
                     c->num_single_layers, "out_channels", "patch_size", 1, "pooled_projection_dim",
                     c->pooled_projection_dim);
}

static json_t *config_of_sd3(const config_sd3 *c)
{
    json_t *dual = json_array();
    for (int i = 0; i < c->num_layers; i++)
        if (c->dual_attention[i]) json_array_append_new(dual, json_integer(i));
    return json_pack("{s:s, s:s, s:i, s:i, s:o, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s?, s:i}",
                     "_class_name", "SD3Transformer2DModel", "_diffusers_version", "0.31.0",
                     "attention_head_dim", c->attention_head_dim, "caption_projection_dim",
                     c->caption_projection_dim, "dual_attention_layers", dual, "in_channels",
                     c->in_channels, "joint_attention_dim", c->joint_attention_dim,
                     "num_attention_heads", c->num_attention_heads, "num_layers", c->num_layers,
                     "out_channels", c->out_channels, "patch_size", c->patch_size,
                     "pooled_projection_dim", c->pooled_projection_dim, "pos_embed_max_size",
                     c->pos_embed_max_size, "qk_norm", c->qk_norm_rms ? "rms_norm" : NULL,
                     "sample_size", c->sample_size);
}

json_t *config_of_transformer(const model_shape *s)
{
    return s->transformer.kind == DENOISER_FLUX ? config_of_flux(&s->transformer.flux)
                                                : config_of_sd3(&s->transformer.sd3);
}

json_t *config_of_vae(const model_shape *s)
{
    const config_vae *c = &s->vae;
    json_t *widths = json_array(), *down = json_array(), *up = json_array();
    for (int i = 0; i < c->n_blocks; i++) {
        json_array_append_new(widths, json_integer(c->block_out_channels[i]));
        json_array_append_new(down, json_string("DownEncoderBlock2D"));
        json_array_append_new(up, json_string("UpDecoderBlock2D"));
    }
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:o, s:b, s:i, s:i, s:n, s:n, s:i, s:b, s:i, s:i, "
        "s:i, s:f, s:f, s:b, s:b}",
        "_class_name", "AutoencoderKL", "_diffusers_version", "0.31.0", "act_fn", "silu",
        "block_out_channels", widths, "down_block_types", down, "up_block_types", up,
        "force_upcast", 1, "in_channels", c->in_channels, "latent_channels", c->latent_channels,
        "latents_mean", "latents_std", "layers_per_block", c->layers_per_block,
        "mid_block_add_attention", c->mid_block_add_attention, "norm_num_groups",
        c->norm_num_groups, "out_channels", c->out_channels, "sample_size", c->sample_size,
        "scaling_factor", c->scaling_factor, "shift_factor", c->shift_factor, "use_post_quant_conv",
        c->use_post_quant_conv, "use_quant_conv", c->use_quant_conv);
}

json_t *config_of_clip(const model_shape *s, int i, const char *dtype)
{
    const config_clip_text *c = &s->clip[i];
    return json_pack(
        "{s:[s], s:f, s:i, s:i, s:s, s:i, s:f, s:f, s:i, s:f, s:i, s:s, s:i, s:i, s:i, "
        "s:i, s:s, s:i}",
        "architectures", c->with_projection ? "CLIPTextModelWithProjection" : "CLIPTextModel",
        "attention_dropout", 0.0, "bos_token_id", c->bos_token_id, "eos_token_id", c->eos_token_id,
        "hidden_act", c->hidden_act == CONFIG_ACT_QUICK_GELU ? "quick_gelu" : "gelu", "hidden_size",
        c->hidden_size, "initializer_factor", 1.0, "initializer_range", 0.02, "intermediate_size",
        c->intermediate_size, "layer_norm_eps", c->layer_norm_eps, "max_position_embeddings",
        c->max_position_embeddings, "model_type", "clip_text_model", "num_attention_heads",
        c->num_attention_heads, "num_hidden_layers", c->num_hidden_layers, "pad_token_id",
        c->pad_token_id, "projection_dim", c->projection_dim, "torch_dtype", dtype, "vocab_size",
        c->vocab_size);
}

json_t *config_of_t5(const model_shape *s, const char *dtype)
{
    const config_t5 *c = &s->t5;
    return json_pack(
        "{s:[s], s:i, s:i, s:i, s:i, s:s, s:f, s:i, s:s, s:b, s:b, s:f, s:s, s:i, s:i, "
        "s:i, s:i, s:i, s:i, s:b, s:s, s:i}",
        "architectures", "T5EncoderModel", "d_ff", c->d_ff, "d_kv", c->d_kv, "d_model", c->d_model,
        "decoder_start_token_id", 0, "dense_act_fn", "gelu_new", "dropout_rate", 0.1,
        "eos_token_id", c->eos_token_id, "feed_forward_proj", "gated-gelu", "is_encoder_decoder", 0,
        "is_gated_act", c->is_gated_act, "layer_norm_epsilon", c->layer_norm_epsilon, "model_type",
        "t5", "num_decoder_layers", c->num_layers, "num_heads", c->num_heads, "num_layers",
        c->num_layers, "pad_token_id", c->pad_token_id, "relative_attention_max_distance",
        c->relative_attention_max_distance, "relative_attention_num_buckets",
        c->relative_attention_num_buckets, "tie_word_embeddings", 0, "torch_dtype", dtype,
        "vocab_size", c->vocab_size);
}

json_t *config_of_scheduler(const model_shape *s)
{
    const config_scheduler *c = &s->scheduler;
    return json_pack("{s:s, s:s, s:i, s:f, s:b, s:f, s:f, s:i, s:i}", "_class_name",
                     "FlowMatchEulerDiscreteScheduler", "_diffusers_version", "0.31.0",
                     "num_train_timesteps", c->num_train_timesteps, "shift", c->shift,
                     "use_dynamic_shifting", c->use_dynamic_shifting, "base_shift", c->base_shift,
                     "max_shift", c->max_shift, "base_image_seq_len", c->base_image_seq_len,
                     "max_image_seq_len", c->max_image_seq_len);
}

static json_t *component(bool there, const char *library, const char *class_name)
{
    return there ? json_pack("[ss]", library, class_name) : json_pack("[nn]");
}

json_t *config_of_pipeline(const model_shape *s, bool with_t5)
{
    const family *f = family_of(s->transformer.kind);
    json_t *o =
        json_pack("{s:s, s:s, s:[ss], s:[ss], s:[ss]}", "_class_name", f->pipeline_class,
                  "_diffusers_version", "0.31.0", "scheduler", "diffusers",
                  "FlowMatchEulerDiscreteScheduler", "transformer", "diffusers",
                  denoiser_class_name(s->transformer.kind), "vae", "diffusers", "AutoencoderKL");
    for (int i = 0; o && i < FAMILY_ENCODERS; i++) {
        bool t5 = i == FAMILY_T5, there = !t5 || with_t5;
        if (!f->encoder[i].folder) continue;
        json_object_set_new(o, f->encoder[i].folder,
                            component(there, "transformers",
                                      t5                  ? "T5EncoderModel"
                                      : f->clip_projected ? "CLIPTextModelWithProjection"
                                                          : "CLIPTextModel"));
        json_object_set_new(
            o, f->encoder[i].tokenizer,
            component(there, "transformers", t5 ? "T5TokenizerFast" : "CLIPTokenizer"));
    }
    return o;
}
