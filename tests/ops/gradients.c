// SPDX-License-Identifier: MIT
// The tape's gradients of L = sum r y, r random, against differences of the oracle, which works in double:
//
//     dL/dx = (4 D(h/2) - D(h)) / 3,   D(h) = (L(x + h) - L(x - h)) / 2h,   h = 2^-7: off by h^4 / 30 times the fifth derivative
//
// of some elements of every operand that can learn. What float32 may lose: sums of n terms 2^-24 sqrt(n), and a few of them follow each
// other: 2e-5 of the root mean square of a gradient. With 16-bit storage each stored number is off by 2^-9 (bf16) of itself at most, some ten stores follow each other: 2e-2.
#include "gradients.h"
#include "number.h"
#include "train/tape.h"
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ELEMENTS = 3 };
static const double STEP = 0x1p-7, F32_TOLERANCE = 2e-5, SHORT_TOLERANCE = 2e-2;

// Cases whose functions are smooth at this step. The oracle of products rounds their operands: only float32 ones.
static const char *const wanted[] = {
    "linear.odd.ffff",
    "linear.vector.ffff",
    "linear.rows.ffff",
    "linear.silu.ffff",
    "linear.gelu_*.ffff",
    "linear.tanh.ffff",
    "linear.no_bias.ffff",
    "linear.rows_*.ffff",
    "linear.one*.ffff",
    "linear_residual.odd.fffff",
    "linear_residual.over_it.fffff",
    "linear_residual.*no_gate.fffff",
    "linear_residual.strided.fffff",
    "linear_residual.unaligned.fffff",
    "linear_residual.rows_*.fffff",
    "attention.one*.[fbh]",
    "attention.d24.[fbh]",
    "attention.d32.[fbh]",
    "attention.d80.[fbh]",
    "attention.rows_*.[fbh]",
    "attention.joint.[fbh]",
    "attention.joint_one_each.[fbh]",
    "attention.joint_*looked_at.[fbh]",
    "attention.joint_unaligned.[fbh]",
    "layernorm.odd.*",
    "layernorm.d[0-9]*.*",
    "layernorm.in_place.*",
    "layernorm.rows_*.*",
    "layernorm.no_*.*",
    "layernorm_modulate*.odd.*",
    "layernorm_modulate*.d[0-9]*.*",
    "layernorm_modulate*.in_place*.*",
    "layernorm_modulate*.rows_*.*",
    "rms_norm.odd.*",
    "rms_norm.in_place.*",
    "rms_norm.rows_*.*",
    "qk_norm.*.*",
    "gate_residual.*.*",
    "activation.silu*",
    "activation.gelu*",
    "activation.quick*",
    "activation.tanh*",
    "axpby.*.*",
    "copy.*.*",
    "guidance_combine.*.*",
    "add_position.*.*",
    "patchify.*.*",
    "unpatchify.*.*",
    "resize_renoise.*",
};
// Fills with numbers that no difference can be taken of, or that lie in the tails.
static const char *const unwanted[] = {
    "*large*", "*special*", "*bits*",  "*scales*",  "*subnormal*", "*zero*", "*constant*",
    "*wide*",  "*huge*",    "*equal*", "*extreme*", "*infinit*",   "*nan*",  "qk_norm.d1.*",
};
// Operands that nothing is learnt through.
static const char *const constant[] = {"table", "steps", "eps", "cos", "sin"};

#define MATCHES(list, text) matches(list, sizeof(list) / sizeof *(list), text)
static bool matches(const char *const *list, size_t n, const char *text)
{
    for (size_t i = 0; i < n; i++)
        if (fnmatch(list[i], text, 0) == 0) return true;
    return false;
}

// One type for all, so that no store is coarser than the gradient that it gets.
static bool one_type(const case_walk *w)
{
    for (int i = 1; i < w->n_types; i++)
        if (w->type[i] != w->type[0]) return false;
    return true;
}

bool gradient_wanted(const case_walk *w)
{
    return w->c->size == SMALL && one_type(w) && MATCHES(wanted, w->id) &&
           !MATCHES(unwanted, w->id);
}

typedef struct trial {
    const case_walk *w;
    fixture f;
    swd_err err;
    bool variable[OPERANDS_MAX];
    float *seed[OPERANDS_MAX];     // of results, contiguous
    float *gradient[OPERANDS_MAX]; // of variables
    trained_layer layer;
    layer_set set;
    void *memory[4];
    int n_memory;
} trial;

