// SPDX-License-Identifier: MIT
#include "train/distill_task.h"
#include "base/memory.h"
#include "base/rng.h"
#include "parallel/group.h"
#include "io/digest.h"
#include "sample/schedule.h"
#include "train/distill_parts.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* What random numbers are for; of batches_bits, and of noise. */
enum { FOR_DROP = 1, FOR_START, FOR_MMD, FOR_DMD, FOR_GAN, FOR_LATENTS, FOR_MODELS };

/* ---- a micro-batch ---- */

static swd_tensor part(float *at, int64_t b, int64_t n)
{
    return tensor2(at, SWD_F32, b, n);
}

static uint64_t noise_seed_of(const distill_task *t, int purpose)
{
    return digest_u64((uint64_t)t->p->seed, (uint64_t)purpose);
}

/* Noise for each sample of a micro-batch. */
static void draw_noise(const distill_task *t, float *eps, int64_t n, int64_t step, int j, int first,
                       int purpose)
{
    for (int i = 0; i < t->micro; i++)
        philox_randn(eps + i * n, n, 0, noise_seed_of(t, purpose),
                     batches_draw(&t->order, step, j, first + i));
}

/* An entry of the teacher's table of noise levels for each sample, from `from` on. */
static void draw_levels(const distill_task *t, float *sigma, int from, int64_t step, int j,
                        int first, int purpose)
{
    for (int i = 0; i < t->micro; i++) {
        double u = batches_uniform(&t->order, step, j, first + i, purpose);
        sigma[i] = (float)t->table[from + (int)(u * (TASK_LEVELS - from))];
    }
}

static void draw_flow_levels(const distill_task *t, float *sigma, int64_t step, int first)
{
    for (int i = 0; i < t->micro; i++) {
        float z;
        philox_randn(&z, 1, 0, noise_seed_of(t, FOR_MMD),
                     batches_draw(&t->order, step, 0, first + i));
        sigma[i] = (float)(1 / (1 + exp(-(t->p->flow_mean + t->p->flow_deviation * z))));
    }
}

/* Latents and embeddings of samples [first, first + micro) of batch j. */
static swd_status read_samples(distill_task *t, int64_t step, int j, int first, swd_err *err)
{
    const distill_setup *s = &t->setup;
    int k = batches_scale(&t->order, step);
    int64_t n = latent_numbers(t, k), m = latent_numbers(t, k ? k - 1 : 0);
    int64_t context = s->context_rows * s->context_width;
    uint64_t seed = noise_seed_of(t, FOR_LATENTS);
    for (int i = 0; i < t->micro; i++) {
        int64_t image = batches_at(&t->order, step, j, first + i);
        uint32_t draw = batches_draw(&t->order, step, j, first + i);
        bool drop =
            batches_uniform(&t->order, step, j, first + i, FOR_DROP) < t->p->caption_dropout;
        SWD_TRY(
            cache_sample(t->target + i * n, t->low + i * m, s->cache, image, k, seed, draw, err),
            err);
        SWD_TRY(cache_text(t->context + i * context, t->pooled + i * s->pooled_width, s->cache,
                           drop ? -1 : image, err),
                err);
    }
    return SWD_OK;
}

static swd_tensor latents_of(const distill_task *t, float *at, int side)
{
    return tensor4(at, SWD_F32, t->micro, t->setup.channels, side, side);
}

static text_input texts_of(const distill_task *t, float *context, float *pooled)
{
    const distill_setup *s = &t->setup;
    return (text_input){tensor3(context, SWD_F32, t->micro, s->context_rows, s->context_width),
                        part(pooled, t->micro, s->pooled_width)};
}

/* The fake model's update takes the noise of its start and of its own loss, the student's those of its terms. The GAN term looks at the
 * sample as DMD has noised it, as in SwD's code. */
