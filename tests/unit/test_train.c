// SPDX-License-Identifier: MIT
// Losses, parameters and iterations of training against torch's autograd (tools/reference/make_train_goldens.py), whole tiny networks.
//
// float32, 1e-5 of a gradient's norm: the forward pass is off by 5e-6 (test_models.c); a gradient passes the same chain of sums again, of
// twice the length, and what it multiplies is off by the forward pass's error, three passes deep where features are compared.
// Three iterations, 2e-3 of how far the parameters moved: Adam divides each gradient by its own size, so that those numbers whose
// gradients nearly cancel move by their rounding errors.
#include "base/memory.h"
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

static const double TOLERANCE = 1e-5, BF16_TOLERANCE = 5e-2;
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
