// SPDX-License-Identifier: MIT
// The task that distils, with a tiny SD3.5-M and a made-up autoencoder: micro-batches give the gradients of their batch whatever the kernel,
// a step is a function of its number and the tensors, and what is written can be read.
#include "base/memory.h"
#include "base/rng.h"
#include "../files.h"
#include "io/safetensors.h"
#include "train/distill_task.h"
#include "train/durable.h"
#include "train/train_config.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHANNELS = 4, FACTOR = 2, ROWS = 3, PICTURES = 5, SIDE = 16 };

static char dir[64];
static swd_err err;
static swd_train_params keys;
static const int scales[2] = {4, 8};
static const double sigmas[2] = {1, 0.8};

typedef struct bench {
    swd_backend *be;
    config_denoiser config;
    denoiser *net;
    dataset *data;
    cache *cache;
    char model[512];
} bench;

#define OK(call) cr_assert_eq(call, SWD_OK, "%s", err.message)

static void begin(void)
{
    make_temporary(dir);
    err = (swd_err){0};
    train_config_default(&keys);
    keys.batch = 4;
    keys.lora_rank = 2;
    keys.learning_rate = 1e-3;
}
static void end(void)
{
    cr_assert_eq(durable_remove(dir, NULL), SWD_OK);
}
TestSuite(distill_task, .init = begin, .fini = end);

static swd_status make_latents(void *user, float *mean, float *deviation, const float *pixels,
                               int side, swd_err *e)
{
    (void)user, (void)e;
    int s = side / FACTOR;
    for (int i = 0; i < CHANNELS * s * s; i++) {
        int y = i / s % s, x = i % s;
        mean[i] = pixels[(y * FACTOR * side + x * FACTOR) * 3 + i / (s * s) % 3];
        deviation[i] = 0.1f;
    }
    return SWD_OK;
}

static int64_t context_width, pooled_width;

static swd_status make_text(void *user, float *context, float *pooled, const char *caption,
                            swd_err *e)
{
    (void)user, (void)e;
    philox_randn(context, ROWS * context_width, 0, strlen(caption), 0);
    philox_randn(pooled, pooled_width, 0, strlen(caption), 1);
    return SWD_OK;
}

static void put_pictures(void)
{
    char path[128];
    float noise[SIDE * SIDE * 3];
    uint8_t rgb[SIDE * SIDE * 3];
    for (int k = 0; k < PICTURES; k++) {
        philox_randn(noise, SIDE * SIDE * 3, 0, (uint64_t)k, 0);
        for (int i = 0; i < SIDE * SIDE * 3; i++) rgb[i] = (uint8_t)(128 + 25 * noise[i]);
        snprintf(path, sizeof path, "%s/%d.png", dir, k);
        OK(image_write(path, rgb, SIDE, SIDE, NULL, &err));
        snprintf(path, sizeof path, "%s/%d.txt", dir, k);
        FILE *f = fopen(path, "w");
        fprintf(f, "%.*s", k + 1, "caption");
        fclose(f);
    }
}

static void bench_open(bench *b)
{
    const char *path = dir;
    char file[600];
    weights *w;
    *b = (bench){0};
    snprintf(b->model, sizeof b->model, "%s", in_source("tests/goldens/models/sd35m"));
    snprintf(file, sizeof file, "%s/config.json", b->model);
    OK(backend_cpu_create(&b->be, 1, &err));
    OK(denoiser_config_read(&b->config, DENOISER_SD3, file, &err));
    OK(weights_open(&w, b->model, "diffusion_pytorch_model", &err));
    OK(denoiser_create(&b->net, &b->config, w, b->be, SWD_F32, &err));
    weights_close(&w);
    denoiser_facts f = denoiser_facts_of(&b->config);
    cr_assert_eq(f.channels, CHANNELS);
    context_width = f.context_width;
    pooled_width = f.pooled_width;
    put_pictures();
    OK(dataset_open(&b->data, &path, 1, &err));
    cache_maker maker = {.channels = CHANNELS,
                         .factor = FACTOR,
                         .context_rows = ROWS,
                         .context_width = context_width,
                         .pooled_width = pooled_width,
                         .text = make_text,
                         .image = make_latents};
    snprintf(file, sizeof file, "%s/cache", dir);
    cache_params c = {.path = file, .scales = scales, .n_scales = 2, .dtype = SWD_F32};
    OK(cache_open(&b->cache, &c, &maker, b->data, &err));
}

