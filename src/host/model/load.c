// SPDX-License-Identifier: MIT
// One loader for every network.
#include "model/load.h"
#include "base/memory.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

/* ---- what a model holds ---- */

typedef struct holding {
    enum { HELD_LINEAR, HELD_CONV, HELD_TENSOR, HELD_HOST } kind;
    void *p;
    char *name
        [HELD_NAMES_MAX]; // owned, of a layer's parts, or a vector's; NULL: none that the files have as it lies here
    int64_t rows[HELD_NAMES_MAX];
} holding;

void holdings_release(holdings *h)
{
    for (size_t i = 0; i < h->n; i++) {
        void *p = h->list[i].p;
        for (int k = 0; k < HELD_NAMES_MAX; k++) free(h->list[i].name[k]);
        switch (h->list[i].kind) {
        case HELD_LINEAR:
            h->be->linear_destroy(h->be, &(swd_linear *){p});
            break;
        case HELD_CONV:
            h->be->conv_destroy(h->be, &(swd_conv *){p});
            break;
        case HELD_TENSOR:
            h->be->release(h->be, p);
            break;
        case HELD_HOST:
            free(p);
            break;
        }
    }
    free(h->list);
    *h = (holdings){0};
}

bool holdings_layer(const holdings *h, size_t i, held_layer *out)
{
    const holding *g = &h->list[i];
    if (g->kind != HELD_LINEAR || !g->name[0]) return false;
    *out = (held_layer){.w = g->p};
    for (; out->n < HELD_NAMES_MAX && g->name[out->n]; out->n++) {
        out->name[out->n] = g->name[out->n];
        out->rows[out->n] = g->rows[out->n];
    }
    return true;
}

bool holdings_vector(const holdings *h, size_t i, held_vector *out)
{
    const holding *g = &h->list[i];
    if (g->kind != HELD_TENSOR || !g->name[0]) return false;
    *out = (held_vector){.value = tensor1(g->p, SWD_F32, g->rows[0]), .name = g->name[0]};
    return true;
}

// Room for one more, made before the thing itself so that nothing can get lost.
static swd_status hold_room(loader *l)
{
    holdings *h = l->held;
    return swd_grow(&h->list, &h->capacity, h->n + 1, sizeof *h->list,
                    "the list of a model's parts", l->err);
}

static void hold(loader *l, int kind, void *p)
{
    l->held->list[l->held->n++] = (holding){.kind = kind, .p = p};
}

/* ---- names and errors ---- */

loader loader_begin(holdings *held, weights *w, swd_backend *be, swd_dtype compute, swd_err *err)
{
    assert(!held->n);
    held->be = be;
    return (loader){.w = w, .be = be, .compute = compute, .held = held, .err = err};
}

swd_status loader_end(loader *l, const char *const *may_stay)
{
    assert(l->status != SWD_OK || l->used == 0);
    if (l->status == SWD_OK) l->status = weights_check_unused(l->w, may_stay, l->err);
    if (l->status == SWD_OK) // uploads of one tensor ran beside the reading of the next
        l->status = l->be->synchronize(l->be, NULL, l->err);
    return l->status;
}

size_t load_enter(loader *l, const char *fmt, ...)
{
    size_t mark = l->used, room = sizeof l->prefix - mark;
    va_list list;
    va_start(list, fmt);
    int n = vsnprintf(l->prefix + mark, room, fmt, list);
    va_end(list);
    assert(n >= 0 && (size_t)n < room && "names are ours, only numbers come from files");
    l->used += (size_t)n;
    return mark;
}

void load_leave(loader *l, size_t mark)
{
    assert(mark <= l->used);
    l->used = mark;
    l->prefix[mark] = 0;
}

typedef struct full_name {
    char text[2 * LOAD_NAME_MAX];
} full_name;

static full_name full(const loader *l, const char *name, const char *suffix)
{
    full_name f;
    int n = snprintf(f.text, sizeof f.text, "%s%s%s", l->prefix, name, suffix);
    assert(n >= 0 && (size_t)n < sizeof f.text);
    return f;
}

