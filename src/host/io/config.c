// SPDX-License-Identifier: MIT
// Defaults are those of the classes' constructors in diffusers 0.39 and transformers 4.57.
#include "io/config.h"
#include "base/memory.h"
#include "io/json.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { DIM_MAX = 1 << 16, VOCAB_MAX = 1 << 22, HEAD_DIM_MAX = 512, HEAD_DIM_STEP = 8 };

// An integer field of a struct and its limits.
typedef struct int_field {
    const char *name;
    size_t offset;
    int dflt, lo, hi;
} int_field;
#define INT(type, field, dflt, lo, hi)                                                             \
    {                                                                                              \
#field, offsetof(type, field), dflt, lo, hi                                                \
    }
#define N_OF(a) (sizeof(a) / sizeof((a)[0]))

static swd_status read_ints(void *out, const int_field *f, size_t n, const swd_json *j,
                            swd_err *err)
{
    for (size_t i = 0; i < n; i++)
        SWD_TRY(json_int32((int *)((char *)out + f[i].offset), j, f[i].name, f[i].dflt, f[i].lo,
                           f[i].hi, err),
                err);
    return SWD_OK;
}

// A list of integers; absent: n_dflt times dflt[..] (n unchanged if dflt is NULL).
static swd_status read_list(int *out, int *n, int max, const swd_json *j, const char *field,
                            const int *dflt, int n_dflt, int lo, int hi, swd_err *err)
{
    int64_t x[CONFIG_LAYERS_MAX];
    int count;
    SWD_TRY(json_ints(x, &count, max, j, field, lo, hi, err), err);
    if (count == 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\" is an empty list", j->path, field);
    *n = count < 0 ? n_dflt : count;
    for (int i = 0; i < *n; i++) out[i] = count < 0 ? dflt[i] : (int)x[i];
    return SWD_OK;
}

// Refuses the file of another class (expected NULL: transformers' files have no _class_name) and of quantised weights.
static swd_status check_class(const swd_json *j, const char *expected, swd_err *err)
{
    const char *name;
    SWD_TRY(json_str(&name, j, "_class_name", expected, err), err);
    if (expected && strcmp(name, expected) != 0)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "%s: \"_class_name\" is %s; %s is needed here",
                        j->path, name, expected);
    const json_t *quantization = json_object_get(j->root, "quantization_config");
    if (quantization && !json_is_null(quantization))
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: \"quantization_config\": quantised weights cannot be read", j->path);
    return SWD_OK;
}

static swd_status unsupported(const swd_json *j, const char *field, const char *value,
                              const char *supported, swd_err *err)
{
    return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "%s: field \"%s\" is \"%s\"; supported: %s", j->path,
                    field, value, supported);
}

static swd_status check_head_dim(const swd_json *j, const char *what, int head_dim, swd_err *err)
{
    if (head_dim % HEAD_DIM_STEP != 0 || head_dim > HEAD_DIM_MAX)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: %s is %d; attention needs a multiple of %d up to %d", j->path, what,
                        head_dim, HEAD_DIM_STEP, HEAD_DIM_MAX);
    return SWD_OK;
}

static swd_status read_dual_layers(config_sd3 *c, const swd_json *j, swd_err *err)
{
    int64_t layers[CONFIG_LAYERS_MAX];
    int n;
    SWD_TRY(json_ints(layers, &n, CONFIG_LAYERS_MAX, j, "dual_attention_layers", 0,
                      c->num_layers - 1, err),
            err);
    for (int i = 0; i < n; i++) {
        if (!c->dual_attention[layers[i]]) c->n_dual++;
        c->dual_attention[layers[i]] = true;
    }
    return SWD_OK;
}

