/* SPDX-License-Identifier: MIT */
/* Products by NVIDIA's cuBLASLt, which is looked for and loaded at run time: y = act(x w^T + bias) or y = c + x w^T + bias. */
#ifndef SWD_CUDA_VENDOR_CUBLASLT_H
#define SWD_CUDA_VENDOR_CUBLASLT_H
#include "base/status.h"
#include "kernels/kernels.h"
#include "vendor/vendor_abi.h"

enum { LT_PROPOSALS_MAX = 8, LT_WORKSPACE_MAX = 32 << 20 };

typedef struct cublaslt cublaslt; /* the library and a handle of it */

/* found: in words, for people: the file and its version, or why there is none. where: as in library.h. *out NULL where the library, one
 * of its functions or its handle is not to be had, which is no failure. */
swd_status cublaslt_open(cublaslt **out, char *found, size_t found_bytes, const char *where,
                         swd_err *err);
void cublaslt_close(cublaslt **lt); /* writes NULL; accepts it */
size_t cublaslt_version(const cublaslt *lt);

/* Rows of x, w and y are contiguous, ld elements apart; everything is aligned to 16 bytes. */
typedef struct lt_problem {
    int64_t rows, n, k; /* y [rows, n], x [rows, k], w [n, k] */
    int64_t ldx, ldw, ldy;
    bool x_across, w_across; /* instead x lies as [k, rows], w as [k, n] */
    k_dtype operand, result; /* of x and w; of y, c and bias. float32 stays float32: no TF32 */
    k_act act;               /* none, GELU (tanh), ReLU */
    const void *bias;        /* device, [n], or NULL */
    bool add;                /* y = c + ..., c laid out as y, maybe y itself; without act */
} lt_problem;

/* One way of doing it; its numbers are good for this version of the library. */
typedef struct lt_algorithm {
    lt_algo algo;
    size_t workspace_bytes;
} lt_algorithm;

/* "cuBLASLt" and all numbers of it: what a file of choices knows it by. */
void lt_algorithm_name(char *text, size_t bytes, const lt_algorithm *a);

typedef struct lt_product lt_product; /* the library's descriptions of a problem */

/* SWD_ERR_UNSUPPORTED where the library does not want the problem. lt outlives the product. */
swd_status lt_product_make(lt_product **out, const cublaslt *lt, const lt_problem *p, swd_err *err);
void lt_product_destroy(lt_product **p); /* writes NULL; accepts it */
/* What the library thinks fastest, best first; partial sums stay float32. How many, maybe none. */
int lt_product_propose(lt_algorithm out[LT_PROPOSALS_MAX], const lt_product *p,
                       size_t workspace_max);
/* workspace: of algorithm->workspace_bytes, aligned to 256. c: only where the problem adds. SWD_ERR_UNSUPPORTED: the library refuses. */
swd_status lt_product_run(const lt_product *p, const lt_algorithm *algorithm, void *y,
                          const void *c, const void *x, const void *w, void *workspace,
                          cudaStream_t stream, swd_err *err);
#endif
