// SPDX-License-Identifier: MIT
// Products of two matrices that both change: c = a b (+ bias), c += a b. Training has no weight that is worth packing.
#include "backend/cpu/dnn_versions.h"
#include <stdlib.h>
#include <string.h>

typedef struct dnn_gemm_plan {
    dnn_gemm_shape key;
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, bias, c;
    struct dnn_gemm_plan *next;
} dnn_gemm_plan;

static void plan_free(dnn_gemm_plan *p)
{
    dnnl_memory_t all[] = {p->a, p->b, p->bias, p->c};
    for (int i = 0; i < 4; i++)
        if (all[i]) dnnl_memory_destroy(all[i]);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    free(p);
}

void dnn_gemm_forget(dnn_engine *e)
{
    for (int i = 0; i < DNN_GEMM_BUCKETS; i++) {
        for (dnn_gemm_plan *p = e->gemm[i], *next; p; p = next) {
            next = p->next;
            plan_free(p);
        }
        e->gemm[i] = NULL;
    }
}

static bool same(const dnn_gemm_shape *x, const dnn_gemm_shape *y)
{
    return x->m == y->m && x->n == y->n && x->k == y->k && x->a_stride[0] == y->a_stride[0] &&
           x->a_stride[1] == y->a_stride[1] && x->b_stride[0] == y->b_stride[0] &&
           x->b_stride[1] == y->b_stride[1] && x->c_stride == y->c_stride && x->dtype == y->dtype &&
           x->c_dtype == y->c_dtype && x->bias == y->bias && x->add == y->add;
}

static dnnl_status_t attributes(dnnl_primitive_attr_t *attr, bool add)
{
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t s = dnnl_primitive_attr_create(attr);
    if (s != dnnl_success || !add) return s;
    if ((s = dnnl_post_ops_create(&ops)) != dnnl_success) return s;
#if DNNL_VERSION_MAJOR >= 3
    s = dnnl_post_ops_append_sum(ops, 1.0f, 0, dnnl_data_type_undef);
#else
    s = dnnl_post_ops_append_sum(ops, 1.0f);
#endif
    if (s == dnnl_success) s = dnnl_primitive_attr_set_post_ops(*attr, ops);
    dnnl_post_ops_destroy(ops);
    return s;
}

static dnnl_status_t describe(dnnl_primitive_desc_t *pd, dnnl_engine_t e, md_ref a, md_ref b,
                              md_ref bias, md_ref c, dnnl_primitive_attr_t attr)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_matmul_primitive_desc_create(pd, e, a, b, bias, c, attr);
#else
    dnnl_matmul_desc_t d;
    dnnl_status_t s = dnnl_matmul_desc_init(&d, a, b, bias, c);
    return s == dnnl_success ? dnnl_primitive_desc_create(pd, &d, attr, e, NULL) : s;
#endif
}

static dnnl_status_t fill(dnn_gemm_plan *p, dnnl_engine_t e)
{
    const dnn_gemm_shape *s = &p->key;
    dnnl_memory_desc_t a = {0}, b = {0}, bias = {0}, c = {0};
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_dims_t ad = {s->m, s->k}, bd = {s->k, s->n}, cd = {s->m, s->n}, cs = {s->c_stride, 1},
                vd = {1, s->n}, vs = {s->n, 1}, as = {s->a_stride[0], s->a_stride[1]},
                bs = {s->b_stride[0], s->b_stride[1]};
    dnnl_status_t st = md_strided(&a, 2, ad, as, s->dtype);
    if (st == dnnl_success) st = md_strided(&b, 2, bd, bs, s->dtype);
    if (st == dnnl_success) st = md_strided(&c, 2, cd, cs, s->c_dtype);
    if (st == dnnl_success && s->bias) st = md_strided(&bias, 2, vd, vs, SWD_F32);
    if (st == dnnl_success) st = attributes(&attr, s->add);
    if (st == dnnl_success)
        st = describe(&pd, e, MD(a), MD(b), s->bias ? MD(bias) : NULL, MD(c), attr);
    if (st == dnnl_success) st = dnnl_primitive_create(&p->primitive, pd);
    if (st == dnnl_success) st = dnnl_memory_create(&p->a, MD(a), e, DNNL_MEMORY_NONE);
    if (st == dnnl_success) st = dnnl_memory_create(&p->b, MD(b), e, DNNL_MEMORY_NONE);
    if (st == dnnl_success) st = dnnl_memory_create(&p->c, MD(c), e, DNNL_MEMORY_NONE);
    if (st == dnnl_success && s->bias)
        st = dnnl_memory_create(&p->bias, MD(bias), e, DNNL_MEMORY_NONE);
    if (pd) dnnl_primitive_desc_destroy(pd);
    if (attr) dnnl_primitive_attr_destroy(attr);
    md_free(&a), md_free(&b), md_free(&bias), md_free(&c);
    return st;
}

static swd_status plan_for(dnn_gemm_plan **out, dnn_engine *e, const dnn_gemm_shape *s,
                           swd_err *err)
{
    uint64_t h = (uint64_t)s->m * 31 + (uint64_t)s->n * 7 + (uint64_t)s->k * 3 +
                 (uint64_t)s->a_stride[0] + (uint64_t)s->add;
    dnn_gemm_plan **bucket = &e->gemm[h % DNN_GEMM_BUCKETS];
    for (*out = *bucket; *out; *out = (*out)->next)
        if (same(&(*out)->key, s)) return SWD_OK;
    dnn_gemm_plan *p = calloc(1, sizeof *p);
    if (!p) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a product");
    p->key = *s;
    dnnl_status_t st = fill(p, e->engine);
    if (st != dnnl_success) {
        plan_free(p);
        return SWD_FAIL(err, SWD_ERR_DEVICE, "oneDNN: no product [%lld, %lld, %lld] in %s (%d)",
                        (long long)s->m, (long long)s->k, (long long)s->n, dtype_name(s->dtype),
                        (int)st);
    }
    p->next = *bucket;
    *out = *bucket = p;
    return SWD_OK;
}

swd_status dnn_gemm(dnn_engine *e, const dnn_gemm_shape *s, void *c, const void *a, const void *b,
                    const float *bias, swd_err *err)
{
    dnn_gemm_plan *p;
    SWD_TRY(plan_for(&p, e, s, err), err);
    DNN_TRY(dnnl_memory_set_data_handle(p->a, (void *)(uintptr_t)a), "binding");
    DNN_TRY(dnnl_memory_set_data_handle(p->b, (void *)(uintptr_t)b), "binding");
    DNN_TRY(dnnl_memory_set_data_handle(p->c, c), "binding");
    if (bias) DNN_TRY(dnnl_memory_set_data_handle(p->bias, (void *)(uintptr_t)bias), "binding");
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, p->a},
                              {DNNL_ARG_WEIGHTS, p->b},
                              {DNNL_ARG_DST, p->c},
                              {DNNL_ARG_BIAS, p->bias}};
    DNN_TRY(dnnl_primitive_execute(p->primitive, e->stream, bias ? 4 : 3, args), "a product");
    DNN_TRY(dnnl_stream_wait(e->stream), "waiting");
    return SWD_OK;
}