static void bench_close(bench *b)
{
    cache_close(&b->cache);
    dataset_close(&b->data);
    denoiser_destroy(&b->net);
    backend_destroy(&b->be);
}

static distill_setup setup_on(const bench *b, weights *files)
{
    return (distill_setup){.params = &keys,
                           .cache = b->cache,
                           .be = b->be,
                           .compute = SWD_F32,
                           .teacher = b->net,
                           .student = b->net,
                           .files = files,
                           .channels = CHANNELS,
                           .n_scales = 2,
                           .scales = scales,
                           .sigmas = keys.mode == SWD_TRAIN_FLOW_MATCHING ? NULL : sigmas,
                           .block = 0,
                           .guidance = 3,
                           .context_rows = ROWS,
                           .context_width = context_width,
                           .pooled_width = pooled_width,
                           .model = b->model,
                           .transformer = b->model,
                           .schedule_json = "{}"};
}

static distill_task *task_on(const bench *b, weights *files)
{
    distill_task *t;
    distill_setup s = setup_on(b, files);
    OK(distill_task_create(&t, &s, &err));
    return t;
}

/* The student after so many steps, from `first` on. */
static float *student_after(distill_task *t, int64_t first, int64_t steps, int64_t *n,
                            task_report *r)
{
    const task *work = distill_task_of(t);
    for (int64_t i = first; i < first + steps; i++) {
        for (int k = 0; k < TASK_VALUES_MAX; k++) r->value[k] = NAN; /* as the session does */
        OK(work->step(work->user, i, r, &err));
    }
    cr_assert_str_eq(work->tensors[0].name, "student");
    swd_tensor x = work->tensors[0].t;
    *n = tensor_numel(x);
    float *copy = malloc(tensor_bytes(x));
    memcpy(copy, x.data, tensor_bytes(x));
    return copy;
}

/* How far two runs are apart, by how far one of them has moved. */
static double apart(const float *a, const float *b, const float *start, int64_t n)
{
    double d = 0, m = 0;
    for (int64_t i = 0; i < n; i++) {
        d += pow((double)a[i] - b[i], 2);
        m += pow((double)a[i] - start[i], 2);
    }
    cr_assert_gt(m, 0);
    return sqrt(d / m);
}

Test(distill_task, micro_batches)
{
    static const struct {
        swd_train_mode mode;
        swd_train_kernel kernel;
    } cases[] = {{SWD_TRAIN_MMD, SWD_TRAIN_HUBER},
                 {SWD_TRAIN_MMD, SWD_TRAIN_LINEAR},
                 {SWD_TRAIN_MMD, SWD_TRAIN_RBF},
                 {SWD_TRAIN_FULL, SWD_TRAIN_HUBER},
                 {SWD_TRAIN_FLOW_MATCHING, SWD_TRAIN_HUBER}};
    bench b;
    bench_open(&b);
    keys.fake_updates = 1;
    keys.epsilon = 1; /* so that an update is in proportion to the gradient */
    keys.clip_norm = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float *x[3];
        int64_t n;
        task_report r[2];
        keys.mode = cases[i].mode;
        keys.mmd_kernel = cases[i].kernel;
        for (int k = 0; k < 3; k++) {
            keys.micro_batch = k == 0 ? 4 : 2;
            distill_task *t = task_on(&b, NULL);
            x[k] = student_after(t, 0, k < 2 ? 2 : 0, &n, k < 2 ? &r[k] : NULL);
            distill_task_destroy(&t);
        }
        double d = apart(x[0], x[1], x[2], n);
        printf("# mode %d kernel %d: %.1e, loss %.6g %.6g\n", cases[i].mode, cases[i].kernel, d,
               r[0].value[0], r[1].value[0]);
        /* sums in another order, twice through the chain that test_train.c allows 1e-5 for; the second step starts from the first's */
        cr_expect_lt(d, 4e-5, "case %zu: %g", i, d);
        cr_expect_float_eq(r[0].value[0], r[1].value[0], 1e-4 * fabs(r[0].value[0]));
        for (int k = 0; k < 3; k++) free(x[k]);
    }
    bench_close(&b);
}

