// SPDX-License-Identifier: MIT
// Tolerances: tests/unit/test_train.c derives how far gradients in float32 are off torch's (1e-5 of their norm), and parameters after some
// iterations (3e-4 of how far they moved); two such results are apart by the root of two. Beside bf16 (5e-2) the CPU's float32 is exact.
#include "learning.h"
#include "backend/devices.h"
#include "base/memory.h"
#include "base/rng.h"
#include "train/distill.h"
#include "train/optimizer.h"
#include "weights/shapes.h"
#include "weights/tensor_list.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char section[] = "training";
static const double F32 = 1.42e-5, BF16 = 5e-2, MOVED = 4.3e-4;
enum { BATCH_MAX = 2, TEXT = 5 };
enum { STUDENT, FAKE, HEAD, SETS };

/* ---- a network that learns ---- */

typedef struct learner {
    swd_backend *be;
    weights *w;
    denoiser *net;
    head *head;
    params *set[SETS]; // the head's belong to it
    optimizer *o[SETS];
    distill d;
} learner;

// B is zero at the start, and then A has no gradient.
static swd_status fill_b(params *p, uint64_t seed, swd_err *err)
{
    for (int i = 0; i < params_count(p); i++) {
        const param *t = params_at(p, i);
        int64_t n = tensor_numel(t->value);
        float *x;
        if (!str_ends(t->name, ".lora_B.weight")) continue;
        SWD_TRY(swd_malloc(&x, (size_t)n, sizeof *x, "an adapter", err), err);
        philox_randn(x, n, 0, seed, (uint32_t)i);
        for (int64_t k = 0; k < n; k++) x[k] *= 0.1f;
        swd_status s = params_set(p, i, x, err);
        swd_status done = params_backend(p)->synchronize(params_backend(p), NULL, err);
        free(x);
        SWD_TRY(s != SWD_OK ? s : done, err);
    }
    return params_publish(p, err);
}

static swd_status learner_open(learner *l, swd_backend *be, swd_dtype compute, swd_err *err)
{
    static const optimizer_config adamw = {
        .rate = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 1e-2, .clip = 1};
    const model_shape *m = shape_find("tiny");
    tensor_list list = {0};
    lora_config c = lora_config_default();
    c.rank = 4;
    c.alpha = 4;
    *l = (learner){.be = be};
    SWD_TRY(tensors_transformer(&list, &m->transformer, err), err);
    SWD_TRY(weights_open_synthetic(&l->w, &list, m->name, err), err);
    SWD_TRY(denoiser_create(&l->net, &m->transformer, l->w, be, compute, err), err);
    const holdings *h = denoiser_holdings(l->net);
    for (int i = STUDENT; i <= FAKE; i++) {
        SWD_TRY(params_lora(&l->set[i], be, h, &c, (uint64_t)i, err), err);
        SWD_TRY(fill_b(l->set[i], (uint64_t)i, err), err);
    }
    SWD_TRY(head_create(&l->head, be, m->transformer.sd3.inner_dim, SETS, err), err);
    l->set[HEAD] = head_params(l->head);
    for (int i = 0; i < SETS; i++) SWD_TRY(optimizer_create(&l->o[i], l->set[i], &adamw, err), err);
    SWD_TRY(tape_create(&l->d.t, be, err), err);
    tape_checkpoint(l->d.t, true);
    l->d.be = be;
    l->d.act = compute;
    l->d.c = (distill_config){.kernel = MMD_HUBER,
                              .block = 1,
                              .mmd = 1,
                              .dmd = 0.7,
                              .gan = 0.3,
                              .discriminator = 0.2,
                              .guidance = 3};
    l->d.student = (model){l->net, l->set[STUDENT]};
    l->d.teacher = (model){l->net, NULL};
    l->d.fake = (model){l->net, l->set[FAKE]};
    l->d.head = l->head;
    return SWD_OK;
}

