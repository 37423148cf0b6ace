// SPDX-License-Identifier: MIT
// The tape: what is computed again and what is kept give the same bits, values that are written over, frozen weights,
// calls that it refuses.
#include "backend/backward.h"
#include "train_bench.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Blocks computed again give the same bits, and take less memory; a step takes what was measured.
static void checkpointing(swd_dtype compute)
{
    bench bench_, *b = &bench_;
    bench_open(b, "sd35m", compute);
    distill_batch batch = golden_batch(b->io, b->io, "");
    size_t bytes = (size_t)params_numbers(b->student) * sizeof(float);
    distill_losses kept = bench_everything(b, &batch);
    float *want = flattened(b->student, true);
    tape_memory large, small, held = tape_held(b->t);
    OK(distill_measure(&large, &b->d, &batch, &b->err));
    tape_checkpoint(b->t, true);
    OK(distill_measure(&small, &b->d, &batch, &b->err));
    distill_losses again = bench_everything(b, &batch);
    float *got = flattened(b->student, true);
    cr_expect_eq(memcmp(got, want, bytes), 0, "gradients differ");
    cr_expect_eq(memcmp(&kept, &again, sizeof kept), 0, "losses differ");
    cr_expect_eq(held.weights, large.weights);
    cr_expect(held.slab <= large.slab && held.gradients <= large.gradients);
    cr_expect_lt(small.slab, large.slab, "%zu bytes, %zu with checkpoints", large.slab, small.slab);
    cr_expect_lt(small.gradients, large.gradients + 1);
    printf("# slab %zu, gradients %zu; with checkpoints %zu, %zu\n", large.slab, large.gradients,
           small.slab, small.gradients);
    free(want);
    free(got);
    bench_close(b);
}

Test(tape, checkpoints_f32)
{
    checkpointing(SWD_F32);
}

Test(tape, checkpoints_bf16)
{
    checkpointing(SWD_BF16);
}

// One thread or two, a step alone or after another of another shape: the same bits.
Test(tape, same_bits)
{
    float *got[2];
    size_t bytes = 0;
    for (int i = 0; i < 2; i++) {
        bench bench_, *b = &bench_;
        bench_open(b, "sd35m", SWD_BF16);
        distill_batch batch = golden_batch(b->io, b->io, "");
        if (i) {
            distill_batch low = batch; // the lowest scale
            low.target = batch.low;
            noise_input *noise[] = {&low.start, &low.mmd, &low.dmd, &low.gan};
            for (int k = 0; k < 4; k++) noise[k]->eps = batch.low;
            bench_everything(b, &low);
            b->be->bind(b->be, NULL);
        }
        bench_everything(b, &batch);
        got[i] = flattened(b->student, true);
        bytes = (size_t)params_numbers(b->student) * sizeof(float);
        bench_close(b);
    }
    cr_expect_eq(memcmp(got[0], got[1], bytes), 0);
    free(got[0]);
    free(got[1]);
}

static swd_status lost_gradient(void *ctx, tape *t, swd_exec *ex)
{
    swd_tensor *x = ctx;
    SWD_TRY(tape_variable(t, x[0]), ex->err);
    return op_copy(x[1], x[0], ex); // to where the tape has no gradient
}

static swd_status no_gradient(void *ctx, tape *t, swd_exec *ex)
{
    swd_tensor *x = ctx;
    SWD_TRY(tape_variable(t, x[0]), ex->err);
    swd_tensor y = exec_alloc(ex, SWD_F32, x[0].shape, x[0].ndim);
    return op_nchw_to_nhwc(y, x[0], 1, 0, ex);
}

Test(tape, refusals)
{
    swd_backend *be;
    swd_err err = {0};
    tape *t;
    float data[2][8] = {{0}};
    swd_tensor x[] = {tensor4(data[0], SWD_F32, 1, 2, 2, 2), tensor4(data[1], SWD_F32, 1, 2, 2, 2)};
    cr_assert_eq(backend_cpu_create(&be, 1, &err), SWD_OK);
    cr_assert_eq(tape_create(&t, be, &err), SWD_OK);
    cr_expect_eq(tape_run(t, lost_gradient, x, SWD_F32, &err), SWD_ERR_ARGUMENT);
    cr_expect_eq(tape_run(t, no_gradient, x, SWD_F32, &err), SWD_ERR_UNSUPPORTED);
    cr_expect_not_null(strstr(err.message, "op_nchw_to_nhwc has no gradient"), "%s", err.message);
    tape_destroy(&t);
    backend_destroy(&be);
}

