// SPDX-License-Identifier: MIT
// Losses, parameters and iterations of training against torch's autograd (tools/reference/make_train_goldens.py), whole tiny networks.
//
// float32, 1e-5 of a gradient's norm: the forward pass is off by 5e-6 (test_models.c); a gradient passes the same chain of sums again, of
// twice the length, and what it multiplies is off by the forward pass's error, three passes deep where features are compared.
// Three iterations, 3e-4 of how far the parameters moved: Adam divides each gradient by its own size, so that those numbers whose
// gradients nearly cancel move by their rounding errors.
#include "base/memory.h"
#include "base/rng.h"
#include "io/safetensors.h"
#include "train/distill.h"
#include "train/optimizer.h"
#include "weights/lora.h"
#include "weights/shapes.h"
#include "weights/tensor_list.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double TOLERANCE = 1e-5, LOOP_TOLERANCE = 3e-4, BF16_TOLERANCE = 5e-2;
enum { RANK = 2, ALPHA = 3, BLOCK = 1, BATCH = 2 };

typedef struct bench {
    swd_backend *be;
    swd_err err;
    char *model, *golden;
    config_denoiser config;
    denoiser *net;
    params *student, *fake, *full;
    head *head;
    tape *t;
    safetensors *io;
    distill d;
} bench;

#define OK(call) cr_assert_eq(call, SWD_OK, "%s", b->err.message)

static char *joined(const char *a, const char *b)
{
    char *path;
    cr_assert_eq(path_join(&path, a, b, NULL), SWD_OK);
    return path;
}

static char *golden(const char *part, const char *name)
{
    const char *root = getenv("SWD_SOURCE_DIR");
    char *a = joined(root ? root : ".", "tests/goldens"), *b = joined(a, part),
         *c = joined(b, name);
    free(a), free(b);
    return c;
}

static lora_config lora_of_goldens(void)
{
    lora_config c = lora_config_default();
    c.rank = RANK;
    c.alpha = ALPHA;
    return c;
}

static weights *open_weights(bench *b)
{
    weights *w;
    OK(weights_open(&w, b->model, "diffusion_pytorch_model", &b->err));
    return w;
}

static const float *values(const safetensors *io, const char *name, int64_t *n)
{
    const st_tensor *t = safetensors_find(io, name);
    cr_assert_not_null(t, "no golden %s", name);
    *n = t->numel;
    return (const float *)(const void *)t->data;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const param *const *)a)->name, (*(const param *const *)b)->name);
}

// The tensors of a set in order of their names.
static const param **sorted(const params *p)
{
    const param **list = malloc((size_t)params_count(p) * sizeof(const param *));
    for (int i = 0; i < params_count(p); i++) list[i] = params_at(p, i);
    qsort(list, (size_t)params_count(p), sizeof *list, by_name);
    return list;
}

// What a set holds (its gradients, or values), one tensor after the other.
static float *flattened(const params *p, bool gradients)
{
    const param **list = sorted(p);
    float *all = malloc((size_t)params_numbers(p) * sizeof *all), *to = all;
    for (int i = 0; i < params_count(p); i++) {
        swd_tensor t = gradients ? list[i]->grad : list[i]->value;
        memcpy(to, t.data, tensor_bytes(t));
        to += tensor_numel(t);
    }
    free(list);
    return all;
}

static void set_values(bench *b, params *p, const float *from)
{
    const param **list = sorted(p);
    for (int i = 0; i < params_count(p); i++) {
        memcpy(list[i]->value.data, from, tensor_bytes(list[i]->value));
        from += tensor_numel(list[i]->value);
    }
    free(list);
    OK(params_publish(p, &b->err));
}

static double distance(const float *got, const float *want, int64_t n)
{
    double off = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        off += pow((double)got[i] - (double)want[i], 2);
        size += pow((double)want[i], 2);
    }
    return sqrt(off / size);
}

