// SPDX-License-Identifier: MIT
// One iteration of distillation (MMD alone): student forward and back, features of its x0 and of the target, optimizer. Or what such an
// iteration takes of memory for a published shape, without its weights.
//
//     bench_train [options] [MODEL]       MODEL: a diffusers folder (weights/emoji)
//     bench_train --plan sd3.5-medium     a table
#include "base/clock.h"
#include "base/memory.h"
#include "base/rng.h"
#include "train/distill.h"
#include "train/optimizer.h"
#include "weights/shapes.h"
#include "weights/tensor_list.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    const char *model, *plan;
    swd_dtype precision;
    bool full, checkpoint, paced;
    int64_t batch, side, low, text;
    int rank, steps, threads, block;
} options;

static const char usage[] =
    "usage: bench_train [options] [MODEL]\n"
    "  --precision f32|bf16  --full (all weights instead of an adapter)  --rank N (64)  "
    "--checkpoint\n"
    "  --batch N (64)  --side N (16, of latents)  --low N (12, the scale below)  --text N (32 "
    "tokens)\n"
    "  --block N (4, of the features)  --steps N (5)  --threads N\n"
    "  --paced               a step for each line of standard input\n"
    "  --plan SHAPE          the memory of a step at 128x128 latents, by batch and checkpointing\n";

static bool parse_numbers(options *o, const char *flag, const char *value)
{
    int64_t *const large[] = {&o->batch, &o->side, &o->low, &o->text};
    static const char *const large_names[] = {"--batch", "--side", "--low", "--text"};
    int *const small[] = {&o->rank, &o->steps, &o->threads, &o->block};
    static const char *const small_names[] = {"--rank", "--steps", "--threads", "--block"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(flag, large_names[i]) == 0) *large[i] = atoll(value);
        if (strcmp(flag, small_names[i]) == 0) *small[i] = atoi(value);
        if (strcmp(flag, large_names[i]) == 0 || strcmp(flag, small_names[i]) == 0)
            return atoi(value) > 0;
    }
    return false;
}

static bool parse(options *o, int argc, char **argv)
{
    *o = (options){.model = "weights/emoji",
                   .precision = SWD_BF16,
                   .batch = 64,
                   .side = 16,
                   .low = 12,
                   .text = 32,
                   .rank = 64,
                   .steps = 5,
                   .block = 4};
    for (int i = 1; i < argc; i++) {
        const char *flag = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        bool *const switches[] = {&o->full, &o->checkpoint, &o->paced};
        static const char *const names[] = {"--full", "--checkpoint", "--paced"};
        bool known = flag[0] != '-';
        if (known) o->model = flag;
        for (int k = 0; k < 3; k++)
            if (strcmp(flag, names[k]) == 0) *switches[k] = known = true;
        if (known) continue;
        i++;
        if (strcmp(flag, "--plan") == 0)
            o->plan = value;
        else if (strcmp(flag, "--precision") == 0)
            o->precision = strcmp(value, "f32") == 0 ? SWD_F32 : SWD_BF16;
        else if (!parse_numbers(o, flag, value))
            return false;
    }
    return true;
}

typedef struct trial {
    swd_backend *be;
    denoiser *net;
    weights *w;
    params *p;
    optimizer *o;
    distill d;
    distill_batch batch;
    float *data;
    swd_err err;
} trial;