static swd_status read_sd3(void *out, const swd_json *j, swd_err *err)
{
    static const int_field fields[] = {
        INT(config_sd3, sample_size, 128, 1, CONFIG_LATENT_SIDE_MAX),
        INT(config_sd3, patch_size, 2, 1, 64),
        INT(config_sd3, in_channels, 16, 1, 1024),
        INT(config_sd3, num_layers, 18, 1, CONFIG_LAYERS_MAX),
        INT(config_sd3, attention_head_dim, 64, 1, HEAD_DIM_MAX),
        INT(config_sd3, num_attention_heads, 18, 1, 1024),
        INT(config_sd3, joint_attention_dim, 4096, 1, DIM_MAX),
        INT(config_sd3, caption_projection_dim, 1152, 1, DIM_MAX),
        INT(config_sd3, pooled_projection_dim, 2048, 1, DIM_MAX),
        INT(config_sd3, pos_embed_max_size, 96, 1, CONFIG_LATENT_SIDE_MAX),
    };
    config_sd3 *c = out;
    const char *qk_norm;
    SWD_TRY(check_class(j, "SD3Transformer2DModel", err), err);
    SWD_TRY(read_ints(c, fields, N_OF(fields), j, err), err);
    const json_t *out_channels = json_object_get(j->root, "out_channels");
    int dflt =
        out_channels ? c->in_channels : 16; // null means in_channels, absent the constructor's 16
    SWD_TRY(json_int32(&c->out_channels, j, "out_channels", dflt, 1, 1024, err), err);
    SWD_TRY(read_dual_layers(c, j, err), err);
    SWD_TRY(json_str(&qk_norm, j, "qk_norm", "", err), err);
    if (qk_norm[0] && strcmp(qk_norm, "rms_norm") != 0)
        return unsupported(j, "qk_norm", qk_norm, "rms_norm, null", err);
    c->qk_norm_rms = qk_norm[0] != 0;
    SWD_TRY(check_head_dim(j, "\"attention_head_dim\"", c->attention_head_dim, err), err);
    c->inner_dim = c->num_attention_heads * c->attention_head_dim;
    if (c->caption_projection_dim != c->inner_dim)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: field \"caption_projection_dim\" is %d, but num_attention_heads * "
                        "attention_head_dim is %d",
                        j->path, c->caption_projection_dim, c->inner_dim);
    if (c->out_channels != c->in_channels)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: field \"out_channels\" is %d, but \"in_channels\" is %d: a velocity "
                        "has the shape of its latents",
                        j->path, c->out_channels, c->in_channels);
    return SWD_OK;
}

swd_status config_sd3_read(config_sd3 *out, const char *path, swd_err *err)
{
    return json_read(out, sizeof *out, path, read_sd3, err);
}

static swd_status read_axes(config_flux *c, const swd_json *j, swd_err *err)
{
    static const int dflt[] = {16, 56, 56};
    int n;
    SWD_TRY(read_list(c->axes_dims_rope, &n, 3, j, "axes_dims_rope", dflt, 3, 0, HEAD_DIM_MAX, err),
            err);
    const int *a = c->axes_dims_rope;
    if (n != 3 || a[0] % 2 || a[1] % 2 || a[2] % 2 || a[0] + a[1] + a[2] != c->attention_head_dim)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: field \"axes_dims_rope\" is not three even numbers that make up "
                        "attention_head_dim, %d",
                        j->path, c->attention_head_dim);
    return SWD_OK;
}

static swd_status read_flux(void *out, const swd_json *j, swd_err *err)
{
    static const int_field fields[] = {
        INT(config_flux, in_channels, 64, 4, 4096),
        INT(config_flux, num_layers, 19, 0, CONFIG_LAYERS_MAX),
        INT(config_flux, num_single_layers, 38, 0, CONFIG_LAYERS_MAX),
        INT(config_flux, attention_head_dim, 128, 1, HEAD_DIM_MAX),
        INT(config_flux, num_attention_heads, 24, 1, 1024),
        INT(config_flux, joint_attention_dim, 4096, 1, DIM_MAX),
        INT(config_flux, pooled_projection_dim, 768, 1, DIM_MAX),
    };
    config_flux *c = out;
    int patch = 0, out_channels = 0;
    SWD_TRY(check_class(j, "FluxTransformer2DModel", err), err);
    SWD_TRY(read_ints(c, fields, N_OF(fields), j, err), err);
    SWD_TRY(json_bool(&c->guidance_embeds, j, "guidance_embeds", false, err), err);
    SWD_TRY(json_int32(&patch, j, "patch_size", 1, 1, 64, err), err);
    SWD_TRY(json_int32(&out_channels, j, "out_channels", c->in_channels, 0, 4096, err), err);
    if (patch != 1) return unsupported(j, "patch_size", "not 1", "1", err);
    if (out_channels && out_channels != c->in_channels)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: field \"out_channels\" is %d, but \"in_channels\" is %d: a velocity "
                        "has the shape of its latents",
                        j->path, out_channels, c->in_channels);
    if (c->in_channels % 4 != 0)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: field \"in_channels\" is %d, no multiple of 4: latents are packed in "
                        "patches of 2 x 2",
                        j->path, c->in_channels);
    SWD_TRY(check_head_dim(j, "\"attention_head_dim\"", c->attention_head_dim, err), err);
    c->inner_dim = c->num_attention_heads * c->attention_head_dim;
    return read_axes(c, j, err);
}

