// SPDX-License-Identifier: MIT
#include "weights/lora.h"
#include "base/memory.h"
#include "io/json.h"
#include "io/mapping.h"
#include "weights/convert.h"
#include "weights/lora_pattern.h"
#include "weights/name_list.h"
#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { CONFIG_BYTES_MAX = 16 << 20, NAME_BYTES_MAX = 512 };

typedef enum key_part { PART_A, PART_B, PART_ALPHA, PART_UNKNOWN } key_part;

typedef struct key {
    char *module; // owned
    key_part part;
    const st_tensor *tensor;
} key;

struct lora {
    safetensors *tensors;
    key *keys; // owns the names of the modules; sorted by module, then part
    int n_keys;
    lora_module *modules;
    int n_modules;
};

// What adapter_config.json, or the header's metadata, says; prefix is "" or "transformer.".
typedef struct settings {
    swd_json json;
    bool present;
    const char *prefix;
    double r, alpha;
} settings;

static const json_t *setting(const settings *s, const char *field)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", s->prefix, field);
    return json_object_get(s->json.root, name);
}

// Ways to train that change more than A and B: their result would be wrong without a word.
static swd_status refuse_variants(const settings *s, swd_err *err)
{
    static const char *const switches[] = {"use_rslora", "use_dora", "lora_bias", "fan_in_fan_out",
                                           "use_qalora"};
    static const char *const lists[] = {"layer_replication",
                                        "target_parameters",
                                        "trainable_token_indices",
                                        "alora_invocation_tokens",
                                        "modules_to_save",
                                        "arrow_config",
                                        "kasa_config",
                                        "monteclora_config",
                                        "velora_config",
                                        "use_bdlora"};
    static const char *const inits[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};
    const char *path = s->json.path;
    for (size_t i = 0; i < sizeof switches / sizeof switches[0]; i++) {
        if (json_is_true(setting(s, switches[i])))
            return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                            "%s: \"%s\" is true: such adapters are not supported", path,
                            switches[i]);
    }
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        const json_t *v = setting(s, lists[i]);
        if (json_array_size(v) > 0 || json_object_size(v) > 0)
            return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                            "%s: \"%s\" is set: such adapters are not supported", path, lists[i]);
    }
    const char *type = json_string_value(setting(s, "peft_type")),
               *init = json_string_value(setting(s, "init_lora_weights"));
    if (type && strcmp(type, "LORA") != 0)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "%s: \"peft_type\" is %s; LORA is supported",
                        path, type);
    for (size_t i = 0; init && i < sizeof inits / sizeof inits[0]; i++) {
        if (str_starts(init, inits[i]))
            return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                            "%s: \"init_lora_weights\" is %s, which changes the base weights: "
                            "convert it to a plain LoRA",
                            path, init);
    }
    return SWD_OK;
}

static swd_status read_settings(settings *s, swd_err *err)
{
    char name[64];
    s->present = true;
    SWD_TRY(refuse_variants(s, err), err);
    snprintf(name, sizeof name, "%sr", s->prefix);
    SWD_TRY(json_float(&s->r, &s->json, name, 8, 1, LORA_RANK_MAX, err), err);
    snprintf(name, sizeof name, "%slora_alpha", s->prefix);
    SWD_TRY(json_float(&s->alpha, &s->json, name, 8, -1e6, 1e6, err), err);
    for (int i = 0; i < 2; i++) {
        const char *field = i ? "alpha_pattern" : "rank_pattern";
        const json_t *v = setting(s, field);
        if (v && !json_is_null(v) && !json_is_object(v))
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\" is no object", s->json.path,
                            field);
    }
    return SWD_OK;
}

// The first pattern that matches, in the order of the file; *value is unchanged if there is none.
static swd_status apply_pattern(double *value, const settings *s, const char *field,
                                const char *module, swd_err *err)
{
    const char *pattern;
    json_t *v;
    json_object_foreach((json_t *)setting(s, field), pattern, v)
    {
        bool match;
        if (!json_is_number(v))
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: field \"%s\": the value of %s is no number",
                            s->json.path, field, pattern);
        SWD_TRY(lora_pattern_match(&match, pattern, module, s->json.path, field, err), err);
        if (match) {
            *value = json_number_value(v);
            return SWD_OK;
        }
    }
    return SWD_OK;
}

