/* SPDX-License-Identifier: MIT */
/* A tensor is a typed, strided view of memory it does not own. No arithmetic lives here. */
#ifndef SWD_TENSOR_TENSOR_H
#define SWD_TENSOR_TENSOR_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum swd_dtype { SWD_F32, SWD_BF16, SWD_F16, SWD_I32, SWD_U8, SWD_N_DTYPES } swd_dtype;
enum { SWD_MAX_DIMS = 5 };

typedef struct swd_tensor {
    void *
        data; /* host or device, whatever the backend that made it uses; NULL while a plan is being measured */
    swd_dtype dtype;
    int ndim; /* 0: the absent tensor */
    int64_t shape[SWD_MAX_DIMS];
    int64_t stride[SWD_MAX_DIMS]; /* in elements */
} swd_tensor;

size_t dtype_size(swd_dtype dtype);
const char *dtype_name(swd_dtype dtype); /* "f32", "bf16", ... */

/* Contiguous, row-major view of data; the dims that are 0 end the list: tensor_make(p, SWD_F32, (int64_t[]){2, 3}, 2). */
swd_tensor tensor_make(void *data, swd_dtype dtype, const int64_t *shape, int ndim);
swd_tensor tensor1(void *data, swd_dtype dtype, int64_t a);
swd_tensor tensor2(void *data, swd_dtype dtype, int64_t a, int64_t b);
swd_tensor tensor3(void *data, swd_dtype dtype, int64_t a, int64_t b, int64_t c);
swd_tensor tensor4(void *data, swd_dtype dtype, int64_t a, int64_t b, int64_t c, int64_t d);
/* The absent tensor (optional arguments of ops). */
static inline swd_tensor tensor_none(void)
{
    return (swd_tensor){0};
}
static inline bool tensor_present(swd_tensor t)
{
    return t.ndim > 0;
}

int64_t tensor_numel(swd_tensor t);
size_t tensor_bytes(swd_tensor t); /* of the elements, contiguous */
bool tensor_contiguous(swd_tensor t);
bool tensor_same_shape(swd_tensor a, swd_tensor b);
/* The same elements of the same memory at the same strides. */
bool tensor_same_view(swd_tensor a, swd_tensor b);
/* Whether an element of one may share a byte with an element of the other. Exact for contiguous tensors and for parts of one row
 * (q and k of a packed QKV); else whether their spans meet. False where one has no memory yet. */
bool tensor_overlap(swd_tensor a, swd_tensor b);
/* [start, start + length) of dimension dim. Asserts the range. */
swd_tensor tensor_slice(swd_tensor t, int dim, int64_t start, int64_t length);
/* Same elements, other shape; t must be contiguous. Asserts equal element counts. */
swd_tensor tensor_reshape(swd_tensor t, const int64_t *shape, int ndim);
/* Splits the last dimension (stride 1) of [..., a * b] into [..., a, b]: heads of a (possibly strided) row. */
swd_tensor tensor_split_last(swd_tensor t, int64_t b);
/* "f32[2,3]" into buf; returns buf. */
char *tensor_describe(swd_tensor t, char *buf, size_t n);

float bf16_to_f32(uint16_t h);
uint16_t f32_to_bf16(float f); /* round to nearest even; NaN stays NaN */
float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f); /* round to nearest even, denormals kept */
#endif