/* Full mode with averages and dropped captions: two steps, saved, two more in another process' place. */
Test(distill_task, goes_on)
{
    bench b;
    int64_t n;
    task_report r;
    char path[128];
    bench_open(&b);
    keys.mode = SWD_TRAIN_FULL;
    keys.mmd_features = SWD_TRAIN_OF_FAKE;
    keys.fake_updates = 2;
    keys.ema = 0.5;
    keys.caption_dropout = 0.4;
    keys.rate_schedule = SWD_TRAIN_COSINE;
    keys.steps = 6;
    distill_task *t = task_on(&b, NULL);
    float *whole = student_after(t, 0, 4, &n, &r);
    double loss = r.value[0];
    for (int i = 0; i < 7; i++) cr_expect(isfinite(r.value[i]), "value %d", i);
    cr_expect_float_eq(loss, r.value[1] + r.value[2] + r.value[3], 1e-9);
    distill_task_destroy(&t);

    t = task_on(&b, NULL);
    free(student_after(t, 0, 2, &n, &r));
    const task *work = distill_task_of(t);
    snprintf(path, sizeof path, "%s/saved", dir);
    checkpoint_args a = {.dir = path,
                         .keep = 1,
                         .tensors = work->tensors,
                         .n_tensors = work->n_tensors,
                         .be = work->be};
    checkpoint_state s = {.step = 2, .config = ""};
    char *saved;
    cr_expect_eq(work->n_tensors, 4 + 3 + 3);
    OK(checkpoint_save(&saved, &a, &s, &err));
    distill_task_destroy(&t);

    t = task_on(&b, NULL);
    work = distill_task_of(t);
    a.tensors = work->tensors;
    OK(checkpoint_load(saved, &a, &err));
    OK(work->loaded(work->user, 2, &err));
    float *parts = student_after(t, 2, 2, &n, &r);
    cr_expect_arr_eq(parts, whole, (size_t)n * sizeof *whole);
    cr_expect_eq(r.value[0], loss);
    /* the adapter holds the average, not the last state */
    safetensors *file;
    snprintf(path, sizeof path, "%s/result", dir);
    cr_assert_eq(mkdir(path, 0700), 0);
    OK(work->result(work->user, path, &err));
    OK(safetensors_open(&file, path, "adapter_model", &err));
    const st_tensor *first =
        safetensors_find(file, "base_model.model.transformer_blocks.0.attn.to_q.lora_B.weight");
    cr_assert_not_null(first);
    float value;
    bool found = false;
    memcpy(&value, first->data, sizeof value);
    for (int64_t i = 0; i < n; i++) found = found || whole[i] == value;
    cr_expect_not(found, "the masters were written");
    safetensors_close(&file);
    char words[512];
    tape_memory m;
    OK(distill_task_measure(&m, t, &err));
    cr_expect_gt(m.slab, 0);
    distill_task_describe(words, sizeof words, t, &m);
    cr_expect_not_null(strstr(words, "M parameters learn, and "), "%s", words);
    distill_task_destroy(&t);
    free(saved);
    free(whole);
    free(parts);
    bench_close(&b);
}