static key_part split_key(size_t *module_length, const char *name)
{
    static const struct {
        const char *suffix;
        key_part part;
    } suffixes[] = {
        {".lora_A.weight", PART_A},  {".lora_B.weight", PART_B}, {".lora.down.weight", PART_A},
        {".lora.up.weight", PART_B}, {".alpha", PART_ALPHA},
    };
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (!str_ends(name, suffixes[i].suffix)) continue;
        *module_length = strlen(name) - strlen(suffixes[i].suffix);
        return *module_length > 0 ? suffixes[i].part : PART_UNKNOWN;
    }
    return PART_UNKNOWN;
}

static swd_status refuse_key(const char *path, const char *name, swd_err *err)
{
    static const char *const text_encoders[] = {"text_encoder",
                                                "lora_te",
                                                "text_model.",
                                                "base_model.model.text_model.",
                                                "base_model.model.encoder.",
                                                "base_model.model.shared."};
    for (size_t i = 0; i < sizeof text_encoders / sizeof text_encoders[0]; i++) {
        if (str_starts(name, text_encoders[i]))
            return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                            "%s: %s: adapters of text encoders are not supported", path, name);
    }
    if (strstr(name, "lora_magnitude_vector") || strstr(name, "dora_scale"))
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "%s: %s: DoRA adapters are not supported", path,
                        name);
    if (str_starts(name, "lora_unet_") || str_starts(name, "lora_transformer_"))
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "%s: %s: the kohya layout is not supported; convert it to PEFT's", path,
                        name);
    return SWD_OK;
}

static int by_module(const void *a, const void *b)
{
    const key *x = a, *y = b;
    int c = strcmp(x->module, y->module);
    return c ? c : (int)x->part - (int)y->part;
}

static swd_status read_keys(lora *l, const char *path, swd_err *err)
{
    int n = safetensors_count(l->tensors);
    name_list unknown = {0};
    if (n == 0) return SWD_FAIL(err, SWD_ERR_FILE, "%s: an adapter without tensors", path);
    SWD_TRY(swd_calloc(&l->keys, (size_t)n, sizeof *l->keys, "the keys of an adapter", err), err);
    for (int i = 0; i < n; i++) {
        const st_tensor *t = safetensors_at(l->tensors, i);
        size_t length = 0;
        SWD_TRY(refuse_key(path, t->name, err), err);
        key_part part = split_key(&length, t->name);
        if (part == PART_UNKNOWN || length > NAME_BYTES_MAX) {
            name_list_add(&unknown, t->name);
            continue;
        }
        const char *start = t->name, *prefixes[] = {"base_model.model.", "transformer."};
        for (int k = 0; k < 2; k++) {
            size_t m = strlen(prefixes[k]);
            if (length > m && str_starts(start, prefixes[k])) {
                start += m;
                length -= m;
            }
        }
        key *e = &l->keys[l->n_keys];
        SWD_TRY(swd_asprintf(&e->module, err, "%.*s", (int)length, start), err);
        e->part = part;
        e->tensor = t;
        l->n_keys++;
    }
    if (unknown.n > 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: keys that belong to no LoRA: %s", path,
                        name_list_text(&unknown));
    qsort(l->keys, (size_t)l->n_keys, sizeof *l->keys, by_module);
    return SWD_OK;
}

static swd_status check_shapes(lora_module *m, const char *path, swd_err *err)
{
    const st_tensor *a = m->a, *b = m->b;
    char sa[256], sb[256];
    bool ok = a->ndim >= 2 && b->ndim >= 2 && a->numel > 0 && b->numel > 0 &&
              a->shape[0] == b->shape[1] && a->shape[0] <= LORA_RANK_MAX;
    for (int i = 2; ok && i < b->ndim; i++) ok = b->shape[i] == 1;
    if (!ok)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: module %s: A %s and B %s are no [rank, in] and [out, rank]", path,
                        m->name, st_describe_shape(a->shape, a->ndim, sa, sizeof sa),
                        st_describe_shape(b->shape, b->ndim, sb, sizeof sb));
    for (int i = 0; i < 2; i++) {
        const st_tensor *t = i ? b : a;
        if (t->dtype != SWD_F32 && t->dtype != SWD_F16 && t->dtype != SWD_BF16)
            return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                            "%s: tensor %s is %s; F32, F16 or BF16 is needed", path, t->name,
                            t->dtype_text);
    }
    m->rank = a->shape[0];
    return SWD_OK;
}