static void learner_close(learner *l)
{
    tape_destroy(&l->d.t);
    for (int i = 0; i < SETS; i++) optimizer_destroy(&l->o[i]);
    head_destroy(&l->head);
    params_destroy(&l->set[STUDENT]);
    params_destroy(&l->set[FAKE]);
    denoiser_destroy(&l->net);
    weights_close(&l->w);
}

/* ---- iterations ---- */

// Normal numbers, by the place they lie at; memory NULL: counts.
static swd_tensor take(float *memory, int64_t *used, swd_tensor shape)
{
    if (memory) {
        shape.data = memory + *used;
        philox_randn(shape.data, tensor_numel(shape), 0, 1, (uint32_t)*used);
    }
    *used += tensor_numel(shape);
    return shape;
}

// How many numbers it takes; with memory for them: filled.
static int64_t make_batch(distill_batch *b, float *memory, int size, int side)
{
    static const float sigma[][BATCH_MAX] = {
        {0.7f, 0.7f}, {0.3f, 0.4f}, {0.5f, 0.6f}, {0.8f, 0.2f}};
    const config_sd3 *c = &shape_find("tiny")->transformer.sd3;
    swd_tensor latents = tensor4(NULL, SWD_F32, size, c->in_channels, side, side),
               low = tensor4(NULL, SWD_F32, size, c->in_channels, side / 2, side / 2),
               context = tensor3(NULL, SWD_F32, size, TEXT, c->joint_attention_dim),
               pooled = tensor2(NULL, SWD_F32, size, c->pooled_projection_dim);
    noise_input *const noise[] = {&b->start, &b->mmd, &b->dmd, &b->gan};
    text_input *const text[] = {&b->text, &b->empty};
    int64_t n = 0;
    b->low = take(memory, &n, low);
    b->target = take(memory, &n, latents);
    for (int i = 0; i < 2; i++) {
        text[i]->context = take(memory, &n, context);
        text[i]->pooled = take(memory, &n, pooled);
    }
    for (int i = 0; i < 4; i++) *noise[i] = (noise_input){sigma[i], take(memory, &n, latents)};
    return n;
}

static swd_status read_all(float *out[SETS], const learner *l, bool gradients_of, swd_err *err)
{
    for (int i = 0; i < SETS; i++) {
        swd_tensor t = gradients_of ? params_gradients(l->set[i]) : params_values(l->set[i]);
        SWD_TRY(swd_malloc(&out[i], (size_t)tensor_numel(t), sizeof(float), "parameters", err),
                err);
        SWD_TRY(l->be->download(l->be, out[i], t, NULL, err), err);
    }
    return l->be->synchronize(l->be, NULL, err);
}

// An update of fake model and head, one of the student. grads (may be NULL): of the first of both, before they are used up.
static swd_status iterate(float *grads[SETS], learner *l, const distill_batch *b, swd_err *err)
{
    distill_losses out;
    SWD_TRY(distill_fake(&out, &l->d, b, err), err);
    if (grads) {
        SWD_TRY(distill_generator(&out, NULL, &l->d, b, err), err);
        return read_all(grads, l, true, err);
    }
    SWD_TRY(optimizer_step_together(l->o + FAKE, 2, 1, NULL, err), err);
    SWD_TRY(distill_generator(&out, NULL, &l->d, b, err), err);
    return optimizer_step(l->o[STUDENT], 1, NULL, err);
}

typedef struct outcome {
    float *gradient[SETS], *start[SETS], *end[SETS];
} outcome;

// n_iterations 0: only the gradients.
static swd_status learn(outcome *out, swd_backend *be, swd_dtype compute, const distill_batch *b,
                        int n_iterations, int64_t numbers[SETS], swd_err *err)
{
    learner l;
    swd_status s = learner_open(&l, be, compute, err);
    if (s == SWD_OK) s = read_all(out->start, &l, false, err);
    if (s == SWD_OK) s = iterate(out->gradient, &l, b, err);
    for (int i = 0; i < SETS && s == SWD_OK; i++) {
        numbers[i] = tensor_numel(params_values(l.set[i]));
        s = params_zero_gradients(l.set[i], err);
    }
    for (int i = 0; i < n_iterations && s == SWD_OK; i++) s = iterate(NULL, &l, b, err);
    if (s == SWD_OK) s = read_all(out->end, &l, false, err);
    learner_close(&l);
    return s;
}