// Memory that holds one value after the other: y = 2 x, z = y, y = 7, y += 3 x; p = [x, 5], p = [5 + x, p1] by parts.
static swd_status overwritten(void *ctx, tape *t, swd_exec *ex)
{
    float(*data)[4] = ctx; // x, three seeds, gradient
    swd_tensor x = tensor1(data[0], SWD_F32, 4), y = exec1(ex, SWD_F32, 4),
               z = exec1(ex, SWD_F32, 4), p = exec2(ex, SWD_F32, 2, 4);
    swd_tensor p0 = tensor1(p.data, SWD_F32, 4), p1 = tensor1((float *)p.data + 4, SWD_F32, 4);
    SWD_TRY(tape_variable(t, x), ex->err);
    RUN(op_axpby(y, 2, x, 0, tensor_none(), ex));
    RUN(op_copy(z, y, ex));
    RUN(op_fill(y, 7, ex));
    RUN(op_axpby(y, 1, y, 3, x, ex));
    RUN(op_activation(p0, x, SWD_ACT_RELU, ex)); // lost: overwritten below
    RUN(op_fill(p1, 5, ex));
    RUN(op_axpby(p0, 1, p1, 1, x, ex));
    RUN(op_activation(p1, x, SWD_ACT_RELU, ex));
    const swd_tensor seeded[] = {y, z, p0, p1};
    for (int i = 0; i < 4; i++)
        SWD_TRY(tape_seed(t, seeded[i], tensor1(data[1 + i], SWD_F32, 4), ex), ex->err);
    SWD_TRY(tape_backward(t, ex), ex->err);
    swd_tensor g = tape_gradient(t, x);
    if (!ex->dry) memcpy(data[5], g.data, sizeof data[5]);
    return SWD_OK;
}

Test(tape, overwritten)
{
    swd_backend *be;
    swd_err err = {0};
    tape *t;
    float data[6][4] = {{1, -2, 3, -4}, {1, 2, 3, 4}, {10, 20, 30, 40}, {5, 6, 7, 8}, {9, 9, 9, 9}};
    cr_assert_eq(backend_cpu_create(&be, 1, &err), SWD_OK);
    cr_assert_eq(tape_create(&t, be, &err), SWD_OK);
    cr_assert_eq(tape_run(t, overwritten, data, SWD_F32, &err), SWD_OK, "%s", err.message);
    for (int i = 0; i < 4; i++) {
        float want = 3 * data[1][i] + 2 * data[2][i] + data[3][i] + (i % 2 ? 0 : data[4][i]);
        cr_expect_eq(data[5][i], want, "%g, not %g", (double)data[5][i], (double)want);
    }
    tape_destroy(&t);
    backend_destroy(&be);
}

// y = x W^T, whose gradient 1 gives the sums of W's columns.
typedef struct frozen {
    swd_linear *w;
    float x[2], dx[2];
} frozen;

static swd_status through_frozen(void *ctx, tape *t, swd_exec *ex)
{
    frozen *f = ctx;
    static float ones[3] = {1, 1, 1};
    swd_tensor x = tensor2(f->x, SWD_F32, 1, 2), y = exec2(ex, SWD_F32, 1, 3);
    SWD_TRY(tape_variable(t, x), ex->err);
    RUN(op_linear(y, x, f->w, SWD_ACT_NONE, ex));
    SWD_TRY(tape_seed(t, y, tensor2(ones, SWD_F32, 1, 3), ex), ex->err);
    SWD_TRY(tape_backward(t, ex), ex->err);
    if (!ex->dry) memcpy(f->dx, tape_gradient(t, x).data, sizeof f->dx);
    return SWD_OK;
}

static float rows_apart[] = {1, 2, NAN, 3, 4, NAN, 5, 6, NAN};
static bool view_of_rows(swd_backend *be, swd_tensor *out, const swd_linear *w)
{
    (void)be, (void)w;
    *out = tensor2(rows_apart, SWD_F32, 3, 2);
    out->stride[0] = 3;
    return true;
}

// A backend whose packed weights lie as they are multiplied lends them; of another's there are copies.
Test(tape, frozen_weights)
{
    for (int lends = 0; lends < 2; lends++) {
        swd_backend *be;
        swd_err err = {0};
        tape *t;
        float w[] = {1, 2, 3, 4, 5, 6};
        frozen f = {.x = {1, 1}};
        cr_assert_eq(backend_cpu_create(&be, 1, &err), SWD_OK);
        cr_assert_eq(
            be->linear_create(be, &f.w, tensor2(w, SWD_F32, 3, 2), tensor_none(), SWD_F32, &err),
            SWD_OK);
        if (lends) be->linear_view = view_of_rows;
        cr_assert_eq(tape_create(&t, be, &err), SWD_OK);
        for (int step = 0; step < 2; step++) {
            cr_assert_eq(tape_run(t, through_frozen, &f, SWD_F32, &err), SWD_OK, "%s", err.message);
            cr_expect(f.dx[0] == 9 && f.dx[1] == 12, "%g %g", (double)f.dx[0], (double)f.dx[1]);
            cr_expect_eq(tape_held(t).weights, lends ? 0 : sizeof w);
        }
        tape_destroy(&t);
        be->linear_destroy(be, &f.w);
        backend_destroy(&be);
    }
}

