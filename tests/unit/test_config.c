// SPDX-License-Identifier: MIT
// Defaults of the classes, wrong fields by name, unsupported variants by name.
#include "base/memory.h"
#include "../files.h"
#include "io/config.h"
#include "io/json.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char path[64];

static void make_path(void)
{
    strcpy(path, "/tmp/swd-test-config-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
}

static void remove_path(void)
{
    unlink(path);
}

static const char *file(const char *text)
{
    write_text(path, text);
    return path;
}

TestSuite(config, .init = make_path, .fini = remove_path);

#define ACCEPTED(kind, out, text)                                                                  \
    do {                                                                                           \
        swd_err err_ = {0};                                                                        \
        cr_assert_eq(config_##kind##_read(out, file(text), &err_), SWD_OK, "%s", err_.message);    \
    } while (0)
#define REFUSED(kind, status, text, message_part)                                                  \
    do {                                                                                           \
        static config_##kind c_;                                                                   \
        swd_err err_ = {0};                                                                        \
        cr_expect_eq(config_##kind##_read(&c_, file(text), &err_), status, "%s: %s", text,         \
                     err_.message);                                                                \
        cr_expect_not_null(strstr(err_.message, message_part), "\"%s\" not in: %s", message_part,  \
                           err_.message);                                                          \
        cr_expect_not_null(strstr(err_.message, path), "no file name in: %s", err_.message);       \
    } while (0)

Test(config, sd3)
{
    config_sd3 c;
    ACCEPTED(sd3, &c, "{}"); // the defaults of the class fit each other: 18 x 64 = 1152
    cr_assert(c.num_layers == 18 && c.inner_dim == 1152 && c.pos_embed_max_size == 96 &&
              c.joint_attention_dim == 4096);
    cr_assert(c.pooled_projection_dim == 2048 && c.patch_size == 2 && c.in_channels == 16 &&
              c.out_channels == 16);
    cr_assert(c.sample_size == 128 && c.n_dual == 0 && !c.qk_norm_rms);
    ACCEPTED(sd3, &c,
             "{\"in_channels\":4,\"out_channels\":null,\"qk_norm\":\"rms_norm\",\"dual_attention_"
             "layers\":[0,2,2]}");
    cr_assert(c.out_channels == 4 && c.qk_norm_rms && c.n_dual == 2 && c.dual_attention[2] &&
              !c.dual_attention[1]);
    REFUSED(sd3, SWD_ERR_FILE, "{\"num_layers\":\"many\"}", "\"num_layers\" is a string");
    REFUSED(sd3, SWD_ERR_FILE, "{\"num_layers\":true}", "\"num_layers\" is a boolean");
    REFUSED(sd3, SWD_ERR_FILE, "{\"num_layers\":2.5}", "\"num_layers\" is a number");
    REFUSED(sd3, SWD_ERR_FILE, "{\"num_layers\":0}", "\"num_layers\" is 0, outside 1 .. 128");
    REFUSED(sd3, SWD_ERR_FILE, "{\"num_layers\":99999999999999999999}", "malformed");
    REFUSED(sd3, SWD_ERR_FILE, "{\"caption_projection_dim\":1000}", "caption_projection_dim");
    REFUSED(sd3, SWD_ERR_FILE, "{\"dual_attention_layers\":[18]}",
            "\"dual_attention_layers\"[0] is 18");
    REFUSED(sd3, SWD_ERR_FILE, "{\"dual_attention_layers\":3}", "a list is needed");
    REFUSED(sd3, SWD_ERR_UNSUPPORTED, "{\"qk_norm\":\"layer_norm\"}", "layer_norm");
    REFUSED(sd3, SWD_ERR_UNSUPPORTED, "{\"attention_head_dim\":12}", "multiple of 8");
    REFUSED(sd3, SWD_ERR_UNSUPPORTED, "{\"_class_name\":\"FluxTransformer2DModel\"}",
            "FluxTransformer2DModel");
    REFUSED(sd3, SWD_ERR_UNSUPPORTED, "{\"quantization_config\":{}}", "quantised");
}

Test(config, flux)
{
    config_flux c;
    ACCEPTED(flux, &c, "{}");
    cr_assert(c.in_channels == 64 && c.num_layers == 19 && c.num_single_layers == 38 &&
              c.inner_dim == 3072 && c.attention_head_dim == 128);
    cr_assert(c.joint_attention_dim == 4096 && c.pooled_projection_dim == 768 &&
              !c.guidance_embeds && c.axes_dims_rope[0] == 16 && c.axes_dims_rope[2] == 56);
    ACCEPTED(flux, &c,
             "{\"out_channels\":null,\"attention_head_dim\":40,\"axes_dims_rope\":[0,24,16],"
             "\"num_layers\":0,\"guidance_embeds\":true}");
    cr_assert(c.guidance_embeds && c.num_layers == 0 && c.axes_dims_rope[1] == 24);
    REFUSED(flux, SWD_ERR_FILE, "{\"attention_head_dim\":64}", "\"axes_dims_rope\"");
    REFUSED(flux, SWD_ERR_FILE, "{\"axes_dims_rope\":[17,55,56]}", "\"axes_dims_rope\"");
    REFUSED(flux, SWD_ERR_FILE, "{\"axes_dims_rope\":[64,64]}", "\"axes_dims_rope\"");
    REFUSED(flux, SWD_ERR_FILE, "{\"axes_dims_rope\":[16,56,28,28]}", "\"axes_dims_rope\"");
    REFUSED(flux, SWD_ERR_FILE, "{\"in_channels\":66}", "\"in_channels\"");
    REFUSED(flux, SWD_ERR_FILE, "{\"num_layers\":-1}", "\"num_layers\"");
    REFUSED(flux, SWD_ERR_FILE, "{\"guidance_embeds\":1}", "\"guidance_embeds\"");
    REFUSED(flux, SWD_ERR_UNSUPPORTED, "{\"in_channels\":384,\"out_channels\":64}",
            "\"out_channels\"");
    REFUSED(flux, SWD_ERR_UNSUPPORTED, "{\"patch_size\":2}", "\"patch_size\"");
    REFUSED(flux, SWD_ERR_UNSUPPORTED, "{\"attention_head_dim\":12,\"axes_dims_rope\":[4,4,4]}",
            "\"attention_head_dim\"");
    REFUSED(flux, SWD_ERR_UNSUPPORTED, "{\"_class_name\":\"SD3Transformer2DModel\"}",
            "SD3Transformer2DModel");
}

Test(config, broken_json)
{
    REFUSED(sd3, SWD_ERR_FILE, "", "empty");
    REFUSED(sd3, SWD_ERR_FILE, "[1]", "not an object");
    REFUSED(sd3, SWD_ERR_FILE, "{\"a\":1,\"a\":2}", "duplicate");
    REFUSED(sd3, SWD_ERR_FILE, "{} x", "malformed");
    REFUSED(sd3, SWD_ERR_FILE, "{\"a\":\"\xff\"}", "malformed");
    char deep[300] = "{\"a\":";
    memset(deep + 5, '[', 100);
    REFUSED(sd3, SWD_ERR_FILE, deep, "nested deeper than 64 at byte 68");
    memset(deep, 0, sizeof deep);
    snprintf(deep, sizeof deep, "{\"a\":\"%.*s\"}", 100,
             "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
             "[[[[[[[[[[[[[[[[");
    config_sd3 c;
    ACCEPTED(sd3, &c, deep); // brackets inside a string are no depth
    swd_err err = {0};
    cr_assert_eq(config_sd3_read(&c, "/nowhere/config.json", &err), SWD_ERR_FILE);
    cr_assert_not_null(strstr(err.message, "/nowhere/config.json: No such file"), "%s",
                       err.message);
    cr_assert_eq(config_sd3_read(&c, "/tmp", &err), SWD_ERR_FILE);
    cr_assert_not_null(strstr(err.message, "is a folder"), "%s", err.message);
}

Test(config, vae)
{
    config_vae c;
    ACCEPTED(vae, &c, "{}");
    cr_assert(c.n_blocks == 1 && c.block_out_channels[0] == 64 && c.norm_num_groups == 32 &&
              c.layers_per_block == 1);
    cr_assert(c.latent_channels == 4 && c.scaling_factor == 0.18215 && c.shift_factor == 0 &&
              c.use_quant_conv);
    cr_assert(c.use_post_quant_conv && c.mid_block_add_attention);
    ACCEPTED(vae, &c,
             "{\"block_out_channels\":[32,64],\"down_block_types\":[\"DownEncoderBlock2D\","
             "\"DownEncoderBlock2D\"],"
             "\"up_block_types\":[\"UpDecoderBlock2D\",\"UpDecoderBlock2D\"],\"shift_factor\":null,"
             "\"use_quant_conv\":false}");
    cr_assert(c.n_blocks == 2 && !c.use_quant_conv && c.shift_factor == 0);
    REFUSED(vae, SWD_ERR_UNSUPPORTED, "{\"block_out_channels\":[1024]}", "takes up to 512");
    ACCEPTED(vae, &c, "{\"down_block_types\":null,\"block_out_channels\":null,\"act_fn\":null}");
    cr_assert(c.n_blocks == 1 && c.block_out_channels[0] == 64);
    REFUSED(vae, SWD_ERR_FILE, "{\"down_block_types\":\"DownEncoderBlock2D\"}", "down_block_types");
    REFUSED(vae, SWD_ERR_FILE, "{\"down_block_types\":[1]}", "\"down_block_types\"[0]");
    REFUSED(vae, SWD_ERR_FILE, "{\"layers_per_block\":0}", "layers_per_block");
    REFUSED(vae, SWD_ERR_FILE, "{\"use_quant_conv\":1}", "use_quant_conv");
    REFUSED(vae, SWD_ERR_FILE, "{\"norm_num_groups\":0}", "norm_num_groups");
    REFUSED(vae, SWD_ERR_FILE, "{\"block_out_channels\":[64,64]}",
            "has 1 entries, but \"block_out_channels\" has 2");
    REFUSED(vae, SWD_ERR_FILE, "{\"block_out_channels\":[]}", "empty list");
    REFUSED(vae, SWD_ERR_FILE, "{\"block_out_channels\":[65]}", "no multiple of norm_num_groups");
    REFUSED(vae, SWD_ERR_UNSUPPORTED, "{\"up_block_types\":[\"AttnUpDecoderBlock2D\"]}",
            "AttnUpDecoderBlock2D");
    REFUSED(vae, SWD_ERR_UNSUPPORTED, "{\"act_fn\":\"mish\"}", "mish");
    REFUSED(vae, SWD_ERR_FILE, "{\"scaling_factor\":\"1\"}", "a number is needed");
    REFUSED(vae, SWD_ERR_FILE, "{\"scaling_factor\":0}", "scaling_factor");
}

Test(config, tiny_vae)
{
    config_tiny_vae c;
    ACCEPTED(tiny_vae, &c, "{}");
    cr_assert(c.n_encoder_blocks == 4 && c.num_encoder_blocks[0] == 1 &&
              c.num_decoder_blocks[3] == 1);
    cr_assert(c.decoder_block_out_channels[3] == 64 && c.latent_channels == 4 &&
              c.latent_magnitude == 3);
    cr_assert(c.latent_shift == 0.5 && c.scaling_factor == 1 && c.shift_factor == 0);
    REFUSED(tiny_vae, SWD_ERR_FILE, "{\"num_decoder_blocks\":[1,2]}", "num_decoder_blocks");
    REFUSED(tiny_vae, SWD_ERR_FILE, "{\"encoder_block_out_channels\":[64,64,32,64]}",
            "encoder_block_out_channels");
    REFUSED(tiny_vae, SWD_ERR_UNSUPPORTED, "{\"upsampling_scaling_factor\":4}",
            "upsampling_scaling_factor");
    REFUSED(tiny_vae, SWD_ERR_UNSUPPORTED, "{\"upsample_fn\":\"bilinear\"}", "bilinear");
}

Test(config, text_encoders)
{
    config_clip_text c;
    ACCEPTED(clip_text, &c, "{}");
    cr_assert(c.vocab_size == 49408 && c.hidden_size == 512 && c.head_dim == 64 &&
              c.max_position_embeddings == 77);
    cr_assert(c.hidden_act == CONFIG_ACT_QUICK_GELU && c.eos_token_id == 49407 &&
              c.with_projection);
    ACCEPTED(clip_text, &c,
             "{\"architectures\":[\"CLIPTextModel\"],\"hidden_act\":\"gelu\",\"eos_token_id\":2}");
    cr_assert(c.hidden_act == CONFIG_ACT_GELU_ERF && c.eos_token_id == 2 && !c.with_projection);
    ACCEPTED(clip_text, &c, "{\"model_type\":\"clip\",\"text_config\":{\"hidden_size\":64}}");
    cr_assert(c.hidden_size == 64 && c.head_dim == 8);
    ACCEPTED(clip_text, &c, "{\"architectures\":null}");
    cr_assert(c.with_projection);
    REFUSED(clip_text, SWD_ERR_FILE, "{\"architectures\":\"CLIPTextModel\"}", "architectures");
    REFUSED(clip_text, SWD_ERR_FILE, "{\"architectures\":[1]}", "architectures");
    REFUSED(clip_text, SWD_ERR_FILE, "{\"hidden_size\":510}", "no multiple of num_attention_heads");
    REFUSED(clip_text, SWD_ERR_FILE, "{\"text_config\":{\"hidden_size\":\"x\"}}",
            "text_config: field \"hidden_size\"");
    REFUSED(clip_text, SWD_ERR_UNSUPPORTED, "{\"hidden_act\":\"mish\"}", "mish");
    REFUSED(clip_text, SWD_ERR_UNSUPPORTED, "{\"model_type\":\"bert\"}", "bert");
    config_t5 t;
    ACCEPTED(t5, &t, "{}");
    cr_assert(t.d_model == 512 && t.num_layers == 6 && t.dense_act == CONFIG_ACT_RELU &&
              !t.is_gated_act);
    ACCEPTED(t5, &t, "{\"feed_forward_proj\":\"gated-gelu\"}");
    cr_assert(t.dense_act == CONFIG_ACT_GELU_TANH && t.is_gated_act);
    ACCEPTED(t5, &t, "{\"feed_forward_proj\":\"gated-silu\"}");
    cr_assert(t.dense_act == CONFIG_ACT_SILU && t.is_gated_act);
    ACCEPTED(t5, &t, "{\"feed_forward_proj\":\"gated-gelu\",\"dense_act_fn\":\"gelu\"}");
    cr_assert(t.dense_act == CONFIG_ACT_GELU_ERF && t.is_gated_act);
    REFUSED(t5, SWD_ERR_UNSUPPORTED, "{\"model_type\":\"umt5\"}", "umt5");
    REFUSED(t5, SWD_ERR_FILE, "{\"relative_attention_max_distance\":8}",
            "relative_attention_max_distance");
}

Test(config, folder_files)
{
    config_scheduler s;
    ACCEPTED(scheduler, &s, "{}");
    cr_assert(s.num_train_timesteps == 1000 && s.shift == 1 && !s.use_dynamic_shifting &&
              !s.unsupported[0]);
    ACCEPTED(scheduler, &s, "{\"shift\":3.0,\"use_karras_sigmas\":true,\"shift_terminal\":0.02}");
    cr_assert(s.shift == 3 && strcmp(s.unsupported, "use_karras_sigmas") == 0);
    REFUSED(scheduler, SWD_ERR_UNSUPPORTED, "{\"_class_name\":\"DDIMScheduler\"}", "DDIMScheduler");
    REFUSED(scheduler, SWD_ERR_FILE, "{\"shift\":[]}", "\"shift\" is a list");
    ACCEPTED(scheduler, &s, "{\"base_image_seq_len\":4096}");
    REFUSED(scheduler, SWD_ERR_FILE, "{\"use_dynamic_shifting\":true,\"base_image_seq_len\":4096}",
            "both 4096");
    static config_model_index m;
    ACCEPTED(model_index, &m,
             "{\"_class_name\":\"P\",\"vae\":[\"diffusers\",\"AutoencoderKL\"],\"text_encoder_3\":["
             "null,null],"
             "\"force_zeros\":true}");
    cr_assert(m.n_components == 1 && config_model_index_find(&m, "vae") &&
              !config_model_index_find(&m, "text_encoder_3"));
    REFUSED(model_index, SWD_ERR_FILE, "{}", "_class_name");
    REFUSED(model_index, SWD_ERR_FILE, "{\"_class_name\":\"P\",\"vae\":[\"a\"]}", "\"vae\"");
    static config_swd c;
    ACCEPTED(swd, &c, "{}");
    cr_assert(c.n_presets == 0 && c.max_tokens == 0 && !c.has_steps);
    ACCEPTED(swd, &c,
             "{\"presets\":{\"a\":{\"scales\":[4,4,8],\"sigmas\":[1,0.9,0.5,0]}},\"default\":\"a\","
             "\"max_tokens\":512,"
             "\"baseline\":{\"steps\":28,\"guidance\":4}}");
    cr_assert(c.n_presets == 1 && c.presets[0].n_steps == 3 && c.presets[0].n_sigmas == 4 &&
              c.presets[0].sigmas[2] == 0.5 && c.presets[0].scales[2] == 8);
    cr_assert(c.max_tokens == 512 && c.has_steps && c.steps == 28 && c.has_guidance &&
              c.guidance == 4 && !c.has_shift);
    REFUSED(swd, SWD_ERR_FILE, "{\"presets\":{\"a\":{\"scales\":[8,4.5],\"sigmas\":[1,0.5]}}}",
            "presets: a: field \"scales\"[1] is a number");
    REFUSED(swd, SWD_ERR_FILE, "{\"presets\":{\"a\":{\"scales\":[4,8],\"sigmas\":[1,null]}}}",
            "presets: a: field \"sigmas\"[1] is null");
    REFUSED(swd, SWD_ERR_FILE, "{\"presets\":{\"a\":{\"scales\":[4,8]}}}",
            "presets: a: needs \"scales\" and \"sigmas\"");
    REFUSED(swd, SWD_ERR_FILE, "{\"presets\":{\"a\":null}}", "\"a\" is null");
    REFUSED(swd, SWD_ERR_FILE, "{\"max_tokens\":0}", "max_tokens");
    REFUSED(swd, SWD_ERR_FILE, "{\"baseline\":{\"steps\":0}}", "baseline: field \"steps\"");
}
