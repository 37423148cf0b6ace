// SPDX-License-Identifier: MIT
// oneDNN behind a seam: the descriptors of versions 2 and 3 differ, nothing else in the project knows.
#include "backend/cpu/dnn.h"
#include "backend/cpu/dnn_versions.h"
#include <stdlib.h>
#include <string.h>

typedef struct dnn_key {
    dnn_conv_shape shape; // a product: batch = m, w = x_stride, wo = y_stride
    swd_dtype y_dtype;
    swd_act act;
    bool bias, add;
} dnn_key;

// A weight in one order of its elements. Most shapes are served by the first; where oneDNN has only its reference loops for that
// order and a shape (AMX convolutions of some widths), the shape gets a copy in the order that its fast ones ask for.
typedef struct dnn_layout {
    dnnl_memory_desc_t md;
    void *data; // NULL: given to every product
    size_t bytes;
    struct dnn_layout *next;
} dnn_layout;

typedef struct dnn_plan {
    dnn_key key;
    const dnn_layout *layout;
    dnnl_primitive_t primitive;
    dnnl_memory_t x, w, bias, y;
    struct dnn_plan *next;
} dnn_plan;

struct dnn_weight {
    dnn_engine *e;
    bool conv;
    swd_dtype compute;
    dnn_conv_shape shape; // a product: out = n, in = k
    dnn_layout *layouts;
    dnn_plan *plans;
};

static dnnl_status_t md_any(dnnl_memory_desc_t *md, int n, const int64_t *dims, swd_dtype t)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_tag(md, n, dims, type_of(t), dnnl_format_tag_any);
#else
    return dnnl_memory_desc_init_by_tag(md, n, dims, type_of(t), dnnl_format_tag_any);
#endif
}

static dnnl_status_t md_copy(dnnl_memory_desc_t *to, md_ref from)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_clone(to, from);
#else
    *to = *from;
    return dnnl_success;
#endif
}

swd_status dnn_engine_create(dnn_engine **out, swd_err *err)
{
    *out = NULL;
    dnn_engine *e = calloc(1, sizeof *e);
    if (!e) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for the engine of the products");
    if (dnnl_engine_create(&e->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&e->stream, e->engine, dnnl_stream_default_flags) != dnnl_success) {
        dnn_engine_destroy(&e);
        return SWD_FAIL(err, SWD_ERR_DEVICE, "oneDNN has no engine for this processor");
    }
    *out = e;
    return SWD_OK;
}

void dnn_engine_destroy(dnn_engine **e)
{
    if (!*e) return;
    dnn_gemm_forget(*e);
    if ((*e)->stream) dnnl_stream_destroy((*e)->stream);
    if ((*e)->engine) dnnl_engine_destroy((*e)->engine);
    free(*e);
    *e = NULL;
}

dnn_isa_level dnn_isa(void)
{
#if defined(__x86_64__)
    static const struct {
        unsigned isa;
        dnn_isa_level level;
    } levels[] = {{dnnl_cpu_isa_avx512_core_amx, DNN_ISA_AMX_BF16},
                  {dnnl_cpu_isa_avx512_core_bf16, DNN_ISA_AVX512_BF16},
                  {dnnl_cpu_isa_avx512_core, DNN_ISA_AVX512},
                  {dnnl_cpu_isa_avx2, DNN_ISA_AVX2}};
    unsigned has =
        (unsigned)dnnl_get_effective_cpu_isa(); // each value has the bits of what it includes
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if ((has & levels[i].isa) == levels[i].isa) return levels[i].level;
#endif
    return DNN_ISA_ANY;
}

