// SPDX-License-Identifier: MIT
#include "io/safetensors_write.h"
#include "base/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const st_names[SWD_N_DTYPES] = {
    [SWD_F32] = "F32", [SWD_BF16] = "BF16", [SWD_F16] = "F16", [SWD_I32] = "I32", [SWD_U8] = "U8",
};

static int64_t write_numel(const st_write_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) {
        if (!i64_mul(&n, n, t->shape[i])) return -1;
    }
    return n;
}

// The header as a json_t, or NULL when memory ran out.
static json_t *make_header(const st_write_tensor *t, int n, const st_metadata *metadata,
                           int n_metadata)
{
    json_t *root = json_object();
    bool ok = root != NULL;
    if (n_metadata > 0) {
        json_t *m = json_object();
        for (int i = 0; i < n_metadata; i++)
            ok = json_object_set_new(m, metadata[i].key, json_string(metadata[i].value)) == 0 && ok;
        ok = json_object_set_new(root, "__metadata__", m) == 0 && ok;
    }
    json_int_t at = 0;
    for (int i = 0; i < n && ok; i++) {
        json_t *shape = json_array();
        for (int k = 0; k < t[i].ndim; k++)
            json_array_append_new(shape, json_integer(t[i].shape[k]));
        json_int_t end = at + write_numel(&t[i]) * (json_int_t)dtype_size(t[i].dtype);
        json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", st_names[t[i].dtype], "shape",
                                  shape, "data_offsets", at, end);
        ok = entry && json_object_set_new(root, t[i].name, entry) == 0;
        at = end;
    }
    if (ok) return root;
    json_decref(root);
    return NULL;
}

enum { FILL_BYTES = 8 << 20 };

static bool write_filled(FILE *f, const st_write_tensor *t, int64_t numel)
{
    size_t size = dtype_size(t->dtype);
    int64_t piece = (int64_t)(FILL_BYTES / size);
    unsigned char *buffer = malloc(FILL_BYTES);
    bool ok = buffer != NULL;
    for (int64_t at = 0, n; at < numel && ok; at += n) {
        n = numel - at < piece ? numel - at : piece;
        t->fill(t->ctx, buffer, at, n);
        ok = fwrite(buffer, size, (size_t)n, f) == (size_t)n;
    }
    free(buffer);
    return ok;
}

static bool write_all(FILE *f, const char *header, const st_write_tensor *t, int n)
{
    size_t length = strlen(header), padded = (length + 7) / 8 * 8;
    unsigned char head[8];
    for (int i = 0; i < 8; i++) head[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    bool ok = fwrite(head, 1, 8, f) == 8 && fwrite(header, 1, length, f) == length &&
              fwrite("       ", 1, padded - length, f) == padded - length;
    for (int i = 0; i < n && ok; i++) {
        int64_t numel = write_numel(&t[i]);
        size_t bytes = (size_t)numel * dtype_size(t[i].dtype);
        ok = bytes == 0 || (!t[i].data && t[i].fill ? write_filled(f, &t[i], numel)
                                                    : fwrite(t[i].data, 1, bytes, f) == bytes);
    }
    return ok && fflush(f) == 0;
}

// A new file beside path, with the permissions that the umask leaves (mkstemp's would be the owner's only).
static FILE *open_temporary(char **name, const char *path, swd_err *err)
{
    for (int i = 0; i < 100; i++) {
        if (swd_asprintf(name, err, "%s.tmp%ld.%d", path, (long)getpid(), i) != SWD_OK) return NULL;
        int fd = open(*name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        FILE *f = fd >= 0 ? fdopen(fd, "wb") : NULL;
        if (f) return f;
        int e = errno;
        if (fd >= 0) close(fd);
        free(*name);
        *name = NULL;
        if (e != EEXIST) {
            SWD_FAIL(err, SWD_ERR_FILE, "%s: cannot be written: %s", path, strerror(e));
            return NULL;
        }
    }
    SWD_FAIL(err, SWD_ERR_FILE, "%s: cannot be written: too many temporary files beside it", path);
    return NULL;
}

static swd_status write_and_rename(const char *path, const char *header, const st_write_tensor *t,
                                   int n, swd_err *err)
{
    char *temporary;
    FILE *f = open_temporary(&temporary, path, err);
    if (!f) return SWD_ERR_FILE;
    bool ok = write_all(f, header, t, n);
    ok = fclose(f) == 0 && ok;
    ok = ok && rename(temporary, path) == 0;
    swd_status s =
        ok ? SWD_OK
           : SWD_FAIL(err, SWD_ERR_FILE, "%s: cannot be written: %s", path, strerror(errno));
    if (!ok) unlink(temporary);
    free(temporary);
    return s;
}

swd_status safetensors_write(const char *path, const st_write_tensor *tensors, int n_tensors,
                             const st_metadata *metadata, int n_metadata, swd_err *err)
{
    for (int i = 0; i < n_tensors; i++) {
        if (tensors[i].ndim < 0 || tensors[i].ndim > ST_DIMS_MAX || write_numel(&tensors[i]) < 0)
            return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%s: tensor %s has no valid shape", path,
                            tensors[i].name);
    }
    json_t *root = make_header(tensors, n_tensors, metadata, n_metadata);
    char *header = root ? json_dumps(root, JSON_COMPACT) : NULL;
    bool twice = root && json_object_size(root) != (size_t)n_tensors + (n_metadata > 0);
    json_decref(root);
    if (!header)
        return SWD_FAIL(err, SWD_ERR_FILE,
                        "%s: the header could not be made (a name that is not UTF-8, or no memory)",
                        path);
    swd_status s = twice ? SWD_FAIL(err, SWD_ERR_ARGUMENT, "%s: two tensors of one name", path)
                         : write_and_rename(path, header, tensors, n_tensors, err);
    free(header);
    return s;
}
