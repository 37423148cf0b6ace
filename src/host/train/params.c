// SPDX-License-Identifier: MIT
// Buffers of learnt numbers and the layers made of them.
#include "train/params.h"
#include "backend/ops.h"
#include "base/memory.h"
#include "base/rng.h"
#include "train/params_parts.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { ALIGN = 16, DEFAULT_RANK = 64 }; // floats

static const char *const swd_targets[] = {"to_q",     "to_k",       "to_v",
                                          "to_out.0", "net.0.proj", "net.2"};

lora_config lora_config_default(void)
{
    return (lora_config){.rank = DEFAULT_RANK,
                         .alpha = DEFAULT_RANK,
                         .targets = swd_targets,
                         .n_targets = sizeof swd_targets / sizeof *swd_targets};
}

static bool matches(const char *module, const char *target)
{
    size_t n = strlen(module), m = strlen(target);
    return n >= m && strcmp(module + n - m, target) == 0 && (n == m || module[n - m - 1] == '.');
}

bool lora_config_matches(const lora_config *c, const char *module)
{
    for (int i = 0; i < c->n_targets; i++)
        if (matches(module, c->targets[i])) return true;
    return false;
}

/* ---- buffers ---- */

swd_status params_create(params **out, swd_backend *be, swd_err *err)
{
    SWD_TRY(swd_calloc(out, 1, sizeof **out, "a set of parameters", err), err);
    (*out)->be = be;
    return SWD_OK;
}

void params_destroy(params **pp)
{
    params *p = *pp;
    if (!p) return;
    void *memory[] = {p->value.data, p->grad.data, p->compute != SWD_F32 ? p->rounded.data : NULL};
    for (int i = 0; i < 3; i++)
        if (memory[i]) p->be->release(p->be, memory[i]);
    for (int i = 0; i < p->n; i++) free(p->at[i].name);
    free(p->at), free(p->offset), free(p->vector), free(p->layers);
    free(p);
    *pp = NULL;
}

// follows: without a gap behind the one before, as parts of a layer that are multiplied at once.
static swd_status add_tensor(int *index, params *p, const char *name, const int64_t *shape,
                             int ndim, bool follows, swd_err *err)
{
    assert(!p->value.data && "tensors come before the layout");
    size_t n = (size_t)p->n;
    SWD_TRY(swd_grow(&p->at, &p->room, n + 1, sizeof *p->at, "a list of parameters", err), err);
    SWD_TRY(swd_grow(&p->offset, &p->offset_room, n + 1, sizeof *p->offset, "a list of parameters",
                     err),
            err);
    param *t = &p->at[n];
    *t = (param){.ndim = ndim};
    SWD_TRY(swd_strdup(&t->name, name, err), err);
    int64_t numel = 1;
    for (int i = 0; i < ndim; i++) numel *= t->shape[i] = shape[i];
    if (!follows) p->total = (p->total + ALIGN - 1) / ALIGN * ALIGN;
    p->offset[n] = p->total;
    p->total += numel;
    p->numbers += numel;
    *index = p->n++;
    return SWD_OK;
}

swd_status params_add(int *index, params *p, const char *name, const int64_t *shape, int ndim,
                      swd_err *err)
{
    return add_tensor(index, p, name, shape, ndim, false, err);
}

static swd_status zeros(swd_tensor *out, params *p, swd_dtype dtype, swd_err *err)
{
    swd_tensor t = tensor1(NULL, dtype, p->total);
    t.data = p->be->alloc(p->be, tensor_bytes(t));
    if (!t.data)
        return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for %lld parameters", (long long)p->total);
    *out = t;
    swd_exec ex = {.backend = p->be, .err = err};
    return op_fill(t, 0, &ex);
}