static bool takes_noise(const distill_task *t, int noise, bool fake)
{
    return fake ? noise == NOISE_START || noise == NOISE_GAN
                : noise < t->n_noises && noise != NOISE_GAN;
}

/* Everything of a micro-batch, in the buffers of t; fake: of the fake model's update. */
static swd_status fill_batch(distill_batch *b, distill_task *t, int64_t step, int j, int first,
                             bool fake, swd_err *err)
{
    static const int purposes[] = {FOR_START, FOR_MMD, FOR_DMD, FOR_GAN};
    const swd_train_params *p = t->p;
    int k = batches_scale(&t->order, step), side = t->setup.scales[k];
    const int from[] = {0, p->mmd_noise_from, p->dmd_noise_from, 0};
    noise_input *noise[] = {&b->start, &b->mmd, &b->dmd, &b->gan};
    SWD_TRY(read_samples(t, step, j, first, err), err);
    *b = (distill_batch){.low = latents_of(t, t->low, t->setup.scales[k ? k - 1 : 0]),
                         .target = latents_of(t, t->target, side),
                         .text = texts_of(t, t->context, t->pooled)};
    for (int i = 0; i < TASK_NOISES; i++) {
        if (!takes_noise(t, i, fake)) continue;
        draw_noise(t, t->eps[i], latent_numbers(t, k), step, j, first, purposes[i]);
        draw_levels(t, t->sigma[i], from[i], step, j, first, purposes[i]);
        *noise[i] = (noise_input){t->sigma[i], latents_of(t, t->eps[i], side)};
    }
    for (int i = 0; t->setup.sigmas && i < t->micro; i++)
        t->sigma[0][i] = (float)t->setup.sigmas[k];
    if (!fake) b->gan = b->dmd;
    if (t->empty) b->empty = texts_of(t, t->empty, t->empty_pooled);
    return SWD_OK;
}

/* ---- a step ---- */

static swd_status sum_gradients(distill_task *t, int which, swd_err *err)
{
    return group_sum(t->p->group, params_gradients(t->learner[which].p), t->setup.be, err);
}

static swd_status fake_update(double *fake, double *head_loss, distill_task *t, int64_t step, int j,
                              swd_err *err)
{
    *fake = *head_loss = 0;
    for (int m = t->first; m < t->end; m++) {
        distill_batch b;
        distill_losses l;
        SWD_TRY(fill_batch(&b, t, step, j, m * t->micro, true, err), err);
        SWD_TRY(distill_fake(&l, &t->d, &b, err), err);
        *fake += l.mmd / t->n_micro;
        *head_loss += l.gan / t->n_micro;
    }
    SWD_TRY(sum_gradients(t, LEARNER_FAKE, err), err);
    SWD_TRY(sum_gradients(t, LEARNER_HEAD, err), err);
    optimizer *const both[] = {t->learner[LEARNER_FAKE].o, t->learner[LEARNER_HEAD].o};
    return optimizer_step_together(both, 2, t->n_micro, NULL, err);
}

static swd_status student_gradients(distill_losses *sum, distill_task *t, int64_t step, int j,
                                    swd_err *err)
{
    *sum = (distill_losses){0};
    for (int m = t->first; m < t->end; m++) {
        distill_batch b;
        distill_losses l = {0};
        SWD_TRY(fill_batch(&b, t, step, j, m * t->micro, false, err), err);
        if (t->p->mode == SWD_TRAIN_FLOW_MATCHING) {
            draw_flow_levels(t, t->sigma[0], step, m * t->micro);
            SWD_TRY(distill_flow(&l.total, &t->d, b.target, &b.start, &b.text, err), err);
        } else {
            SWD_TRY(distill_generator(&l, NULL, &t->d, &b, err), err);
        }
        sum->total += l.total / t->n_micro;
        sum->mmd += l.mmd / t->n_micro;
        sum->dmd += l.dmd / t->n_micro;
        sum->gan += l.gan / t->n_micro;
    }
    return sum_gradients(t, LEARNER_STUDENT, err);
}