swd_status config_flux_read(config_flux *out, const char *path, swd_err *err)
{
    return json_read(out, sizeof *out, path, read_flux, err);
}

// down_block_types and up_block_types: n entries, all of one type.
static swd_status check_block_types(const swd_json *j, const char *field, const char *type, int n,
                                    swd_err *err)
{
    const json_t *list = json_object_get(j->root, field);
    if (json_is_null(list)) list = NULL;
    size_t count = list ? json_array_size(list) : 1; // the constructors have one
    if (list && !json_is_array(list))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\" is no list", j->path, field);
    for (size_t i = 0; list && i < count; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (!name)
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\"[%zu] is no string", j->path, field,
                            i);
        if (strcmp(name, type) != 0) return unsupported(j, field, name, type, err);
    }
    if (count != (size_t)n)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: field \"%s\" has %zu entries, but \"block_out_channels\" has %d",
                        j->path, field, count, n);
    return SWD_OK;
}

static swd_status read_vae(void *out, const swd_json *j, swd_err *err)
{
    static const int_field fields[] = {
        INT(config_vae, in_channels, 3, 1, 64),        INT(config_vae, out_channels, 3, 1, 64),
        INT(config_vae, latent_channels, 4, 1, 1024),  INT(config_vae, layers_per_block, 1, 1, 64),
        INT(config_vae, norm_num_groups, 32, 1, 4096), INT(config_vae, sample_size, 32, 1, DIM_MAX),
    };
    config_vae *c = out;
    const char *act;
    SWD_TRY(check_class(j, "AutoencoderKL", err), err);
    SWD_TRY(read_ints(c, fields, N_OF(fields), j, err), err);
    SWD_TRY(read_list(c->block_out_channels, &c->n_blocks, CONFIG_VAE_BLOCKS_MAX, j,
                      "block_out_channels", (int[]){64}, 1, 1, 8192, err),
            err);
    SWD_TRY(check_block_types(j, "down_block_types", "DownEncoderBlock2D", c->n_blocks, err), err);
    SWD_TRY(check_block_types(j, "up_block_types", "UpDecoderBlock2D", c->n_blocks, err), err);
    SWD_TRY(json_str(&act, j, "act_fn", "silu", err), err);
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        return unsupported(j, "act_fn", act, "silu", err);
    for (int i = 0; i < c->n_blocks; i++) {
        if (c->block_out_channels[i] % c->norm_num_groups != 0)
            return SWD_FAIL(
                err, SWD_ERR_FILE,
                "%s: field \"block_out_channels\"[%d] is %d, no multiple of norm_num_groups %d",
                j->path, i, c->block_out_channels[i], c->norm_num_groups);
    }
    SWD_TRY(json_float(&c->scaling_factor, j, "scaling_factor", 0.18215, 1e-6, 1e6, err), err);
    SWD_TRY(json_float(&c->shift_factor, j, "shift_factor", 0, -1e6, 1e6, err), err);
    SWD_TRY(json_bool(&c->use_quant_conv, j, "use_quant_conv", true, err), err);
    SWD_TRY(json_bool(&c->use_post_quant_conv, j, "use_post_quant_conv", true, err), err);
    SWD_TRY(json_bool(&c->mid_block_add_attention, j, "mid_block_add_attention", true, err), err);
    int last = c->block_out_channels[c->n_blocks - 1];
    if (c->mid_block_add_attention && last > HEAD_DIM_MAX)
        return SWD_FAIL(
            err, SWD_ERR_UNSUPPORTED,
            "%s: the last of \"block_out_channels\" is %d; attention of the middle block "
            "takes up to %d",
            j->path, last, HEAD_DIM_MAX);
    return SWD_OK;
}

