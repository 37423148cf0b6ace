// SPDX-License-Identifier: MIT
// Adapters in PEFT's layout.
#include "base/memory.h"
#include "image/image.h"
#include "io/safetensors_write.h"
#include "train/params_parts.h"
#include "weights/lora.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const char PREFIX[] = "base_model.model.";

static json_t *make_config(const lora_config *c, const char *base)
{
    json_t *targets = json_array();
    for (int i = 0; i < c->n_targets; i++)
        json_array_append_new(targets, json_string(c->targets[i]));
    json_t *alpha =
        c->alpha == (double)(int)c->alpha ? json_integer((int)c->alpha) : json_real(c->alpha);
    return json_pack("{s:s, s:i, s:o, s:o, s:f, s:s, s:b, s:b, s:b, s:b, s:b, s:o, s:o, s:o?}",
                     "peft_type", "LORA", "r", c->rank, "lora_alpha", alpha, "target_modules",
                     targets, "lora_dropout", 0.0, "bias", "none", "fan_in_fan_out", 0,
                     "inference_mode", 1, "init_lora_weights", 1, "use_rslora", 0, "use_dora", 0,
                     "rank_pattern", json_object(), "alpha_pattern", json_object(),
                     "base_model_name_or_path", base ? json_string(base) : json_null());
}

// Diffusers reads no adapter_config.json; without this it would take alpha for the rank. Its load_lora_adapter() is told PREFIX, and takes it
// off keys and fields alike.
static json_t *header_of(json_t *config)
{
    json_t *header = json_object(), *v;
    const char *field;
    json_object_foreach(config, field, v)
    {
        char name[64];
        snprintf(name, sizeof name, "%s%s", PREFIX, field);
        if (json_object_set(header, name, v) != 0) {
            json_decref(header);
            return NULL;
        }
    }
    return header;
}

static swd_status list_tensors(st_write_tensor *t, const params *p, const float *values,
                               swd_err *err)
{
    for (int i = 0; i < p->n; i++) {
        char *name;
        SWD_TRY(swd_asprintf(&name, err, "%s%s", PREFIX, p->at[i].name), err);
        t[i] = (st_write_tensor){
            .name = name, .dtype = SWD_F32, .ndim = p->at[i].ndim, .data = values + p->offset[i]};
        memcpy(t[i].shape, p->at[i].shape, sizeof p->at[i].shape);
    }
    return SWD_OK;
}

static swd_status write_tensors(const char *path, const params *p, const float *values,
                                const char *header, swd_err *err)
{
    const st_metadata metadata[] = {{"format", "pt"}, {"lora_adapter_metadata", header}};
    st_write_tensor *t;
    float *own = NULL;
    SWD_TRY(swd_calloc(&t, (size_t)p->n, sizeof *t, "a list of tensors", err), err);
    swd_status s = SWD_OK;
    if (!values) {
        s = swd_malloc(&own, (size_t)p->total, sizeof *own, "an adapter", err);
        if (s == SWD_OK) s = p->be->download(p->be, own, p->value, NULL, err);
        if (s == SWD_OK) s = p->be->synchronize(p->be, NULL, err);
    }
    if (s == SWD_OK) s = list_tensors(t, p, values ? values : own, err);
    if (s == SWD_OK) s = safetensors_write(path, t, p->n, metadata, 2, err);
    for (int i = 0; i < p->n; i++) free((char *)(uintptr_t)t[i].name);
    free(t);
    free(own);
    return s;
}

swd_status params_write_peft(const params *p, const char *folder, const lora_config *c,
                             const char *base, const float *values, swd_err *err)
{
    char *path = NULL, *text = NULL, *header = NULL;
    json_t *config = make_config(c, base), *prefixed = config ? header_of(config) : NULL;
    swd_status s = SWD_OK;
    if (config) text = json_dumps(config, JSON_INDENT(2));
    if (prefixed) header = json_dumps(prefixed, JSON_COMPACT);
    if (!text || !header) s = SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for an adapter's config");
    if (s == SWD_OK) s = path_join(&path, folder, "adapter_model.safetensors", err);
    if (s == SWD_OK) s = write_tensors(path, p, values, header, err);
    free(path);
    path = NULL;
    if (s == SWD_OK) s = path_join(&path, folder, "adapter_config.json", err);
    if (s == SWD_OK) s = image_write_bytes(path, text, strlen(text), err);
    free(path);
    free(text);
    free(header);
    json_decref(config);
    json_decref(prefixed);
    return s;
}

swd_status params_read_peft(params *p, const char *folder, swd_err *err)
{
    lora *l;
    SWD_TRY(lora_open(&l, folder, err), err);
    swd_status s = 2 * lora_count(l) == p->n
                       ? SWD_OK
                       : SWD_FAIL(err, SWD_ERR_FILE, "%s has %d modules, the adapter %d", folder,
                                  lora_count(l), p->n / 2);
    double own = p->layers[0].scale; // of all of them
    for (int i = 0; i < p->n && s == SWD_OK; i++) {
        char module[LOAD_NAME_MAX];
        const param *t = &p->at[i];
        const char *end = strstr(t->name, ".lora_");
        snprintf(module, sizeof module, "%.*s", (int)(end - t->name), t->name);
        const lora_module *m = lora_find(l, module);
        const st_tensor *from = !m ? NULL : end[6] == 'A' ? m->a : m->b;
        if (!from || from->numel != tensor_numel(t->value) || from->shape[0] != t->shape[0]) {
            s = SWD_FAIL(err, SWD_ERR_FILE, "%s: %s is of another rank or shape", folder, module);
            break;
        }
        float *x;
        s = swd_malloc(&x, (size_t)from->numel, sizeof *x, "an adapter", err);
        if (s != SWD_OK) break;
        s = end[6] == 'A' ? lora_read_a(x, l, m, err) : lora_read_b(x, l, m, err);
        // what the adapter adds stays the same, whatever its alpha: in B, where B A is linear too
        if (end[6] == 'B' && m->scale != own)
            for (int64_t k = 0; k < from->numel; k++) x[k] *= (float)(m->scale / own);
        if (s == SWD_OK) s = params_set(p, i, x, err);
        if (s == SWD_OK) s = p->be->synchronize(p->be, NULL, err);
        free(x);
    }
    lora_close(&l);
    return s == SWD_OK ? params_publish(p, err) : s;
}