/* What is told of a step, of all processes. */
static swd_status sum_losses(distill_losses *l, double *fake, double *discriminator,
                             const distill_task *t, swd_err *err)
{
    double x[] = {l->total, l->mmd, l->dmd, l->gan, *fake, *discriminator};
    SWD_TRY(group_sum_numbers(t->p->group, x, sizeof x / sizeof *x, err), err);
    *l = (distill_losses){.total = x[0], .mmd = x[1], .dmd = x[2], .gan = x[3]};
    *fake = x[4];
    *discriminator = x[5];
    return SWD_OK;
}

enum { LOSS, MMD, DMD, GAN, FAKE, DISCRIMINATOR, GRADIENT, N_VALUES };

static swd_status do_step(void *user, int64_t step, task_report *out, swd_err *err)
{
    distill_task *t = user;
    bool full = t->p->mode == SWD_TRAIN_FULL, flow = t->p->mode == SWD_TRAIN_FLOW_MATCHING;
    int updates = full ? t->p->fake_updates : 0;
    distill_losses l;
    double size, fake = 0, discriminator = 0;
    for (int j = 0; j < updates; j++) {
        double a, b;
        SWD_TRY(fake_update(&a, &b, t, step, j, err), err);
        fake += a / updates;
        discriminator += b / updates;
    }
    out->scale = batches_scale(&t->order, step);
    out->rate = optimizer_rate(&t->learner[LEARNER_STUDENT].config, step + 1);
    SWD_TRY(student_gradients(&l, t, step, updates, err), err);
    SWD_TRY(optimizer_step(t->learner[LEARNER_STUDENT].o, t->n_micro, &size, err), err);
    SWD_TRY(sum_losses(&l, &fake, &discriminator, t, err), err);
    out->value[LOSS] = l.total;
    out->value[GRADIENT] = size;
    if (!flow) out->value[MMD] = l.mmd;
    if (full) {
        out->value[DMD] = l.dmd;
        out->value[GAN] = l.gan;
        out->value[FAKE] = fake;
        out->value[DISCRIMINATOR] = discriminator;
    }
    return SWD_OK;
}

/* ---- checkpoints ---- */

static swd_status loaded(void *user, int64_t step, swd_err *err)
{
    distill_task *t = user;
    for (int i = 0; i < LEARNERS; i++) {
        learner *l = &t->learner[i];
        if (!l->o) continue;
        *optimizer_state_of(l->o).step = i == LEARNER_STUDENT ? step : step * t->p->fake_updates;
        SWD_TRY(params_publish(l->p, err), err);
    }
    return SWD_OK;
}

static void list_tensors(distill_task *t)
{
    static const char *const names[LEARNERS][4] = {
        {"student", "student.m", "student.v", "student.ema"},
        {"fake", "fake.m", "fake.v", "fake.ema"},
        {"head", "head.m", "head.v", "head.ema"}};
    for (int i = 0; i < LEARNERS; i++) {
        const learner *l = &t->learner[i];
        if (!l->o) continue;
        optimizer_state s = optimizer_state_of(l->o);
        const swd_tensor tensors[4] = {params_values(l->p), s.m, s.v, s.ema};
        for (int k = 0; k < 4; k++)
            if (tensor_present(tensors[k]))
                t->tensors[t->task.n_tensors++] = (checkpoint_tensor){names[i][k], tensors[k]};
    }
    t->task.tensors = t->tensors;
}

static swd_status result(void *user, const char *folder, swd_err *err)
{
    return distill_result_write(user, folder, err);
}

static swd_status samples(void *user, const char *path, swd_err *err)
{
    distill_task *t = user;
    const distill_setup *s = &t->setup;
    text_input one = {tensor3(NULL, SWD_F32, 1, s->context_rows, s->context_width),
                      part(NULL, 1, s->pooled_width)};
    return sheet_write(path, s->sheet, &t->d, s->channels, &one, err);
}

