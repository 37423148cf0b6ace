// SPDX-License-Identifier: MIT
// Weights of convolutions, and the regions of the slab that feature maps move between.
#include "model/maps.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { NAME_MAX_BYTES = 192 };

swd_status map_name(char *buf, size_t n, swd_err *err, const char *fmt, ...)
{
    va_list list;
    va_start(list, fmt);
    int len = vsnprintf(buf, n, fmt, list);
    va_end(list);
    if (len < 0 || (size_t)len >= n)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "the name of a tensor is too long: %s", fmt);
    return SWD_OK;
}

// name.weight and, unless n_bias is 0, name.bias; the caller frees both.
static swd_status take(swd_tensor *weight, swd_tensor *bias, const int64_t *shape, int ndim,
                       bool has_bias, const char *name, const map_source *s)
{
    char key[NAME_MAX_BYTES];
    SWD_TRY(map_name(key, sizeof key, s->err, "%s.weight", name), s->err);
    swd_dtype dtype = s->compute == SWD_BF16 ? SWD_BF16 : weights_exact_dtype(s->w, key);
    SWD_TRY(weights_take(s->w, weight, key, shape, ndim, dtype, s->err), s->err);
    if (!has_bias) return SWD_OK;
    SWD_TRY(map_name(key, sizeof key, s->err, "%s.bias", name), s->err);
    SWD_TRY(weights_take(s->w, bias, key, shape, 1, SWD_F32, s->err), s->err);
    return SWD_OK;
}

swd_status map_conv_load(swd_conv **out, const map_conv *c, const char *name, const map_source *s)
{
    swd_tensor weight = tensor_none(), bias = tensor_none();
    int64_t shape[4] = {c->file_out ? c->file_out : c->out, c->in, c->kernel, c->kernel};
    swd_status st = take(&weight, &bias, shape, 4, !c->no_bias, name, s);
    if (st == SWD_OK) {
        weight.shape[0] = c->out;
        if (tensor_present(bias)) bias.shape[0] = c->out;
        st = s->be->conv_create(s->be, out, weight, bias, c->stride, c->pad_before, c->pad_after,
                                c->upsample2x, s->compute, s->err);
    }
    free(weight.data);
    free(bias.data);
    SWD_TRY(st, s->err);
    return SWD_OK;
}

swd_status map_linear_load(swd_linear **out, int n, int k, const char *name, const map_source *s)
{
    swd_tensor weight = tensor_none(), bias = tensor_none();
    swd_status st = take(&weight, &bias, (int64_t[]){n, k}, 2, true, name, s);
    if (st == SWD_OK) st = s->be->linear_create(s->be, out, weight, bias, s->compute, s->err);
    free(weight.data);
    free(bias.data);
    SWD_TRY(st, s->err);
    return SWD_OK;
}

swd_status map_vector_load(swd_tensor *out, int n, const char *name, const map_source *s)
{
    swd_tensor host;
    SWD_TRY(weights_get(s->w, &host, name, (int64_t[]){n}, 1, SWD_F32, s->err), s->err);
    void *data = s->be->alloc(s->be, (size_t)n * sizeof(float));
    if (!data) return SWD_FAIL(s->err, SWD_ERR_MEMORY, "no memory for %s (%d floats)", name, n);
    *out = tensor1(data, SWD_F32, n); // owned by the model from here on, also when the upload fails
    SWD_TRY(s->be->upload(s->be, *out, host.data, NULL, s->err), s->err);
    SWD_TRY(s->be->synchronize(s->be, NULL, s->err), s->err); // host is only lent
    return SWD_OK;
}

swd_tensor maps_place(maps *m, int ahead, swd_dtype dtype, int64_t b, int64_t h, int64_t w,
                      int64_t c)
{
    int i = (m->at + ahead) % MAP_REGIONS;
    swd_tensor t = tensor4(m->ex->dry ? NULL : m->base[i], dtype, b, h, w, c);
    size_t bytes = tensor_bytes(t);
    if (m->ex->dry && bytes > m->need[i]) m->need[i] = bytes;
    assert(bytes <= m->need[i] && "the regions were measured with other shapes");
    return t;
}

void maps_move(maps *m, int ahead)
{
    m->at = (m->at + ahead) % MAP_REGIONS;
}

swd_status maps_run(swd_status (*fn)(swd_tensor y, swd_tensor x, const void *model, maps *m),
                    swd_tensor y, swd_tensor x, const void *model, swd_exec *ex)
{
    swd_exec probe = *ex;
    probe.dry = true;
    maps m = {.ex = &probe};
    SWD_TRY(fn(y, x, model, &m), ex->err);
    size_t mark = exec_mark(ex);
    for (int i = 0; i < MAP_REGIONS; i++) m.base[i] = exec1(ex, SWD_U8, (int64_t)m.need[i]).data;
    m.ex = ex;
    m.at = 0;
    swd_status s = fn(y, x, model, &m);
    exec_rewind(ex, mark);
    SWD_TRY(s, ex->err);
    return SWD_OK;
}