#define REFUSED(call) cr_expect_eq(call, SWD_ERR_ARGUMENT, #call)

// What the ops of training are given is checked as that of the others.
Test(tape, refused_arguments)
{
    swd_backend *be;
    swd_err err = {0};
    float x[64] = {0};
    cr_assert_eq(backend_cpu_create(&be, 1, &err), SWD_OK);
    swd_exec exec = {.backend = be, .err = &err}, *ex = &exec;
    swd_tensor a = tensor2(x, SWD_F32, 3, 4), b = tensor2(x + 12, SWD_F32, 4, 2),
               c = tensor2(x + 20, SWD_F32, 3, 2), bias = tensor1(x + 26, SWD_F32, 2),
               rows = tensor3(x, SWD_F32, 1, 3, 4), other = tensor3(x + 12, SWD_F32, 1, 2, 4),
               one = tensor2(x + 30, SWD_F32, 1, 4), none = tensor_none(), half = b;
    half.dtype = SWD_BF16;
    cr_expect_eq(op_gemm(&(gemm_args){.c = c, .a = a, .b = b, .bias = bias}, ex), SWD_OK);
    REFUSED(op_gemm(&(gemm_args){.c = c, .a = a, .b = c}, ex));
    REFUSED(op_gemm(&(gemm_args){.c = c, .a = a, .b = half}, ex));
    REFUSED(op_gemm(&(gemm_args){.c = c, .a = a, .b = b, .bias = bias, .add = true}, ex));
    REFUSED(op_gemm(&(gemm_args){.c = tensor2(x, SWD_F32, 3, 2), .a = a, .b = b}, ex));
    REFUSED(op_activation_backward((swd_grad){other, false}, rows, rows, SWD_ACT_SILU, ex));
    REFUSED(
        op_gate_backward((swd_grad){other, false}, (swd_grad){none, false}, rows, none, none, ex));
    REFUSED(
        op_gate_backward((swd_grad){none, false}, (swd_grad){one, false}, rows, other, one, ex));
    REFUSED(op_column_sums((swd_grad){bias, false}, rows, ex));
    REFUSED(op_norm_backward(&(norm_backward_args){.x = rows, .dy = {other}}, ex));
    REFUSED(op_norm_backward(&(norm_backward_args){.x = rows, .dy = {rows}, .factor = {one}}, ex));
    REFUSED(op_mean_tokens(bias, rows, ex));
    REFUSED(op_mean_tokens_backward((swd_grad){rows, false}, bias, ex));
    REFUSED(op_patchify_backward((swd_grad){rows, false}, rows, 2, ex));
    REFUSED(op_unpatchify_backward((swd_grad){rows, false}, rows, 2, ex));
    REFUSED(op_adamw(&(adamw_args){.p = bias, .m = bias, .v = bias, .g = bias}, ex)); // step 0
    attention_backward_args at = {.forward = {.n_streams = 1, .causal = true}};
    cr_expect_eq(op_attention_backward(&at, ex), SWD_ERR_UNSUPPORTED);
    at.forward.causal = false;
    REFUSED(op_attention_backward(&at, ex));
    swd_exec dry = {.backend = be, .err = &err, .dry = true};
    static float wide[520], sums[2];
    swd_tensor heads = tensor4(wide, SWD_F32, 1, 1, 2, 8), row = tensor4(wide, SWD_F32, 1, 1, 1, 8);
    attention_args *f = &at.forward;
    f->q[0] = f->k[0] = f->v[0] = f->o[0] = at.d_o[0] = heads;
    f->lse[0] = tensor3(sums, SWD_F32, 1, 2, 1);
    cr_expect_eq(op_attention_backward(&at, &dry), SWD_OK);
    f->k[0] = f->v[0] = row; // of fewer heads
    REFUSED(op_attention_backward(&at, &dry));
    f->q[0] = f->k[0] = f->v[0] = f->o[0] = at.d_o[0] = tensor4(wide, SWD_F32, 1, 1, 1, 520);
    f->lse[0] = tensor3(sums, SWD_F32, 1, 1, 1);
    REFUSED(op_attention_backward(&at, &dry)); // wider than any forward pass
    be->backward = NULL;
    cr_expect_eq(op_gemm(&(gemm_args){.c = c, .a = a, .b = b}, ex), SWD_ERR_UNSUPPORTED);
    tape *t;
    cr_expect_eq(tape_create(&t, be, &err), SWD_ERR_UNSUPPORTED);
    backend_destroy(&be);
}