static dnnl_status_t attributes(dnnl_primitive_attr_t *attr, swd_act act, bool add)
{
    static const struct {
        dnnl_alg_kind_t kind;
        float alpha;
    } table[] = {
        [SWD_ACT_SILU] = {dnnl_eltwise_swish, 1.0f},
        [SWD_ACT_GELU_TANH] = {dnnl_eltwise_gelu_tanh, 0},
        [SWD_ACT_GELU_ERF] = {dnnl_eltwise_gelu_erf, 0},
        [SWD_ACT_QUICK_GELU] = {dnnl_eltwise_swish, 1.702f},
        [SWD_ACT_RELU] = {dnnl_eltwise_relu, 0},
        [SWD_ACT_TANH] = {dnnl_eltwise_tanh, 0},
    };
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(attr);
    if (s != dnnl_success || (act == SWD_ACT_NONE && !add)) return s;
    if ((s = dnnl_post_ops_create(&ops)) != dnnl_success) return s;
#if DNNL_VERSION_MAJOR >= 3
    if (add) s = dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
    if (s == dnnl_success && act != SWD_ACT_NONE)
        s = dnnl_post_ops_append_eltwise(ops, table[act].kind, table[act].alpha, 0);
#else
    if (add) s = dnnl_post_ops_append_sum(ops, 1.0f);
    if (s == dnnl_success && act != SWD_ACT_NONE)
        s = dnnl_post_ops_append_eltwise(ops, 1.0f, table[act].kind, table[act].alpha, 0);
#endif
    if (s == dnnl_success) s = dnnl_primitive_attr_set_post_ops(*attr, ops);
    dnnl_post_ops_destroy(ops);
    return s;
}

typedef struct dnn_mds {
    dnnl_memory_desc_t x, w, bias, y;
} dnn_mds;

static void mds_free(dnn_mds *m)
{
    md_free(&m->x);
    md_free(&m->w);
    md_free(&m->bias);
    md_free(&m->y);
}

// layout NULL: whichever order oneDNN likes best
static dnnl_status_t make_mds(dnn_mds *m, const dnn_weight *w, const dnn_key *key,
                              const dnn_layout *layout)
{
    const dnn_conv_shape *s = &key->shape;
    dnnl_status_t st;
    dnnl_dims_t one = {1};
    memset(m, 0, sizeof *m);
    if (w->conv) {
        dnnl_dims_t xd = {s->batch, s->in, s->h, s->w},
                    xs = {s->h * s->w * s->in, 1, s->w * s->in, s->in};
        dnnl_dims_t yd = {s->batch, s->out, s->ho, s->wo},
                    ys = {s->ho * s->wo * s->out, 1, s->wo * s->out, s->out};
        dnnl_dims_t wd = {s->out, s->in, s->kh, s->kw}, bd = {s->out};
        if ((st = md_strided(&m->x, 4, xd, xs, w->compute)) != dnnl_success) return st;
        if ((st = md_strided(&m->y, 4, yd, ys, key->y_dtype)) != dnnl_success) return st;
        st = layout ? md_copy(&m->w, MD(layout->md)) : md_any(&m->w, 4, wd, w->compute);
        if (st != dnnl_success) return st;
        return key->bias ? md_strided(&m->bias, 1, bd, one, SWD_F32) : dnnl_success;
    }
    dnnl_dims_t xd = {s->batch, s->in}, xs = {s->w, 1}, yd = {s->batch, s->out}, ys = {s->wo, 1};
    dnnl_dims_t wd = {s->in, s->out}, bd = {1, s->out}, bs = {s->out, 1};
    if ((st = md_strided(&m->x, 2, xd, xs, w->compute)) != dnnl_success) return st;
    if ((st = md_strided(&m->y, 2, yd, ys, key->y_dtype)) != dnnl_success) return st;
    st = layout ? md_copy(&m->w, MD(layout->md)) : md_any(&m->w, 2, wd, w->compute);
    if (st != dnnl_success) return st;
    return key->bias ? md_strided(&m->bias, 2, bd, bs, SWD_F32) : dnnl_success;
}