swd_status config_vae_read(config_vae *out, const char *path, swd_err *err)
{
    return json_read(out, sizeof *out, path, read_vae, err);
}

static swd_status check_widths(const int *widths, int n, int n_counts, const swd_json *j,
                               const char *field, const char *counts, swd_err *err)
{
    if (n != n_counts)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\" has %d entries, but \"%s\" has %d",
                        j->path, field, n, counts, n_counts);
    for (int i = 1; i < n; i++) {
        if (widths[i] != widths[0])
            return SWD_FAIL(
                err, SWD_ERR_FILE,
                "%s: field \"%s\": its entries differ (%d, %d), which the class cannot run",
                j->path, field, widths[0], widths[i]);
    }
    return SWD_OK;
}

static swd_status read_tiny_vae(void *out, const swd_json *j, swd_err *err)
{
    static const int_field fields[] = {
        INT(config_tiny_vae, in_channels, 3, 1, 64),
        INT(config_tiny_vae, out_channels, 3, 1, 64),
        INT(config_tiny_vae, latent_channels, 4, 1, 1024),
        INT(config_tiny_vae, upsampling_scaling_factor, 2, 1, 8),
    };
    static const int widths[] = {64, 64, 64, 64}, encoder[] = {1, 3, 3, 3},
                     decoder[] = {3, 3, 3, 1};
    config_tiny_vae *c = out;
    const char *text;
    const int max = CONFIG_VAE_BLOCKS_MAX;
    int n;
    SWD_TRY(check_class(j, "AutoencoderTiny", err), err);
    SWD_TRY(read_ints(c, fields, N_OF(fields), j, err), err);
    if (c->upsampling_scaling_factor != 2)
        return unsupported(j, "upsampling_scaling_factor", "not 2", "2", err);
    SWD_TRY(read_list(c->encoder_block_out_channels, &c->n_encoder_blocks, max, j,
                      "encoder_block_out_channels", widths, 4, 1, 8192, err),
            err);
    SWD_TRY(
        read_list(c->num_encoder_blocks, &n, max, j, "num_encoder_blocks", encoder, 4, 0, 64, err),
        err);
    SWD_TRY(check_widths(c->encoder_block_out_channels, c->n_encoder_blocks, n, j,
                         "encoder_block_out_channels", "num_encoder_blocks", err),
            err);
    SWD_TRY(read_list(c->decoder_block_out_channels, &c->n_decoder_blocks, max, j,
                      "decoder_block_out_channels", widths, 4, 1, 8192, err),
            err);
    SWD_TRY(
        read_list(c->num_decoder_blocks, &n, max, j, "num_decoder_blocks", decoder, 4, 0, 64, err),
        err);
    SWD_TRY(check_widths(c->decoder_block_out_channels, c->n_decoder_blocks, n, j,
                         "decoder_block_out_channels", "num_decoder_blocks", err),
            err);
    SWD_TRY(json_str(&text, j, "act_fn", "relu", err), err);
    if (strcmp(text, "relu") != 0) return unsupported(j, "act_fn", text, "relu", err);
    SWD_TRY(json_str(&text, j, "upsample_fn", "nearest", err), err);
    if (strcmp(text, "nearest") != 0) return unsupported(j, "upsample_fn", text, "nearest", err);
    SWD_TRY(json_float(&c->latent_magnitude, j, "latent_magnitude", 3, 1e-6, 1e6, err), err);
    SWD_TRY(json_float(&c->latent_shift, j, "latent_shift", 0.5, -1e6, 1e6, err), err);
    SWD_TRY(json_float(&c->scaling_factor, j, "scaling_factor", 1, 1e-6, 1e6, err), err);
    return json_float(&c->shift_factor, j, "shift_factor", 0, -1e6, 1e6, err);
}

