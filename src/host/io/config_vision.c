// SPDX-License-Identifier: MIT
#include "io/config_vision.h"
#include "io/json.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DIM_MAX = 1 << 16, BICUBIC = 3 };

static swd_status read_act(config_act *out, const swd_json *j, swd_err *err)
{
    const char *act;
    SWD_TRY(json_str(&act, j, "hidden_act", "quick_gelu", err), err);
    if (strcmp(act, "quick_gelu") != 0 && strcmp(act, "gelu") != 0)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: field \"hidden_act\" is %s; quick_gelu and gelu are known", j->path,
                        act);
    *out = strcmp(act, "gelu") == 0 ? CONFIG_ACT_GELU_ERF : CONFIG_ACT_QUICK_GELU;
    return SWD_OK;
}

static swd_status read_tower(config_clip_vision *c, const swd_json *j, swd_err *err)
{
    int channels;
    SWD_TRY(json_int32(&c->hidden_size, j, "hidden_size", 768, 1, DIM_MAX, err), err);
    SWD_TRY(json_int32(&c->intermediate_size, j, "intermediate_size", 3072, 1, 1 << 18, err), err);
    SWD_TRY(json_int32(&c->projection_dim, j, "projection_dim", 512, 1, DIM_MAX, err), err);
    SWD_TRY(
        json_int32(&c->num_hidden_layers, j, "num_hidden_layers", 12, 1, CONFIG_LAYERS_MAX, err),
        err);
    SWD_TRY(json_int32(&c->num_attention_heads, j, "num_attention_heads", 12, 1, 1024, err), err);
    SWD_TRY(json_int32(&c->image_size, j, "image_size", 224, 1, CONFIG_VISION_SIDE_MAX, err), err);
    SWD_TRY(json_int32(&c->patch_size, j, "patch_size", 32, 1, CONFIG_VISION_SIDE_MAX, err), err);
    SWD_TRY(json_int32(&channels, j, "num_channels", 3, 3, 3, err), err);
    SWD_TRY(json_float(&c->layer_norm_eps, j, "layer_norm_eps", 1e-5, 0, 1, err), err);
    SWD_TRY(read_act(&c->hidden_act, j, err), err);
    if (c->hidden_size % c->num_attention_heads != 0)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: field \"hidden_size\" is %d, no multiple of num_attention_heads %d",
                        j->path, c->hidden_size, c->num_attention_heads);
    c->head_dim = c->hidden_size / c->num_attention_heads;
    if (c->head_dim % 8 != 0 || c->head_dim > 512)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: heads of %d numbers; multiples of 8 up to 512 are known", j->path,
                        c->head_dim);
    if (c->image_size % c->patch_size != 0)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: field \"image_size\" is %d, no multiple of patch_size %d", j->path,
                        c->image_size, c->patch_size);
    return SWD_OK;
}

static swd_status read_vision(void *out, const swd_json *j, swd_err *err)
{
    config_clip_vision *c = out;
    const char *type;
    swd_json tower;
    SWD_TRY(json_str(&type, j, "model_type", "clip_vision_model", err), err);
    c->with_text = strcmp(type, "clip") == 0;
    if (!c->with_text && strcmp(type, "clip_vision_model") != 0)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: field \"model_type\" is %s; clip and clip_vision_model are known",
                        j->path, type);
    SWD_TRY(json_sub(&tower, j, "vision_config", err), err);
    swd_status s = read_tower(c, tower.root ? &tower : j, err);
    json_close(&tower);
    SWD_TRY(s, err);
    // The two-tower class has one dimension for both, its own.
    if (c->with_text)
        SWD_TRY(json_int32(&c->projection_dim, j, "projection_dim", 512, 1, DIM_MAX, err), err);
    return SWD_OK;
}

swd_status config_clip_vision_read(config_clip_vision *out, const char *path, swd_err *err)
{
    return json_read(out, sizeof *out, path, read_vision, err);
}

/* ---- Inception ---- */

static swd_status read_inception(void *out, const swd_json *j, swd_err *err)
{
    config_inception *c = out;
    const char *type;
    SWD_TRY(json_str(&type, j, "model_type", "", err), err);
    if (strcmp(type, CONFIG_INCEPTION_TYPE) != 0)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "%s: field \"model_type\" is %s; %s is needed",
                        j->path, type, CONFIG_INCEPTION_TYPE);
    SWD_TRY(json_int32(&c->image_size, j, "image_size", 299, 75, CONFIG_VISION_SIDE_MAX, err), err);
    SWD_TRY(json_int32(&c->width_divisor, j, "width_divisor", 1, 1, 16, err), err);
    if (16 % c->width_divisor != 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"width_divisor\" is %d, no divisor of 16",
                        j->path, c->width_divisor);
    return SWD_OK;
}

