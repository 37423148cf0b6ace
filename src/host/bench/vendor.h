/* SPDX-License-Identifier: MIT */
/* oneDNN's own product, called as it likes best: every operand in the layout that it asks for, no bias, nothing after it.
 * What the linear layers are measured against. */
#ifndef SWD_BENCH_VENDOR_H
#define SWD_BENCH_VENDOR_H
#include "base/status.h"
#include "tensor/tensor.h"

typedef struct vendor_product vendor_product;

/* y[m, n] = x[m, k] w[k, n], all of them of dtype (SWD_F32 or SWD_BF16), on as many threads as OpenMP uses. */
swd_status vendor_product_create(vendor_product **out, int64_t m, int64_t k, int64_t n,
                                 swd_dtype dtype, swd_err *err);
swd_status vendor_product_run(vendor_product *p, swd_err *err);
void vendor_product_destroy(vendor_product **p); /* writes NULL; accepts it */
#endif
