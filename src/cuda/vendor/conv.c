// SPDX-License-Identifier: MIT
#include "vendor/conv.h"
#include <stdio.h>
#include <string.h>

bool vendor_conv_wants(const k_conv_shape *s, swd_backend *b)
{
    return s->compute != K_F32 && s->in % 8 == 0 && s->out % 8 == 0 && !s->upsample2x &&
           vendor_compiles(b) && vendor_cudnn(b);
}

static bool library_can(const vendor_conv *c)
{
    const k_conv_args *a = &c->args;
    const k_dtype dtype = a->shape.compute;
    return c->filter && a->x_dtype == dtype && a->y_dtype == dtype &&
           (!c->residual || a->residual_dtype == dtype) &&
           (a->act == K_ACT_NONE || a->act == K_ACT_RELU);
}

size_t vendor_conv_planned(const vendor_conv *c, swd_backend *b)
{
    return library_can(c) && vendor_cudnn(b) ? GRAPH_WORKSPACE_MAX + VENDOR_ALIGN : 0;
}

bool vendor_conv_takes(const vendor_conv *c)
{
    return vendor_aligned(c->args.x) && vendor_aligned(c->args.y) &&
           vendor_aligned(c->args.residual);
}

/* ---- the work ---- */

static swd_status make(dnn_work **out, const cudnn *dnn, const void *args, swd_err *err)
{
    const vendor_conv *c = args;
    const k_conv_args *a = &c->args;
    const dnn_conv d = {.h = a->h,
                        .w = a->w,
                        .ho = a->ho,
                        .wo = a->wo,
                        .in = a->shape.in,
                        .out = a->shape.out,
                        .kh = a->shape.kh,
                        .kw = a->shape.kw,
                        .stride = a->shape.stride,
                        .pad = a->shape.pad,
                        .operand = a->shape.compute,
                        .result = a->y_dtype,
                        .residual_dtype = a->residual_dtype,
                        .bias = a->bias != NULL,
                        .relu = a->act == K_ACT_RELU,
                        .residual = c->residual};
    return dnn_conv_make(out, dnn, &d, err);
}

// Of one image; all elements have 2 bytes.
static void point(void *pointers[DNN_POINTERS], const vendor_conv *c, int64_t image)
{
    const k_conv_args *a = &c->args;
    const int64_t x = (int64_t)a->h * a->w * a->shape.in * 2,
                  y = (int64_t)a->ho * a->wo * a->shape.out * 2;
    const void *p[DNN_POINTERS] = {(const char *)a->x + image * x, c->filter,
                                   (char *)a->y + image * y, a->bias,
                                   c->residual ? (const char *)a->residual + image * y : NULL};
    for (int i = 0; i < DNN_POINTERS; i++) pointers[i] = (void *)(uintptr_t)p[i];
}

swd_status vendor_conv_run(const graph_choice *o, const vendor_conv *c, void *workspace,
                           cudaStream_t stream, swd_err *err)
{
    void *pointers[DNN_POINTERS];
    for (int64_t i = 0; i < c->args.batch; i++) {
        point(pointers, c, i);
        SWD_TRY(graph_choice_run(o, pointers, workspace, stream, err), err);
    }
    return SWD_OK;
}

/* ---- the contest: one image, as pictures are decoded one by one ---- */

static swd_status operands(graph_trial *t, swd_err *err)
{
    const vendor_conv *c = t->args;
    const k_conv_args *a = &c->args;
    const int64_t x = (int64_t)a->h * a->w * a->shape.in, y = (int64_t)a->ho * a->wo * a->shape.out;
    SWD_TRY(measure_operand(&t->memory[0], a->x_dtype, x, t->b, err), err);
    SWD_TRY(measure_operand(&t->memory[1], a->y_dtype, y, t->b, err), err);
    if (c->residual) SWD_TRY(measure_operand(&t->memory[2], a->residual_dtype, y, t->b, err), err);
    return SWD_OK;
}

static swd_status compete(void *arg, int contestant, cudaStream_t stream, swd_err *err)
{
    graph_trial *t = arg;
    vendor_conv c = *(const vendor_conv *)t->args;
    void *pointers[DNN_POINTERS];
    c.args.batch = 1;
    c.args.x = t->memory[0];
    c.args.y = t->memory[1];
    c.args.residual = t->memory[2];
    if (contestant == 0) {
        SWD_CUDA(k_conv(&c.args, stream), err);
        return SWD_OK;
    }
    point(pointers, &c, 0);
    return graph_trial_run(t, contestant - 1, pointers, stream, err);
}

const graph_choice *vendor_conv_choice(const vendor_conv *c, swd_backend *b)
{
    static const graph_family family = {make, operands, compete};
    const k_conv_args *a = &c->args;
    if (!library_can(c) || !vendor_cudnn(b)) return NULL;
    const int64_t words[] = {'c',
                             a->h,
                             a->w,
                             a->ho,
                             a->wo,
                             a->shape.in,
                             a->shape.out,
                             a->shape.kh,
                             a->shape.kw,
                             a->shape.stride,
                             a->shape.pad,
                             (int64_t)a->shape.compute,
                             a->bias != NULL,
                             (int64_t)a->act,
                             c->residual};
    graph_key key;
    char name[TUNE_TEXT_MAX];
    memset(&key, 0, sizeof key);
    memcpy(key.word, words, sizeof words);
    snprintf(name, sizeof name, "conv %dx%d, %d to %d x %d x %d, stride %d, pad %d, %s%s%s%s", a->h,
             a->w, a->shape.in, a->shape.out, a->ho, a->wo, a->shape.stride, a->shape.pad,
             a->shape.compute == K_BF16 ? "bf16" : "f16", a->bias ? ", bias" : "",
             a->act == K_ACT_RELU ? ", relu" : "", c->residual ? ", residual" : "");
    snprintf(name + strlen(name), sizeof name - strlen(name), ", filter %dx%d", a->shape.kh,
             a->shape.kw);
    return graph_choice_of(&key, name, &family, c, b);
}
