/* SPDX-License-Identifier: MIT */
/* The narrow seam to oneDNN (2.6 and 3.x): products of a fixed weight with row matrices, convolutions of NHWC maps.
 * A weight owns its packed memory and the primitives made for it so far, by shape. Not thread-safe. */
#ifndef SWD_BACKEND_CPU_DNN_H
#define SWD_BACKEND_CPU_DNN_H
#include "backend/ops_types.h"
#include "base/status.h"

typedef struct dnn_engine dnn_engine;
typedef struct dnn_weight dnn_weight;

typedef struct dnn_conv_shape {
    int64_t batch, in, h, w, out, ho, wo, kh, kw;
    int64_t stride, pad_top, pad_left, pad_bottom, pad_right;
} dnn_conv_shape;

swd_status dnn_engine_create(dnn_engine **out, swd_err *err);
void dnn_engine_destroy(dnn_engine **e);
/* What oneDNN uses of this processor; ONEDNN_MAX_CPU_ISA lowers it, for the loops of our own too. Each includes those before it. */
typedef enum dnn_isa_level {
    DNN_ISA_ANY,
    DNN_ISA_AVX2,
    DNN_ISA_AVX512,      /* bf16 products exist from here on, without gain */
    DNN_ISA_AVX512_BF16, /* native ones from here on */
    DNN_ISA_AMX_BF16
} dnn_isa_level;
dnn_isa_level dnn_isa(void);

/* Packs w [n, k] (F32 or BF16, copied; rows w_stride elements apart) for products in dtype compute. w NULL: no memory, a plain
 * contiguous float32 [n, k] is given to every dnn_matmul instead. */
swd_status dnn_linear_create(dnn_weight **out, dnn_engine *e, int64_t n, int64_t k, const void *w,
                             int64_t w_stride, swd_dtype dtype, swd_dtype compute, swd_err *err);
/* Packs w [out, in, kh, kw] for convolutions like `typical`. */
swd_status dnn_conv_create(dnn_weight **out, dnn_engine *e, const dnn_conv_shape *typical,
                           const void *w, swd_dtype dtype, swd_dtype compute, swd_err *err);
void dnn_weight_destroy(dnn_weight **w);
size_t dnn_weight_bytes(const dnn_weight *w);

/* y[m, n] = act(x[m, k] w^T + bias), or act(y + that) where add is set: x in the compute dtype, y F32 or (compute BF16) BF16; strides in
 * elements. bias may be NULL. plain: the float32 weight of one made without memory, else NULL. oneDNN 2 has only
 * its reference loops for a packed weight and rows that do not follow each other: x_stride = k, y_stride = n is what to give then. */
swd_status dnn_matmul(dnn_weight *w, const float *plain, int64_t m, void *y, int64_t y_stride,
                      swd_dtype y_dtype, const void *x, int64_t x_stride, const float *bias,
                      bool add, swd_act act, swd_err *err);
/* The packed weight as it was, [n, k] of the compute type, rows `stride` elements apart. */
swd_status dnn_weight_plain(dnn_weight *w, void *to, int64_t stride, swd_err *err);

/* c[m, n] = a[m, k] b[k, n] (+ bias[n]), or c += a b where add is set: a and b of one type, F32 or BF16, at any strides one of which is
 * 1; c F32 or of that type. Primitives are kept in the engine, by shape. */
typedef struct dnn_gemm_shape {
    int64_t m, n, k, a_stride[2], b_stride[2], c_stride;
    swd_dtype dtype, c_dtype;
    bool bias, add;
} dnn_gemm_shape;
swd_status dnn_gemm(dnn_engine *e, const dnn_gemm_shape *s, void *c, const void *a, const void *b,
                    const float *bias, swd_err *err);
void dnn_gemm_forget(dnn_engine *e); /* gives the primitives back */
/* y = act(conv(x) + bias), both contiguous NHWC of shape s. */
swd_status dnn_convolve(dnn_weight *w, const dnn_conv_shape *s, void *y, swd_dtype y_dtype,
                        const void *x, const float *bias, swd_act act, swd_err *err);
#endif