/* ---- making it ---- */

static swd_status make_optimizer(distill_task *t, int which, double rate, double ema, swd_err *err)
{
    const swd_train_params *p = t->p;
    learner *l = &t->learner[which];
    int64_t each = which == LEARNER_STUDENT ? 1 : p->fake_updates;
    l->config = (optimizer_config){.rate = rate,
                                   .beta1 = p->beta1,
                                   .beta2 = p->beta2,
                                   .eps = p->epsilon,
                                   .weight_decay = p->weight_decay,
                                   .clip = p->clip_norm,
                                   .kind = p->rate_schedule == SWD_TRAIN_COSINE ? RATE_COSINE
                                                                                : RATE_CONSTANT,
                                   .warmup = p->warmup_steps * each,
                                   .steps = p->steps * each,
                                   .ema = ema};
    return optimizer_create(&l->o, l->p, &l->config, err);
}

static swd_status make_student(distill_task *t, swd_err *err)
{
    const distill_setup *s = &t->setup;
    const holdings *h = denoiser_holdings(s->student);
    uint64_t seed = digest_u64((uint64_t)t->p->seed, FOR_MODELS);
    params **out = &t->learner[LEARNER_STUDENT].p;
    if (!h)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "%s: this class of models cannot be trained yet",
                        s->model);
    t->lora = lora_config_default();
    t->lora.rank = t->p->lora_rank;
    t->lora.alpha = t->p->lora_alpha > 0 ? t->p->lora_alpha : t->p->lora_rank;
    SWD_TRY(s->files ? params_full(out, s->be, h, s->files, err)
                     : params_lora(out, s->be, h, &t->lora, seed, err),
            err);
    if (t->p->init_lora[0]) SWD_TRY(params_read_peft(*out, t->p->init_lora, err), err);
    return make_optimizer(t, LEARNER_STUDENT, t->p->learning_rate, t->p->ema, err);
}

/* The fake model is an adapter of its own on the teacher; the head reads its features. */
static swd_status make_fake(distill_task *t, swd_err *err)
{
    const distill_setup *s = &t->setup;
    const swd_train_params *p = t->p;
    uint64_t seed = digest_u64((uint64_t)p->seed, FOR_MODELS + 1);
    double rate = p->fake_learning_rate > 0 ? p->fake_learning_rate : p->learning_rate;
    SWD_TRY(params_lora(&t->learner[LEARNER_FAKE].p, s->be, denoiser_holdings(s->teacher), &t->lora,
                        seed, err),
            err);
    SWD_TRY(make_optimizer(t, LEARNER_FAKE, rate, 0, err), err);
    int64_t width = denoiser_features_size(s->teacher, 2, 2).width;
    SWD_TRY(head_create(&t->head, s->be, width, seed + 1, err), err);
    t->learner[LEARNER_HEAD].p = head_params(t->head);
    return make_optimizer(t, LEARNER_HEAD, rate, 0, err);
}

static void make_config(distill_task *t)
{
    static const mmd_kernel kernels[] = {MMD_HUBER, MMD_LINEAR, MMD_RBF};
    const swd_train_params *p = t->p;
    bool full = p->mode == SWD_TRAIN_FULL;
    mmd_kernel kernel = kernels[p->mmd_kernel];
    distill_config c = {
        .kernel = kernel,
        .features_of_fake =
            full && p->mmd_features == SWD_TRAIN_OF_FAKE, /* without one: the same */
        .block = t->setup.block,
        /* the linear kernel is a sum over the batch, all else are means; micro-batches are averaged */
        .mmd = p->mmd_weight * (kernel == MMD_LINEAR ? t->n_micro : 1),
        .dmd = full ? p->dmd_weight : 0,
        .gan = full ? p->gan_weight : 0,
        .discriminator = p->discriminator_weight,
        .guidance = t->setup.guidance};
    t->d = (distill){.be = t->setup.be,
                     .t = t->tape,
                     .act = t->setup.compute,
                     .c = c,
                     .student = {t->setup.student, t->learner[LEARNER_STUDENT].p},
                     .teacher = {t->setup.teacher, NULL},
                     .head = t->head};
    if (full) t->d.fake = (model){t->setup.teacher, t->learner[LEARNER_FAKE].p};
}

