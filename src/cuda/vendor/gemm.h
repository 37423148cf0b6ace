/* SPDX-License-Identifier: MIT */
/* The products of training: cuBLASLt or our kernel, c (+)= a b (+ bias).
 *
 * A bias follows as a kernel of ours, where c is narrow over float32 rows in the workspace. What stays with our kernels: sides below 16,
 * matrices whose rows (or columns, where those are contiguous) are no multiples of 8 elements or not aligned to 16 bytes. */
#ifndef SWD_CUDA_VENDOR_GEMM_H
#define SWD_CUDA_VENDOR_GEMM_H
#include "kernels/training.h"
#include "vendor/vendor.h"

/* The choice for one shape; the backend keeps and frees them. */
typedef struct vendor_gemm vendor_gemm;

/* The choice, made now where it is new and may be made; NULL: our kernel. bias: there is one, also where it has no place yet. A failure
 * waits in vendor_told(). */
const vendor_gemm *vendor_gemm_choice(const k_gemm_strided_args *a, bool bias, swd_backend *b);
void vendor_gemms_free(vendor_gemm **list);

size_t vendor_gemm_workspace(const vendor_gemm *o);
/* While memory is planned, when nothing can be chosen: as much as a choice may need; else 0. */
size_t vendor_gemm_planned(const k_gemm_strided_args *a, bool bias, swd_backend *b);
/* false: these pointers are not where the choice needs them. */
bool vendor_gemm_takes(const k_gemm_strided_args *a);
swd_status vendor_gemm_run(const vendor_gemm *o, const k_gemm_strided_args *a, void *workspace,
                           cudaStream_t stream, swd_err *err);
#endif