swd_status params_layout(params *p, swd_dtype compute, swd_err *err)
{
    if (p->total == 0) return SWD_FAIL(err, SWD_ERR_ARGUMENT, "there is nothing to train");
    p->compute = compute;
    SWD_TRY(zeros(&p->value, p, SWD_F32, err), err);
    SWD_TRY(zeros(&p->grad, p, SWD_F32, err), err);
    p->rounded = p->value;
    if (compute != SWD_F32) SWD_TRY(zeros(&p->rounded, p, compute, err), err);
    for (int i = 0; i < p->n; i++) {
        param *t = &p->at[i];
        t->value = tensor_make((float *)p->value.data + p->offset[i], SWD_F32, t->shape, t->ndim);
        t->grad = tensor_make((float *)p->grad.data + p->offset[i], SWD_F32, t->shape, t->ndim);
    }
    return SWD_OK;
}

swd_tensor params_rounded(const params *p, int i, int64_t rows, int64_t columns)
{
    char *at = (char *)p->rounded.data + (size_t)p->offset[i] * dtype_size(p->compute);
    return tensor2(at, p->compute, rows, columns);
}

swd_tensor params_grad(const params *p, int i, int64_t rows, int64_t columns)
{
    return tensor2((float *)p->grad.data + p->offset[i], SWD_F32, rows, columns);
}

static trained_layer *next_layer(params *p, swd_err *err)
{
    size_t n = (size_t)p->set.n_layers;
    if (swd_grow(&p->layers, &p->layer_room, n + 1, sizeof *p->layers, "a list of layers", err) !=
        SWD_OK)
        return NULL;
    p->set.layer = p->layers;
    p->set.n_layers++;
    return memset(&p->layers[n], 0, sizeof *p->layers);
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const trained_layer *)a)->w,
              y = (uintptr_t)((const trained_layer *)b)->w;
    return (x > y) - (x < y);
}

static void sort_layers(params *p)
{
    qsort(p->layers, (size_t)p->set.n_layers, sizeof *p->layers, by_address);
}

swd_status params_bind(params *p, const swd_linear *w, int weight, int bias, swd_err *err)
{
    const struct swd_linear_facts *f = linear_facts(w);
    trained_layer *l = next_layer(p, err);
    if (!l) return SWD_ERR_MEMORY;
    *l = (trained_layer){.w = w, .full = true};
    l->weight = params_rounded(p, weight, f->n, f->k);
    l->dweight = params_grad(p, weight, f->n, f->k);
    if (bias >= 0) {
        l->bias = tensor1(p->at[bias].value.data, SWD_F32, f->n);
        l->dbias = tensor1(p->at[bias].grad.data, SWD_F32, f->n);
    }
    sort_layers(p);
    return SWD_OK;
}

static swd_status add_vector(params *p, int i, swd_tensor model, swd_err *err)
{
    size_t n = (size_t)p->set.n_vectors;
    SWD_TRY(
        swd_grow(&p->vector, &p->vector_room, n + 1, sizeof *p->vector, "a list of vectors", err),
        err);
    p->vector[n] = (trained_vector){tensor_present(model) ? model : p->at[i].value, p->at[i].grad};
    p->set.vector = p->vector;
    p->set.n_vectors++;
    return SWD_OK;
}

swd_status params_bind_vector(params *p, int vector, swd_err *err)
{
    return add_vector(p, vector, tensor_none(), err);
}

/* ---- access ---- */

swd_backend *params_backend(const params *p)
{
    return p->be;
}

const layer_set *params_layers(const params *p)
{
    return &p->set;
}

int params_count(const params *p)
{
    return p->n;
}

const param *params_at(const params *p, int i)
{
    return &p->at[i];
}

int64_t params_numbers(const params *p)
{
    return p->numbers;
}

swd_tensor params_values(const params *p)
{
    return p->value;
}

swd_tensor params_gradients(const params *p)
{
    return p->grad;
}

swd_status params_set(params *p, int i, const float *from, swd_err *err)
{
    return p->be->upload(p->be, p->at[i].value, from, NULL, err);
}

swd_status params_publish(params *p, swd_err *err)
{
    swd_exec ex = {.backend = p->be, .err = err};
    if (p->compute != SWD_F32) SWD_TRY(op_copy(p->rounded, p->value, &ex), err);
    for (int i = 0; i < p->set.n_vectors; i++) {
        const trained_vector *v = &p->vector[i];
        int64_t at = (const float *)v->grad.data - (const float *)p->grad.data;
        swd_tensor master =
            tensor_make((float *)p->value.data + at, SWD_F32, v->value.shape, v->value.ndim);
        if (master.data != v->value.data) SWD_TRY(op_copy(v->value, master, &ex), err);
    }
    return SWD_OK;
}