static swd_status make_buffers(distill_task *t, swd_err *err)
{
    const distill_setup *s = &t->setup;
    size_t b = (size_t)t->micro, latents = (size_t)latent_numbers(t, s->n_scales - 1),
           context = (size_t)(s->context_rows * s->context_width), pooled = (size_t)s->pooled_width;
    SWD_TRY(swd_malloc(&t->target, b * latents, sizeof(float), "a batch", err), err);
    SWD_TRY(swd_malloc(&t->low, b * latents, sizeof(float), "a batch", err), err);
    SWD_TRY(swd_malloc(&t->context, b * context, sizeof(float), "a batch", err), err);
    SWD_TRY(swd_malloc(&t->pooled, b * pooled, sizeof(float), "a batch", err), err);
    for (int i = 0; i < t->n_noises; i++) {
        SWD_TRY(swd_malloc(&t->eps[i], b * latents, sizeof(float), "a batch", err), err);
        SWD_TRY(swd_calloc(&t->sigma[i], b, sizeof(float), "a batch", err), err);
    }
    if (t->p->mode != SWD_TRAIN_FULL) return SWD_OK;
    SWD_TRY(swd_malloc(&t->empty, b * context, sizeof(float), "a batch", err), err);
    SWD_TRY(swd_malloc(&t->empty_pooled, b * pooled, sizeof(float), "a batch", err), err);
    for (size_t i = 0; i < b; i++)
        SWD_TRY(cache_text(t->empty + i * context, t->empty_pooled + i * pooled, s->cache, -1, err),
                err);
    return SWD_OK;
}

swd_status distill_task_check_share(const swd_train_params *p, swd_err *err)
{
    int size = group_size(p->group);
    if (p->batch % size)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "batch %d is of all %d processes together: give a multiple of their number",
                        p->batch, size);
    if (p->micro_batch && p->batch / size % p->micro_batch)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "micro_batch %d does not divide %d, each process's share of batch %d",
                        p->micro_batch, p->batch / size, p->batch);
    return SWD_OK;
}

/* Sample i of a batch is the same whichever process takes it. */
static swd_status share_batch(distill_task *t, swd_err *err)
{
    const swd_train_params *p = t->p;
    int size = group_size(p->group), rank = group_rank(p->group);
    SWD_TRY(distill_task_check_share(p, err), err);
    t->micro = p->micro_batch ? p->micro_batch : p->batch / size;
    t->n_micro = p->batch / t->micro;
    t->first = t->n_micro / size * rank;
    t->end = t->first + t->n_micro / size;
    return SWD_OK;
}

static swd_status make(distill_task *t, swd_err *err)
{
    const distill_setup *s = &t->setup;
    const swd_train_params *p = t->p;
    bool full = p->mode == SWD_TRAIN_FULL;
    SWD_TRY(share_batch(t, err), err);
    t->n_noises = full ? TASK_NOISES : p->mode == SWD_TRAIN_MMD ? 2 : 1;
    SWD_TRY(schedule_euler(t->table, TASK_LEVELS, 3, err), err);
    SWD_TRY(batches_create(&t->order, cache_count(s->cache), p->batch,
                           full ? p->fake_updates + 1 : 1, s->n_scales, (uint64_t)p->seed, err),
            err);
    SWD_TRY(tape_create(&t->tape, s->be, err), err);
    tape_checkpoint(t->tape, p->gradient_checkpointing != 0);
    SWD_TRY(make_student(t, err), err);
    if (full) SWD_TRY(make_fake(t, err), err);
    SWD_TRY(make_buffers(t, err), err);
    make_config(t);
    t->task =
        (task){.user = t,
               .n_values = N_VALUES,
               .value_name = {"loss", "mmd", "dmd", "gan", "fake", "discriminator", "gradient"},
               .n_scales = s->n_scales,
               .scale_side = s->scales,
               .step = do_step,
               .identity = digest_u64(cache_identity(s->cache), s->identity),
               .be = s->be,
               .loaded = loaded,
               .result = result,
               .samples = s->sheet ? samples : NULL};
    list_tensors(t);
    t->setup.files = NULL;
    return SWD_OK;
}