// Memory and device do not know what they were asked for: the message says it for them.
static void settle(loader *l, swd_status s, const char *name)
{
    if (s == SWD_ERR_MEMORY || s == SWD_ERR_DEVICE) {
        char why[SWD_ERR_MESSAGE_MAX];
        snprintf(why, sizeof why, "%s", l->err ? l->err->message : "");
        SWD_FAIL(l->err, s, "%s: %s %s%s: %s", weights_path(l->w),
                 s == SWD_ERR_MEMORY ? "no memory for" : "loading", l->prefix, name, why);
    }
    l->status = s;
}

/* ---- the config against the tensors ---- */

void expect_dim(loader *l, const char *field, int64_t value, const char *tensor, int dim)
{
    full_name name = full(l, tensor, "");
    int ndim;
    const int64_t *shape = weights_shape(l->w, name.text, &ndim);
    if (l->status != SWD_OK || dim >= ndim || shape[dim] == value) return;
    l->status = SWD_FAIL(
        l->err, SWD_ERR_FILE,
        "%s/config.json: field \"%s\" makes dimension %d of tensor %s %lld, but it is %lld",
        weights_path(l->w), field, dim, name.text, (long long)value, (long long)shape[dim]);
}

void expect_there(loader *l, const char *field, bool there, const char *tensor)
{
    full_name name = full(l, tensor, "");
    int ndim;
    if (l->status != SWD_OK || (weights_shape(l->w, name.text, &ndim) != NULL) == there) return;
    l->status = SWD_FAIL(l->err, SWD_ERR_FILE, "%s/config.json: field \"%s\" %s tensor %s, %s",
                         weights_path(l->w), field, there ? "asks for" : "leaves out", name.text,
                         there ? "which is missing" : "which is there");
}

void expect_count(loader *l, const char *field, int count, const char *before, const char *after)
{
    for (int i = 0; i <= count; i++) {
        char name[LOAD_NAME_MAX];
        snprintf(name, sizeof name, "%s.%d.%s", before, i, after);
        expect_there(l, field, i < count, name);
    }
}

void *load_array(loader *l, size_t n, size_t size, const char *what)
{
    if (l->status != SWD_OK) return NULL;
    void *p = NULL;
    swd_status s = hold_room(l);
    if (s == SWD_OK) s = swd_calloc(&p, n, size, what, l->err);
    if (p) hold(l, HELD_HOST, p);

    settle(l, s, what);
    return p;
}

/* ---- packed layers ---- */

// A layer as the files have it: `count` weights of one shape (rows first), each with its bias.
typedef struct layer_source {
    int count;
    const char *const *names;
    int64_t shape[4];
    int ndim;
    const int64_t *heights; // of each weight, where they differ in shape[0]; else NULL
    int patch;              // not 0: rows are patches in (c, p, q) order and become (p, q, c)
    load_bias bias;
    int64_t rows, columns; // of a matrix that is made larger by zeros; 0: as in the file
} layer_source;

// The same in host memory, under each other. The weight of a single one is only lent.
typedef struct gathered {
    swd_tensor weight, bias;
    void *own_weight;
    float *own_bias;
} gathered;

// Packed BF16 loses nothing when the products round their inputs to BF16 anyway, or the files hold no more.
static swd_dtype storage(const loader *l, const layer_source *s, bool may_be_f16)
{
    bool f16 = may_be_f16 && l->be->packs_f16 && l->compute != SWD_F32;
    for (int i = 0; f16 && i < s->count; i++)
        f16 = weights_is_f16(l->w, full(l, s->names[i], ".weight").text);
    if (f16) return SWD_F16; // the backend rounds it
    if (l->compute == SWD_BF16) return SWD_BF16;
    for (int i = 0; i < s->count; i++)
        if (weights_exact_dtype(l->w, full(l, s->names[i], ".weight").text) == SWD_F32)
            return SWD_F32;
    return SWD_BF16;
}

static int64_t height(const layer_source *s, int i)
{
    return s->heights ? s->heights[i] : s->shape[0];
}

