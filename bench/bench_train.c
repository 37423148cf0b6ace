// SPDX-License-Identifier: MIT
// One iteration of distillation (MMD alone): student forward and back, features of its x0 and of the target, optimizer. Or what such an
// iteration takes of a device's memory for a published shape, without its weights.
//
//     bench_train [options] [MODEL]                     MODEL: a diffusers folder (weights/emoji)
//     bench_train --device cuda --plan sd3.5-medium     a table
#include "backend/devices.h"
#include "backend/slab.h"
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
    const char *model, *plan, *device;
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
    "  --block N (4, of the features)  --steps N (5)\n"
    "  --device cpu|cuda[:K]  --threads N (of the cpu)\n"
    "  --paced               a step for each line of standard input\n"
    "  --plan SHAPE          the memory of a step at 128x128 latents, by batch and checkpointing; "
    "of a "
    "device, not of the cpu\n";

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
                   .device = "cpu",
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
        else if (strcmp(flag, "--device") == 0)
            o->device = value;
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

static void close_trial(trial *t, bool planned)
{
    if (planned && t->be && slab_has(t->be)) plan_end(t->be);
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

static bool open_backend(trial *t, const options *o)
{
    char note[DEVICE_NOTE_MAX];
    TRY(device_open(&t->be, note, o->device, o->threads, &t->err));
    return true;
}

/* ---- time ---- */

static bool open_model(trial *t, const options *o, denoiser_facts *facts)
{
    char path[512], json[600];
    config_denoiser config;
    snprintf(path, sizeof path, "%s/transformer", o->model);
    snprintf(json, sizeof json, "%s/config.json", path);
    if (!open_backend(t, o)) return false;
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

/* ---- memory, with addresses in place of memory (backend/slab.h) ---- */

static swd_status no_copy(swd_backend *b, swd_tensor y, swd_tensor x, swd_stream *s, swd_err *err)
{
    (void)b, (void)y, (void)x, (void)s, (void)err;
    return SWD_OK;
}

static swd_status no_fill(swd_backend *b, swd_tensor y, float value, swd_stream *s, swd_err *err)
{
    (void)b, (void)y, (void)value, (void)s, (void)err;
    return SWD_OK;
}

// network, learnt: bytes of the weights; of adapter, its gradients and the optimizer.
static bool open_plan(trial *t, const options *o, const model_shape *m, size_t *network,
                      size_t *learnt)
{
    tensor_list list = {0};
    optimizer_config c = {.rate = 1};
    if (!open_backend(t, o)) return false;
    if (!slab_has(t->be)) {
        fprintf(stderr, "bench_train: error: the %s has no plans; use --device cuda\n",
                t->be->name);
        return false;
    }
    TRY(tensors_transformer(&list, &m->transformer, &t->err));
    TRY(weights_open_synthetic(&t->w, &list, m->name, &t->err));
    weights_set_dry(t->w, true);
    plan_begin(t->be);
    t->be->ops.copy = no_copy; // nothing is computed but shapes
    t->be->ops.fill = no_fill;
    TRY(denoiser_create(&t->net, &m->transformer, t->w, t->be, SWD_BF16, &t->err));
    *network = backend_held(t->be);
    if (!set_up(t, o)) return false;
    TRY(optimizer_create(&t->o, t->p, &c, &t->err));
    *learnt = backend_held(t->be) - *network;
    return true;
}

static bool plan(trial *t, options *o)
{
    size_t network, learnt;
    const model_shape *m = shape_find(o->plan);
    if (!m || m->transformer.kind != DENOISER_SD3) {
        fprintf(stderr, "bench_train: error: no shape of SD3 is called %s\n", o->plan);
        return false;
    }
    o->precision = SWD_BF16;
    o->full = false;
    o->side = 128, o->low = 96, o->text = 333, o->block = m->transformer.sd3.num_layers / 2 - 1;
    if (!open_plan(t, o, m, &network, &learnt)) return false;
    denoiser_facts facts = denoiser_facts_of(&m->transformer);
    printf("| batch | blocks | weights | adapter, optimizer | activations | gradients | sum, GB "
           "|\n|---|---|---|---|---|---|---|\n");
    for (int64_t b = 1; b <= 8; b = b == 1 ? 4 : b * 2)
        for (int again = 1; again >= 0; again--) {
            tape_memory need;
            o->batch = b;
            make_batch(t, &facts, o, false);
            tape_checkpoint(t->d.t, again);
            TRY(distill_measure(&need, &t->d, &t->batch, &t->err));
            size_t all = network + learnt + need.slab + need.gradients + need.weights;
            printf("| %d | %s | %.1f | %.1f | %.1f | %.1f | %.1f |\n", (int)b,
                   again ? "computed again" : "kept", (double)(network + need.weights) / 1e9,
                   (double)learnt / 1e9, (double)need.slab / 1e9, (double)need.gradients / 1e9,
                   (double)all / 1e9);
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
    close_trial(&t, o.plan != NULL);
    return good ? 0 : 1;
}
