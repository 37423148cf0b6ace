// SPDX-License-Identifier: MIT
#include "weights/synthetic.h"
#include "base/memory.h"
#include "base/rng.h"
#include <string.h>

// A prime: rows of a matrix start at different places of the block.
enum { BLOCK = 65521 };

struct synthetic {
    random_tensor *statistics; // as tensors, of the same index
    st_tensor *tensors;
    int n;
    float z[BLOCK];
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const random_tensor *)a)->name, ((const random_tensor *)b)->name);
}

static int name_to_tensor(const void *name, const void *t)
{
    return strcmp(name, ((const st_tensor *)t)->name);
}

static st_tensor describe(const random_tensor *r)
{
    st_tensor t = {
        .name = r->name, .dtype_text = "BF16", .dtype = SWD_BF16, .ndim = r->ndim, .numel = 1};
    for (int i = 0; i < r->ndim; i++) t.numel *= t.shape[i] = r->shape[i];
    t.bytes = (size_t)t.numel * dtype_size(SWD_BF16);
    return t;
}

swd_status synthetic_create(synthetic **out, tensor_list *list, swd_err *err)
{
    synthetic *s;
    *out = NULL;
    swd_status status = swd_calloc(&s, 1, sizeof *s, "random weights", err);
    if (status != SWD_OK) {
        free(list->at);
        return status;
    }
    s->statistics = list->at;
    s->n = (int)list->n;
    *list = (tensor_list){0};
    status = swd_calloc(&s->tensors, (size_t)s->n, sizeof *s->tensors, "random weights", err);
    if (status != SWD_OK) {
        synthetic_destroy(&s);
        return status;
    }
    qsort(s->statistics, (size_t)s->n, sizeof *s->statistics, by_name);
    for (int i = 0; i < s->n; i++) s->tensors[i] = describe(&s->statistics[i]);
    philox_randn(s->z, BLOCK, 0, 1, 0);
    *out = s;
    return SWD_OK;
}

void synthetic_destroy(synthetic **s)
{
    if (!*s) return;
    free((*s)->statistics);
    free((*s)->tensors);
    free(*s);
    *s = NULL;
}

const st_tensor *synthetic_find(const synthetic *s, const char *name)
{
    return bsearch(name, s->tensors, (size_t)s->n, sizeof *s->tensors, name_to_tensor);
}

const st_tensor *synthetic_at(const synthetic *s, int i)
{
    return &s->tensors[i];
}

int synthetic_count(const synthetic *s)
{
    return s->n;
}

static uint32_t hash(const char *name) // FNV-1a
{
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 16777619u;
    return h;
}

swd_status synthetic_read(const synthetic *s, const st_tensor *t, void *dst, swd_dtype dtype,
                          swd_err *err)
{
    const random_tensor *r = &s->statistics[t - s->tensors];
    int64_t start = hash(t->name) % BLOCK, pieces = (start + t->numel + BLOCK - 1) / BLOCK;
    size_t size = dtype_size(dtype);
    unsigned char *block;
    SWD_TRY(swd_malloc(&block, BLOCK, size, "random weights", err), err);
    for (int i = 0; i < BLOCK; i++) {
        uint16_t h = f32_to_bf16(r->mean + r->deviation * s->z[i]);
        if (dtype == SWD_BF16)
            memcpy(block + (size_t)i * size, &h, size);
        else
            ((float *)(void *)block)[i] = bf16_to_f32(h);
    }
#pragma omp parallel for
    for (int64_t k = 0; k < pieces; k++) { // piece k holds what comes from the block's k-th round
        int64_t from = k * BLOCK - start, skip = from < 0 ? -from : 0,
                stop = from + BLOCK > t->numel ? t->numel - from : BLOCK;
        memcpy((unsigned char *)dst + (size_t)(from + skip) * size, block + (size_t)skip * size,
               (size_t)(stop - skip) * size);
    }
    free(block);
    return SWD_OK;
}