static bool is_result(const operand *o)
{
    return (o->role == OUT || o->role == INOUT) && strcmp(o->name, "x0") != 0; // x0 is for looking
}

static double loss(trial *t)
{
    double sum = 0;
    t->w->family->reference(&t->f, t->w->c);
    for (int i = 0; i < t->f.n; i++) {
        const operand *o = &t->f.operand[i];
        if (!is_result(o) || !o->want) continue;
        for (int64_t k = 0; k < tensor_numel(o->t); k++)
            if (t->seed[i][k] != 0) sum += (double)t->seed[i][k] * o->want[k];
    }
    return sum;
}

// Random seeds for those elements that the oracle speaks of.
static void make_seeds(trial *t)
{
    t->w->family->reference(&t->f, t->w->c);
    for (int i = 0; i < t->f.n; i++) {
        const operand *o = &t->f.operand[i];
        if (!is_result(o)) continue;
        int64_t n = tensor_numel(o->t);
        t->seed[i] = test_alloc((size_t)n, sizeof(float));
        for (int64_t k = 0; k < n; k++)
            if (o->want && o->slack[k] >= 0)
                t->seed[i][k] = (float)number_round(fill_uniform(&t->f.rng), SWD_BF16);
    }
}

// Memory of the backend with these numbers, or zeros.
static swd_tensor own(trial *t, const int64_t *shape, int ndim, const float *from)
{
    swd_backend *b = t->f.backend;
    swd_tensor x = tensor_make(NULL, SWD_F32, shape, ndim);
    float *zeros = test_alloc((size_t)tensor_numel(x), sizeof *zeros);
    x.data = b->alloc(b, tensor_bytes(x));
    if (!x.data || b->upload(b, x, from ? from : zeros, NULL, &t->err) != SWD_OK) abort();
    free(zeros);
    t->memory[t->n_memory++] = x.data;
    return x;
}

// The packed weight as one that learns.
static void make_layer(trial *t)
{
    swd_tensor w = tensor_of(&t->f, "w"), bias = tensor_of(&t->f, "bias");
    t->layer = (trained_layer){.w = t->f.linear, .full = true};
    t->layer.weight = own(t, w.shape, 2, w.data);
    t->layer.dweight = own(t, w.shape, 2, NULL);
    if (tensor_present(bias)) {
        t->layer.bias = own(t, bias.shape, 1, bias.data);
        t->layer.dbias = own(t, bias.shape, 1, NULL);
    }
    t->set = (layer_set){.layer = &t->layer, .n_layers = 1};
}

// Through scratch that no op of the tape sees.
static swd_status seed_result(tape *tp, swd_tensor y, const float *seed, swd_exec *ex)
{
    swd_hook *hook = ex->hook;
    swd_backend *b = ex->backend;
    size_t mark = exec_mark(ex);
    ex->hook = NULL;
    swd_tensor d = exec_alloc(ex, SWD_F32, y.shape, y.ndim);
    swd_status s = ex->dry ? SWD_OK : b->upload(b, d, seed, ex->stream, ex->err);
    if (s == SWD_OK) s = tape_seed(tp, y, d, ex);
    exec_rewind(ex, mark);
    ex->hook = hook;
    return s;
}

// The gradient of operand i, in logical order, on its way to the host; dry: the room for it.
static swd_status read_gradient(trial *t, tape *tp, int i, swd_exec *ex)
{
    const operand *o = &t->f.operand[i];
    swd_tensor plain = exec_alloc(ex, SWD_F32, o->t.shape, o->t.ndim);
    if (ex->dry) return SWD_OK;
    SWD_TRY(op_copy(plain, tape_gradient(tp, o->t), ex), ex->err);
    return ex->backend->download(ex->backend, t->gradient[i], plain, ex->stream, ex->err);
}

static swd_status step(void *ctx, tape *tp, swd_exec *ex)
{
    trial *t = ctx;
    if (t->f.linear) tape_use(tp, &t->set, true);
    for (int i = 0; i < t->f.n; i++)
        if (t->variable[i] && t->f.operand[i].role != WEIGHT)
            SWD_TRY(tape_variable(tp, t->f.operand[i].t), ex->err);
        else if (t->f.operand[i].role == OUT)
            SWD_TRY(tape_track(tp, t->f.operand[i].t), ex->err);
    SWD_TRY(t->w->family->run(&t->f, t->w->c, ex), ex->err);
    for (int i = 0; i < t->f.n; i++)
        if (t->seed[i]) SWD_TRY(seed_result(tp, t->f.operand[i].t, t->seed[i], ex), ex->err);
    SWD_TRY(tape_backward(tp, ex), ex->err);
    ex->hook = NULL; // what follows is no part of the step
    for (int i = 0; i < t->f.n; i++)
        if (t->variable[i] && t->f.operand[i].role != WEIGHT)
            SWD_TRY(read_gradient(t, tp, i, ex), ex->err);
    return ex->dry ? SWD_OK : ex->backend->synchronize(ex->backend, ex->stream, ex->err);
}

