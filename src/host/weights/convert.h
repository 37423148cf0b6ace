/* SPDX-License-Identifier: MIT */
/* Numbers of a file -> numbers of a model, in parallel blocks. */
#ifndef SWD_WEIGHTS_CONVERT_H
#define SWD_WEIGHTS_CONVERT_H
#include "tensor/tensor.h"

/* n elements of src (F32, F16 or BF16, any alignment) to dst (F32 or BF16, aligned), rounded to nearest even.
 * false if one of them is NaN or infinite (dst is then unspecified). */
bool convert_floats(void *dst, swd_dtype dst_dtype, const void *src, swd_dtype src_dtype,
                    int64_t n);
/* The check alone. */
bool floats_finite(const void *src, swd_dtype dtype, int64_t n);
#endif
