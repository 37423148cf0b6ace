// SPDX-License-Identifier: MIT
#include "weights/weights.h"
#include "base/memory.h"
#include "io/safetensors.h"
#include "weights/convert.h"
#include "weights/lora.h"
#include "weights/merge.h"
#include "weights/name_list.h"
#include "weights/synthetic.h"
#include <stdio.h>
#include <string.h>

enum { ADAPTERS_MAX = 64, ALIASES_MAX = 16, NAME_BYTES_MAX = 1024 };

struct weights {
    safetensors *tensors; // one of the two
    synthetic *made_up;
    char *path;
    bool *used; // by index of the tensor
    struct {
        const lora *adapter;
        float scale;
    } adapters[ADAPTERS_MAX];
    int n_adapters;
    struct {
        char *alias, *name;
    } aliases[ALIASES_MAX];
    int n_aliases;
    void *buffer; // of weights_get
    size_t buffer_bytes;
    const st_tensor *lent; // read in place by the last weights_get
    bool dry;
};

/* ---- where the tensors are ---- */

static const st_tensor *tensor_find(const weights *w, const char *name)
{
    return w->made_up ? synthetic_find(w->made_up, name) : safetensors_find(w->tensors, name);
}

static const st_tensor *tensor_at(const weights *w, int i)
{
    return w->made_up ? synthetic_at(w->made_up, i) : safetensors_at(w->tensors, i);
}

static int tensor_count(const weights *w)
{
    return w->made_up ? synthetic_count(w->made_up) : safetensors_count(w->tensors);
}

static void read_ahead(const weights *w, const st_tensor *t)
{
    if (w->tensors) safetensors_read_ahead(w->tensors, t);
}

static void tensor_release(const weights *w, const st_tensor *t)
{
    if (w->tensors) safetensors_release(w->tensors, t);
}

static const char *file_of(const weights *w, const st_tensor *t)
{
    return w->made_up ? w->path : safetensors_file_path(w->tensors, t->file);
}

/* ---- opening ---- */

static swd_status make_used(weights *w, swd_err *err)
{
    return swd_calloc(&w->used, (size_t)tensor_count(w), sizeof *w->used, "a set of weights", err);
}

swd_status weights_open_synthetic(weights **out, tensor_list *list, const char *name, swd_err *err)
{
    weights *w;
    swd_status s;
    *out = NULL;
    s = swd_calloc(&w, 1, sizeof *w, "a set of weights", err);
    if (s != SWD_OK) {
        free(list->at);
        return s;
    }
    SWD_TRY_GOTO(s, synthetic_create(&w->made_up, list, err), err, fail);
    SWD_TRY_GOTO(s, swd_strdup(&w->path, name, err), err, fail);
    SWD_TRY_GOTO(s, make_used(w, err), err, fail);
    *out = w;
    return SWD_OK;
fail:
    weights_close(&w);
    return s;
}

swd_status weights_open(weights **out, const char *path, const char *basename, swd_err *err)
{
    weights *w;
    swd_status s;
    *out = NULL;
    SWD_TRY(swd_calloc(&w, 1, sizeof *w, "a set of weights", err), err);
    SWD_TRY_GOTO(s, swd_strdup(&w->path, path, err), err, fail);
    SWD_TRY_GOTO(s, safetensors_open(&w->tensors, path, basename, err), err, fail);
    SWD_TRY_GOTO(s, make_used(w, err), err, fail);
    *out = w;
    return SWD_OK;
fail:
    weights_close(&w);
    return s;
}

void weights_close(weights **w)
{
    if (!*w) return;
    for (int i = 0; i < (*w)->n_aliases; i++) {
        free((*w)->aliases[i].alias);
        free((*w)->aliases[i].name);
    }
    safetensors_close(&(*w)->tensors);
    synthetic_destroy(&(*w)->made_up);
    free((*w)->path);
    free((*w)->used);
    free((*w)->buffer);
    free(*w);
    *w = NULL;
}

static void mark_used(weights *w, const st_tensor *t)
{
    w->used[t - tensor_at(w, 0)] = true;
}

// The tensor of a name or of its twin; both count as used if mark is set.
static const st_tensor *find(weights *w, const char *name, bool mark)
{
    const st_tensor *t = tensor_find(w, name);
    if (t && mark) mark_used(w, t);
    for (int i = 0; i < w->n_aliases; i++) {
        const char *twin = NULL;
        if (strcmp(name, w->aliases[i].alias) == 0) twin = w->aliases[i].name;
        if (strcmp(name, w->aliases[i].name) == 0) twin = w->aliases[i].alias;
        const st_tensor *other = twin ? tensor_find(w, twin) : NULL;
        if (other && mark) mark_used(w, other);
        if (!t) t = other;
    }
    return t;
}

