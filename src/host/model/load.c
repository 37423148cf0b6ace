// SPDX-License-Identifier: MIT
#include "model/load.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_ = 256 };

// Packed BF16 loses nothing when the products round their inputs to BF16 anyway, or the files hold no more.
static swd_dtype storage(const loader *l, const char *name)
{
    return l->compute == SWD_BF16 ? SWD_BF16 : weights_exact_dtype(l->w, name);
}

#define FORMAT(buf, fmt)                                                                           \
    do {                                                                                           \
        va_list args_;                                                                             \
        va_start(args_, fmt);                                                                      \
        vsnprintf(buf, sizeof(buf), fmt, args_);                                                   \
        va_end(args_);                                                                             \
    } while (0)

static void suffixed(char *out, const char *name, const char *suffix)
{
    snprintf(out, NAME_MAX_ + 16, "%s%s", name, suffix);
}

// weight as [n, k] whatever its shape in the file
static swd_status pack_linear(const loader *l, swd_linear **out, const int64_t *shape, int ndim,
                              bool bias, const char *name)
{
    char full[NAME_MAX_ + 16];
    swd_tensor w = {0}, b = {0};
    swd_status s;
    suffixed(full, name, ".weight");
    SWD_TRY_GOTO(s, weights_take(l->w, &w, full, shape, ndim, storage(l, full), l->err), l->err,
                 done);
    if (bias) {
        suffixed(full, name, ".bias");
        SWD_TRY_GOTO(s, weights_take(l->w, &b, full, shape, 1, SWD_F32, l->err), l->err, done);
    }
    w = tensor_reshape(w, (int64_t[]){shape[0], tensor_numel(w) / shape[0]}, 2);
    SWD_TRY_GOTO(s, l->be->linear_create(l->be, out, w, b, l->compute, l->err), l->err, done);
done:
    free(w.data);
    free(b.data);
    return s;
}

swd_status load_linear(const loader *l, swd_linear **out, int64_t n, int64_t k, bool bias,
                       const char *name, ...)
{
    char full[NAME_MAX_];
    FORMAT(full, name);
    return pack_linear(l, out, (int64_t[]){n, k}, 2, bias, full);
}

swd_status load_patch_linear(const loader *l, swd_linear **out, int64_t n, int64_t c, int patch,
                             const char *name, ...)
{
    char full[NAME_MAX_];
    FORMAT(full, name);
    return pack_linear(l, out, (int64_t[]){n, c, patch, patch}, 4, true, full);
}

swd_status load_stacked(const loader *l, swd_linear **out, int count, const char *const *names,
                        int64_t n, int64_t k, bool bias, const char *prefix, ...)
{
    char head[NAME_MAX_], name[2 * NAME_MAX_];
    FORMAT(head, prefix);
    swd_dtype dtype = l->compute;
    for (int i = 0; i < count; i++) { // one dtype for all: F32 as soon as one part needs it
        snprintf(name, sizeof name, "%s%s.weight", head, names[i]);
        if (i == 0 || storage(l, name) == SWD_F32) dtype = storage(l, name);
    }
    size_t part = (size_t)(n * k) * dtype_size(dtype);
    unsigned char *w = malloc(part * (size_t)count);
    float *b = bias ? malloc((size_t)(n * count) * sizeof *b) : NULL;
    swd_status s = SWD_OK;
    if (!w || (bias && !b)) {
        s = SWD_FAIL(l->err, SWD_ERR_MEMORY, "out of memory: %zu bytes for %s",
                     part * (size_t)count, head);
        goto done;
    }
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s%s.weight", head, names[i]);
        SWD_TRY_GOTO(
            s, weights_read(l->w, name, (int64_t[]){n, k}, 2, w + part * (size_t)i, dtype, l->err),
            l->err, done);
        if (!bias) continue;
        snprintf(name, sizeof name, "%s%s.bias", head, names[i]);
        SWD_TRY_GOTO(s, weights_get_f32(l->w, name, &n, 1, b + n * i, l->err), l->err, done);
    }
    SWD_TRY_GOTO(s,
                 l->be->linear_create(l->be, out, tensor2(w, dtype, n * count, k),
                                      bias ? tensor1(b, SWD_F32, n * count) : tensor_none(),
                                      l->compute, l->err),
                 l->err, done);
done:
    free(w);
    free(b);
    return s;
}

static swd_status upload(const loader *l, swd_tensor *out, const int64_t *shape, int ndim,
                         swd_dtype dtype, const char *name)
{
    swd_tensor host;
    *out = tensor_none();
    SWD_TRY(weights_get(l->w, &host, name, shape, ndim, dtype, l->err), l->err);
    void *p = l->be->alloc(l->be, tensor_bytes(host));
    if (!p)
        return SWD_FAIL(l->err, SWD_ERR_MEMORY, "out of memory: %zu bytes for %s",
                        tensor_bytes(host), name);
    *out = tensor_make(p, dtype, shape, ndim);
    SWD_TRY(l->be->upload(l->be, *out, host.data, NULL, l->err), l->err);
    return SWD_OK;
}

swd_status load_vector(const loader *l, swd_tensor *out, int64_t n, const char *name, ...)
{
    char full[NAME_MAX_];
    FORMAT(full, name);
    return upload(l, out, &n, 1, SWD_F32, full);
}

swd_status load_matrix(const loader *l, swd_tensor *out, const int64_t *shape, int ndim,
                       const char *name, ...)
{
    char full[NAME_MAX_];
    FORMAT(full, name);
    return upload(l, out, shape, ndim, SWD_F32, full);
}

swd_status load_table(const loader *l, swd_tensor *out, int64_t rows, int64_t d, const char *name,
                      ...)
{
    char full[NAME_MAX_];
    FORMAT(full, name);
    return upload(l, out, (int64_t[]){rows, d}, 2, weights_exact_dtype(l->w, full), full);
}

void load_release(swd_backend *be, swd_tensor *t)
{
    if (t->data) be->release(be, t->data);
    *t = tensor_none();
}
