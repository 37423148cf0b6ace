// SPDX-License-Identifier: MIT
#include "bench/vendor.h"
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

enum { OPERANDS = 3 };
#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t md_ref;
#else
typedef const dnnl_memory_desc_t *md_ref;
#endif

struct vendor_product {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_t memory[OPERANDS];
};

static const int argument[OPERANDS] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};

// Operands in dims, layouts free.
static dnnl_status_t make_desc(dnnl_primitive_desc_t *pd, dnnl_engine_t e,
                               dnnl_dims_t dims[OPERANDS], dnnl_data_type_t type)
{
#if DNNL_VERSION_MAJOR >= 3
    dnnl_memory_desc_t md[OPERANDS] = {0};
    dnnl_status_t s = dnnl_success;
    for (int i = 0; i < OPERANDS && s == dnnl_success; i++)
        s = dnnl_memory_desc_create_with_tag(&md[i], 2, dims[i], type, dnnl_format_tag_any);
    if (s == dnnl_success)
        s = dnnl_matmul_primitive_desc_create(pd, e, md[0], md[1], NULL, md[2], NULL);
    for (int i = 0; i < OPERANDS; i++)
        if (md[i]) dnnl_memory_desc_destroy(md[i]);
    return s;
#else
    dnnl_memory_desc_t md[OPERANDS];
    dnnl_matmul_desc_t d;
    dnnl_status_t s = dnnl_success;
    for (int i = 0; i < OPERANDS && s == dnnl_success; i++)
        s = dnnl_memory_desc_init_by_tag(&md[i], 2, dims[i], type, dnnl_format_tag_any);
    if (s == dnnl_success) s = dnnl_matmul_desc_init(&d, &md[0], &md[1], NULL, &md[2]);
    return s == dnnl_success ? dnnl_primitive_desc_create(pd, &d, NULL, e, NULL) : s;
#endif
}

// Memory for one operand in the layout that was picked, filled with small numbers (0x3c3c is 0.0115 in both types).
static dnnl_status_t make_memory(vendor_product *p, int i, dnnl_primitive_desc_t pd)
{
    static const dnnl_query_t queries[OPERANDS] = {dnnl_query_src_md, dnnl_query_weights_md,
                                                   dnnl_query_dst_md};
    void *data = NULL;
    md_ref md = dnnl_primitive_desc_query_md(pd, queries[i], 0);
    dnnl_status_t s = dnnl_memory_create(&p->memory[i], md, p->engine, DNNL_MEMORY_ALLOCATE);
    if (s == dnnl_success) s = dnnl_memory_get_data_handle(p->memory[i], &data);
    size_t bytes = dnnl_memory_desc_get_size(md);
    for (size_t at = 0; s == dnnl_success && at < bytes; at++) ((unsigned char *)data)[at] = 0x3c;
    return s;
}

swd_status vendor_product_create(vendor_product **out, int64_t m, int64_t k, int64_t n,
                                 swd_dtype dtype, swd_err *err)
{
    dnnl_dims_t dims[OPERANDS] = {{m, k}, {k, n}, {m, n}};
    dnnl_primitive_desc_t pd = NULL;
    *out = NULL;
    vendor_product *p = calloc(1, sizeof *p);
    if (!p) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a product");
    dnnl_status_t s = dnnl_engine_create(&p->engine, dnnl_cpu, 0);
    if (s == dnnl_success) s = dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags);
    if (s == dnnl_success)
        s = make_desc(&pd, p->engine, dims, dtype == SWD_BF16 ? dnnl_bf16 : dnnl_f32);
    if (s == dnnl_success) s = dnnl_primitive_create(&p->primitive, pd);
    for (int i = 0; i < OPERANDS && s == dnnl_success; i++) s = make_memory(p, i, pd);
    if (pd) dnnl_primitive_desc_destroy(pd);
    *out = p;
    if (s == dnnl_success) return SWD_OK;
    vendor_product_destroy(out);
    return SWD_FAIL(err, SWD_ERR_DEVICE,
                    "oneDNN: no product of %lld x %lld x %lld in %s (status %d)", (long long)m,
                    (long long)k, (long long)n, dtype_name(dtype), (int)s);
}

swd_status vendor_product_run(vendor_product *p, swd_err *err)
{
    dnnl_exec_arg_t args[OPERANDS];
    for (int i = 0; i < OPERANDS; i++) args[i] = (dnnl_exec_arg_t){argument[i], p->memory[i]};
    if (dnnl_primitive_execute(p->primitive, p->stream, OPERANDS, args) != dnnl_success ||
        dnnl_stream_wait(p->stream) != dnnl_success)
        return SWD_FAIL(err, SWD_ERR_DEVICE, "oneDNN: a product failed");
    return SWD_OK;
}

void vendor_product_destroy(vendor_product **out)
{
    vendor_product *p = *out;
    if (!p) return;
    for (int i = 0; i < OPERANDS; i++)
        if (p->memory[i]) dnnl_memory_destroy(p->memory[i]);
    if (p->primitive) dnnl_primitive_destroy(p->primitive);
    if (p->stream) dnnl_stream_destroy(p->stream);
    if (p->engine) dnnl_engine_destroy(p->engine);
    free(p);
    *out = NULL;
}
