/* SPDX-License-Identifier: MIT */
/* The few functions, numbers and structs of cuBLASLt 12 and 13 and of cuDNN 9 that are called, so that neither's headers are
 * needed to build. Where those are there, tests/emu/vendor_abi.c holds numbers and structs against them. */
#ifndef SWD_CUDA_VENDOR_VENDOR_ABI_H
#define SWD_CUDA_VENDOR_VENDOR_ABI_H
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
    LT_DESC_BIAS_DATA_TYPE = 26,
    LT_EPILOGUE_DEFAULT = 1,
    LT_EPILOGUE_RELU = 2,
    LT_EPILOGUE_BIAS = 4,
    LT_EPILOGUE_GELU = 32,
    LT_PREF_MAX_WORKSPACE_BYTES = 1,
    LT_PREF_REDUCTION_SCHEME_MASK = 3,
    LT_PREF_MIN_ALIGNMENT_A_BYTES = 5,
    LT_PREF_MIN_ALIGNMENT_B_BYTES = 6,
    LT_PREF_MIN_ALIGNMENT_C_BYTES = 7,
    LT_PREF_MIN_ALIGNMENT_D_BYTES = 8,
    LT_REDUCTION_COMPUTE_TYPE = 2
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

/* ---- cuDNN: its graphs ---- */

enum { DNN_FLOAT = 0, DNN_HALF = 2, DNN_BF16 = 9 }; /* data types */
enum { DNN_CROSS_CORRELATION = 1, DNN_HEUR_MODE_FALLBACK = 2, DNN_HEUR_MODE_A = 3 };
enum { DNN_POINTWISE_ADD = 0, DNN_POINTWISE_RELU = 100 };
/* What an engine does to numbers that we do not want done, and what is harmless. */
enum { DNN_NOTE_TENSOR_CORE = 0, DNN_NOTE_STRICT_NAN = 9 };
enum { DNN_BEHAVIOR_COMPILATION = 0 }; /* its kernels are compiled when a plan is made */

enum dnn_type {
    DNN_TYPE_HANDLE = 0,
    DNN_TYPE_DATA_TYPE = 1,
    DNN_TYPE_BOOLEAN = 2,
    DNN_TYPE_INT64 = 3,
    DNN_TYPE_FLOAT = 4,
    DNN_TYPE_VOID_PTR = 6,
    DNN_TYPE_CONVOLUTION_MODE = 7,
    DNN_TYPE_HEUR_MODE = 8,
    DNN_TYPE_NUMERICAL_NOTE = 11,
    DNN_TYPE_POINTWISE_MODE = 14,
    DNN_TYPE_DESCRIPTOR = 15,
    DNN_TYPE_BEHAVIOR_NOTE = 19
};

enum dnn_descriptor {
    DNN_POINTWISE = 0,
    DNN_CONVOLUTION = 1,
    DNN_ENGINE = 2,
    DNN_ENGINECFG = 3,
    DNN_ENGINEHEUR = 4,
    DNN_PLAN = 5,
    DNN_OP_CONVOLUTION = 10,
    DNN_OP_POINTWISE = 13,
    DNN_OPERATIONGRAPH = 15,
    DNN_VARIANT_PACK = 16,
    DNN_TENSOR = 17,
    DNN_OP_ATTENTION = 41 /* from 9.13.1 on */
};

enum dnn_attribute {
    DNN_POINTWISE_MODE = 0,
    DNN_POINTWISE_MATH_PREC = 1,
    DNN_CONVOLUTION_COMP_TYPE = 100,
    DNN_CONVOLUTION_CONV_MODE = 101,
    DNN_CONVOLUTION_DILATIONS = 102,
    DNN_CONVOLUTION_STRIDES = 103,
    DNN_CONVOLUTION_POST_PADDINGS = 104,
    DNN_CONVOLUTION_PRE_PADDINGS = 105,
    DNN_CONVOLUTION_SPATIAL_DIMS = 106,
    DNN_ENGINEHEUR_MODE = 200,
    DNN_ENGINEHEUR_OPERATION_GRAPH = 201,
    DNN_ENGINEHEUR_RESULTS = 202,
    DNN_ENGINECFG_ENGINE = 300,
    DNN_PLAN_HANDLE = 400,
    DNN_PLAN_ENGINE_CONFIG = 401,
    DNN_PLAN_WORKSPACE_SIZE = 402,
    DNN_OP_CONVOLUTION_ALPHA = 700,
    DNN_OP_CONVOLUTION_BETA = 701,
    DNN_OP_CONVOLUTION_DESC = 702,
    DNN_OP_CONVOLUTION_W = 703,
    DNN_OP_CONVOLUTION_X = 704,
    DNN_OP_CONVOLUTION_Y = 705,
    DNN_OP_POINTWISE_DESC = 750,
    DNN_OP_POINTWISE_X = 751,
    DNN_OP_POINTWISE_B = 752,
    DNN_OP_POINTWISE_Y = 753,
    DNN_OPERATIONGRAPH_HANDLE = 800,
    DNN_OPERATIONGRAPH_OPS = 801,
    DNN_TENSOR_BYTE_ALIGNMENT = 900,
    DNN_TENSOR_DATA_TYPE = 901,
    DNN_TENSOR_DIMENSIONS = 902,
    DNN_TENSOR_STRIDES = 903,
    DNN_TENSOR_UNIQUE_ID = 906,
    DNN_TENSOR_IS_VIRTUAL = 907,
    DNN_TENSOR_IS_BY_VALUE = 908,
    DNN_PACK_UNIQUE_IDS = 1000,
    DNN_PACK_DATA_POINTERS = 1001,
    DNN_PACK_WORKSPACE = 1003,
    DNN_ENGINE_NUMERICAL_NOTE = 1303,
    DNN_ENGINE_BEHAVIOR_NOTE = 1305,
    DNN_OP_ATTENTION_Q = 2800,
    DNN_OP_ATTENTION_K = 2801,
    DNN_OP_ATTENTION_V = 2802,
    DNN_OP_ATTENTION_O = 2803,
    DNN_OP_ATTENTION_SCALE = 2805
};
enum { DNN_VERSION_ATTENTION = 91301 }; /* cudnnGetVersion() */

#define DNN_FUNCTIONS(X)                                                                           \
    X(Create, (void **handle))                                                                     \
    X(Destroy, (void *handle))                                                                     \
    X(SetStream, (void *handle, cudaStream_t stream))                                              \
    X(BackendCreateDescriptor, (int type, void **descriptor))                                      \
    X(BackendDestroyDescriptor, (void *descriptor))                                                \
    X(BackendSetAttribute,                                                                         \
      (void *descriptor, int attribute, int type, int64_t n, const void *values))                  \
    X(BackendGetAttribute,                                                                         \
      (void *descriptor, int attribute, int type, int64_t wanted, int64_t *n, void *values))       \
    X(BackendFinalize, (void *descriptor))                                                         \
    X(BackendExecute, (void *handle, void *plan, void *pack))
#endif