swd_status params_zero_gradients(params *p, swd_err *err)
{
    swd_exec ex = {.backend = p->be, .err = err};
    return op_fill(p->grad, 0, &ex);
}

/* ---- of a model ---- */

static swd_status draw(params *p, int i, double deviation, uint64_t seed, swd_err *err)
{
    int64_t n = tensor_numel(p->at[i].value);
    float *x;
    SWD_TRY(swd_malloc(&x, (size_t)n, sizeof *x, "parameters", err), err);
    philox_randn(x, n, 0, seed, (uint32_t)i);
    for (int64_t k = 0; k < n; k++) x[k] *= (float)deviation;
    swd_status s = params_set(p, i, x, err);
    if (s == SWD_OK) s = p->be->synchronize(p->be, NULL, err);
    free(x);
    return s;
}

static swd_status add_named(int *index, params *p, const char *module, const char *suffix,
                            const int64_t *shape, int ndim, bool follows, swd_err *err)
{
    char *name;
    SWD_TRY(swd_asprintf(&name, err, "%s%s", module, suffix), err);
    swd_status s = add_tensor(index, p, name, shape, ndim, follows, err);
    free(name);
    return s;
}

// The parts of a layer that the adapter is beside: A of each, so that they lie under each other, then B of each.
static swd_status add_adapter(params *p, const held_layer *h, const lora_config *c, swd_err *err)
{
    int64_t k = linear_facts(h->w)->k, r = c->rank;
    int index, first_a = -1;
    trained_layer *l = NULL;
    for (int part = 0; part < h->n; part++) {
        if (!lora_config_matches(c, h->name[part])) continue;
        if (!l && !(l = next_layer(p, err))) return SWD_ERR_MEMORY;
        SWD_TRY(add_named(&index, p, h->name[part], ".lora_A.weight", (int64_t[]){r, k}, 2,
                          l->n_parts > 0, err),
                err);
        if (first_a < 0) first_a = index;
        l->n_parts++;
    }
    if (!l) return SWD_OK;
    l->w = h->w;
    l->rank = r;
    l->scale = (float)(c->alpha / c->rank);
    l->a.ndim = first_a; // the numbers of tensors, until the buffers are there
    int64_t row = 0;
    int n = 0;
    for (int part = 0; part < h->n; row += h->rows[part++]) {
        if (!lora_config_matches(c, h->name[part])) continue;
        SWD_TRY(add_named(&index, p, h->name[part], ".lora_B.weight", (int64_t[]){h->rows[part], r},
                          2, false, err),
                err);
        l->part[n].first = row;
        l->part[n].rows = h->rows[part];
        l->part[n++].b.ndim = index;
    }
    return SWD_OK;
}

static swd_status check_targets(const params *p, const lora_config *c, swd_err *err)
{
    for (int i = 0; i < c->n_targets; i++) {
        bool used = false;
        for (int k = 0; k < p->n && !used; k++) {
            char module[LOAD_NAME_MAX];
            const char *end = strstr(p->at[k].name, ".lora_");
            snprintf(module, sizeof module, "%.*s", (int)(end - p->at[k].name), p->at[k].name);
            used = matches(module, c->targets[i]);
        }
        if (!used)
            return SWD_FAIL(err, SWD_ERR_ARGUMENT, "no module of the model is called \"%s\"",
                            c->targets[i]);
    }
    return SWD_OK;
}

