/* SPDX-License-Identifier: MIT */
/* safetensors: 8 bytes of header length (little endian), a JSON header, the data. A set is one file or the shards of an index.
 * Every length, offset and shape is checked when the set is opened; each kind of damage has its own message, with file, tensor
 * and byte. Data may be misaligned: read it with memcpy. */
#ifndef SWD_IO_SAFETENSORS_H
#define SWD_IO_SAFETENSORS_H
#include "base/status.h"
#include "tensor/tensor.h"

enum {
    ST_HEADER_BYTES_MAX = 100 << 20,
    ST_DIMS_MAX = 8,
    ST_FILES_MAX = 1024,
    ST_TENSORS_MAX = 1 << 20
};

typedef struct st_tensor {
    const char *name;
    const char *dtype_text; /* as in the file: "F32", "I64", ... */
    swd_dtype
        dtype; /* SWD_N_DTYPES: a known type that nothing here computes with (F64, I64, BOOL, ...) */
    int ndim;  /* 0: a scalar, one element */
    int64_t shape[ST_DIMS_MAX];
    int64_t numel;
    const unsigned char *data; /* any alignment; little endian */
    size_t offset, bytes;      /* offset from the start of the file */
    int file;                  /* index of its file in the set */
} st_tensor;

typedef struct safetensors safetensors;

/* path: a .safetensors file, an index (.json), or a folder with basename.safetensors, basename.safetensors.index.json or their fp16
 * variants. All memory that the set hands out lives until safetensors_close. */
swd_status safetensors_open(safetensors **out, const char *path, const char *basename,
                            swd_err *err);
/* One file that is already in memory; data is borrowed until safetensors_close. */
swd_status safetensors_parse(safetensors **out, const char *path_for_messages, const void *data,
                             size_t n, swd_err *err);
void safetensors_close(safetensors **s); /* writes NULL; accepts it */

const st_tensor *safetensors_find(const safetensors *s,
                                  const char *name); /* NULL if there is none */
int safetensors_count(const safetensors *s);
const st_tensor *safetensors_at(const safetensors *s, int i); /* in order of name */
int safetensors_file_count(const safetensors *s);
const char *safetensors_file_path(const safetensors *s, int file);
size_t safetensors_bytes(const safetensors *s); /* of all files */
/* A value of "__metadata__" (of the first file that has it), or NULL. */
const char *safetensors_metadata(const safetensors *s, const char *key);
/* The data of t will not be needed again soon: its whole pages may go. */
void safetensors_release(const safetensors *s, const st_tensor *t);

/* t is being read: what follows it in its file may be read from the disk meanwhile. */
void safetensors_read_ahead(const safetensors *s, const st_tensor *t);

/* "[2,3]" into buf; returns buf. */
char *st_describe_shape(const int64_t *shape, int ndim, char *buf, size_t n);
#endif
