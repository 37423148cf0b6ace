// SPDX-License-Identifier: MIT
#include "../files.h"
#include "train_bench.h"
#include "base/memory.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *bench_join(const char *a, const char *b)
{
    char *path;
    cr_assert_eq(path_join(&path, a, b, NULL), SWD_OK);
    return path;
}

static char *golden(const char *part, const char *name)
{
    return bench_join(path_in(in_source("tests/goldens"), part), name);
}

static lora_config lora_of_goldens(void)
{
    lora_config c = lora_config_default();
    c.rank = RANK;
    c.alpha = ALPHA;
    return c;
}

weights *bench_weights(bench *b)
{
    weights *w;
    OK(weights_open(&w, b->model, "diffusion_pytorch_model", &b->err));
    return w;
}

const float *golden_values(const safetensors *io, const char *name, int64_t *n)
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

float *flattened(const params *p, bool gradients)
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

double distance(const float *got, const float *want, int64_t n)
{
    double off = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        off += pow((double)got[i] - (double)want[i], 2);
        size += pow((double)want[i], 2);
    }
    return sqrt(off / size);
}

void bench_open(bench *b, const char *name, swd_dtype compute)
{
    *b = (bench){0};
    char *io;
    int64_t n;
    b->model = golden("models", name);
    b->golden = golden("train", name);
    io = bench_join(b->golden, "io.safetensors");
    char *json = bench_join(b->model, "config.json");
    OK(backend_cpu_create(&b->be, 2, &b->err));
    OK(safetensors_open(&b->io, io, NULL, &b->err));
    OK(denoiser_config_read(&b->config, DENOISER_SD3, json, &b->err));
    weights *w = bench_weights(b);
    OK(denoiser_create(&b->net, &b->config, w, b->be, compute, &b->err));
    weights_close(&w);
    lora_config c = lora_of_goldens();
    const holdings *h = denoiser_holdings(b->net);
    params **sets[] = {&b->student, &b->fake};
    static const char *const names[] = {"student", "fake"};
    for (int i = 0; i < 2; i++) {
        char *folder = bench_join(b->golden, names[i]);
        OK(params_lora(sets[i], b->be, h, &c, 0, &b->err));
        OK(params_read_peft(*sets[i], folder, &b->err));
        free(folder);
    }
    OK(head_create(&b->head, b->be, b->config.sd3.inner_dim, 1, &b->err));
    const float *from = golden_values(b->io, "head", &n);
    cr_assert_eq(n, params_numbers(head_params(b->head)));
    set_values(b, head_params(b->head), from);
    OK(tape_create(&b->t, b->be, &b->err));
    b->d = (distill){.be = b->be,
                     .t = b->t,
                     .act = compute,
                     .c = {.kernel = MMD_LINEAR, .block = BLOCK, .guidance = 3},
                     .student = {b->net, b->student},
                     .teacher = {b->net, NULL},
                     .fake = {b->net, b->fake},
                     .head = b->head};
    free(io);
    free(json);
}

void bench_close(bench *b)
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

void bench_zero(bench *b)
{
    OK(params_zero_gradients(b->student, &b->err));
    OK(params_zero_gradients(b->fake, &b->err));
    OK(params_zero_gradients(head_params(b->head), &b->err));
}

distill_losses bench_everything(bench *b, const distill_batch *batch)
{
    distill_losses out;
    b->d.c.mmd = 1, b->d.c.dmd = 0.7, b->d.c.gan = 0.3;
    bench_zero(b);
    OK(distill_generator(&out, NULL, &b->d, batch, &b->err));
    return out;
}

optimizer_config adamw(void)
{
    optimizer_config c = golden_optimizer(STUDENT);
    c.rate = 0;
    c.clip = 10;
    return c;
}