static swd_status read_alpha(double *alpha, const st_tensor *t, const char *path, swd_err *err)
{
    float value;
    if (t->numel != 1 || (t->dtype != SWD_F32 && t->dtype != SWD_F16 && t->dtype != SWD_BF16))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: tensor %s is not one float number", path, t->name);
    if (!convert_floats(&value, SWD_F32, t->data, t->dtype, 1))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: tensor %s holds NaN or infinity", path, t->name);
    *alpha = value;
    return SWD_OK;
}

// keys [first, first + n) are those of one module.
static swd_status read_module(lora_module *m, const key *keys, int n, const settings *s,
                              const char *path, swd_err *err)
{
    const st_tensor *parts[3] = {0};
    *m = (lora_module){.name = keys[0].module};
    for (int i = 0; i < n; i++) {
        if (parts[keys[i].part])
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: %s and %s are the same matrix of module %s",
                            path, parts[keys[i].part]->name, keys[i].tensor->name, m->name);
        parts[keys[i].part] = keys[i].tensor;
    }
    m->a = parts[PART_A];
    m->b = parts[PART_B];
    if (!m->a || !m->b)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: module %s has no lora_%s", path, m->name,
                        m->a ? "B" : "A");
    SWD_TRY(check_shapes(m, path, err), err);
    double r = (double)m->rank, alpha = r;
    if (s->present) {
        r = s->r;
        alpha = s->alpha;
        SWD_TRY(apply_pattern(&r, s, "rank_pattern", m->name, err), err);
        SWD_TRY(apply_pattern(&alpha, s, "alpha_pattern", m->name, err), err);
        if (r != (double)m->rank)
            return SWD_FAIL(err, SWD_ERR_FILE, "%s: module %s has rank %lld, but %s says %g", path,
                            m->name, (long long)m->rank, s->json.path, r);
    }
    if (parts[PART_ALPHA]) SWD_TRY(read_alpha(&alpha, parts[PART_ALPHA], path, err), err);
    m->scale = alpha / r;
    return SWD_OK;
}

static swd_status read_modules(lora *l, const settings *s, const char *path, swd_err *err)
{
    SWD_TRY(swd_calloc(&l->modules, (size_t)l->n_keys, sizeof *l->modules,
                       "the modules of an adapter", err),
            err);
    for (int i = 0, n; i < l->n_keys; i += n) {
        for (n = 1; i + n < l->n_keys && strcmp(l->keys[i].module, l->keys[i + n].module) == 0;
             n++) {}
        SWD_TRY(read_module(&l->modules[l->n_modules], l->keys + i, n, s, path, err), err);
        l->n_modules++;
    }
    return SWD_OK;
}

// Diffusers keeps peft's config as a JSON text in the header; its pipelines prefix the fields with the component.
static swd_status settings_of_header(settings *s, const lora *l, const char *path, swd_err *err)
{
    const char *text = safetensors_metadata(l->tensors, "lora_adapter_metadata");
    char *where;
    if (!text) return SWD_OK;
    SWD_TRY(swd_asprintf(&where, err, "%s: lora_adapter_metadata", path), err);
    swd_status st = json_parse(&s->json, where, text, strlen(text), err);
    free(where);
    SWD_TRY(st, err);
    s->prefix = "transformer.";
    if (!setting(s, "r")) s->prefix = "";
    return setting(s, "r") ? read_settings(s, err) : SWD_OK;
}

// l->tensors is open; config is zeroed or the parsed adapter_config.json, which is consumed.
static swd_status build(lora *l, swd_json config, swd_err *err)
{
    const char *path = lora_path(l);
    settings s = {.json = config, .prefix = ""};
    swd_status st;
    if (config.root)
        st = read_settings(&s, err);
    else
        st = settings_of_header(&s, l, path, err);
    if (st == SWD_OK) st = read_keys(l, path, err);
    if (st == SWD_OK && !config.root &&
        str_starts(safetensors_at(l->tensors, 0)->name, "base_model.model."))
        st = SWD_FAIL(err, SWD_ERR_FILE,
                      "%s: an adapter in PEFT's layout needs its adapter_config.json beside it",
                      path);
    if (st == SWD_OK) st = read_modules(l, &s, path, err);
    json_close(&s.json);
    return st;
}