static dnnl_status_t make_pd(dnnl_primitive_desc_t *pd, const dnn_weight *w, const dnn_key *key,
                             const dnn_mds *m, dnnl_primitive_attr_t attr)
{
    const dnn_conv_shape *s = &key->shape;
    md_ref bias = key->bias ? MD(m->bias) : NULL;
    dnnl_dims_t strides = {s->stride, s->stride}, dilates = {0, 0};
    dnnl_dims_t before = {s->pad_top, s->pad_left}, after = {s->pad_bottom, s->pad_right};
#if DNNL_VERSION_MAJOR >= 3
    if (w->conv)
        return dnnl_convolution_forward_primitive_desc_create(
            pd, w->e->engine, dnnl_forward_inference, dnnl_convolution_direct, MD(m->x), MD(m->w),
            bias, MD(m->y), strides, dilates, before, after, attr);
    return dnnl_matmul_primitive_desc_create(pd, w->e->engine, MD(m->x), MD(m->w), bias, MD(m->y),
                                             attr);
#else
    dnnl_status_t st;
    if (w->conv) {
        dnnl_convolution_desc_t d;
        st = dnnl_dilated_convolution_forward_desc_init(
            &d, dnnl_forward_inference, dnnl_convolution_direct, MD(m->x), MD(m->w), bias, MD(m->y),
            strides, dilates, before, after);
        return st != dnnl_success ? st
                                  : dnnl_primitive_desc_create(pd, &d, attr, w->e->engine, NULL);
    }
    dnnl_matmul_desc_t d;
    st = dnnl_matmul_desc_init(&d, MD(m->x), MD(m->w), bias, MD(m->y));
    return st != dnnl_success ? st : dnnl_primitive_desc_create(pd, &d, attr, w->e->engine, NULL);
#endif
}

static swd_status make_pd_for(dnnl_primitive_desc_t *pd, dnn_mds *m, const dnn_weight *w,
                              const dnn_key *key, const dnn_layout *layout, swd_err *err)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t st = make_mds(m, w, key, layout);
    if (st == dnnl_success) st = attributes(&attr, key->act, key->add);
    if (st == dnnl_success) st = make_pd(pd, w, key, m, attr);
    if (attr) dnnl_primitive_attr_destroy(attr);
    if (st == dnnl_success) return SWD_OK;
    mds_free(m);
    return SWD_FAIL(err, SWD_ERR_DEVICE,
                    "oneDNN: no %s of %lld to %lld channels in %s on this processor (status %d)",
                    w->conv ? "convolution" : "product", (long long)w->shape.in,
                    (long long)w->shape.out, dtype_name(w->compute), (int)st);
}

static void plan_free(dnn_plan *p)
{
    dnnl_memory_t all[] = {p->x, p->w, p->bias, p->y};
    for (int i = 0; i < 4; i++)
        if (all[i]) dnnl_memory_destroy(all[i]);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    free(p);
}

static void layout_free(dnn_layout *l)
{
    md_free(&l->md);
    free(l->data);
    free(l);
}

static dnnl_status_t reorder(dnn_engine *e, md_ref from_md, const void *from_data, dnn_layout *to)
{
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_memory_t from = NULL, into = NULL;
    dnnl_status_t st = dnnl_memory_create(&from, from_md, e->engine, (void *)(uintptr_t)from_data);
    if (st == dnnl_success) st = dnnl_memory_create(&into, MD(to->md), e->engine, to->data);
    if (st == dnnl_success)
        st = dnnl_reorder_primitive_desc_create(&pd, from_md, e->engine, MD(to->md), e->engine,
                                                NULL);
    if (st == dnnl_success) st = dnnl_primitive_create(&reorder, pd);
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, into}};
    if (st == dnnl_success) st = dnnl_primitive_execute(reorder, e->stream, 2, args);
    if (st == dnnl_success) st = dnnl_stream_wait(e->stream);
    if (reorder) dnnl_primitive_destroy(reorder);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (from) dnnl_memory_destroy(from);
    if (into) dnnl_memory_destroy(into);
    return st;
}

