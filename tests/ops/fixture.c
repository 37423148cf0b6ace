// SPDX-License-Identifier: MIT
#include "fixture.h"
#include "number.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 128, EMPTY = 0xff };

void *test_alloc(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p) {
        fprintf(stderr, "no memory for %zu x %zu bytes of a test\n", n, size);
        abort();
    }
    return p;
}

void fixture_open(fixture *f, swd_backend *b, const char *name, uint64_t seed)
{
    *f = (fixture){.backend = b, .rng = fill_rng_of(name, seed)};
}

void fixture_forget_host(fixture *f)
{
    for (int i = 0; i < f->n; i++) {
        operand *o = &f->operand[i];
        free(o->value), free(o->want), free(o->slack);
        free(o->before), free(o->after);
        o->value = NULL, o->want = o->slack = NULL;
        o->before = o->after = NULL;
    }
}

void fixture_close(fixture *f)
{
    if (f->linear) f->backend->linear_destroy(f->backend, &f->linear);
    if (f->conv) f->backend->conv_destroy(f->backend, &f->conv);
    for (int i = 0; i < f->n; i++)
        if (f->operand[i].memory) f->backend->release(f->backend, f->operand[i].memory);
    fixture_forget_host(f);
    f->n = 0;
}

// Strides of a view; returns how many elements lie before element 0. i: of the operand, for strides of its own.
static int64_t lay_out(swd_tensor *t, operand_view view, int i)
{
    if (view == PLAIN) return 0;
    int64_t stride = t->shape[t->ndim - 1], gap = 1 + i % 3;
    stride = view == ODD ? (stride | 1) + 2 * gap : (stride + 7) / 8 * 8 + 8 * gap;
    for (int d = t->ndim - 2; d >= 0; d--) {
        t->stride[d] = stride;
        stride *= t->shape[d] + gap;
    }
    return view == ODD ? 1 : 0;
}

static operand_view view_in_role(operand_view view, operand_role role)
{
    if (role == WEIGHT) return PLAIN;
    if (view == STRIDED_IN) return role == OUT ? PLAIN : STRIDED;
    if (view == STRIDED_OUT) return role == IN ? PLAIN : STRIDED;
    return view;
}

int64_t element_offset(swd_tensor t, int64_t i)
{
    int64_t offset = 0;
    for (int k = t.ndim - 1; k >= 0; k--) {
        offset += i % t.shape[k] * t.stride[k];
        i /= t.shape[k];
    }
    return offset;
}

operand *operand_add(fixture *f, const char *name, operand_role role, swd_dtype type,
                     operand_view view, fill kind, const int64_t *shape, int ndim)
{
    assert(f->n < OPERANDS_MAX);
    operand *o = &f->operand[f->n++];
    *o = (operand){.name = name, .role = role, .t = tensor_make(NULL, type, shape, ndim)};
    int64_t n = tensor_numel(o->t), size = (int64_t)dtype_size(type);
    assert(n > 0);
    o->traffic = n;
    o->first = GUARD + lay_out(&o->t, view_in_role(view, role), f->n) * size;
    o->bytes = (size_t)(o->first + (element_offset(o->t, n - 1) + 1) * size + GUARD);
    if (role != OUT) {
        o->value = test_alloc((size_t)n, sizeof *o->value);
        fill_values(o->value, n, shape[ndim - 1], type, kind, &f->rng);
    }
    return o;
}

operand *operand_of(const fixture *f, const char *name)
{
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->operand[i].name, name) == 0) return (operand *)&f->operand[i];
    return NULL;
}

static unsigned char *element(const operand *o, unsigned char *buffer, int64_t i)
{
    return buffer + o->first + element_offset(o->t, i) * (int64_t)dtype_size(o->t.dtype);
}

// The buffer as it is before the call.
static void encode(operand *o)
{
    if (!o->before) o->before = test_alloc(o->bytes, 1);
    memset(o->before, EMPTY, o->bytes);
    for (int64_t i = 0; o->value && i < tensor_numel(o->t); i++)
        number_store(element(o, o->before, i), value_of(o, i), o->t.dtype);
}

swd_tensor tensor_of(const fixture *f, const char *name)
{
    operand *o = operand_of(f, name);
    if (!o) return tensor_none();
    if (o->role == WEIGHT) {
        encode(o);
        o->t.data = o->before + o->first;
    }
    return o->t;
}

swd_dtype type_of(const fixture *f, int letter)
{
    assert(letter < f->n_types && "the case's word of types is too short");
    return f->type[letter];
}

void operand_set(operand *o, int64_t i, double x)
{
    o->value[i] = (float)number_round(x, o->t.dtype);
}

swd_status fixture_upload(fixture *f, swd_err *err)
{
    for (int i = 0; i < f->n; i++) {
        operand *o = &f->operand[i];
        if (o->role == WEIGHT) continue;
        if (!o->memory) {
            o->memory = f->backend->alloc(f->backend, o->bytes);
            if (!o->memory)
                return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for %zu bytes of %s", o->bytes,
                                o->name);
            encode(o);
            o->t.data = (unsigned char *)o->memory + o->first;
        }
        swd_tensor all = tensor1(o->memory, SWD_U8, (int64_t)o->bytes);
        SWD_TRY(f->backend->upload(f->backend, all, o->before, NULL, err), err);
    }
    return f->backend->synchronize(f->backend, NULL, err);
}

swd_status fixture_download(fixture *f, swd_err *err)
{
    for (int i = 0; i < f->n; i++) {
        operand *o = &f->operand[i];
        if (o->role == WEIGHT) continue;
        if (!o->after) o->after = test_alloc(o->bytes, 1);
        swd_tensor all = tensor1(o->memory, SWD_U8, (int64_t)o->bytes);
        SWD_TRY(f->backend->download(f->backend, o->after, all, NULL, err), err);
    }
    return f->backend->synchronize(f->backend, NULL, err);
}

double result_of(const operand *o, int64_t i)
{
    return number_load(element(o, o->after, i), o->t.dtype);
}

int64_t operand_damage(const operand *o)
{
    unsigned char *was = test_alloc(o->bytes, 1);
    size_t size = dtype_size(o->t.dtype), at = 0;
    memcpy(was, o->before, o->bytes);
    for (int64_t i = 0; o->role != IN && i < tensor_numel(o->t); i++)
        memcpy(element(o, was, i), element(o, o->after, i), size);
    while (at < o->bytes && was[at] == o->after[at]) at++;
    free(was);
    return at < o->bytes ? (int64_t)at : -1;
}

double fixture_bytes(const fixture *f)
{
    double sum = 0;
    for (int i = 0; i < f->n; i++) {
        const operand *o = &f->operand[i];
        sum += (double)o->traffic * (double)dtype_size(o->t.dtype) * (o->role == INOUT ? 2 : 1);
    }
    return sum;
}