swd_status config_tiny_vae_read(config_tiny_vae *out, const char *path, swd_err *err)
{
    return json_read(out, sizeof *out, path, read_tiny_vae, err);
}

static swd_status read_act(config_act *out, const swd_json *j, const char *field, const char *name,
                           swd_err *err)
{
    static const struct {
        const char *name;
        config_act act;
    } acts[] = {
        {"relu", CONFIG_ACT_RELU},
        {"silu", CONFIG_ACT_SILU},
        {"swish", CONFIG_ACT_SILU},
        {"gelu", CONFIG_ACT_GELU_ERF},
        {"gelu_new", CONFIG_ACT_GELU_TANH},
        {"gelu_pytorch_tanh", CONFIG_ACT_GELU_TANH},
        {"quick_gelu", CONFIG_ACT_QUICK_GELU},
    };
    for (size_t i = 0; i < N_OF(acts); i++) {
        if (strcmp(name, acts[i].name) == 0) {
            *out = acts[i].act;
            return SWD_OK;
        }
    }
    return unsupported(j, field, name, "quick_gelu, gelu, gelu_new, gelu_pytorch_tanh, silu, relu",
                       err);
}

static swd_status read_clip_fields(config_clip_text *c, const swd_json *j, swd_err *err)
{
    static const int_field fields[] = {
        INT(config_clip_text, vocab_size, 49408, 1, VOCAB_MAX),
        INT(config_clip_text, hidden_size, 512, 1, DIM_MAX),
        INT(config_clip_text, intermediate_size, 2048, 1, 1 << 18),
        INT(config_clip_text, projection_dim, 512, 1, DIM_MAX),
        INT(config_clip_text, num_hidden_layers, 12, 1, CONFIG_LAYERS_MAX),
        INT(config_clip_text, num_attention_heads, 8, 1, 1024),
        INT(config_clip_text, max_position_embeddings, 77, 1, 1 << 14),
        INT(config_clip_text, pad_token_id, 1, -1, VOCAB_MAX),
        INT(config_clip_text, bos_token_id, 49406, -1, VOCAB_MAX),
        INT(config_clip_text, eos_token_id, 49407, -1, VOCAB_MAX),
    };
    const char *act;
    SWD_TRY(read_ints(c, fields, N_OF(fields), j, err), err);
    SWD_TRY(json_float(&c->layer_norm_eps, j, "layer_norm_eps", 1e-5, 0, 1, err), err);
    SWD_TRY(json_str(&act, j, "hidden_act", "quick_gelu", err), err);
    SWD_TRY(read_act(&c->hidden_act, j, "hidden_act", act, err), err);
    if (c->hidden_size % c->num_attention_heads != 0)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: field \"hidden_size\" is %d, no multiple of num_attention_heads %d",
                        j->path, c->hidden_size, c->num_attention_heads);
    c->head_dim = c->hidden_size / c->num_attention_heads;
    return check_head_dim(j, "hidden_size / num_attention_heads", c->head_dim, err);
}

static swd_status check_model_type(const swd_json *j, const char *a, const char *b, swd_err *err)
{
    const char *type;
    SWD_TRY(json_str(&type, j, "model_type", a, err), err);
    if (strcmp(type, a) != 0 && strcmp(type, b) != 0) {
        char both[64];
        snprintf(both, sizeof both, "%s, %s", a, b);
        return unsupported(j, "model_type", type, both, err);
    }
    return SWD_OK;
}

// The first of "architectures" tells: only CLIPTextModel has no projection.
static swd_status read_with_projection(bool *out, const swd_json *j, swd_err *err)
{
    const json_t *list = json_object_get(j->root, "architectures"),
                 *first = json_array_get(list, 0);
    if (list && !json_is_null(list) && (!json_is_array(list) || (first && !json_is_string(first))))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"architectures\" is no list of strings",
                        j->path);
    *out = !first || strcmp(json_string_value(first), "CLIPTextModel") != 0;
    return SWD_OK;
}