// The weight in the order that pd asks for, made from another order of it and kept.
static swd_status layout_for(const dnn_layout **out, dnn_weight *w, dnnl_primitive_desc_t pd,
                             md_ref from_md, const void *from_data, swd_err *err)
{
    md_ref md = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    for (const dnn_layout *l = w->layouts; l; l = l->next)
        if (dnnl_memory_desc_equal(MD(l->md), md)) {
            *out = l;
            return SWD_OK;
        }
    dnn_layout *l = calloc(1, sizeof *l);
    dnnl_status_t st = l ? md_copy(&l->md, md) : dnnl_out_of_memory;
    if (st == dnnl_success) {
        l->bytes = (dnnl_memory_desc_get_size(MD(l->md)) + 63) / 64 * 64;
        l->data = aligned_alloc(64, l->bytes);
        st = l->data ? reorder(w->e, from_md, from_data, l) : dnnl_out_of_memory;
    }
    if (st != dnnl_success) {
        if (l) layout_free(l);
        return SWD_FAIL(err, st == dnnl_out_of_memory ? SWD_ERR_MEMORY : SWD_ERR_DEVICE,
                        "oneDNN: cannot pack a weight (status %d)", (int)st);
    }
    dnn_layout **end = &w->layouts; // the first stays the first
    while (*end) end = &(*end)->next;
    *out = *end = l;
    return SWD_OK;
}

static bool is_reference(dnnl_primitive_desc_t pd)
{
    const char *name = NULL;
    return dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name) == dnnl_success &&
           strncmp(name, "ref", 3) == 0;
}

// A primitive's descriptor in the first order of the weight, or where that has no fast loops, in a better one.
static swd_status choose(dnnl_primitive_desc_t *pd, dnn_mds *m, const dnn_layout **layout,
                         dnn_weight *w, const dnn_key *key, swd_err *err)
{
    const dnn_layout *first = w->layouts;
    *layout = first;
    SWD_TRY(make_pd_for(pd, m, w, key, first, err), err);
    if (!w->conv || !is_reference(*pd)) return SWD_OK;
    dnnl_primitive_desc_destroy(*pd);
    mds_free(m);
    SWD_TRY(make_pd_for(pd, m, w, key, NULL, err), err);
    swd_status s = layout_for(layout, w, *pd, MD(first->md), first->data, err);
    md_free(&m->w);
    if (s == SWD_OK && md_copy(&m->w, MD((*layout)->md)) != dnnl_success)
        s = SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a convolution's shape");
    if (s == SWD_OK) return SWD_OK;
    dnnl_primitive_desc_destroy(*pd);
    mds_free(m);
    return s;
}

static swd_status plan_make(dnn_plan **out, dnn_weight *w, const dnn_key *key, swd_err *err)
{
    dnnl_primitive_desc_t pd = NULL;
    const dnn_layout *layout = NULL;
    dnn_mds m;
    SWD_TRY(choose(&pd, &m, &layout, w, key, err), err);
    dnn_plan *p = calloc(1, sizeof *p);
    dnnl_engine_t e = w->e->engine;
    dnnl_status_t st = p ? dnnl_primitive_create(&p->primitive, pd) : dnnl_out_of_memory;
    if (st == dnnl_success) st = dnnl_memory_create(&p->x, MD(m.x), e, DNNL_MEMORY_NONE);
    if (st == dnnl_success) st = dnnl_memory_create(&p->w, MD(m.w), e, DNNL_MEMORY_NONE);
    if (st == dnnl_success) st = dnnl_memory_create(&p->y, MD(m.y), e, DNNL_MEMORY_NONE);
    if (st == dnnl_success && key->bias)
        st = dnnl_memory_create(&p->bias, MD(m.bias), e, DNNL_MEMORY_NONE);
    dnnl_primitive_desc_destroy(pd);
    mds_free(&m);
    if (st != dnnl_success) {
        if (p) plan_free(p);
        return SWD_FAIL(err, st == dnnl_out_of_memory ? SWD_ERR_MEMORY : SWD_ERR_DEVICE,
                        "oneDNN: no primitive (status %d)", (int)st);
    }
    p->key = *key;
    p->layout = layout;
    *out = p;
    return SWD_OK;
}