#define TRY(call)                                                                                  \
    do {                                                                                           \
        if ((call) != SWD_OK) {                                                                    \
            fprintf(stderr, "bench_train: error: %s\n", t->err.message);                           \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

// Normal numbers behind each other; data NULL: only shapes.
static swd_tensor take(trial *t, size_t *used, const int64_t *shape, int ndim)
{
    swd_tensor x = tensor_make(t->data ? t->data + *used : NULL, SWD_F32, shape, ndim);
    if (t->data) philox_randn(x.data, tensor_numel(x), 0, 1, (uint32_t)*used);
    *used += (size_t)tensor_numel(x);
    return x;
}

static bool make_batch(trial *t, const denoiser_facts *f, const options *o, bool with_data)
{
    int64_t b = o->batch, latents[] = {b, f->channels, o->side, o->side};
    int64_t low[] = {b, f->channels, o->low, o->low}, context[] = {b, o->text, f->context_width},
            pooled[] = {b, f->pooled_width};
    size_t numbers =
               (size_t)(b * (3 * f->channels * o->side * o->side + f->channels * o->low * o->low +
                             o->text * f->context_width + f->pooled_width + 2)),
           used = 0;
    if (with_data) TRY(swd_malloc(&t->data, numbers, sizeof *t->data, "a batch", &t->err));
    t->batch.low = take(t, &used, low, 4);
    t->batch.target = take(t, &used, latents, 4);
    t->batch.text = (text_input){take(t, &used, context, 3), take(t, &used, pooled, 2)};
    t->batch.start.eps = take(t, &used, latents, 4);
    t->batch.mmd.eps = take(t, &used, latents, 4);
    if (!with_data) return true;
    float *sigma = t->data + used;
    for (int64_t i = 0; i < b; i++) sigma[i] = 0.6f, sigma[b + i] = 0.3f;
    t->batch.start.sigma = sigma;
    t->batch.mmd.sigma = sigma + b;
    return true;
}

static void close_trial(trial *t)
{
    optimizer_destroy(&t->o);
    params_destroy(&t->p);
    tape_destroy(&t->d.t);
    denoiser_destroy(&t->net);
    weights_close(&t->w);
    if (t->be) backend_destroy(&t->be);
    free(t->data);
}

static bool set_up(trial *t, const options *o)
{
    lora_config c = lora_config_default();
    c.rank = o->rank;
    c.alpha = o->rank;
    const holdings *h = denoiser_holdings(t->net);
    if (o->full)
        TRY(params_full(&t->p, t->be, h, t->w, &t->err));
    else
        TRY(params_lora(&t->p, t->be, h, &c, 1, &t->err));
    TRY(tape_create(&t->d.t, t->be, &t->err));
    tape_checkpoint(t->d.t, o->checkpoint);
    t->d.be = t->be;
    t->d.act = o->precision;
    t->d.c = (distill_config){.kernel = MMD_LINEAR, .block = o->block, .mmd = 1};
    t->d.student = (model){t->net, t->p};
    t->d.teacher.net = t->net;
    return true;
}

/* ---- time ---- */

static bool open_model(trial *t, const options *o, denoiser_facts *facts)
{
    char path[512], json[600];
    config_denoiser config;
    snprintf(path, sizeof path, "%s/transformer", o->model);
    snprintf(json, sizeof json, "%s/config.json", path);
    TRY(backend_cpu_create(&t->be, o->threads, &t->err));
    TRY(denoiser_config_read(&config, DENOISER_SD3, json, &t->err));
    TRY(weights_open(&t->w, path, "diffusion_pytorch_model", &t->err));
    TRY(denoiser_create(&t->net, &config, t->w, t->be, o->precision, &t->err));
    *facts = denoiser_facts_of(&config);
    return true;
}

static bool run_steps(trial *t, const options *o)
{
    char line[64];
    for (int i = 0; o->paced ? fgets(line, sizeof line, stdin) != NULL : i < o->steps; i++) {
        double start = clock_now_s(), cpu = clock_cpu_now_s();
        distill_losses loss;
        TRY(distill_generator(&loss, NULL, &t->d, &t->batch, &t->err));
        TRY(optimizer_step(t->o, 1, NULL, &t->err));
        printf("%.4f s, %.4f s of processors, loss %.6g\n", clock_now_s() - start,
               clock_cpu_now_s() - cpu, loss.total);
        fflush(stdout);
    }
    tape_memory m = tape_held(t->d.t);
    fprintf(stderr,
            "# %s, %lld numbers learn; activations %.0f MB, gradients %.0f MB, copies of "
            "frozen weights %.0f MB\n",
            t->be->device, (long long)params_numbers(t->p), (double)m.slab / 1e6,
            (double)m.gradients / 1e6, (double)m.weights / 1e6);
    return true;
}

static bool measure_time(trial *t, const options *o)
{
    denoiser_facts facts;
    optimizer_config c = {
        .rate = 1e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 1e-2, .clip = 10};
    if (!open_model(t, o, &facts) || !make_batch(t, &facts, o, true) || !set_up(t, o)) return false;
    TRY(optimizer_create(&t->o, t->p, &c, &t->err));
    return run_steps(t, o);
}

/* ---- memory, by a backend that keeps the shapes of weights and nothing else ---- */

static swd_status plan_linear(swd_backend *b, swd_linear **out, swd_tensor weight, swd_tensor bias,
                              swd_dtype compute, swd_err *err)
{
    struct swd_linear_facts *f;
    (void)b;
    SWD_TRY(swd_calloc(&f, 1, sizeof *f, "a layer", err), err);
    *f = (struct swd_linear_facts){weight.shape[0], weight.shape[1], tensor_present(bias), compute};
    *out = (swd_linear *)(void *)f;
    return SWD_OK;
}

static void plan_linear_destroy(swd_backend *b, swd_linear **w)
{
    (void)b;
    free(*w);
    *w = NULL;
}

static size_t plan_workspace(swd_backend *b, const linear_args *a)
{
    (void)b, (void)a;
    return 0;
}

static void *plan_alloc(swd_backend *b, size_t bytes)
{
    (void)b, (void)bytes;
    return aligned_alloc(64, 64);
}

static swd_status plan_upload(swd_backend *b, swd_tensor dst, const void *src, swd_stream *s,
                              swd_err *err)
{
    (void)b, (void)dst, (void)src, (void)s, (void)err;
    return SWD_OK;
}

static bool open_plan(trial *t, const options *o, const model_shape *m)
{
    tensor_list list = {0};
    TRY(backend_cpu_create(&t->be, 1, &t->err));
    TRY(tensors_transformer(&list, &m->transformer, &t->err));
    TRY(weights_open_synthetic(&t->w, &list, m->name, &t->err));
    weights_set_dry(t->w, true);
    t->be->linear_create = plan_linear;
    t->be->linear_destroy = plan_linear_destroy;
    t->be->ops.linear_workspace = plan_workspace;
    void *(*alloc)(swd_backend *, size_t) = t->be->alloc;
    swd_status (*upload)(swd_backend *, swd_tensor, const void *, swd_stream *, swd_err *) =
        t->be->upload;
    t->be->alloc = plan_alloc;
    t->be->upload = plan_upload;
    TRY(denoiser_create(&t->net, &m->transformer, t->w, t->be, SWD_BF16, &t->err));
    t->be->alloc = alloc;
    t->be->upload = upload;
    return set_up(t, o);
}

static bool plan(trial *t, options *o)
{
    const model_shape *m = shape_find(o->plan);
    if (!m || m->transformer.kind != DENOISER_SD3) {
        fprintf(stderr, "bench_train: error: no shape of SD3 is called %s\n", o->plan);
        return false;
    }
    o->precision = SWD_BF16;
    o->full = false;
    o->side = 128, o->low = 96, o->text = 333, o->block = m->transformer.sd3.num_layers / 2 - 1;
    if (!open_plan(t, o, m)) return false;
    denoiser_facts facts = denoiser_facts_of(&m->transformer);
    double weights_gb = (double)weights_parameters(t->w) * 2 / 1e9,
           adapter_gb = (double)params_numbers(t->p) * (4 * 4 + 2) / 1e9;
    printf("| batch | blocks | weights | adapter, optimizer | activations | gradients | sum, GB "
           "|\n|---|---|---|---|---|---|---|\n");
    for (int64_t b = 1; b <= 8; b = b == 1 ? 4 : b * 2)
        for (int again = 1; again >= 0; again--) {
            tape_memory need;
            o->batch = b;
            make_batch(t, &facts, o, false);
            tape_checkpoint(t->d.t, again);
            TRY(distill_measure(&need, &t->d, &t->batch, &t->err));
            double slab = (double)need.slab / 1e9, grads = (double)need.gradients / 1e9;
            printf("| %d | %s | %.1f | %.1f | %.1f | %.1f | %.1f |\n", (int)b,
                   again ? "computed again" : "kept", weights_gb, adapter_gb, slab, grads,
                   weights_gb + adapter_gb + slab + grads);
        }
    return true;
}

int main(int argc, char **argv)
{
    options o;
    trial t = {0};
    if (!parse(&o, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    bool good = o.plan ? plan(&t, &o) : measure_time(&t, &o);
    close_trial(&t);
    return good ? 0 : 1;
}
