// SPDX-License-Identifier: MIT
// Compiled where the headers of cuBLASLt and cuDNN are there: the numbers and structs of tools/gpu_check/vendor_abi.h are theirs.
#include "vendor_abi.h"
#include <assert.h>
#include <cublasLt.h>
#include <cudnn.h>
#include <stddef.h>

#define SAME(a, b) static_assert((int)(a) == (int)(b), #b)
SAME(LT_COMPUTE_32F, CUBLAS_COMPUTE_32F);
SAME(LT_OP_N, CUBLAS_OP_N);
SAME(LT_OP_T, CUBLAS_OP_T);
SAME(LT_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSA);
SAME(LT_DESC_TRANSB, CUBLASLT_MATMUL_DESC_TRANSB);
SAME(LT_DESC_EPILOGUE, CUBLASLT_MATMUL_DESC_EPILOGUE);
SAME(LT_DESC_BIAS_POINTER, CUBLASLT_MATMUL_DESC_BIAS_POINTER);
SAME(LT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_BIAS);
SAME(LT_EPILOGUE_GELU_BIAS, CUBLASLT_EPILOGUE_GELU_BIAS);
SAME(LT_PREF_MAX_WORKSPACE_BYTES, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
SAME(DNN_NHWC, CUDNN_TENSOR_NHWC);
SAME(DNN_FLOAT, CUDNN_DATA_FLOAT);
SAME(DNN_BF16, CUDNN_DATA_BFLOAT16);
SAME(DNN_CROSS_CORRELATION, CUDNN_CROSS_CORRELATION);
SAME(DNN_TENSOR_OP_MATH, CUDNN_TENSOR_OP_MATH);
SAME(0, CUBLAS_STATUS_SUCCESS);
SAME(0, CUDNN_STATUS_SUCCESS);

#define AT(a, m, b, n) SAME(offsetof(a, m), offsetof(b, n))
SAME(sizeof(lt_algo), sizeof(cublasLtMatmulAlgo_t));
SAME(sizeof(lt_heuristic), sizeof(cublasLtMatmulHeuristicResult_t));
AT(lt_heuristic, workspace_bytes, cublasLtMatmulHeuristicResult_t, workspaceSize);
AT(lt_heuristic, state, cublasLtMatmulHeuristicResult_t, state);
AT(lt_heuristic, waves, cublasLtMatmulHeuristicResult_t, wavesCount);
SAME(sizeof(dnn_algo), sizeof(cudnnConvolutionFwdAlgoPerf_t));
AT(dnn_algo, status, cudnnConvolutionFwdAlgoPerf_t, status);
AT(dnn_algo, workspace_bytes, cudnnConvolutionFwdAlgoPerf_t, memory);
AT(dnn_algo, math, cudnnConvolutionFwdAlgoPerf_t, mathType);
