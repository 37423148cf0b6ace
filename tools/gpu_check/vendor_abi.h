/* SPDX-License-Identifier: MIT */
/* The few functions, numbers and structs of cuBLASLt 12 and 13 and of cuDNN 9 that are called, so that neither's headers are
 * needed to build. Where those are there, tests/emu/vendor_abi.c holds every line of this against them. */
#ifndef SWD_TOOLS_GPU_CHECK_VENDOR_ABI_H
#define SWD_TOOLS_GPU_CHECK_VENDOR_ABI_H
#include <cuda_runtime_api.h>
#include <library_types.h> /* cudaDataType */
#include <stddef.h>
#include <stdint.h>

/* ---- cuBLASLt ---- */

enum {
    LT_COMPUTE_32F = 68,
    LT_OP_N = 0,
    LT_OP_T = 1,
    LT_DESC_TRANSA = 3,
    LT_DESC_TRANSB = 4,
    LT_DESC_EPILOGUE = 7,
    LT_DESC_BIAS_POINTER = 8,
    LT_EPILOGUE_BIAS = 4,
    LT_EPILOGUE_GELU_BIAS = 36,
    LT_PREF_MAX_WORKSPACE_BYTES = 1
};

typedef struct lt_algo {
    uint64_t data[8];
} lt_algo;

typedef struct lt_heuristic {
    lt_algo algo;
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
} lt_heuristic;

/* name, arguments; all return an int, 0 is success */
#define LT_FUNCTIONS(X)                                                                            \
    X(Create, (void **handle))                                                                     \
    X(Destroy, (void *handle))                                                                     \
    X(MatmulDescCreate, (void **desc, int compute, int scale_type))                                \
    X(MatmulDescDestroy, (void *desc))                                                             \
    X(MatmulDescSetAttribute, (void *desc, int attribute, const void *value, size_t bytes))        \
    X(MatrixLayoutCreate,                                                                          \
      (void **layout, int type, uint64_t rows, uint64_t columns, int64_t stride))                  \
    X(MatrixLayoutDestroy, (void *layout))                                                         \
    X(MatmulPreferenceCreate, (void **preference))                                                 \
    X(MatmulPreferenceDestroy, (void *preference))                                                 \
    X(MatmulPreferenceSetAttribute,                                                                \
      (void *preference, int attribute, const void *value, size_t bytes))                          \
    X(MatmulAlgoGetHeuristic, (void *handle, void *desc, void *a, void *b, void *c, void *d,       \
                               void *preference, int wanted, lt_heuristic *results, int *found))   \
    X(Matmul,                                                                                      \
      (void *handle, void *desc, const void *alpha, const void *a, void *a_layout, const void *b,  \
       void *b_layout, const void *beta, const void *c, void *c_layout, void *d, void *d_layout,   \
       const lt_algo *algo, void *workspace, size_t workspace_bytes, cudaStream_t stream))

/* ---- cuDNN ---- */

enum {
    DNN_NHWC = 1,
    DNN_FLOAT = 0,
    DNN_BF16 = 9,
    DNN_CROSS_CORRELATION = 1,
    DNN_TENSOR_OP_MATH = 1
};

typedef struct dnn_algo {
    int algo, status;
    float ms;
    size_t workspace_bytes;
    int deterministic, math, reserved[3];
} dnn_algo;

#define DNN_FUNCTIONS(X)                                                                           \
    X(Create, (void **handle))                                                                     \
    X(Destroy, (void *handle))                                                                     \
    X(SetStream, (void *handle, cudaStream_t stream))                                              \
    X(CreateTensorDescriptor, (void **tensor))                                                     \
    X(DestroyTensorDescriptor, (void *tensor))                                                     \
    X(SetTensor4dDescriptor, (void *tensor, int format, int type, int n, int c, int h, int w))     \
    X(CreateFilterDescriptor, (void **filter))                                                     \
    X(DestroyFilterDescriptor, (void *filter))                                                     \
    X(SetFilter4dDescriptor, (void *filter, int type, int format, int k, int c, int h, int w))     \
    X(CreateConvolutionDescriptor, (void **conv))                                                  \
    X(DestroyConvolutionDescriptor, (void *conv))                                                  \
    X(SetConvolution2dDescriptor, (void *conv, int pad_h, int pad_w, int stride_h, int stride_w,   \
                                   int dilation_h, int dilation_w, int mode, int compute))         \
    X(SetConvolutionMathType, (void *conv, int math))                                              \
    X(FindConvolutionForwardAlgorithmEx,                                                           \
      (void *handle, void *x_tensor, const void *x, void *filter, const void *w, void *conv,       \
       void *y_tensor, void *y, int wanted, int *found, dnn_algo *results, void *workspace,        \
       size_t workspace_bytes))                                                                    \
    X(ConvolutionForward, (void *handle, const void *alpha, void *x_tensor, const void *x,         \
                           void *filter, const void *w, void *conv, int algo, void *workspace,     \
                           size_t workspace_bytes, const void *beta, void *y_tensor, void *y))
#endif
