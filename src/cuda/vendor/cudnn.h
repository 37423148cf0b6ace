/* SPDX-License-Identifier: MIT */
/* Convolutions and attention by NVIDIA's cuDNN 9, which is looked for and loaded at run time, through its graphs of operations. */
#ifndef SWD_CUDA_VENDOR_CUDNN_H
#define SWD_CUDA_VENDOR_CUDNN_H
#include "base/status.h"
#include "kernels/kernels.h"

enum { DNN_WAYS_MAX = 6 };

typedef struct cudnn cudnn; /* the library and a handle of it */

/* As cublaslt_open(). */
swd_status cudnn_open(cudnn **out, char *found, size_t found_bytes, const char *where,
                      swd_err *err);
void cudnn_close(cudnn **dnn); /* writes NULL; accepts it */
size_t cudnn_version(const cudnn *dnn);

/* Pieces of work are of one sample; pointers are aligned to 16 bytes. Sums are float32, and so is what lies between operations. */

/* y [ho, wo, out] = relu(conv(x) + bias) + residual, NHWC, w [out, kh, kw, in] */
typedef struct dnn_conv {
    int64_t h, w, ho, wo, in, out, kh, kw, stride,
        pad; /* pad: before; behind there are as many zeros as are needed */
    k_dtype operand, result, residual_dtype; /* of x and w; of y */
    bool bias, relu, residual;               /* bias is float32 */
} dnn_conv;

/* o = softmax(scale q k^T) v; by cuDNN 9.13.1 or newer */
typedef struct dnn_attention {
    int64_t heads, head_dim, n_q, n_k;
    struct dnn_rows {
        int64_t row, head; /* strides in elements */
    } q, k, v, o;
    k_dtype operand, result; /* of q, k and v; of o */
    float scale;
} dnn_attention;

typedef struct dnn_work
    dnn_work; /* the operations, and the ways that cuDNN proposes for them, the likely fastest first */

/* SWD_ERR_UNSUPPORTED where cuDNN does not want the work. dnn outlives it. */
swd_status dnn_conv_make(dnn_work **out, const cudnn *dnn, const dnn_conv *c, swd_err *err);
swd_status dnn_attention_make(dnn_work **out, const cudnn *dnn, const dnn_attention *a,
                              swd_err *err);
void dnn_work_destroy(dnn_work **w); /* writes NULL; accepts it */

int dnn_work_ways(const dnn_work *w);
/* Whether a way is exact: float32 sums, operands as they are, one order of adding; and, unless compile, its kernels are there. Others
 * are compiled whenever they are prepared, which takes a second or some. */
bool dnn_work_may(const dnn_work *w, int way, bool compile);
/* Makes a way ready to run, if cuDNN can build it and it needs no more workspace. */
void dnn_work_prepare(dnn_work *w, int way, size_t workspace_max);
bool dnn_work_ready(const dnn_work *w, int way);
size_t dnn_work_workspace(const dnn_work *w, int way); /* aligned to 256 */
void dnn_work_keep(dnn_work *w, int way);              /* forgets the others */

/* Of convolutions x, w, y, bias, residual; of attention q, k, v, o; unused ones NULL. SWD_ERR_UNSUPPORTED: cuDNN refuses. */
enum { DNN_POINTERS = 5 };
swd_status dnn_work_run(const dnn_work *w, int way, void *const pointers[DNN_POINTERS],
                        void *workspace, cudaStream_t stream, swd_err *err);
#endif