static swd_status make_lora(params *p, const holdings *model, const lora_config *c, uint64_t seed,
                            swd_err *err)
{
    swd_dtype compute = SWD_F32;
    if (c->rank < 1 || c->n_targets < 1)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "an adapter of rank %d beside %d kinds of layers",
                        c->rank, c->n_targets);
    for (size_t i = 0; i < model->n; i++) {
        held_layer h;
        if (!holdings_layer(model, i, &h)) continue;
        SWD_TRY(add_adapter(p, &h, c, err), err);
        compute = linear_facts(h.w)->compute;
    }
    SWD_TRY(check_targets(p, c, err), err);
    SWD_TRY(params_layout(p, compute, err), err);
    for (int i = 0; i < p->set.n_layers; i++) {
        trained_layer *l = &p->layers[i];
        int64_t rows = l->rank * l->n_parts, k = linear_facts(l->w)->k;
        int a = l->a.ndim;
        l->a = params_rounded(p, a, rows, k);
        l->da = params_grad(p, a, rows, k);
        for (int n = 0; n < l->n_parts; n++) {
            int b = l->part[n].b.ndim;
            SWD_TRY(draw(p, a + n, 1.0 / c->rank, seed, err), err);
            l->part[n].b = params_rounded(p, b, l->part[n].rows, l->rank);
            l->part[n].db = params_grad(p, b, l->part[n].rows, l->rank);
        }
    }
    sort_layers(p);
    return params_publish(p, err);
}

swd_status params_lora(params **out, swd_backend *be, const holdings *model, const lora_config *c,
                       uint64_t seed, swd_err *err)
{
    SWD_TRY(params_create(out, be, err), err);
    swd_status s = make_lora(*out, model, c, seed, err);
    if (s != SWD_OK) params_destroy(out);
    return s;
}

static swd_status read_full(params *p, int i, weights *w, swd_err *err)
{
    const char *name = p->at[i].name;
    int ndim = 0;
    float *x;
    const int64_t *shape = weights_shape(w, name, &ndim); // a convolution's has four dimensions
    if (!shape) return SWD_FAIL(err, SWD_ERR_FILE, "%s: no tensor %s", weights_path(w), name);
    SWD_TRY(swd_malloc(&x, (size_t)tensor_numel(p->at[i].value), sizeof *x, "parameters", err),
            err);
    swd_status s = weights_read(w, name, shape, ndim, x, SWD_F32, err);
    if (s == SWD_OK) s = params_set(p, i, x, err);
    if (s == SWD_OK) s = p->be->synchronize(p->be, NULL, err);
    free(x);
    return s;
}

static swd_status make_full(params *p, const holdings *model, weights *w, swd_err *err)
{
    swd_dtype compute = SWD_F32;
    held_layer h;
    held_vector v;
    int index;
    for (size_t i = 0; i < model->n; i++) { // first every tensor, in the order of the holdings ...
        if (holdings_vector(model, i, &v))
            SWD_TRY(params_add(&index, p, v.name, v.value.shape, 1, err), err);
        if (!holdings_layer(model, i, &h)) continue;
        const struct swd_linear_facts *f = linear_facts(h.w);
        compute = f->compute;
        for (int k = 0; k < h.n; k++)
            SWD_TRY(add_named(&index, p, h.name[k], ".weight", (int64_t[]){h.rows[k], f->k}, 2,
                              k > 0, err),
                    err);
        for (int k = 0; k < h.n && f->has_bias; k++)
            SWD_TRY(add_named(&index, p, h.name[k], ".bias", &h.rows[k], 1, k > 0, err), err);
    }
    SWD_TRY(params_layout(p, compute, err), err);
    index = 0;
    for (size_t i = 0; i < model->n; i++) { // ... then their places and values
        if (holdings_vector(model, i, &v)) SWD_TRY(add_vector(p, index++, v.value, err), err);
        if (!holdings_layer(model, i, &h)) continue;
        bool bias = linear_facts(h.w)->has_bias;
        SWD_TRY(params_bind(p, h.w, index, bias ? index + h.n : -1, err), err);
        index += bias ? 2 * h.n : h.n;
    }
    for (int i = 0; i < p->n; i++) SWD_TRY(read_full(p, i, w, err), err);
    return params_publish(p, err);
}

swd_status params_full(params **out, swd_backend *be, const holdings *model, weights *w,
                       swd_err *err)
{
    SWD_TRY(params_create(out, be, err), err);
    swd_status s = make_full(*out, model, w, err);
    if (s != SWD_OK) params_destroy(out);
    return s;
}
