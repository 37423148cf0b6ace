/* SPDX-License-Identifier: MIT */
/* The two routines of BLAS and LAPACK that evaluation needs. liblapack.so.3 is looked for when the first of them is called, so that
 * programs which measure nothing do not load it (optimized ones start threads as they are loaded). Matrices are symmetric where it matters,
 * else column by column, as Fortran has them. Thread-safe. */
#ifndef SWD_EVAL_LAPACK_H
#define SWD_EVAL_LAPACK_H
#include "base/status.h"
#include <stdbool.h>

/* a[n, n] symmetric -> values[n] ascending; with vectors: a's columns become them, else a is lost. SWD_ERR_UNSUPPORTED: no library. */
swd_status lapack_eigh(double *values, double *a, int n, bool vectors, swd_err *err);
/* c[n, n] = a b, or with transpose_b a b^T. */
swd_status lapack_multiply(double *c, const double *a, const double *b, bool transpose_b, int n,
                           swd_err *err);
#endif