static void bench_open(bench *b, const char *name, swd_dtype compute)
{
    *b = (bench){0};
    char *io;
    int64_t n;
    b->model = golden("models", name);
    b->golden = golden("train", name);
    io = joined(b->golden, "io.safetensors");
    char *json = joined(b->model, "config.json");
    OK(backend_cpu_create(&b->be, 2, &b->err));
    OK(safetensors_open(&b->io, io, NULL, &b->err));
    OK(denoiser_config_read(&b->config, DENOISER_SD3, json, &b->err));
    weights *w = open_weights(b);
    OK(denoiser_create(&b->net, &b->config, w, b->be, compute, &b->err));
    weights_close(&w);
    lora_config c = lora_of_goldens();
    const holdings *h = denoiser_holdings(b->net);
    params **sets[] = {&b->student, &b->fake};
    static const char *const names[] = {"student", "fake"};
    for (int i = 0; i < 2; i++) {
        char *folder = joined(b->golden, names[i]);
        OK(params_lora(sets[i], b->be, h, &c, 0, &b->err));
        OK(params_read_peft(*sets[i], folder, &b->err));
        free(folder);
    }
    OK(head_create(&b->head, b->be, b->config.sd3.inner_dim, 1, &b->err));
    const float *from = values(b->io, "head", &n);
    cr_assert_eq(n, params_numbers(head_params(b->head)));
    set_values(b, head_params(b->head), from);
    OK(tape_create(&b->t, b->be, &b->err));
    b->d = (distill){.be = b->be,
                     .t = b->t,
                     .act = compute,
                     .c = distill_config_default(),
                     .student = {b->net, b->student},
                     .teacher = {b->net, NULL},
                     .fake = {b->net, b->fake},
                     .head = b->head};
    b->d.c.block = BLOCK;
    b->d.c.guidance = 3;
    b->d.c.mmd = 0;
    free(io);
    free(json);
}

static void bench_close(bench *b)
{
    tape_destroy(&b->t);
    head_destroy(&b->head);
    params_destroy(&b->student);
    params_destroy(&b->fake);
    params_destroy(&b->full);
    denoiser_destroy(&b->net);
    safetensors_close(&b->io);
    backend_destroy(&b->be);
    free(b->model);
    free(b->golden);
}

static swd_tensor host(const safetensors *io, const char *prefix, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const st_tensor *t = safetensors_find(io, full);
    cr_assert_not_null(t, "no golden %s", full);
    return tensor_make((void *)(uintptr_t)t->data, SWD_F32, t->shape, t->ndim);
}

static noise_input noise_of(const safetensors *io, const char *prefix, const char *kind)
{
    char sigma[32], eps[32];
    snprintf(sigma, sizeof sigma, "sigma_%s", kind);
    snprintf(eps, sizeof eps, "eps_%s", kind);
    return (noise_input){host(io, prefix, sigma).data, host(io, prefix, eps)};
}

// Latents and text of io, draws of another set of tensors.
static distill_batch batch_of(const safetensors *io, const safetensors *draws, const char *prefix)
{
    return (distill_batch){.low = host(io, "", "low"),
                           .target = host(io, "", "target"),
                           .text = {host(io, "", "context"), host(io, "", "pooled")},
                           .empty = {host(io, "", "context0"), host(io, "", "pooled0")},
                           .start = noise_of(draws, prefix, "start"),
                           .mmd = noise_of(draws, prefix, "mmd"),
                           .dmd = noise_of(draws, prefix, "dmd"),
                           .gan = noise_of(draws, prefix, "gan")};
}

static void compare(bench *b, const char *loss, const char *set, const params *p, double value,
                    double tolerance)
{
    char name[64];
    int64_t n;
    snprintf(name, sizeof name, "%s/loss", loss);
    double want = (double)values(b->io, name, &n)[0];
    cr_expect(fabs(value - want) <= tolerance * fabs(want) + 1e-7, "%s: %.8g, not %.8g", name,
              value, want);
    snprintf(name, sizeof name, "%s/%s", loss, set);
    const float *grad = values(b->io, name, &n);
    cr_assert_eq(n, params_numbers(p), "%s has %lld numbers, the set %lld", name, (long long)n,
                 (long long)params_numbers(p));
    float *got = flattened(p, true);
    double d = distance(got, grad, n);
    printf("# %s: %.2e\n", name, d);
    cr_expect(d <= tolerance, "%s: %g", name, d);
    free(got);
}