static swd_status read_clip_text(void *out, const swd_json *j, swd_err *err)
{
    config_clip_text *c = out;
    swd_json text;
    SWD_TRY(check_class(j, NULL, err), err);
    SWD_TRY(check_model_type(j, "clip_text_model", "clip", err), err);
    SWD_TRY(read_with_projection(&c->with_projection, j, err), err);
    // A config of the two-tower class holds that of the text tower.
    SWD_TRY(json_sub(&text, j, "text_config", err), err);
    swd_status s = read_clip_fields(c, text.root ? &text : j, err);
    json_close(&text);
    return s;
}

swd_status config_clip_text_read(config_clip_text *out, const char *path, swd_err *err)
{
    return json_read(out, sizeof *out, path, read_clip_text, err);
}

// feed_forward_proj is "ACT" or "gated-ACT", where gated-gelu means gelu_new; dense_act_fn and is_gated_act, where given, win.
static swd_status read_t5_act(config_t5 *c, const swd_json *j, swd_err *err)
{
    const char *text, *act;
    SWD_TRY(json_str(&text, j, "feed_forward_proj", "relu", err), err);
    bool gated = str_starts(text, "gated-");
    const char *dflt = gated ? text + strlen("gated-") : text;
    if (strcmp(text, "gated-gelu") == 0) dflt = "gelu_new";
    bool given = json_is_string(json_object_get(j->root, "dense_act_fn"));
    SWD_TRY(json_str(&act, j, "dense_act_fn", dflt, err), err);
    SWD_TRY(read_act(&c->dense_act, j, given ? "dense_act_fn" : "feed_forward_proj", act, err),
            err);
    return json_bool(&c->is_gated_act, j, "is_gated_act", gated, err);
}

static swd_status read_t5(void *out, const swd_json *j, swd_err *err)
{
    static const int_field fields[] = {
        INT(config_t5, vocab_size, 32128, 1, VOCAB_MAX),
        INT(config_t5, d_model, 512, 1, DIM_MAX),
        INT(config_t5, d_kv, 64, 1, DIM_MAX),
        INT(config_t5, d_ff, 2048, 1, 1 << 18),
        INT(config_t5, num_layers, 6, 1, CONFIG_LAYERS_MAX),
        INT(config_t5, num_heads, 8, 1, 1024),
        INT(config_t5, relative_attention_num_buckets, 32, 4, 4096),
        INT(config_t5, relative_attention_max_distance, 128, 2, 1 << 20),
        INT(config_t5, pad_token_id, 0, -1, VOCAB_MAX),
        INT(config_t5, eos_token_id, 1, -1, VOCAB_MAX),
    };
    config_t5 *c = out;
    SWD_TRY(check_class(j, NULL, err), err);
    SWD_TRY(check_model_type(j, "t5", "mt5", err), err);
    SWD_TRY(read_ints(c, fields, N_OF(fields), j, err), err);
    SWD_TRY(json_float(&c->layer_norm_epsilon, j, "layer_norm_epsilon", 1e-6, 0, 1, err), err);
    SWD_TRY(read_t5_act(c, j, err), err);
    if (c->relative_attention_num_buckets % 4 != 0)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: field \"relative_attention_num_buckets\" is %d, no multiple of 4",
                        j->path, c->relative_attention_num_buckets);
    if (c->relative_attention_max_distance <= c->relative_attention_num_buckets / 4)
        return SWD_FAIL(
            err, SWD_ERR_FILE,
            "%s: field \"relative_attention_max_distance\" is %d; more than a quarter of the "
            "%d buckets is needed",
            j->path, c->relative_attention_max_distance, c->relative_attention_num_buckets);
    return check_head_dim(j, "\"d_kv\"", c->d_kv, err);
}

swd_status config_t5_read(config_t5 *out, const char *path, swd_err *err)
{
    return json_read(out, sizeof *out, path, read_t5, err);
}

swd_status config_class_name(char *buf, size_t n, const char *path, swd_err *err)
{
    swd_json j;
    const char *name;
    buf[0] = 0;
    SWD_TRY(json_open(&j, path, err), err);
    swd_status s = json_str(&name, &j, "_class_name", "", err);
    if (s == SWD_OK) snprintf(buf, n, "%s", name);
    json_close(&j);
    return s;
}