const int64_t *weights_shape(const weights *w, const char *name, int *ndim)
{
    const st_tensor *t = find((weights *)(uintptr_t)w, name, false); // marks nothing
    *ndim = t ? t->ndim : 0;
    return t ? t->shape : NULL;
}

swd_status weights_alias(weights *w, const char *alias, const char *name, swd_err *err)
{
    if (w->n_aliases == ALIASES_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%s: more than %d tied names", w->path, ALIASES_MAX);
    char *a, *n;
    SWD_TRY(swd_strdup(&a, alias, err), err);
    swd_status s = swd_strdup(&n, name, err);
    if (s != SWD_OK) {
        free(a);
        return s;
    }
    w->aliases[w->n_aliases].alias = a;
    w->aliases[w->n_aliases++].name = n;
    return SWD_OK;
}

static const st_tensor *weight_of_module(weights *w, const char *module)
{
    char name[NAME_BYTES_MAX];
    int n = snprintf(name, sizeof name, "%s.weight", module);
    return n > 0 && n < NAME_BYTES_MAX ? tensor_find(w, name) : NULL;
}

// Rows and columns of a weight as a matrix: [N, K], or a convolution's [O, I kh kw].
static int64_t columns_of(const int64_t *shape, int ndim)
{
    int64_t k = 1;
    for (int i = 1; i < ndim; i++) k *= shape[i];
    return k;
}

// A's trailing dimensions are those of the weight, B's first is its first.
static bool fits(const lora_module *m, const st_tensor *t)
{
    bool ok = t->ndim >= 2 && m->a->ndim == t->ndim && m->b->shape[0] == t->shape[0];
    for (int i = 1; ok && i < t->ndim; i++) ok = m->a->shape[i] == t->shape[i];
    return ok;
}

swd_status weights_add_lora(weights *w, const lora *adapter, float scale, swd_err *err)
{
    name_list unmatched = {0};
    char sa[256], sb[256], st[256];
    if (w->made_up)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "%s: no adapters to made up weights", w->path);
    if (w->n_adapters == ADAPTERS_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "more than %d adapters", ADAPTERS_MAX);
    if (!(scale >= -1e6f && scale <= 1e6f))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%s: a scale of %g is not a number of use",
                        lora_path(adapter), (double)scale);
    for (int i = 0; i < lora_count(adapter); i++) {
        const lora_module *m = lora_at(adapter, i);
        if (!weight_of_module(w, m->name)) name_list_add(&unmatched, m->name);
    }
    if (unmatched.n > 0)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: %d of %d modules are not in %s: %s",
                        lora_path(adapter), unmatched.n, lora_count(adapter), w->path,
                        name_list_text(&unmatched));
    for (int i = 0; i < lora_count(adapter); i++) {
        const lora_module *m = lora_at(adapter, i);
        const st_tensor *t = weight_of_module(w, m->name);
        if (!fits(m, t))
            return SWD_FAIL(err, SWD_ERR_FILE,
                            "%s: module %s: A %s and B %s do not fit %s %s of %s",
                            lora_path(adapter), m->name,
                            st_describe_shape(m->a->shape, m->a->ndim, sa, sizeof sa),
                            st_describe_shape(m->b->shape, m->b->ndim, sb, sizeof sb), t->name,
                            st_describe_shape(t->shape, t->ndim, st, sizeof st), file_of(w, t));
    }
    w->adapters[w->n_adapters].adapter = adapter;
    w->adapters[w->n_adapters++].scale = scale;
    return SWD_OK;
}

static const lora_module *module_in(const lora *adapter, const st_tensor *t)
{
    char module[NAME_BYTES_MAX];
    size_t n = strlen(t->name), m = strlen(".weight");
    if (!str_ends(t->name, ".weight") || n - m >= sizeof module) return NULL;
    snprintf(module, sizeof module, "%.*s", (int)(n - m), t->name);
    return lora_find(adapter, module);
}

static bool is_adapted(const weights *w, const st_tensor *t)
{
    for (int i = 0; i < w->n_adapters; i++) {
        if (w->adapters[i].scale != 0 && module_in(w->adapters[i].adapter, t)) return true;
    }
    return false;
}