static void zero(bench *b)
{
    OK(params_zero_gradients(b->student, &b->err));
    OK(params_zero_gradients(b->fake, &b->err));
    OK(params_zero_gradients(head_params(b->head), &b->err));
}

static void one_loss(bench *b, const char *name, distill_config c, double tolerance)
{
    distill_losses out;
    distill_batch batch = batch_of(b->io, b->io, "");
    b->d.c = c;
    zero(b);
    OK(distill_generator(&out, NULL, &b->d, &batch, &b->err));
    compare(b, name, "student", b->student, out.total, tolerance);
}

static void all_losses(bench *b, double tolerance)
{
    distill_config none = b->d.c, c = none;
    distill_batch batch = batch_of(b->io, b->io, "");
    distill_losses out;
    double loss;
    zero(b);
    OK(distill_flow(&loss, &b->d, batch.target, &batch.mmd, &batch.text, &b->err));
    compare(b, "flow", "student", b->student, loss, tolerance);
    c.mmd = 1;
    one_loss(b, "linear", c, tolerance);
    c.kernel = MMD_RBF;
    if (tolerance == TOLERANCE) one_loss(b, "rbf", c, tolerance);
    c.kernel = MMD_HUBER;
    c.features_of_fake = true;
    one_loss(b, "huber", c, tolerance);
    c.mmd = 1, c.dmd = 0.7, c.gan = 0.3;
    one_loss(b, "total", c, tolerance);
    c = none;
    c.dmd = 1;
    one_loss(b, "dmd", c, tolerance);
    c = none;
    c.gan = 1;
    one_loss(b, "gan", c, tolerance);
    b->d.c = none;
    b->d.c.discriminator = 0.2;
    zero(b);
    OK(distill_fake(&out, &b->d, &batch, &b->err));
    compare(b, "fake", "fake", b->fake, out.total, tolerance);
    compare(b, "fake", "head", head_params(b->head), out.total, tolerance);
}

static void losses_of(const char *name)
{
    bench b;
    bench_open(&b, name, SWD_F32);
    all_losses(&b, TOLERANCE);
    bench_close(&b);
}

Test(train, losses_sd3)
{
    losses_of("sd3");
}

Test(train, losses_sd35m)
{
    losses_of("sd35m");
}

Test(train, losses_bf16)
{
    bench b;
    bench_open(&b, "sd35m", SWD_BF16);
    all_losses(&b, BF16_TOLERANCE);
    bench_close(&b);
}

/* ---- the tape ---- */

static distill_losses everything(bench *b, const distill_batch *batch)
{
    distill_losses out;
    b->d.c.mmd = 1, b->d.c.dmd = 0.7, b->d.c.gan = 0.3;
    zero(b);
    OK(distill_generator(&out, NULL, &b->d, batch, &b->err));
    return out;
}