static void outcome_free(outcome *o)
{
    for (int i = 0; i < SETS; i++) free(o->gradient[i]), free(o->start[i]), free(o->end[i]);
}

// By the length of what was wanted less its start (NULL: 0).
static double distance(const float *got, const float *want, const float *start, int64_t n)
{
    double off = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        off += pow((double)got[i] - (double)want[i], 2);
        size += pow((double)want[i] - (start ? (double)start[i] : 0), 2);
    }
    return sqrt(off / size);
}

static void tell(report *r, const char *tune, const char *what, const char *set, double d,
                 double tolerance)
{
    char name[96], message[96];
    snprintf(name, sizeof name, "%s, %s, by %s", what, set, tune);
    snprintf(message, sizeof message, "off by %.2g, %.2g are allowed", d, tolerance);
    report_check(r, section, name, d <= tolerance ? NULL : message); // NaN is not
}

static void compare(report *r, const char *tune, swd_dtype compute, const outcome *want,
                    const outcome *got, const int64_t numbers[SETS])
{
    static const char *const sets[SETS] = {"student", "fake model", "discriminator"};
    bool f32 = compute == SWD_F32;
    for (int i = 0; i < SETS; i++) {
        tell(r, tune, f32 ? "iteration, gradient" : "iteration, gradient in bf16", sets[i],
             distance(got->gradient[i], want->gradient[i], NULL, numbers[i]), f32 ? F32 : BF16);
        // Adam gives every number the same step: in bf16 those whose gradients are mostly rounding go elsewhere
        if (f32)
            tell(r, tune, "iterations, parameters", sets[i],
                 distance(got->end[i], want->end[i], want->start[i], numbers[i]), MOVED);
    }
}

static swd_status iterations(report *r, const char *tune, bool small, swd_backend *cpu,
                             swd_backend *b, swd_err *err)
{
    int size = small ? 1 : BATCH_MAX, side = small ? 4 : 16, n_iterations = small ? 1 : 3;
    distill_batch batch = {0};
    float *memory;
    outcome want = {0};
    int64_t numbers[SETS];
    size_t n = (size_t)make_batch(&batch, NULL, size, side);
    SWD_TRY(swd_malloc(&memory, n, sizeof *memory, "a batch", err), err);
    (void)make_batch(&batch, memory, size, side);
    swd_status s = learn(&want, cpu, SWD_F32, &batch, n_iterations, numbers, err);
    for (int i = 0; i < 2 && s == SWD_OK; i++) {
        outcome got = {0};
        swd_dtype compute = i ? SWD_BF16 : SWD_F32;
        s = learn(&got, b, compute, &batch, i ? 0 : n_iterations, numbers, err);
        if (s == SWD_OK) compare(r, tune, compute, &want, &got, numbers);
        outcome_free(&got);
    }
    outcome_free(&want);
    free(memory);
    return s;
}

static swd_status on_both(report *r, const char *device, bool small, swd_err *err)
{
    static const char *const tunes[] = {"ours", "vendor"};
    char note[DEVICE_NOTE_MAX];
    swd_backend *cpu = NULL, *b = NULL;
    swd_status s = backend_cpu_create(&cpu, 0, err);
    if (s == SWD_OK) s = device_open(&b, note, device, 0, err);
    for (int i = 0; i < (small ? 1 : 2) && s == SWD_OK; i++) {
        s = b->set_tune(b, tunes[i], err);
        if (s == SWD_OK) s = iterations(r, tunes[i], small, cpu, b, err);
    }
    if (b) backend_destroy(&b);
    if (cpu) backend_destroy(&cpu);
    return s;
}

void learning_check(report *r, const char *device, bool small)
{
    swd_err err = {0};
    if (on_both(r, device, small, &err) != SWD_OK)
        report_check(r, section, "iterations", err.message);
    report_summary(r, section);
}