static int64_t height_before(const layer_source *s, int i)
{
    int64_t n = 0;
    while (i-- > 0) n += height(s, i);
    return n;
}

static swd_status gather_bias(gathered *g, loader *l, const layer_source *s)
{
    int64_t n = height_before(s, s->count);
    SWD_TRY(swd_malloc(&g->own_bias, (size_t)n, sizeof(float), "a bias", l->err), l->err);
    for (int i = 0; i < s->count; i++)
        SWD_TRY(weights_read(l->w, full(l, s->names[i], ".bias").text, (int64_t[]){height(s, i)}, 1,
                             g->own_bias + height_before(s, i), SWD_F32, l->err),
                l->err);
    g->bias = tensor1(g->own_bias, SWD_F32, n);
    return SWD_OK;
}

static swd_status gather_weight(gathered *g, loader *l, const layer_source *s, bool may_be_f16)
{
    swd_dtype dtype = storage(l, s, may_be_f16);
    if (s->count == 1)
        return weights_get(l->w, &g->weight, full(l, s->names[0], ".weight").text, s->shape,
                           s->ndim, dtype, l->err);
    int64_t n = height_before(s, s->count), k = s->shape[1];
    size_t row = (size_t)k * dtype_size(dtype);
    SWD_TRY(swd_malloc(&g->own_weight, row, (size_t)n, "a stack of weights", l->err), l->err);
    for (int i = 0; i < s->count; i++)
        SWD_TRY(weights_read(
                    l->w, full(l, s->names[i], ".weight").text, (int64_t[]){height(s, i), k}, 2,
                    (char *)g->own_weight + row * (size_t)height_before(s, i), dtype, l->err),
                l->err);
    g->weight = tensor2(g->own_weight, dtype, n, k);
    return SWD_OK;
}

// Nothing but that the tensors are there.
static void look_for(loader *l, const layer_source *s)
{
    for (int i = 0; i < s->count && l->status == SWD_OK; i++) {
        int64_t shape[4];
        memcpy(shape, s->shape, sizeof shape);
        shape[0] = height(s, i);
        l->status =
            weights_expect(l->w, full(l, s->names[i], ".weight").text, shape, s->ndim, l->err);
        if (l->status == SWD_OK && s->bias == WITH_BIAS)
            l->status = weights_expect(l->w, full(l, s->names[i], ".bias").text, shape, 1, l->err);
    }
}

static swd_status gather(gathered *g, loader *l, const layer_source *s, bool may_be_f16)
{
    *g = (gathered){0};
    SWD_TRY(hold_room(l), l->err);
    SWD_TRY(gather_weight(g, l, s, may_be_f16),
            l->err); // what it lends lives until the next weights_get
    return s->bias == WITH_BIAS ? gather_bias(g, l, s) : SWD_OK;
}

// Zeros below and to the right of a single matrix, and behind its bias.
static swd_status pad(gathered *g, const layer_source *s, swd_err *err)
{
    size_t size = dtype_size(g->weight.dtype), from = (size_t)s->shape[1] * size,
           to = (size_t)s->columns * size;
    char *wide;
    SWD_TRY(swd_calloc(&wide, (size_t)s->rows, to, "a padded weight", err), err);
    for (int64_t i = 0; i < s->shape[0]; i++)
        memcpy(wide + (size_t)i * to, (const char *)g->weight.data + (size_t)i * from, from);
    g->own_weight = wide; // the file's was only lent
    g->weight = tensor2(wide, g->weight.dtype, s->rows, s->columns);
    if (s->bias == WITHOUT_BIAS) return SWD_OK;
    float *bias;
    SWD_TRY(swd_calloc(&bias, (size_t)s->rows, sizeof *bias, "a padded bias", err), err);
    memcpy(bias, g->own_bias, (size_t)s->shape[0] * sizeof *bias);
    free(g->own_bias);
    g->own_bias = bias;
    g->bias = tensor1(bias, SWD_F32, s->rows);
    return SWD_OK;
}