static bool same_key(const dnn_key *a, const dnn_key *b)
{
    return memcmp(&a->shape, &b->shape, sizeof a->shape) == 0 && a->y_dtype == b->y_dtype &&
           a->act == b->act && a->bias == b->bias && a->add == b->add;
}

// given: the weight of one made without memory
static swd_status run(dnn_weight *w, const dnn_key *key, void *y, const void *x, const void *given,
                      const float *bias, swd_err *err)
{
    dnn_plan *p = w->plans;
    while (p && !same_key(&p->key, key)) p = p->next;
    if (!p) {
        SWD_TRY(plan_make(&p, w, key, err), err);
        p->next = w->plans;
        w->plans = p;
    }
    DNN_TRY(dnnl_memory_set_data_handle(p->x, (void *)(uintptr_t)x), "binding");
    const void *weight = p->layout->data ? p->layout->data : given;
    DNN_TRY(dnnl_memory_set_data_handle(p->w, (void *)(uintptr_t)weight), "binding");
    DNN_TRY(dnnl_memory_set_data_handle(p->y, y), "binding");
    if (bias) DNN_TRY(dnnl_memory_set_data_handle(p->bias, (void *)(uintptr_t)bias), "binding");
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p->x},
                              {DNNL_ARG_WEIGHTS, p->w},
                              {DNNL_ARG_DST, p->y},
                              {DNNL_ARG_BIAS, p->bias}};
    DNN_TRY(dnnl_primitive_execute(p->primitive, w->e->stream, bias ? 4 : 3, args),
            w->conv ? "a convolution" : "a product");
    DNN_TRY(dnnl_stream_wait(w->e->stream), "waiting");
    return SWD_OK;
}

// The plain weight, a product's with rows w_stride apart, in the order that suits `key`: the first one.
static swd_status pack(dnn_weight *w, const dnn_key *key, const void *data, int64_t w_stride,
                       swd_dtype dtype, swd_err *err)
{
    const dnn_conv_shape *s = &w->shape;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_memory_desc_t plain = {0};
    const dnn_layout *layout = NULL;
    dnn_mds m;
    SWD_TRY(make_pd_for(&pd, &m, w, key, NULL, err), err);
    mds_free(&m);
    dnnl_dims_t cd = {s->out, s->in, s->kh, s->kw},
                cs = {s->in * s->kh * s->kw, s->kh * s->kw, s->kw, 1};
    dnnl_dims_t ld = {s->in, s->out}, ls = {1, w_stride};
    dnnl_status_t st =
        w->conv ? md_strided(&plain, 4, cd, cs, dtype) : md_strided(&plain, 2, ld, ls, dtype);
    swd_status result =
        st == dnnl_success
            ? layout_for(&layout, w, pd, MD(plain), data, err)
            : SWD_FAIL(err, SWD_ERR_DEVICE, "oneDNN: no plain weight (status %d)", (int)st);
    dnnl_primitive_desc_destroy(pd);
    md_free(&plain);
    return result;
}

enum { TYPICAL_ROWS = 1024 };

static dnn_key matmul_key(const dnn_weight *w, int64_t m, int64_t x_stride, int64_t y_stride,
                          swd_dtype y_dtype, swd_act act, bool bias, bool add)
{
    dnn_key key = {.y_dtype = y_dtype, .act = act, .bias = bias, .add = add};
    key.shape = w->shape;
    key.shape.batch = m;
    key.shape.w = x_stride;
    key.shape.wo = y_stride;
    return key;
}