// The adapter_config.json beside the file (zeroed if there is none).
static swd_status open_config(swd_json *config, const char *file, swd_err *err)
{
    const char *slash = strrchr(file, '/');
    char *path;
    *config = (swd_json){0};
    if (str_ends(file, "pytorch_lora_weights.safetensors")) return SWD_OK;
    SWD_TRY(swd_asprintf(&path, err, "%.*sadapter_config.json", slash ? (int)(slash - file + 1) : 0,
                         file),
            err);
    swd_status s = path_exists(path) ? json_open(config, path, err) : SWD_OK;
    free(path);
    return s;
}

// The weights file of a folder, or path itself.
static swd_status find_weights(char **out, const char *path, swd_err *err)
{
    static const char *const names[] = {"adapter_model.safetensors",
                                        "pytorch_lora_weights.safetensors"};
    if (!path_is_dir(path)) return swd_strdup(out, path, err);
    for (int i = 0; i < 2; i++) {
        SWD_TRY(path_join(out, path, names[i], err), err);
        if (path_exists(*out)) return SWD_OK;
        free(*out);
        *out = NULL;
    }
    return SWD_FAIL(err, SWD_ERR_FILE, "%s: no %s and no %s in this folder", path, names[0],
                    names[1]);
}

swd_status lora_open(lora **out, const char *path, swd_err *err)
{
    lora *l = NULL;
    char *file = NULL;
    swd_json config = {0};
    swd_status s;
    *out = NULL;
    SWD_TRY(swd_calloc(&l, 1, sizeof *l, "an adapter", err), err);
    SWD_TRY_GOTO(s, find_weights(&file, path, err), err, done);
    SWD_TRY_GOTO(s, safetensors_open(&l->tensors, file, "", err), err, done);
    SWD_TRY_GOTO(s, open_config(&config, file, err), err, done);
    SWD_TRY_GOTO(s, build(l, config, err), err, done);
    *out = l;
    l = NULL;
done:
    free(file);
    lora_close(&l);
    return s;
}

swd_status lora_parse(lora **out, const char *path, const void *config_text, size_t n_config,
                      const void *data, size_t n, swd_err *err)
{
    lora *l = NULL;
    swd_json config = {0};
    swd_status s;
    *out = NULL;
    SWD_TRY(swd_calloc(&l, 1, sizeof *l, "an adapter", err), err);
    SWD_TRY_GOTO(s, safetensors_parse(&l->tensors, path, data, n, err), err, done);
    if (config_text)
        SWD_TRY_GOTO(s, json_parse(&config, "adapter_config.json", config_text, n_config, err), err,
                     done);
    SWD_TRY_GOTO(s, build(l, config, err), err, done);
    *out = l;
    l = NULL;
done:
    lora_close(&l);
    return s;
}

void lora_close(lora **l)
{
    if (!*l) return;
    for (int i = 0; i < (*l)->n_keys; i++) free((*l)->keys[i].module);
    free((*l)->keys);
    free((*l)->modules);
    safetensors_close(&(*l)->tensors);
    free(*l);
    *l = NULL;
}

int lora_count(const lora *l)
{
    return l->n_modules;
}

const lora_module *lora_at(const lora *l, int i)
{
    assert(i >= 0 && i < l->n_modules);
    return &l->modules[i];
}

static int module_by_name(const void *a, const void *b)
{
    return strcmp(((const lora_module *)a)->name, ((const lora_module *)b)->name);
}

const lora_module *lora_find(const lora *l, const char *module)
{
    lora_module wanted = {.name = module};
    if (l->n_modules == 0) return NULL;
    return bsearch(&wanted, l->modules, (size_t)l->n_modules, sizeof wanted, module_by_name);
}

const char *lora_path(const lora *l)
{
    return safetensors_file_path(l->tensors, 0);
}

static swd_status read_matrix(float *dst, const lora *l, const st_tensor *t, swd_err *err)
{
    if (!convert_floats(dst, SWD_F32, t->data, t->dtype, t->numel))
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: tensor %s at byte %zu holds NaN or infinity",
                        lora_path(l), t->name, t->offset);
    return SWD_OK;
}

swd_status lora_read_a(float *dst, const lora *l, const lora_module *m, swd_err *err)
{
    return read_matrix(dst, l, m->a, err);
}
swd_status lora_read_b(float *dst, const lora *l, const lora_module *m, swd_err *err)
{
    return read_matrix(dst, l, m->b, err);
}