swd_status config_inception_read(config_inception *out, const char *path, swd_err *err)
{
    return json_read(out, sizeof *out, path, read_inception, err);
}

swd_status config_model_type(char *buf, size_t n, const char *path, swd_err *err)
{
    swd_json j;
    const char *type;
    SWD_TRY(json_open(&j, path, err), err);
    swd_status s = json_str(&type, &j, "model_type", "", err);
    if (s == SWD_OK) snprintf(buf, n, "%s", type);
    json_close(&j);
    return s;
}

/* ---- preprocessor_config.json ---- */

/* An integer, or an object of one key (shortest_edge) or two equal ones (height, width). */
static swd_status read_side(int *out, const swd_json *j, const char *field, bool edge, swd_err *err)
{
    const json_t *v = json_object_get(j->root, field);
    json_int_t a = 224, b = 224;
    if (json_is_integer(v)) {
        a = b = json_integer_value(v);
    } else if (json_is_object(v)) {
        const json_t *side = json_object_get(v, edge ? "shortest_edge" : "height"),
                     *other = json_object_get(v, edge ? "shortest_edge" : "width");
        if (!json_is_integer(side) || !json_is_integer(other))
            return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "%s: field \"%s\" has no %s", j->path, field,
                            edge ? "shortest_edge" : "height and width");
        a = json_integer_value(side);
        b = json_integer_value(other);
    } else if (v && !json_is_null(v)) {
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\" is no size", j->path, field);
    }
    if (a != b || a < 1 || a > CONFIG_VISION_SIDE_MAX)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: field \"%s\" is %lldx%lld; squares of 1 to %d are known", j->path,
                        field, (long long)a, (long long)b, CONFIG_VISION_SIDE_MAX);
    *out = (int)a;
    return SWD_OK;
}

static swd_status read_three(double out[3], const swd_json *j, const char *field,
                             const double dflt[3], double lo, swd_err *err)
{
    int n;
    SWD_TRY(json_floats(out, &n, 3, j, field, lo, 1e3, err), err);
    if (n < 0) memcpy(out, dflt, 3 * sizeof(*out));
    if (n >= 0 && n != 3)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\" has %d entries, not 3", j->path, field,
                        n);
    return SWD_OK;
}

static swd_status read_processor(void *out, const swd_json *j, swd_err *err)
{
    config_clip_processor *c = out;
    static const char *const steps[] = {"do_resize", "do_center_crop", "do_rescale",
                                        "do_normalize"};
    static const double mean[] = {0.48145466, 0.4578275, 0.40821073},
                        std[] = {0.26862954, 0.26130258, 0.27577711};
    int filter = 0;
    double factor = 0;
    for (int i = 0; i < 4; i++) {
        bool on;
        SWD_TRY(json_bool(&on, j, steps[i], true, err), err);
        if (!on)
            return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "%s: field \"%s\" is false; it must be true",
                            j->path, steps[i]);
    }
    SWD_TRY(json_int32(&filter, j, "resample", BICUBIC, 0, 5, err), err);
    SWD_TRY(json_float(&factor, j, "rescale_factor", 1 / 255.0, 0, 1, err), err);
    if (filter != BICUBIC || fabs(factor * 255 - 1) > 1e-9)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: resample %d, rescale_factor %g; 3 (bicubic) and 1/255 are known",
                        j->path, filter, factor);
    SWD_TRY(read_side(&c->shortest_edge, j, "size", true, err), err);
    SWD_TRY(read_side(&c->crop, j, "crop_size", false, err), err);
    SWD_TRY(read_three(c->mean, j, "image_mean", mean, -1e3, err), err);
    SWD_TRY(read_three(c->std, j, "image_std", std, 1e-6, err), err);
    if (c->crop > c->shortest_edge)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: field \"crop_size\" %d is larger than the resized picture, %d",
                        j->path, c->crop, c->shortest_edge);
    return SWD_OK;
}

swd_status config_clip_processor_read(config_clip_processor *out, const char *path, swd_err *err)
{
    return json_read(out, sizeof *out, path, read_processor, err);
}