static swd_status merge_one(float *dst, const lora *adapter, const lora_module *m, float scale,
                            swd_err *err)
{
    float *a = NULL, *b = NULL;
    swd_status s;
    SWD_TRY_GOTO(s, swd_malloc(&a, (size_t)m->a->numel, sizeof *a, "an adapter's A", err), err,
                 done);
    SWD_TRY_GOTO(s, swd_malloc(&b, (size_t)m->b->numel, sizeof *b, "an adapter's B", err), err,
                 done);
    SWD_TRY_GOTO(s, lora_read_a(a, adapter, m, err), err, done);
    SWD_TRY_GOTO(s, lora_read_b(b, adapter, m, err), err, done);
    merge_low_rank(dst, a, b, (float)(scale * m->scale), m->b->shape[0],
                   columns_of(m->a->shape, m->a->ndim), m->rank);
done:
    free(a);
    free(b);
    return s;
}

static swd_status not_finite(const weights *w, const st_tensor *t, swd_err *err)
{
    return SWD_FAIL(err, SWD_ERR_FILE, "%s: tensor %s at byte %zu holds NaN or infinity",
                    file_of(w, t), t->name, t->offset);
}

// The float32 sum of weight and adapters, in dst or, if BF16 is wanted, in a block of its own first.
static swd_status read_adapted(weights *w, const st_tensor *t, void *dst, swd_dtype dtype,
                               swd_err *err)
{
    swd_status s = SWD_OK;
    float *sum = dst;
    if (dtype != SWD_F32)
        SWD_TRY(swd_malloc(&sum, (size_t)t->numel, sizeof *sum,
                           "the sum of a weight and its adapters", err),
                err);
    if (!convert_floats(sum, SWD_F32, t->data, t->dtype, t->numel)) s = not_finite(w, t, err);
    for (int i = 0; i < w->n_adapters && s == SWD_OK; i++) {
        const lora_module *m = module_in(w->adapters[i].adapter, t);
        if (m && w->adapters[i].scale != 0)
            s = merge_one(sum, w->adapters[i].adapter, m, w->adapters[i].scale, err);
    }
    if (s == SWD_OK && !floats_finite(sum, SWD_F32, t->numel))
        s = SWD_FAIL(err, SWD_ERR_FILE, "%s: tensor %s is not finite with its adapters",
                     file_of(w, t), t->name);
    if (sum != dst) {
        if (s == SWD_OK) convert_floats(dst, dtype, sum, SWD_F32, t->numel);
        free(sum);
    }
    return s;
}

// Finds the tensor, checks type and shape, marks it used.
static swd_status look_up(const st_tensor **out, weights *w, const char *name, const int64_t *shape,
                          int ndim, swd_dtype dtype, swd_err *err)
{
    const st_tensor *t = find(w, name, true);
    char have[256], want[256];
    if (dtype != SWD_F32 && dtype != SWD_BF16 && !(dtype == SWD_F16 && weights_is_f16(w, name)))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "weights are read as f32 or bf16, not %s",
                        dtype_name(dtype));
    if (!t) return SWD_FAIL(err, SWD_ERR_FILE, "%s: tensor %s is missing", w->path, name);
    if (t->dtype != SWD_F32 && t->dtype != SWD_F16 && t->dtype != SWD_BF16)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "%s: tensor %s is %s; F32, F16 or BF16 is needed",
                        file_of(w, t), t->name, t->dtype_text);
    bool same = t->ndim == ndim;
    for (int i = 0; same && i < ndim; i++) same = t->shape[i] == shape[i];
    if (!same)
        return SWD_FAIL(err, SWD_ERR_FILE, "%s: tensor %s has shape %s, but the config implies %s",
                        file_of(w, t), t->name,
                        st_describe_shape(t->shape, t->ndim, have, sizeof have),
                        st_describe_shape(shape, ndim, want, sizeof want));
    *out = t;
    return SWD_OK;
}

static swd_status copy_out(weights *w, const st_tensor *t, void *dst, swd_dtype dtype, swd_err *err)
{
    if (w->made_up)
        SWD_TRY(synthetic_read(w->made_up, t, dst, dtype, err), err);
    else if (is_adapted(w, t))
        SWD_TRY(read_adapted(w, t, dst, dtype, err), err);
    else if (dtype == SWD_F16 ? !floats_finite(t->data, dtype, t->numel)
                              : !convert_floats(dst, dtype, t->data, t->dtype, t->numel))
        return not_finite(w, t, err);
    if (dtype == SWD_F16) memcpy(dst, t->data, t->bytes);
    tensor_release(w, t);
    return SWD_OK;
}

