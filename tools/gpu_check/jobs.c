// SPDX-License-Identifier: MIT
#include "jobs.h"
#include "base/memory.h"
#include "backend_cuda.h"
#include <math.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>

static swd_tensor tensor_of(const part *o, void *data)
{
    return tensor_make(data, o->dtype, o->shape, o->ndim);
}

static bool packed(const part *o)
{
    return o->role == PART_WEIGHT || o->role == PART_BIAS;
}

/* ---- numbers ---- */

// Even numbers of [0, 2^32), good enough for operands of a bench.
static uint32_t next_word(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

// Weights are uniform with a variance of 1 / inputs, so that sums are of the size of one.
swd_status job_weight(void **out, const plan *p, int i, swd_err *err)
{
    const part *o = &p->part[i];
    swd_tensor t = tensor_of(o, NULL);
    int64_t n = tensor_numel(t), inputs = n / o->shape[0];
    float span = sqrtf(3.0f / (float)inputs) * 0x1p-31f;
    uint64_t state = (uint64_t)i + 1;
    *out = NULL;
    SWD_TRY(swd_malloc(out, (size_t)n, dtype_size(o->dtype), o->name, err), err);
    for (int64_t k = 0; k < n; k++) {
        float x = (float)(int32_t)next_word(&state) * span;
        if (o->dtype == SWD_F32)
            ((float *)*out)[k] = x;
        else
            ((uint16_t *)*out)[k] = f32_to_bf16(x);
    }
    return SWD_OK;
}

// Ids below the part's limit; bytes of any value.
static swd_status fill_whole_numbers(swd_backend *b, const part *o, swd_tensor t, swd_err *err)
{
    void *host;
    int64_t n = tensor_numel(t);
    uint64_t state = 7;
    SWD_TRY(swd_malloc(&host, (size_t)n, dtype_size(o->dtype), o->name, err), err);
    for (int64_t k = 0; k < n; k++) {
        uint32_t x = next_word(&state);
        if (o->dtype == SWD_I32)
            ((int32_t *)host)[k] = (int32_t)(x % (uint64_t)o->limit);
        else
            ((uint8_t *)host)[k] = (uint8_t)(x >> 8);
    }
    swd_status st = b->upload(b, t, host, NULL, err);
    swd_status done = b->synchronize(b, NULL, err);
    free(host);
    return st != SWD_OK ? st : done;
}

// Seeds from 1 on, at a step between two scales.
static swd_status fill_steps(swd_backend *b, swd_tensor t, swd_err *err)
{
    enum { IMAGES_MAX = 16 };
    renoise_step host[IMAGES_MAX];
    assert(t.shape[0] <= IMAGES_MAX);
    for (int k = 0; k < IMAGES_MAX; k++)
        host[k] = (renoise_step){
            .seed = (uint64_t)k + 1, .draw = 1, .sigma = 0.7371f, .sigma_next = 0.6022f};
    swd_status st = b->upload(b, t, host, NULL, err);
    swd_status done = b->synchronize(b, NULL, err);
    return st != SWD_OK ? st : done;
}

// Normal float32 numbers, made on the device.
static swd_status fill_noise(swd_backend *b, swd_tensor t, swd_err *err)
{
    swd_exec ex = {.backend = b, .err = err};
    swd_tensor steps =
        tensor2(b->alloc(b, sizeof(renoise_step)), SWD_U8, 1, (int64_t)sizeof(renoise_step));
    if (!steps.data) return SWD_FAIL(err, SWD_ERR_MEMORY, "no device memory for a seed");
    swd_status st = fill_steps(b, steps, err);
    if (st == SWD_OK) st = op_noise(tensor2(t.data, SWD_F32, 1, tensor_numel(t)), steps, &ex);
    swd_status done = b->synchronize(b, NULL, err);
    b->release(b, steps.data);
    return st != SWD_OK ? st : done;
}

// Normal numbers: in float32, from there into t.
static swd_status fill_normal(job *j, swd_tensor t, swd_err *err)
{
    swd_backend *b = j->ex.backend;
    swd_exec ex = {.backend = b, .err = err};
    if (t.dtype == SWD_F32) return fill_noise(b, t, err);
    void *wide = b->alloc(b, (size_t)tensor_numel(t) * sizeof(float));
    if (!wide) return SWD_FAIL(err, SWD_ERR_MEMORY, "no device memory to fill %s", j->shape->name);
    swd_tensor from = tensor2(wide, SWD_F32, 1, tensor_numel(t)), to = from;
    to.data = t.data;
    to.dtype = t.dtype;
    swd_status st = fill_noise(b, from, err);
    if (st == SWD_OK) st = op_copy(to, from, &ex);
    swd_status done = b->synchronize(b, NULL, err);
    b->release(b, wide);
    return st != SWD_OK ? st : done;
}

/* ---- operands ---- */

static swd_status make_part(job *j, int i, swd_err *err)
{
    swd_backend *b = j->ex.backend;
    const part *o = &j->plan.part[i];
    size_t bytes = tensor_bytes(tensor_of(o, NULL));
    j->memory[i] = b->alloc(b, bytes);
    if (!j->memory[i])
        return SWD_FAIL(err, SWD_ERR_MEMORY, "no device memory for %s of %s (%zu bytes)", o->name,
                        j->shape->name, bytes);
    j->t[i] = tensor_of(o, j->memory[i]);
    if (o->role == PART_STEPS) return fill_steps(b, j->t[i], err);
    if (o->dtype == SWD_I32 || o->dtype == SWD_U8) return fill_whole_numbers(b, o, j->t[i], err);
    return fill_normal(j, j->t[i], err);
}

// The weight of part i with its bias, the part behind it.
static swd_status pack(job *j, int i, swd_err *err)
{
    swd_backend *b = j->ex.backend;
    const part *o = &j->plan.part[i];
    void *weight, *bias = NULL;
    SWD_TRY(job_weight(&weight, &j->plan, i, err), err);
    swd_status st = job_weight(&bias, &j->plan, i + 1, err);
    swd_tensor w = tensor_of(o, weight), c = tensor_of(o + 1, bias);
    if (st == SWD_OK && o->ndim == 2)
        st = b->linear_create(b, &j->linear, w, c, o->dtype, err);
    else if (st == SWD_OK)
        st = b->conv_create(b, &j->conv, w, c, 1, (int)o->shape[2] / 2, (int)o->shape[2] / 2,
                            j->plan.upsample, o->dtype, err);
    free(weight), free(bias);
    return st;
}

static swd_status make_slab(job *j, swd_err *err)
{
    job dry = *j;
    for (int i = 0; i < PARTS_MAX; i++) dry.t[i].data = NULL;
    swd_exec ex = {.backend = j->ex.backend, .err = err, .dry = true};
    SWD_TRY(j->shape->kind->run(&dry, &ex), err);
    j->ex.slab = j->ex.backend->alloc(j->ex.backend, ex.peak);
    j->ex.slab_bytes = ex.peak;
    if (j->ex.slab) return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_MEMORY, "no device memory for the slab of %s (%zu bytes)",
                    j->shape->name, ex.peak);
}

swd_status job_open(job *j, const shape *s, swd_backend *b, swd_err *err)
{
    *j = (job){.shape = s, .ex = {.backend = b}};
    s->kind->plan(&j->plan, s->d);
    for (int i = 0; i < j->plan.n; i++) {
        const part *o = &j->plan.part[i];
        if (!packed(o)) SWD_TRY(make_part(j, i, err), err);
        if (o->role == PART_WEIGHT) SWD_TRY(pack(j, i, err), err);
    }
    SWD_TRY(make_slab(j, err), err);
    return b->synchronize(b, NULL, err);
}

void job_close(job *j)
{
    swd_backend *b = j->ex.backend;
    for (int i = 0; i < PARTS_MAX; i++)
        if (j->memory[i]) b->release(b, j->memory[i]);
    if (j->ex.slab) b->release(b, j->ex.slab);
    if (j->linear) b->linear_destroy(b, &j->linear);
    if (j->conv) b->conv_destroy(b, &j->conv);
}

swd_status job_run(job *j, swd_err *err)
{
    j->ex.err = err;
    return j->shape->kind->run(j, &j->ex);
}
