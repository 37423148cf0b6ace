/* SPDX-License-Identifier: MIT */
/* What every network's loader does: named tensors of the files -> packed layers and vectors in backend memory.
 * The names are printf formats. A missing tensor or one of another shape is an error naming file and tensor. */
#ifndef SWD_MODEL_LOAD_H
#define SWD_MODEL_LOAD_H
#include "backend/backend.h"
#include "weights/weights.h"

typedef struct loader {
    weights *w;
    swd_backend *be;
    swd_dtype compute; /* of the products: SWD_F32 or SWD_BF16 */
    swd_err *err;
} loader;

/* name + ".weight" [n, k], name + ".bias" [n] if bias */
swd_status load_linear(const loader *l, swd_linear **out, int64_t n, int64_t k, bool bias,
                       const char *name, ...) SWD_PRINTF(6, 7);
/* count layers prefix + names[i], each [n, k], stacked into one [count * n, k]: q, k and v in one product */
swd_status load_stacked(const loader *l, swd_linear **out, int count, const char *const *names,
                        int64_t n, int64_t k, bool bias, const char *prefix, ...) SWD_PRINTF(8, 9);
/* A p x p convolution of stride p [n, c, p, p] as a product over patches in (c, p, q) order: [n, c * p * p] */
swd_status load_patch_linear(const loader *l, swd_linear **out, int64_t n, int64_t c, int patch,
                             const char *name, ...) SWD_PRINTF(6, 7);
/* The whole name; *out lies in backend memory, F32, or for load_table the dtype that holds the file's tensor exactly; freed by load_release. */
swd_status load_vector(const loader *l, swd_tensor *out, int64_t n, const char *name, ...)
    SWD_PRINTF(4, 5);
swd_status load_matrix(const loader *l, swd_tensor *out, const int64_t *shape, int ndim,
                       const char *name, ...) SWD_PRINTF(5, 6);
swd_status load_table(const loader *l, swd_tensor *out, int64_t rows, int64_t d, const char *name,
                      ...) SWD_PRINTF(5, 6);
void load_release(swd_backend *be, swd_tensor *t);
#endif
