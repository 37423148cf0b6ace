/* SPDX-License-Identifier: MIT */
/* What the files behind the seam to oneDNN share: where versions 2 and 3 name things differently, descriptors of plain memory. */
#ifndef SWD_BACKEND_CPU_DNN_VERSIONS_H
#define SWD_BACKEND_CPU_DNN_VERSIONS_H
#include "backend/cpu/dnn.h"
#include <oneapi/dnnl/dnnl.h>

#if DNNL_VERSION_MAJOR >= 3
#define MD(x) (x)
typedef const_dnnl_memory_desc_t md_ref;
#else
#define MD(x) (&(x))
typedef const dnnl_memory_desc_t *md_ref;
#endif

#define DNN_TRY(call, what)                                                                        \
    do {                                                                                           \
        dnnl_status_t dnn_status_ = (call);                                                        \
        if (dnn_status_ != dnnl_success)                                                           \
            return SWD_FAIL(err,                                                                   \
                            dnn_status_ == dnnl_out_of_memory ? SWD_ERR_MEMORY : SWD_ERR_DEVICE,   \
                            "oneDNN: %s failed with status %d", what, (int)dnn_status_);           \
    } while (0)

enum { DNN_GEMM_BUCKETS = 64 };

struct dnn_engine {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct dnn_gemm_plan *gemm[DNN_GEMM_BUCKETS];
};

static inline dnnl_data_type_t type_of(swd_dtype t)
{
    return t == SWD_BF16 ? dnnl_bf16 : dnnl_f32;
}

static inline dnnl_status_t md_strided(dnnl_memory_desc_t *md, int n, const int64_t *dims,
                                       const int64_t *strides, swd_dtype t)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_strides(md, n, dims, type_of(t), strides);
#else
    return dnnl_memory_desc_init_by_strides(md, n, dims, type_of(t), strides);
#endif
}

static inline void md_free(dnnl_memory_desc_t *md)
{
#if DNNL_VERSION_MAJOR >= 3
    if (*md) dnnl_memory_desc_destroy(*md);
    *md = NULL;
#else
    (void)md;
#endif
}
#endif
