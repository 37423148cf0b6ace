/* SPDX-License-Identifier: MIT */
/* safetensors files, written. */
#ifndef SWD_IO_SAFETENSORS_WRITE_H
#define SWD_IO_SAFETENSORS_WRITE_H
#include "io/safetensors.h"

typedef struct st_write_tensor {
    const char *name;
    swd_dtype dtype;
    int ndim;
    int64_t shape[ST_DIMS_MAX];
    const void *
        data; /* contiguous; NULL: fill gives it in pieces, so that a file may be larger than the memory */
    /* to[n elements of dtype] = elements first, first + 1, ... */
    void (*fill)(void *ctx, void *to, int64_t first, int64_t n);
    void *ctx;
} st_write_tensor;

typedef struct st_metadata {
    const char *key, *value;
} st_metadata;

/* Writes to a temporary name beside path, then renames: path is the old file or the whole new one. Data starts 8-byte aligned. */
swd_status safetensors_write(const char *path, const st_write_tensor *tensors, int n_tensors,
                             const st_metadata *metadata, int n_metadata, swd_err *err);
#endif
