// SPDX-License-Identifier: MIT
#include "train/head.h"
#include "base/memory.h"
#include "base/philox.h"
#include <math.h>
#include <stdio.h>

struct head {
    swd_backend *be;
    params *p;
    int64_t width[HEAD_LAYERS + 1];
    swd_linear *linear[HEAD_LAYERS]; // only the shape: the parameters are computed with
};

static const float NORM_EPS = 1e-5f;
enum { NORM_WEIGHT, NORM_BIAS, WEIGHT, BIAS, TENSORS }; // of a layer

static swd_status add_tensors(head *h, swd_err *err)
{
    static const char *const names[] = {"norm.weight", "norm.bias", "linear.weight", "linear.bias"};
    for (int i = 0; i < HEAD_LAYERS * TENSORS; i++) {
        char name[32];
        int64_t in = h->width[i / TENSORS], out = h->width[i / TENSORS + 1];
        bool of_norm = i % TENSORS < WEIGHT, matrix = i % TENSORS == WEIGHT;
        int index;
        snprintf(name, sizeof name, "%d.%s", i / TENSORS, names[i % TENSORS]);
        SWD_TRY(params_add(&index, h->p, name, (int64_t[]){of_norm ? in : out, in}, matrix ? 2 : 1,
                           err),
                err);
    }
    return params_layout(h->p, SWD_F32, err);
}

// Element i of tensor `index`: uniform in +-bound, or one or zero.
static swd_status fill(head *h, int index, uint64_t seed, swd_err *err)
{
    const param *t = params_at(h->p, index);
    int64_t n = tensor_numel(t->value);
    double bound = 1 / sqrt((double)h->width[index / TENSORS]);
    float *x;
    SWD_TRY(swd_malloc(&x, (size_t)n, sizeof *x, "the head", err), err);
    for (int64_t i = 0; i < n; i++) {
        uint32_t word[4], counter[4] = {(uint32_t)i, (uint32_t)index, 0, 0},
                          key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
        philox_4x32(word, counter, key);
        x[i] = (float)(bound * (2 * ((double)word[0] + 0.5) / 4294967296.0 - 1));
        if (index % TENSORS < WEIGHT) x[i] = index % TENSORS == NORM_WEIGHT ? 1.0f : 0.0f;
    }
    swd_status s = params_set(h->p, index, x, err);
    if (s == SWD_OK) s = h->be->synchronize(h->be, NULL, err);
    free(x);
    return s;
}

static swd_status make_layer(head *h, int i, swd_err *err)
{
    int64_t n = h->width[i + 1], k = h->width[i];
    float *zeros;
    SWD_TRY(swd_calloc(&zeros, (size_t)(n * k + n), sizeof *zeros, "the head", err), err);
    swd_status s = h->be->linear_create(h->be, &h->linear[i], tensor2(zeros, SWD_F32, n, k),
                                        tensor1(zeros + n * k, SWD_F32, n), SWD_F32, err);
    free(zeros);
    SWD_TRY(s, err);
    int first = i * TENSORS;
    SWD_TRY(params_bind_vector(h->p, first + NORM_WEIGHT, err), err);
    SWD_TRY(params_bind_vector(h->p, first + NORM_BIAS, err), err);
    return params_bind(h->p, h->linear[i], first + WEIGHT, first + BIAS, err);
}

static swd_status build(head *h, uint64_t seed, swd_err *err)
{
    SWD_TRY(params_create(&h->p, h->be, err), err);
    SWD_TRY(add_tensors(h, err), err);
    for (int i = 0; i < HEAD_LAYERS * TENSORS; i++) SWD_TRY(fill(h, i, seed, err), err);
    for (int i = 0; i < HEAD_LAYERS; i++) SWD_TRY(make_layer(h, i, err), err);
    return params_publish(h->p, err);
}

swd_status head_create(head **out, swd_backend *be, int64_t d, uint64_t seed, swd_err *err)
{
    SWD_TRY(swd_calloc(out, 1, sizeof **out, "the discriminator's head", err), err);
    head *h = *out;
    h->be = be;
    for (int i = 0; i <= HEAD_LAYERS; i++) // int() of torch's: cut
        h->width[i] = (int64_t)((double)d + (1.0 - (double)d) * i / HEAD_LAYERS);
    swd_status s = build(h, seed, err);
    if (s != SWD_OK) head_destroy(out);
    return s;
}

void head_destroy(head **h)
{
    if (!*h) return;
    for (int i = 0; i < HEAD_LAYERS; i++)
        if ((*h)->linear[i]) (*h)->be->linear_destroy((*h)->be, &(*h)->linear[i]);
    params_destroy(&(*h)->p);
    free(*h);
    *h = NULL;
}

params *head_params(head *h)
{
    return h->p;
}

swd_status head_forward(swd_tensor logits, swd_tensor features, const head *h, swd_exec *ex)
{
    int64_t b = features.shape[0];
    size_t mark = exec_mark(ex);
    swd_tensor x = exec2(ex, SWD_F32, b, h->width[0]);
    RUN(op_mean_tokens(x, features, ex));
    for (int i = 0; i < HEAD_LAYERS; i++) {
        swd_tensor normed = exec2(ex, SWD_F32, b, h->width[i]),
                   y = i == HEAD_LAYERS - 1 ? logits : exec2(ex, SWD_F32, b, h->width[i + 1]);
        RUN(op_layernorm(normed, x, params_at(h->p, i * TENSORS + NORM_WEIGHT)->value,
                         params_at(h->p, i * TENSORS + NORM_BIAS)->value, NORM_EPS, ex));
        RUN(op_activation(normed, normed, SWD_ACT_GELU_ERF, ex));
        RUN(op_linear(y, normed, h->linear[i], SWD_ACT_NONE, ex));
        x = y;
    }
    exec_rewind(ex, mark);
    return SWD_OK;
}
