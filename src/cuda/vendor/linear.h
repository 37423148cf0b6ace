/* SPDX-License-Identifier: MIT */
/* Linear layers: cuBLASLt or our kernels, y = residual + gate * act(x w^T + bias).
 *
 * cuBLASLt adds bias and residual and applies GELU (tanh) and ReLU itself. Other activations, a gate, and a bias that does not fit into
 * the result's type follow as a kernel of ours over float32 rows in the workspace. What stays with our kernels: rows that are no samples' (2 dimensions), fewer than 16 rows a sample,
 * operands of other types than the arithmetic's, sides that are no multiple of 8, rows not aligned to 16 bytes, a gate or activation
 * beside a residual that is not y itself. */
#ifndef SWD_CUDA_VENDOR_LINEAR_H
#define SWD_CUDA_VENDOR_LINEAR_H
#include "vendor/vendor.h"

/* The choice for one weight at one shape; they hang on the weight, which frees them. */
typedef struct vendor_linear vendor_linear;

/* The choice, made now where it is new and may be made; NULL: our kernel. narrow_bias: the same bias in the arithmetic's type, for
 * results of that type; NULL where it does not fit. a->batch counts samples. A failure waits in vendor_told(). */
const vendor_linear *vendor_linear_choice(vendor_linear **list, const k_gemm_args *a,
                                          const void *narrow_bias, swd_backend *b);
void vendor_linear_free(vendor_linear **list);

size_t vendor_linear_workspace(const vendor_linear *o);
/* While memory is planned for weights that have no numbers nothing can be chosen: as much as a choice may need. */
size_t vendor_linear_planned(const k_gemm_args *a, swd_backend *b);
/* false: these pointers are not where the choice needs them. */
bool vendor_linear_takes(const k_gemm_args *a);
swd_status vendor_linear_run(const vendor_linear *o, const k_gemm_args *a, void *workspace,
                             cudaStream_t stream, swd_err *err);
#endif