swd_status weights_read(weights *w, const char *name, const int64_t *shape, int ndim, void *dst,
                        swd_dtype dtype, swd_err *err)
{
    const st_tensor *t;
    SWD_TRY(look_up(&t, w, name, shape, ndim, dtype, err), err);
    if (w->dry) return SWD_OK;
    read_ahead(w, t);
    return copy_out(w, t, dst, dtype, err);
}

swd_status weights_get(weights *w, swd_tensor *out, const char *name, const int64_t *shape,
                       int ndim, swd_dtype dtype, swd_err *err)
{
    const st_tensor *t;
    *out = tensor_none();
    if (w->lent) tensor_release(w, w->lent);
    w->lent = NULL;
    SWD_TRY(look_up(&t, w, name, shape, ndim, dtype, err), err);
    if (!w->dry) read_ahead(w, t);
    if (t->data && t->dtype == dtype && (uintptr_t)t->data % dtype_size(dtype) == 0 &&
        !is_adapted(w, t)) {
        if (!w->dry && !floats_finite(t->data, dtype, t->numel)) return not_finite(w, t, err);
        w->lent = t;
        *out = tensor_make((void *)t->data, dtype, shape, ndim);
        return SWD_OK;
    }
    size_t bytes = (size_t)t->numel * dtype_size(dtype);
    if (bytes > w->buffer_bytes) {
        free(w->buffer);
        w->buffer_bytes = 0;
        SWD_TRY(swd_malloc(&w->buffer, bytes, 1, name, err), err);
        w->buffer_bytes = bytes;
    }
    if (!w->dry) SWD_TRY(copy_out(w, t, w->buffer, dtype, err), err);
    *out = tensor_make(w->buffer, dtype, shape, ndim);
    return SWD_OK;
}

swd_status weights_expect(weights *w, const char *name, const int64_t *shape, int ndim,
                          swd_err *err)
{
    const st_tensor *t;
    return look_up(&t, w, name, shape, ndim, SWD_F32, err);
}

bool weights_set_dry(weights *w, bool dry)
{
    bool before = w->dry;
    w->dry = dry;
    return before;
}

swd_dtype weights_exact_dtype(const weights *w, const char *name)
{
    const st_tensor *t = find((weights *)(uintptr_t)w, name, false); // marks nothing
    return t && t->dtype == SWD_BF16 && !is_adapted(w, t) ? SWD_BF16 : SWD_F32;
}

bool weights_is_f16(const weights *w, const char *name)
{
    const st_tensor *t = find((weights *)(uintptr_t)w, name, false); // marks nothing
    return t && t->dtype == SWD_F16 && !is_adapted(w, t);
}

bool weights_mostly_bf16(const weights *w)
{
    int64_t n_bf16 = 0, n_other = 0;
    for (int i = 0; i < tensor_count(w); i++) {
        const st_tensor *t = tensor_at(w, i);
        if (t->dtype == SWD_BF16)
            n_bf16 += t->numel;
        else
            n_other += t->numel;
    }
    return n_bf16 > n_other;
}

int64_t weights_parameters(const weights *w)
{
    int64_t n = 0;
    for (int i = 0; i < tensor_count(w); i++) n += tensor_at(w, i)->numel;
    return n;
}

int64_t weights_file_bytes(const weights *w)
{
    return w->made_up ? 0 : (int64_t)safetensors_bytes(w->tensors);
}
int weights_file_count(const weights *w)
{
    return w->made_up ? 0 : safetensors_file_count(w->tensors);
}
const char *weights_path(const weights *w)
{
    return w->path;
}

swd_status weights_check_unused(const weights *w, const char *const *prefixes, swd_err *err)
{
    name_list unused = {0};
    for (int i = 0; i < tensor_count(w); i++) {
        const char *name = tensor_at(w, i)->name;
        bool allowed = w->used[i];
        for (const char *const *p = prefixes; p && *p && !allowed; p++)
            allowed = str_starts(name, *p);
        if (!allowed) name_list_add(&unused, name);
    }
    if (unused.n > 0)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: %d tensors that the config does not account for: %s", w->path,
                        unused.n, name_list_text(&unused));
    return SWD_OK;
}