// Those of the layer, where there is one.
static swd_status read_layer(trial *t)
{
    swd_backend *b = t->f.backend;
    for (int i = 0; i < t->f.n; i++) {
        const operand *o = &t->f.operand[i];
        if (!t->f.linear || !t->variable[i] || o->role != WEIGHT) continue;
        swd_tensor g = strcmp(o->name, "bias") == 0 ? t->layer.dbias : t->layer.dweight;
        SWD_TRY(b->download(b, t->gradient[i], g, NULL, &t->err), &t->err);
    }
    return b->synchronize(b, NULL, &t->err);
}

static double difference(trial *t, operand *o, int64_t k, double h)
{
    float was = o->value[k], up = (float)((double)was + h), down = (float)((double)was - h);
    o->value[k] = up;
    double high = loss(t);
    o->value[k] = down;
    double low = loss(t);
    o->value[k] = was;
    return (high - low) / ((double)up - (double)down);
}

static bool check_operand(trial *t, int i, char message[CHECK_MESSAGE_MAX])
{
    operand *o = &t->f.operand[i];
    const float *got = t->gradient[i];
    int64_t n = tensor_numel(o->t), step_by = n / ELEMENTS + 1;
    double off = 0, size = 0, all = 0,
           tolerance = t->f.n_types && t->f.type[0] != SWD_F32 ? SHORT_TOLERANCE : F32_TOLERANCE;
    for (int64_t k = 0; k < n; k++) all += (double)got[k] * (double)got[k];
    int count = 0;
    for (int64_t k = n > step_by ? step_by / 2 : 0; k < n; k += step_by, count++) {
        double want = (4 * difference(t, o, k, STEP / 2) - difference(t, o, k, STEP)) / 3;
        off += pow((double)got[k] - want, 2);
        size += want * want;
    }
    off = sqrt(off / count);
    size = fmax(sqrt(fmax(size / count, all / (double)n)),
                1e-2); // of one key: terms of size 1 that cancel
    if (off <= tolerance * size) return true;
    snprintf(message, CHECK_MESSAGE_MAX, "%s: off by %.3g of %.3g, %.3g are allowed", o->name,
             off / size, size, tolerance);
    return false;
}

bool gradient_check(char message[CHECK_MESSAGE_MAX], const case_walk *w, swd_backend *b)
{
    trial t = {.w = w};
    tape *tp = NULL;
    bool good = case_make(&t.f, w, b, 0, &t.err) == SWD_OK;
    if (good) {
        if (strcmp(w->family->op, "copy") == 0) // its cases are of any bits
            for (int64_t k = 0; k < tensor_numel(t.f.operand[1].t); k++)
                operand_set(&t.f.operand[1], k, fill_uniform(&t.f.rng));
        make_seeds(&t);
        for (int i = 0; i < t.f.n; i++) {
            const operand *o = &t.f.operand[i];
            t.variable[i] = o->role != OUT && !MATCHES(constant, o->name);
            t.gradient[i] = test_alloc((size_t)tensor_numel(o->t), sizeof(float));
        }
        if (t.f.linear) make_layer(&t);
        good = fixture_upload(&t.f, &t.err) == SWD_OK && tape_create(&tp, b, &t.err) == SWD_OK &&
               tape_run(tp, step, &t, SWD_F32, &t.err) == SWD_OK && read_layer(&t) == SWD_OK;
    }
    snprintf(message, CHECK_MESSAGE_MAX, "%s", good ? "nothing learns" : t.err.message);
    int n = 0;
    for (int i = 0; i < t.f.n && good; i++)
        if (t.variable[i]) n++, good = check_operand(&t, i, message);
    tape_destroy(&tp);
    for (int i = 0; i < OPERANDS_MAX; i++) free(t.seed[i]), free(t.gradient[i]);
    for (int i = 0; i < t.n_memory; i++) b->release(b, t.memory[i]);
    fixture_close(&t.f);
    return good && n > 0;
}