// The rows of a single matrix, and its bias, in their new order.
static swd_status rearrange(gathered *g, const layer_source *s, swd_err *err)
{
    int64_t n = s->shape[0], area = (int64_t)s->patch * s->patch, channels = n / area;
    size_t row = (size_t)s->shape[1] * dtype_size(g->weight.dtype);
    char *moved;
    float *bias;
    SWD_TRY(swd_malloc(&moved, row, (size_t)n, "a rearranged weight", err), err);
    for (int64_t i = 0; i < n; i++)
        memcpy(moved + row * (size_t)(i % area * channels + i / area),
               (const char *)g->weight.data + row * (size_t)i, row);
    g->own_weight = moved; // the file's was only lent
    g->weight.data = moved;
    SWD_TRY(swd_malloc(&bias, (size_t)n, sizeof *bias, "a rearranged bias", err), err);
    for (int64_t i = 0; i < n; i++) bias[i % area * channels + i / area] = g->own_bias[i];
    free(g->own_bias);
    g->own_bias = bias;
    g->bias.data = bias;
    return SWD_OK;
}

static void scatter(gathered *g)
{
    free(g->own_weight);
    free(g->own_bias);
}

// What was held last, under the names that its rows have in the files.
static swd_status name_parts(loader *l, int count, const char *const *names, const int64_t *rows)
{
    holding *h = &l->held->list[l->held->n - 1];
    for (int i = 0; i < count && count <= HELD_NAMES_MAX; i++) {
        h->rows[i] = rows[i];
        SWD_TRY(swd_strdup(&h->name[i], full(l, names[i], "").text, l->err), l->err);
    }
    return SWD_OK;
}

static swd_status name_layer(loader *l, const layer_source *s)
{
    const int64_t same[HELD_NAMES_MAX] = {s->shape[0], s->shape[0], s->shape[0]};
    if (s->rows || s->patch) return SWD_OK;
    return name_parts(l, s->count, s->names, s->heights ? s->heights : same);
}

static void pack_linear(loader *l, swd_linear **out, const layer_source *source)
{
    if (l->status != SWD_OK) return;
    if (l->names_only) {
        look_for(l, source);
        return;
    }
    gathered g;
    swd_status s = gather(&g, l, source, true);
    if (s == SWD_OK && source->rows) s = pad(&g, source, l->err);
    if (s == SWD_OK && source->patch) s = rearrange(&g, source, l->err);
    if (s == SWD_OK) {
        int64_t rows = g.weight.shape[0];
        g.weight = tensor_reshape(g.weight, (int64_t[]){rows, tensor_numel(g.weight) / rows}, 2);
        s = l->be->linear_create(l->be, out, g.weight, g.bias, l->compute, l->err);
    }
    if (s == SWD_OK) hold(l, HELD_LINEAR, *out);
    if (s == SWD_OK) s = name_layer(l, source);
    settle(l, s, source->names[0]);
    scatter(&g);
}

void load_linear(loader *l, swd_linear **out, int64_t n, int64_t k, load_bias bias,
                 const char *name)
{
    pack_linear(
        l, out,
        &(layer_source){.count = 1, .names = &name, .shape = {n, k}, .ndim = 2, .bias = bias});
}

void load_linear_padded(loader *l, swd_linear **out, int64_t n, int64_t k, int64_t rows,
                        int64_t columns, load_bias bias, const char *name)
{
    bool same = rows == n && columns == k;
    pack_linear(l, out,
                &(layer_source){.count = 1,
                                .names = &name,
                                .shape = {n, k},
                                .ndim = 2,
                                .bias = bias,
                                .rows = same ? 0 : rows,
                                .columns = columns});
}

void load_stacked(loader *l, swd_linear **out, int count, const char *const *names, int64_t n,
                  int64_t k, load_bias bias)
{
    pack_linear(
        l, out,
        &(layer_source){.count = count, .names = names, .shape = {n, k}, .ndim = 2, .bias = bias});
}

void load_stacked_of(loader *l, swd_linear **out, int count, const char *const *names,
                     const int64_t *n, int64_t k, load_bias bias)
{
    pack_linear(l, out,
                &(layer_source){.count = count,
                                .names = names,
                                .shape = {n[0], k},
                                .ndim = 2,
                                .heights = n,
                                .bias = bias});
}

