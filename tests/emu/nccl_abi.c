// SPDX-License-Identifier: MIT
// Compiled where NCCL's header is there: numbers, the id and the functions of src/cuda/vendor/nccl.h are its. Pointers stand for handles,
// int for its enums.
#include "vendor/nccl.h"
#include <assert.h>
#include <nccl.h>

static_assert(NCCL_SUM == (int)ncclSum, "sum");
static_assert(NCCL_BYTES == (int)ncclUint8 && NCCL_FLOATS == (int)ncclFloat32, "types");
static_assert((int)ncclSuccess == 0, "success");
static_assert(sizeof(nccl_id) == sizeof(ncclUniqueId) &&
                  _Alignof(nccl_id) == _Alignof(ncclUniqueId),
              "the id");
static_assert(sizeof(ncclResult_t) == sizeof(int) && sizeof(ncclDataType_t) == sizeof(int) &&
                  sizeof(ncclRedOp_t) == sizeof(int) && sizeof(ncclComm_t) == sizeof(void *),
              "sizes");
#define IS(f, ...) static_assert(_Generic(&f, ncclResult_t(*)(__VA_ARGS__) : 1, default : 0), #f)
IS(ncclGetVersion, int *);
IS(ncclGetUniqueId, ncclUniqueId *);
IS(ncclCommInitRank, ncclComm_t *, int, ncclUniqueId, int);
IS(ncclCommDestroy, ncclComm_t);
IS(ncclAllReduce, const void *, void *, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t,
   cudaStream_t);
IS(ncclBroadcast, const void *, void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t);
static_assert(_Generic(&ncclGetErrorString, const char *(*)(ncclResult_t) : 1, default : 0),
              "ncclGetErrorString");