swd_status dnn_linear_create(dnn_weight **out, dnn_engine *e, int64_t n, int64_t k,
                             const void *data, int64_t w_stride, swd_dtype dtype, swd_dtype compute,
                             swd_err *err)
{
    *out = NULL;
    dnn_weight *w = calloc(1, sizeof *w);
    if (!w) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a weight");
    w->e = e;
    w->compute = compute;
    w->shape.in = k;
    w->shape.out = n;
    swd_status s = SWD_OK;
    if (data) {
        dnn_key key = matmul_key(w, TYPICAL_ROWS, k, n, compute, SWD_ACT_NONE, false, false);
        SWD_TRY_GOTO(s, pack(w, &key, data, w_stride, dtype, err), err, fail);
    } else {
        dnnl_dims_t dims = {k, n}, strides = {1, k};
        w->layouts = calloc(1, sizeof *w->layouts);
        if (!w->layouts || md_strided(&w->layouts->md, 2, dims, strides, SWD_F32) != dnnl_success) {
            s = SWD_FAIL(err, w->layouts ? SWD_ERR_DEVICE : SWD_ERR_MEMORY,
                         "oneDNN: no layout for a weight [%lld, %lld]", (long long)n, (long long)k);
            goto fail;
        }
    }
    *out = w;
    return SWD_OK;
fail:
    dnn_weight_destroy(&w);
    return s;
}

swd_status dnn_conv_create(dnn_weight **out, dnn_engine *e, const dnn_conv_shape *typical,
                           const void *data, swd_dtype dtype, swd_dtype compute, swd_err *err)
{
    *out = NULL;
    dnn_weight *w = calloc(1, sizeof *w);
    if (!w) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a weight");
    w->e = e;
    w->conv = true;
    w->compute = compute;
    w->shape = *typical;
    dnn_key key = {.shape = *typical, .y_dtype = compute, .act = SWD_ACT_NONE, .bias = true};
    swd_status s = pack(w, &key, data, 0, dtype, err);
    if (s != SWD_OK) {
        dnn_weight_destroy(&w);
        return swd_err_frame(err, s, __FILE__, __LINE__, __func__);
    }
    *out = w;
    return SWD_OK;
}

void dnn_weight_destroy(dnn_weight **w)
{
    if (!*w) return;
    for (dnn_plan *p = (*w)->plans, *next; p; p = next) {
        next = p->next;
        plan_free(p);
    }
    for (dnn_layout *l = (*w)->layouts, *next; l; l = next) {
        next = l->next;
        layout_free(l);
    }
    free(*w);
    *w = NULL;
}

size_t dnn_weight_bytes(const dnn_weight *w)
{
    size_t bytes = 0;
    if (w)
        for (const dnn_layout *l = w->layouts; l; l = l->next) bytes += l->bytes;
    return bytes;
}

swd_status dnn_matmul(dnn_weight *w, const float *plain, int64_t m, void *y, int64_t y_stride,
                      swd_dtype y_dtype, const void *x, int64_t x_stride, const float *bias,
                      bool add, swd_act act, swd_err *err)
{
    dnn_key key = matmul_key(w, m, x_stride, y_stride, y_dtype, act, bias != NULL, add);
    return run(w, &key, y, x, plain, bias, err);
}

swd_status dnn_convolve(dnn_weight *w, const dnn_conv_shape *s, void *y, swd_dtype y_dtype,
                        const void *x, const float *bias, swd_act act, swd_err *err)
{
    dnn_key key = {.shape = *s, .y_dtype = y_dtype, .act = act, .bias = bias != NULL};
    return run(w, &key, y, x, NULL, bias, err);
}

swd_status dnn_weight_plain(dnn_weight *w, void *to, int64_t stride, swd_err *err)
{
    dnnl_dims_t dims = {w->shape.in, w->shape.out}, strides = {1, stride};
    dnn_layout plain = {.data = to};
    DNN_TRY(md_strided(&plain.md, 2, dims, strides, w->compute), "a plain weight");
    dnnl_status_t st = reorder(w->e, MD(w->layouts->md), w->layouts->data, &plain);
    md_free(&plain.md);
    DNN_TRY(st, "unpacking");
    return SWD_OK;
}