void load_unpatch_linear(loader *l, swd_linear **out, int64_t c, int patch, int64_t k,
                         const char *name)
{
    pack_linear(l, out,
                &(layer_source){.count = 1,
                                .names = &name,
                                .shape = {c * patch * patch, k},
                                .ndim = 2,
                                .patch = patch,
                                .bias = WITH_BIAS});
}

void load_patch_linear(loader *l, swd_linear **out, int64_t n, int64_t c, int patch, load_bias bias,
                       const char *name)
{
    pack_linear(
        l, out,
        &(layer_source){
            .count = 1, .names = &name, .shape = {n, c, patch, patch}, .ndim = 4, .bias = bias});
}

void load_conv(loader *l, swd_conv **out, conv_shape c, const char *name)
{
    if (l->status != SWD_OK) return;
    layer_source source = {.count = 1,
                           .names = &name,
                           .shape = {c.out, c.in, c.kernel, c.kernel_w ? c.kernel_w : c.kernel},
                           .ndim = 4,
                           .bias = c.bias};
    gathered g;
    swd_status s = gather(&g, l, &source, false);
    if (s == SWD_OK) {
        s = l->be->conv_create(l->be, out, g.weight, g.bias, c.stride, c.pad_before, c.pad_after,
                               c.upsample2x, l->compute, l->err);
    }
    if (s == SWD_OK) hold(l, HELD_CONV, *out);

    settle(l, s, name);
    scatter(&g);
}

/* ---- plain tensors ---- */

static swd_status upload_host(loader *l, swd_tensor *out, swd_tensor host)
{
    SWD_TRY(hold_room(l), l->err);
    void *p = l->be->alloc(l->be, tensor_bytes(host));
    if (!p) return SWD_FAIL(l->err, SWD_ERR_MEMORY, "out of memory: %zu bytes", tensor_bytes(host));
    hold(l, HELD_TENSOR, p);
    *out = tensor_make(p, host.dtype, host.shape, host.ndim);
    return l->be->upload(l->be, *out, host.data, NULL, l->err);
}

static swd_status upload(loader *l, swd_tensor *out, const int64_t *shape, int ndim,
                         swd_dtype dtype, const char *name)
{
    swd_tensor host;
    if (l->names_only) return weights_expect(l->w, name, shape, ndim, l->err);
    SWD_TRY(weights_get(l->w, &host, name, shape, ndim, dtype, l->err), l->err);
    return upload_host(l, out, host);
}

void load_values(loader *l, swd_tensor *out, const float *values, int64_t rows, int64_t columns,
                 const char *what)
{
    if (l->status != SWD_OK) return;
    swd_tensor host = tensor2((void *)(uintptr_t)values, SWD_F32, rows, columns);
    settle(l, upload_host(l, out, host), what);
}

void load_matrix(loader *l, swd_tensor *out, const int64_t *shape, int ndim, const char *name)
{
    if (l->status != SWD_OK) return;
    settle(l, upload(l, out, shape, ndim, SWD_F32, full(l, name, "").text), name);
}

void load_vector(loader *l, swd_tensor *out, int64_t n, const char *name)
{
    load_matrix(l, out, &n, 1, name);
    if (l->status == SWD_OK && !l->names_only) settle(l, name_parts(l, 1, &name, &n), name);
}

void load_table(loader *l, swd_tensor *out, int64_t rows, int64_t d, const char *name)
{
    if (l->status != SWD_OK) return;
    full_name f = full(l, name, "");
    swd_dtype dtype = weights_exact_dtype(l->w, f.text);
    settle(l, upload(l, out, (int64_t[]){rows, d}, 2, dtype, f.text), name);
}

void load_norm(loader *l, norm *out, int64_t n, const char *name)
{
    size_t here = load_enter(l, "%s.", name);
    load_vector(l, &out->weight, n, "weight");
    load_vector(l, &out->bias, n, "bias");
    load_leave(l, here);
}