swd_status distill_task_create(distill_task **out, const distill_setup *setup, swd_err *err)
{
    SWD_TRY(swd_calloc(out, 1, sizeof **out, "a training task", err), err);
    (*out)->setup = *setup;
    (*out)->p = setup->params;
    swd_status s = make(*out, err);
    if (s != SWD_OK) distill_task_destroy(out);
    return s;
}

void distill_task_destroy(distill_task **out)
{
    distill_task *t = *out;
    if (!t) return;
    for (int i = 0; i < LEARNERS; i++) optimizer_destroy(&t->learner[i].o);
    params_destroy(&t->learner[LEARNER_STUDENT].p);
    params_destroy(&t->learner[LEARNER_FAKE].p);
    head_destroy(&t->head); /* and its parameters */
    tape_destroy(&t->tape);
    batches_destroy(&t->order);
    float *buffers[] = {t->target, t->low, t->context, t->pooled, t->empty, t->empty_pooled};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) free(buffers[i]);
    for (int i = 0; i < TASK_NOISES; i++) {
        free(t->eps[i]);
        free(t->sigma[i]);
    }
    free(t);
    *out = NULL;
}

const task *distill_task_of(const distill_task *t)
{
    return &t->task;
}

swd_status distill_task_measure(tape_memory *out, distill_task *t, swd_err *err)
{
    *out = (tape_memory){0};
    for (int k = 0; k < t->setup.n_scales; k++) {
        tape_memory m;
        int side = t->setup.scales[k];
        distill_batch b = {.low = latents_of(t, t->low, t->setup.scales[k ? k - 1 : 0]),
                           .target = latents_of(t, t->target, side),
                           .text = texts_of(t, t->context, t->pooled)};
        noise_input *noise[] = {&b.start, &b.mmd, &b.dmd, &b.gan};
        for (int i = 0; i < TASK_NOISES; i++)
            *noise[i] = (noise_input){t->sigma[i], latents_of(t, t->eps[i], side)};
        if (t->empty) b.empty = texts_of(t, t->empty, t->empty_pooled);
        SWD_TRY(distill_measure(&m, &t->d, &b, err), err);
        tape_memory_most(out, &m);
    }
    return SWD_OK;
}

char *distill_task_describe(char *buf, size_t n, const distill_task *t, const tape_memory *m)
{
    size_t state = 0;
    char others[64] = "";
    int64_t numbers = params_numbers(t->learner[LEARNER_STUDENT].p), fake = 0;
    for (int i = LEARNER_FAKE; i < LEARNERS; i++)
        if (t->learner[i].o) fake += params_numbers(t->learner[i].p);
    for (int i = 0; i < t->task.n_tensors; i++) state += tensor_bytes(t->tensors[i].t);
    if (fake)
        snprintf(others, sizeof others, ", and %.2f M of fake model and head", (double)fake * 1e-6);
    snprintf(buf, n,
             "%.2f M parameters learn%s; memory beside the networks: parameters and moments %.0f "
             "MB, activations %.0f MB, their gradients %.0f MB, plain weights %.0f MB",
             (double)numbers * 1e-6, others, (double)state * 1e-6, (double)m->slab * 1e-6,
             (double)m->gradients * 1e-6, (double)m->weights * 1e-6);
    return buf;
}
