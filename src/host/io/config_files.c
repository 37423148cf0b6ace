// SPDX-License-Identifier: MIT
#include "io/config_files.h"
#include "io/json.h"
#include <float.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

static swd_status copy_name(char *out, const char *text, const char *path, const char *what,
                            swd_err *err)
{
    if (strlen(text) >= CONFIG_NAME_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: %s is longer than %d bytes", path, what,
                        CONFIG_NAME_MAX - 1);
    snprintf(out, CONFIG_NAME_MAX, "%s", text);
    return SWD_OK;
}

static swd_status find_unsupported(config_scheduler *c, const swd_json *j, swd_err *err)
{
    static const char *const switches[] = {"invert_sigmas", "use_karras_sigmas",
                                           "use_exponential_sigmas", "use_beta_sigmas",
                                           "stochastic_sampling"};
    double terminal;
    for (size_t i = 0; i < sizeof switches / sizeof switches[0]; i++) {
        bool on;
        SWD_TRY(json_bool(&on, j, switches[i], false, err), err);
        if (on && !c->unsupported[0])
            snprintf(c->unsupported, sizeof c->unsupported, "%s", switches[i]);
    }
    SWD_TRY(json_float(&terminal, j, "shift_terminal", 0, 0, 1, err), err);
    if (terminal != 0 && !c->unsupported[0])
        snprintf(c->unsupported, sizeof c->unsupported, "shift_terminal");
    return SWD_OK;
}

static swd_status read_scheduler(void *out, const swd_json *j, swd_err *err)
{
    config_scheduler *c = out;
    const char *text;
    SWD_TRY(json_str(&text, j, "_class_name", "FlowMatchEulerDiscreteScheduler", err), err);
    if (strcmp(text, "FlowMatchEulerDiscreteScheduler") != 0)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: \"_class_name\" is %s; FlowMatchEulerDiscreteScheduler is needed here",
                        j->path, text);
    SWD_TRY(json_int32(&c->num_train_timesteps, j, "num_train_timesteps", 1000, 1, 1000000, err),
            err);
    SWD_TRY(json_float(&c->shift, j, "shift", 1, 1e-3, 1e3, err), err);
    SWD_TRY(json_bool(&c->use_dynamic_shifting, j, "use_dynamic_shifting", false, err), err);
    SWD_TRY(json_float(&c->base_shift, j, "base_shift", 0.5, -100, 100, err), err);
    SWD_TRY(json_float(&c->max_shift, j, "max_shift", 1.15, -100, 100, err), err);
    SWD_TRY(json_int32(&c->base_image_seq_len, j, "base_image_seq_len", 256, 1, 1 << 24, err), err);
    SWD_TRY(json_int32(&c->max_image_seq_len, j, "max_image_seq_len", 4096, 1, 1 << 24, err), err);
    if (c->use_dynamic_shifting && c->base_image_seq_len == c->max_image_seq_len)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: fields \"base_image_seq_len\" and \"max_image_seq_len\" are both %d: "
                        "no line through one point",
                        j->path, c->base_image_seq_len);
    SWD_TRY(json_str(&text, j, "time_shift_type", "exponential", err), err);
    c->time_shift_linear = strcmp(text, "linear") == 0;
    if (!c->time_shift_linear && strcmp(text, "exponential") != 0)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: field \"time_shift_type\" is \"%s\"; exponential or linear is needed",
                        j->path, text);
    return find_unsupported(c, j, err);
}

swd_status config_scheduler_read(config_scheduler *out, const char *path, swd_err *err)
{
    return json_read(out, sizeof *out, path, read_scheduler, err);
}

static swd_status read_component(config_model_index *m, const char *name, const json_t *value,
                                 const char *path, swd_err *err)
{
    const json_t *library = json_array_get(value, 0), *class_name = json_array_get(value, 1);
    if (json_array_size(value) != 2)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: component \"%s\" is not a pair [library, class]",
                        path, name);
    if (json_is_null(library) && json_is_null(class_name)) return SWD_OK;
    if (!json_is_string(library) || !json_is_string(class_name))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: component \"%s\" is not a pair of strings", path,
                        name);
    if (m->n_components == CONFIG_COMPONENTS_MAX)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: more than %d components", path,
                        CONFIG_COMPONENTS_MAX);
    config_component *c = &m->components[m->n_components++];
    SWD_TRY(copy_name(c->name, name, path, "the name of a component", err), err);
    SWD_TRY(
        copy_name(c->library, json_string_value(library), path, "the library of a component", err),
        err);
    return copy_name(c->class_name, json_string_value(class_name), path, "the class of a component",
                     err);
}