// Blocks computed again give the same bits, and take less memory; a step takes what was measured.
static void checkpointing(swd_dtype compute)
{
    bench bench_, *b = &bench_;
    bench_open(b, "sd35m", compute);
    distill_batch batch = batch_of(b->io, b->io, "");
    size_t bytes = (size_t)params_numbers(b->student) * sizeof(float);
    distill_losses kept = everything(b, &batch);
    float *want = flattened(b->student, true);
    tape_memory large, small, held = tape_held(b->t);
    OK(distill_measure(&large, &b->d, &batch, &b->err));
    tape_checkpoint(b->t, true);
    OK(distill_measure(&small, &b->d, &batch, &b->err));
    distill_losses again = everything(b, &batch);
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

Test(train, checkpoints_f32)
{
    checkpointing(SWD_F32);
}

Test(train, checkpoints_bf16)
{
    checkpointing(SWD_BF16);
}

// One thread or two, a step alone or after another of another shape: the same bits.
Test(train, same_bits)
{
    float *got[2];
    size_t bytes = 0;
    for (int i = 0; i < 2; i++) {
        bench bench_, *b = &bench_;
        bench_open(b, "sd35m", SWD_BF16);
        distill_batch batch = batch_of(b->io, b->io, "");
        if (i) {
            distill_batch low = batch; // the lowest scale
            low.target = batch.low;
            noise_input *noise[] = {&low.start, &low.mmd, &low.dmd, &low.gan};
            for (int k = 0; k < 4; k++) noise[k]->eps = batch.low;
            everything(b, &low);
            b->be->bind(b->be, NULL);
        }
        everything(b, &batch);
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

Test(train, refusals)
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

Test(train, overwritten)
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

#define REFUSED(call) cr_expect_eq(call, SWD_ERR_ARGUMENT, #call)

// What the ops of training are given is checked as that of the others.
Test(train, refused_arguments)
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
    be->backward = NULL;
    cr_expect_eq(op_gemm(&(gemm_args){.c = c, .a = a, .b = b}, ex), SWD_ERR_UNSUPPORTED);
    tape *t;
    cr_expect_eq(tape_create(&t, be, &err), SWD_ERR_UNSUPPORTED);
    backend_destroy(&be);
}

/* ---- parameters ---- */

// Every weight of the network learns: flow matching, every 7th number of the gradient.
static void full(const char *name)
{
    bench bench_, *b = &bench_;
    bench_open(b, name, SWD_F32);
    weights *w = open_weights(b);
    OK(params_full(&b->full, b->be, denoiser_holdings(b->net), w, &b->err));
    int64_t files = weights_parameters(w), n, places = 12 * 12 * (int64_t)b->config.sd3.inner_dim;
    weights_close(&w);
    cr_expect_eq(params_numbers(b->full), files - places, "all but the table of positions");
    b->d.student.learnt = b->full;
    distill_batch batch = batch_of(b->io, b->io, "");
    const float *want = values(b->io, "flow/full", &n);
    float *first = NULL;
    for (int i = 0; i < 2; i++) {
        double loss;
        tape_checkpoint(b->t, i);
        OK(params_zero_gradients(b->full, &b->err));
        OK(distill_flow(&loss, &b->d, batch.target, &batch.mmd, &batch.text, &b->err));
        float *got = flattened(b->full, true);
        if (i) {
            cr_expect_eq(memcmp(first, got, (size_t)params_numbers(b->full) * sizeof *got), 0);
        } else {
            first = malloc((size_t)params_numbers(b->full) * sizeof *first);
            memcpy(first, got, (size_t)params_numbers(b->full) * sizeof *first);
            cr_assert_eq((params_numbers(b->full) + 6) / 7, n);
            for (int64_t k = 0; k < n; k++) got[k] = got[7 * k];
            double d = distance(got, want, n);
            printf("# %s flow/full: %.2e\n", name, d);
            cr_expect(d <= TOLERANCE, "%g", d);
        }
        free(got);
    }
    free(first);
    bench_close(b);
}

Test(train, full_sd3)
{
    full("sd3");
}

Test(train, full_sd35m)
{
    full("sd35m");
}

// The parameters of adapters of rank 64, from the list of a model's tensors.
static int64_t lora_numbers(const char *shape)
{
    tensor_list l = {0};
    swd_err err = {0};
    lora_config c = lora_config_default();
    int64_t n = 0;
    cr_assert_eq(tensors_transformer(&l, &shape_find(shape)->transformer, &err), SWD_OK);
    for (size_t i = 0; i < l.n; i++) {
        char *end = strrchr(l.at[i].name, '.');
        if (!end || strcmp(end, ".weight") != 0) continue;
        *end = 0;
        if (lora_config_matches(&c, l.at[i].name))
            n += c.rank * (l.at[i].shape[0] + l.at[i].shape[1]);
    }
    free(l.at);
    return n;
}

Test(train, numbers_of_adapters)
{
    cr_expect_eq(lora_numbers("sd3.5-medium"), 75300864);
    cr_expect_eq(lora_numbers("sd3.5-large"), 164052992);
    bench bench_, *b = &bench_;
    bench_open(b, "sd35m", SWD_F32); // and as many as the set has
    const config_sd3 *s = &b->config.sd3;
    int64_t d = s->inner_dim, blocks = s->num_layers, image = 4 * 2 * d + 2 * 5 * d;
    int64_t want = RANK * (blocks * image + s->n_dual * 4 * 2 * d + (blocks - 1) * 2 * 5 * d);
    cr_expect_eq(params_numbers(b->student), want, "%lld, not %lld",
                 (long long)params_numbers(b->student), (long long)want);
    static const char *const unknown[] = {"to_q", "to_p"};
    lora_config c = {.rank = 2, .alpha = 2, .targets = unknown, .n_targets = 2};
    params *p;
    cr_expect_eq(params_lora(&p, b->be, denoiser_holdings(b->net), &c, 0, &b->err),
                 SWD_ERR_ARGUMENT);
    cr_expect_not_null(strstr(b->err.message, "to_p"));
    cr_expect_null(p);
    bench_close(b);
}

// A new adapter: A normal with deviation 1 / rank, B zero, so that the student is the teacher; written and read again.
Test(train, new_adapter)
{
    bench bench_, *b = &bench_;
    bench_open(b, "sd35m", SWD_F32);
    lora_config c = lora_config_default();
    params *p, *q;
    char dir[] = "/tmp/swd_train_XXXXXX";
    cr_assert_not_null(mkdtemp(dir));
    OK(params_lora(&p, b->be, denoiser_holdings(b->net), &c, 7, &b->err));
    OK(params_lora(&q, b->be, denoiser_holdings(b->net), &c, 8, &b->err));
    double sum = 0, n = 0;
    for (int i = 0; i < params_count(p); i++) {
        const param *t = params_at(p, i);
        const float *x = t->value.data;
        bool is_b = strstr(t->name, ".lora_B.") != NULL;
        for (int64_t k = 0; k < tensor_numel(t->value); k++) {
            if (is_b) cr_assert_eq(x[k], 0);
            if (!is_b) sum += (double)x[k] * (double)x[k], n++;
        }
    }
    cr_expect_float_eq(sqrt(sum / n) * c.rank, 1, 0.01, "deviation %g", sqrt(sum / n));
    float *x = params_values(p).data;
    for (int64_t i = 0; i < 100; i++) x[i] = (float)i;
    OK(params_write_peft(p, dir, &c, "a/model", NULL, &b->err));
    OK(params_read_peft(q, dir, &b->err));
    cr_expect_eq(
        memcmp(params_values(p).data, params_values(q).data, tensor_bytes(params_values(p))), 0);
    lora *l;
    OK(lora_open(&l, dir, &b->err));
    cr_expect_eq(2 * lora_count(l), params_count(p));
    cr_expect_eq(lora_at(l, 0)->scale, 1);
    lora_close(&l);
    params_destroy(&q);
    lora_config other = c;
    other.rank = 8;
    OK(params_lora(&q, b->be, denoiser_holdings(b->net), &other, 8, &b->err));
    cr_expect_eq(params_read_peft(q, dir, &b->err), SWD_ERR_FILE);
    params_destroy(&p);
    params_destroy(&q);
    for (int i = 0; i < 2; i++) {
        char *path = joined(dir, i ? "adapter_config.json" : "adapter_model.safetensors");
        cr_expect_eq(unlink(path), 0);
        free(path);
    }
    cr_expect_eq(rmdir(dir), 0, "something else was left in %s", dir);
    bench_close(b);
}

/* ---- optimizer ---- */

static params *one_vector(bench *b, int64_t n)
{
    params *p;
    int index;
    OK(params_create(&p, b->be, &b->err));
    OK(params_add(&index, p, "x", &n, 1, &b->err));
    OK(params_layout(p, SWD_F32, &b->err));
    return p;
}

Test(train, optimizer)
{
    bench bench_ = {0}, *b = &bench_;
    OK(backend_cpu_create(&b->be, 1, &b->err));
    params *p = one_vector(b, 5);
    optimizer_config c = optimizer_config_default();
    c.rate = 0.1, c.weight_decay = 0.5, c.clip = 1, c.ema = 0.75, c.kind = RATE_COSINE;
    c.warmup = 2, c.steps = 6;
    static const double rates[] = {
        0.05, 0.1, 0.1, 0.1 * 0.8535533905932737, 0.05, 0.1 * 0.14644660940672627, 0, 0};
    for (int i = 0; i < 8; i++)
        cr_expect_float_eq(optimizer_rate(&c, i + 1), rates[i], 1e-9, "step %d: %g", i + 1,
                           optimizer_rate(&c, i + 1));
    optimizer *o;
    OK(optimizer_create(&o, p, &c, &b->err));
    float *x = params_values(p).data, *g = params_gradients(p).data;
    const float *ema = optimizer_state_of(o).ema.data;
    double m = 0, v = 0, want = 0, mean = 0;
    for (int step = 1; step <= 3; step++) {
        double size;
        for (int i = 0; i < 5; i++) g[i] = 2 * 2.0f * (float)step; // two micro-batches
        OK(optimizer_step(o, 2, &size, &b->err));
        cr_expect_float_eq(size, 2 * step * sqrt(5), 1e-5);
        double grad = 1 / sqrt(5); // clipped
        m = 0.9 * m + 0.1 * grad, v = 0.999 * v + 0.001 * grad * grad;
        want = want * (1 - 0.5 * rates[step - 1]) - rates[step - 1] * (m / (1 - pow(0.9, step))) /
                                                        (sqrt(v / (1 - pow(0.999, step))) + 1e-8);
        mean = 0.75 * mean + 0.25 * want;
        for (int i = 0; i < 5; i++) {
            cr_expect_float_eq((double)x[i], want, 1e-6, "step %d: %g, not %g", step, (double)x[i],
                               want);
            cr_expect_float_eq((double)ema[i], mean, 1e-6);
            cr_expect_eq(g[i], 0);
        }
    }
    g[3] = NAN;
    cr_expect_eq(optimizer_step(o, 1, NULL, &b->err), SWD_ERR_DEVICE);
    cr_expect_eq(g[3], 0);
    cr_expect_float_eq((double)x[3], want, 1e-6, "a NaN got through");
    cr_expect_eq(*optimizer_state_of(o).step, 3);
    optimizer_destroy(&o);
    params_destroy(&p);
    backend_destroy(&b->be);
}

/* ---- iterations ---- */

// Two updates of the fake model and the head, then one of the student, three times: parameters after each beside torch's.
Test(train, three_iterations)
{
    bench bench_, *b = &bench_;
    bench_open(b, "sd35m", SWD_F32);
    safetensors *loop;
    char *path = joined(b->golden, "loop.safetensors");
    OK(safetensors_open(&loop, path, NULL, &b->err));
    params *set[] = {b->student, b->fake, head_params(b->head)};
    static const char *const names[] = {"student", "fake", "head"};
    optimizer *o[3];
    float *start[3];
    for (int k = 0; k < 3; k++) {
        optimizer_config c = optimizer_config_default();
        c.rate = 1e-3;
        c.clip = k == 0 ? 0.05 : 1.5;
        OK(optimizer_create(&o[k], set[k], &c, &b->err));
        start[k] = flattened(set[k], false);
    }
    b->d.c = (distill_config){.kernel = MMD_HUBER,
                              .features_of_fake = true,
                              .block = BLOCK,
                              .huber = 1e-3,
                              .mmd = 1,
                              .dmd = 0.7,
                              .gan = 0.3,
                              .discriminator = 0.2,
                              .guidance = 3};
    for (int i = 0; i < 3; i++) {
        distill_losses out;
        for (int k = 0; k < 3; k++) {
            char prefix[16];
            snprintf(prefix, sizeof prefix, "%d/%d/", i, k);
            distill_batch batch = batch_of(b->io, loop, prefix);
            if (k < 2) {
                OK(distill_fake(&out, &b->d, &batch, &b->err));
                OK(optimizer_step_together(o + 1, 2, 1, NULL, &b->err));
            } else {
                OK(distill_generator(&out, NULL, &b->d, &batch, &b->err));
                OK(optimizer_step(o[0], 1, NULL, &b->err));
            }
        }
        for (int k = 0; k < 3; k++) {
            char name[32];
            int64_t n;
            snprintf(name, sizeof name, "%d/%s", i, names[k]);
            const float *want = values(loop, name, &n);
            cr_assert_eq(n, params_numbers(set[k]));
            float *got = flattened(set[k], false);
            double off = 0, moved = 0;
            for (int64_t j = 0; j < n; j++) {
                off += pow((double)got[j] - (double)want[j], 2);
                moved += pow((double)want[j] - (double)start[k][j], 2);
            }
            printf("# after iteration %d %s: %.2e of the way\n", i, names[k], sqrt(off / moved));
            cr_expect(sqrt(off / moved) <= LOOP_TOLERANCE, "iteration %d, %s: %g", i, names[k],
                      sqrt(off / moved));
            free(got);
        }
    }
    for (int k = 0; k < 3; k++) {
        optimizer_destroy(&o[k]);
        free(start[k]);
    }
    safetensors_close(&loop);
    free(path);
    bench_close(b);
}

// Eight latents of noise-free values, learnt by heart: with all weights free the flow-matching loss falls to a hundredth.
Test(train, overfit)
{
    enum { IMAGES = 8, STEPS = 600, SIDE = 4 };
    bench bench_, *b = &bench_;
    bench_open(b, "sd3", SWD_F32);
    weights *w = open_weights(b);
    OK(params_full(&b->full, b->be, denoiser_holdings(b->net), w, &b->err));
    weights_close(&w);
    b->d.student.learnt = b->full;
    const config_sd3 *s = &b->config.sd3;
    int64_t n = s->in_channels * SIDE * SIDE;
    float *z = malloc((size_t)(IMAGES * n) * 4), *eps = malloc((size_t)(IMAGES * n) * 4),
          *context = malloc((size_t)(IMAGES * 2 * s->joint_attention_dim) * 4),
          *pooled = malloc((size_t)(IMAGES * s->pooled_projection_dim) * 4), sigma[IMAGES];
    philox_randn(z, IMAGES * n, 0, 1, 0);
    philox_randn(context, IMAGES * 2 * s->joint_attention_dim, 0, 2, 0);
    philox_randn(pooled, IMAGES * s->pooled_projection_dim, 0, 3, 0);
    text_input text = {tensor3(context, SWD_F32, IMAGES, 2, s->joint_attention_dim),
                       tensor2(pooled, SWD_F32, IMAGES, s->pooled_projection_dim)};
    swd_tensor latents = tensor4(z, SWD_F32, IMAGES, s->in_channels, SIDE, SIDE);
    optimizer *o;
    optimizer_config c = optimizer_config_default();
    c.rate = 8e-3, c.kind = RATE_COSINE, c.steps = STEPS, c.weight_decay = 0, c.warmup = 10;
    OK(optimizer_create(&o, b->full, &c, &b->err));
    double first = 0, last = 0, loss;
    for (uint32_t i = 0; i < STEPS; i++) {
        philox_randn(eps, IMAGES * n, 0, 4, i);
        for (int k = 0; k < IMAGES; k++)
            sigma[k] = 0.3f + 0.7f * (float)((i * 5 + (uint32_t)k * 3) % 8) / 8;
        noise_input noise = {sigma, tensor4(eps, SWD_F32, IMAGES, s->in_channels, SIDE, SIDE)};
        OK(distill_flow(&loss, &b->d, latents, &noise, &text, &b->err));
        OK(optimizer_step(o, 1, NULL, &b->err));
        if (i < 10) first += loss / 10;
        if (i >= STEPS - 10) last += loss / 10;
    }
    printf("# loss %.4f, then %.4f\n", first, last);
    cr_expect_lt(last, 0.01 * first, "loss %g, then %g", first, last);
    optimizer_destroy(&o);
    free(z), free(eps), free(context), free(pooled);
    bench_close(b);
}