/* Learning starts from what an adapter adds, whatever its alpha; the averages, too. Another rank is refused. */
Test(distill_task, starts_from_an_adapter)
{
    bench b;
    int64_t n;
    task_report r;
    safetensors *file;
    static const char first[] = "base_model.model.transformer_blocks.0.attn.to_q.lora_A.weight",
                      second[] = "base_model.model.transformer_blocks.0.attn.to_q.lora_B.weight";
    bench_open(&b);
    distill_task *t = task_on(&b, NULL);
    free(student_after(t, 0, 2, &n, &r));
    snprintf(keys.init_lora, sizeof keys.init_lora, "%s/result", dir);
    cr_assert_eq(mkdir(keys.init_lora, 0700), 0);
    OK(distill_task_of(t)->result((void *)t, keys.init_lora, &err));
    distill_task_destroy(&t);

    keys.lora_alpha = 4; /* was 2 */
    keys.ema = 0.5;
    t = task_on(&b, NULL);
    char again[128];
    snprintf(again, sizeof again, "%s/again", dir);
    cr_assert_eq(mkdir(again, 0700), 0);
    OK(distill_task_of(t)->result((void *)t, again, &err));
    distill_task_destroy(&t);
    const st_tensor *at[2][2];
    safetensors *files[2];
    for (int i = 0; i < 2; i++) {
        OK(safetensors_open(&file, i ? again : keys.init_lora, "adapter_model", &err));
        files[i] = file;
        at[i][0] = safetensors_find(file, first);
        at[i][1] = safetensors_find(file, second);
    }
    cr_expect_arr_eq(at[0][0]->data, at[1][0]->data, (size_t)at[0][0]->numel * sizeof(float));
    const float *was = (const void *)at[0][1]->data, *is = (const void *)at[1][1]->data;
    for (int64_t i = 0; i < at[0][1]->numel; i++) {
        cr_assert_neq(was[i], 0);
        cr_assert_eq(is[i], was[i] / 2);
    }
    for (int i = 0; i < 2; i++) safetensors_close(&files[i]);

    keys.lora_rank = 3;
    distill_setup s = setup_on(&b, NULL);
    cr_expect_eq(distill_task_create(&t, &s, &err), SWD_ERR_FILE);
    cr_expect_not_null(strstr(err.message, "of another rank or shape"), "%s", err.message);
    bench_close(&b);
}

/* The GAN term sees the student's sample at the noise levels of DMD, the fake model and its head at all of them. */
Test(distill_task, noise_of_the_gan_term)
{
    bench b;
    int64_t n;
    task_report r[2];
    bench_open(&b);
    keys.mode = SWD_TRAIN_FULL;
    keys.fake_updates = 1;
    keys.mmd_weight = keys.dmd_weight = 0;
    for (int i = 0; i < 2; i++) {
        keys.dmd_noise_from = i ? 27 : 0;
        distill_task *t = task_on(&b, NULL);
        free(student_after(t, 0, 1, &n, &r[i]));
        distill_task_destroy(&t);
    }
    static const int gan = 3, fake = 4, discriminator = 5; /* values */
    cr_expect_neq(r[0].value[gan], r[1].value[gan]);
    cr_expect_eq(r[0].value[fake], r[1].value[fake]);
    cr_expect_eq(r[0].value[discriminator], r[1].value[discriminator]);
    bench_close(&b);
}

/* Where all weights learn, the files have every tensor of the old ones, changed where it learns, and load again. */
Test(distill_task, whole_model)
{
    bench b;
    int64_t n;
    task_report r;
    char path[128];
    weights *w;
    bench_open(&b);
    keys.mode = SWD_TRAIN_FLOW_MATCHING;
    keys.weights = SWD_TRAIN_WHOLE;
    OK(weights_open(&w, b.model, "diffusion_pytorch_model", &err));
    distill_task *t = task_on(&b, w);
    weights_close(&w);
    free(student_after(t, 0, 2, &n, &r));
    cr_expect(isfinite(r.value[0]));
    cr_expect(isnan(r.value[1]), "there is no patch loss");
    snprintf(path, sizeof path, "%s/result", dir);
    cr_assert_eq(mkdir(path, 0700), 0);
    const task *work = distill_task_of(t);
    OK(work->result(work->user, path, &err));
    strcat(path, "/transformer");
    safetensors *old, *fresh;
    OK(safetensors_open(&old, b.model, "diffusion_pytorch_model", &err));
    OK(safetensors_open(&fresh, path, "diffusion_pytorch_model", &err));
    cr_expect_eq(safetensors_count(old), safetensors_count(fresh));
    const st_tensor *was = safetensors_find(old, "proj_out.weight"),
                    *is = safetensors_find(fresh, "proj_out.weight");
    cr_expect_eq(is->dtype, SWD_F32);
    cr_expect_eq(was->numel, is->numel);
    safetensors_close(&old);
    safetensors_close(&fresh);
    denoiser *again;
    OK(weights_open(&w, path, "diffusion_pytorch_model", &err));
    OK(denoiser_create(&again, &b.config, w, b.be, SWD_F32, &err));
    weights_close(&w);
    denoiser_destroy(&again);
    distill_task_destroy(&t);
    bench_close(&b);
}