// Fields that are no lists (_name_or_path, force_zeros, feature switches) are of no concern here.
static swd_status read_model_index(void *out, const swd_json *j, swd_err *err)
{
    config_model_index *m = out;
    const char *name;
    json_t *value;
    SWD_TRY(json_str(&name, j, "_class_name", "", err), err);
    if (!name[0])
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"_class_name\" is missing", j->path);
    SWD_TRY(copy_name(m->class_name, name, j->path, "field \"_class_name\"", err), err);
    json_object_foreach((json_t *)j->root, name, value)
    {
        if (name[0] != '_' && json_is_array(value))
            SWD_TRY(read_component(m, name, value, j->path, err), err);
    }
    return SWD_OK;
}

swd_status config_model_index_read(config_model_index *out, const char *path, swd_err *err)
{
    return json_read(out, sizeof *out, path, read_model_index, err);
}

const config_component *config_model_index_find(const config_model_index *m, const char *name)
{
    for (int i = 0; i < m->n_components; i++) {
        if (strcmp(m->components[i].name, name) == 0) return &m->components[i];
    }
    return NULL;
}

static swd_status read_preset(config_preset *p, const swd_json *j, swd_err *err)
{
    int64_t scales[CONFIG_STEPS_MAX];
    SWD_TRY(json_ints(scales, &p->n_steps, CONFIG_STEPS_MAX, j, "scales", INT_MIN, INT_MAX, err),
            err);
    SWD_TRY(json_floats(p->sigmas, &p->n_sigmas, CONFIG_STEPS_MAX + 1, j, "sigmas", -DBL_MAX,
                        DBL_MAX, err),
            err);
    if (p->n_steps < 1 || p->n_sigmas < 1)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: needs \"scales\" and \"sigmas\", lists that are not empty", j->path);
    for (int i = 0; i < p->n_steps; i++) p->scales[i] = (int)scales[i];
    return SWD_OK;
}

static swd_status read_presets(config_swd *c, const swd_json *presets, swd_err *err)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)presets->root, name, value)
    {
        if (c->n_presets == CONFIG_PRESETS_MAX)
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: more than %d", presets->path,
                            CONFIG_PRESETS_MAX);
        config_preset *p = &c->presets[c->n_presets++];
        if (!name[0]) return SWD_FAIL(err, SWD_ERR_FILE, "%s: a preset has no name", presets->path);
        SWD_TRY(copy_name(p->name, name, presets->path, "the name of a preset", err), err);
        swd_json j;
        SWD_TRY(json_sub(&j, presets, name, err), err);
        if (!j.root)
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: preset \"%s\" is null", presets->path, name);
        swd_status s = read_preset(p, &j, err);
        json_close(&j);
        SWD_TRY(s, err);
    }
    return SWD_OK;
}

static swd_status read_baseline(config_swd *c, const swd_json *j, swd_err *err)
{
    SWD_TRY(json_int32(&c->steps, j, "steps", 0, 1, 1000, err), err);
    SWD_TRY(json_float(&c->guidance, j, "guidance", 0, 0, 1000, err), err);
    SWD_TRY(json_float(&c->shift, j, "shift", 0, 1e-3, 1e3, err), err);
    c->has_steps = json_is_number(json_object_get(j->root, "steps"));
    c->has_guidance = json_is_number(json_object_get(j->root, "guidance"));
    c->has_shift = json_is_number(json_object_get(j->root, "shift"));
    return SWD_OK;
}

static swd_status read_swd(void *out, const swd_json *j, swd_err *err)
{
    config_swd *c = out;
    swd_json sub;
    const char *name;
    SWD_TRY(json_sub(&sub, j, "presets", err), err);
    swd_status s = sub.root ? read_presets(c, &sub, err) : SWD_OK;
    json_close(&sub);
    SWD_TRY(s, err);
    SWD_TRY(json_sub(&sub, j, "baseline", err), err);
    s = sub.root ? read_baseline(c, &sub, err) : SWD_OK;
    json_close(&sub);
    SWD_TRY(s, err);
    SWD_TRY(json_str(&name, j, "default", "", err), err);
    SWD_TRY(copy_name(c->default_preset, name, j->path, "field \"default\"", err), err);
    SWD_TRY(json_int32(&c->max_tokens, j, "max_tokens", 0, 1, 4096, err), err);
    return SWD_OK;
}

swd_status config_swd_read(config_swd *out, const char *path, swd_err *err)
{
    return json_read(out, sizeof *out, path, read_swd, err);
}
