// SPDX-License-Identifier: MIT
// Training on the emulated device, whose memory no host code can touch, beside the CPU: gradients of every loss through whole tiny
// networks, recorded and with blocks computed again, in float32 and bf16; iterations of the full method; and swd_train() from pictures to
// an adapter, resumed, and out of memory.
//
// tests/unit/test_train.c derives how far a float32 gradient is off torch's (1e-5 of its norm), and parameters after three iterations
// (3e-4 of how far they moved): two such results are apart by the root of two. Beside bf16 (5e-2) the CPU's float32 is exact.
#include "backend/devices.h"
#include "emu/control.h"
#include "image/image.h"
#include "io/mapping.h"
#include "io/safetensors.h"
#include "tiny_folder.h"
#include "train/distill.h"
#include "train/durable.h"
#include "train/optimizer.h"
#include <math.h>
#include <swd/train.h>
#include <sys/stat.h>

enum { RANK = 2, ALPHA = 3, BLOCK = 1 }; // of the goldens
static const double F32 = 1.42e-5, BF16 = 5e-2, LOOP = 4.3e-4;
static swd_err error;

/* ---- a backend with its models ---- */

enum { STUDENT, FAKE, HEAD, SETS };

typedef struct side {
    swd_backend *be;
    denoiser *net;
    head *head;
    params *set[SETS]; // the head's belong to it
    distill d;
} side;

static safetensors *golden(const char *net, const char *name)
{
    char path[256];
    safetensors *file;
    snprintf(path, sizeof path, "tests/goldens/train/%s/%s.safetensors", net, name);
    OK(safetensors_open(&file, in_source(path), NULL, &error), error);
    return file;
}

static void open_adapter(params **p, const side *s, const char *net, const char *name)
{
    char path[256];
    lora_config c = lora_config_default();
    c.rank = RANK;
    c.alpha = ALPHA;
    snprintf(path, sizeof path, "tests/goldens/train/%s/%s", net, name);
    OK(params_lora(p, s->be, denoiser_holdings(s->net), &c, 0, &error), error);
    OK(params_read_peft(*p, in_source(path), &error), error);
}

static side side_open(const char *name, const char *device, swd_dtype compute)
{
    side s = {0};
    config_denoiser config;
    weights *w;
    char note[DEVICE_NOTE_MAX], path[256], json[1100];
    snprintf(path, sizeof path, "tests/goldens/models/%s", name);
    const char *folder = in_source(path);
    snprintf(json, sizeof json, "%s/config.json", folder);
    OK(device_open(&s.be, note, device, 1, &error), error);
    OK(denoiser_config_read(&config, DENOISER_SD3, json, &error), error);
    OK(weights_open(&w, folder, "diffusion_pytorch_model", &error), error);
    OK(denoiser_create(&s.net, &config, w, s.be, compute, &error), error);
    weights_close(&w);
    open_adapter(&s.set[STUDENT], &s, name, "student");
    open_adapter(&s.set[FAKE], &s, name, "fake");
    OK(head_create(&s.head, s.be, config.sd3.inner_dim, 1, &error), error);
    s.set[HEAD] = head_params(s.head);
    OK(tape_create(&s.d.t, s.be, &error), error);
    s.d.be = s.be;
    s.d.act = compute;
    s.d.student = (model){s.net, s.set[STUDENT]};
    s.d.teacher = (model){s.net, NULL};
    s.d.fake = (model){s.net, s.set[FAKE]};
    s.d.head = s.head;
    return s;
}

static void side_close(side *s)
{
    tape_destroy(&s->d.t);
    head_destroy(&s->head);
    params_destroy(&s->set[STUDENT]);
    params_destroy(&s->set[FAKE]);
    denoiser_destroy(&s->net);
    backend_destroy(&s->be);
}

static void nothing_left(void)
{
    CHECK(emu_live_bytes() == 0, "%zu bytes of the device are left", emu_live_bytes());
}

// On the host.
static float *numbers(const side *s, swd_tensor t)
{
    float *x = malloc(tensor_bytes(t));
    OK(s->be->download(s->be, x, t, NULL, &error), error);
    OK(s->be->synchronize(s->be, NULL, &error), error);
    return x;
}

// Of two vectors, by the length of what was wanted less its start (NULL: 0).
static double distance(const float *got, const float *want, const float *start, int64_t n)
{
    double off = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        off += pow((double)got[i] - (double)want[i], 2);
        size += pow((double)want[i] - (start ? (double)start[i] : 0), 2);
    }
    CHECK(isfinite(off) && size > 0, "numbers that say nothing: %g of %g", off, size);
    return sqrt(off / size);
}

/* ---- losses ---- */

static swd_tensor host(const safetensors *io, const char *prefix, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const st_tensor *t = safetensors_find(io, full);
    CHECK(t, "no golden %s", full);
    return tensor_make((void *)(uintptr_t)t->data, SWD_F32, t->shape, t->ndim);
}

static noise_input noise(const safetensors *draws, const char *prefix, const char *kind)
{
    char sigma[32], eps[32];
    snprintf(sigma, sizeof sigma, "sigma_%s", kind);
    snprintf(eps, sizeof eps, "eps_%s", kind);
    return (noise_input){host(draws, prefix, sigma).data, host(draws, prefix, eps)};
}

static distill_batch batch_of(const safetensors *io, const safetensors *draws, const char *prefix)
{
    return (distill_batch){.low = host(io, "", "low"),
                           .target = host(io, "", "target"),
                           .text = {host(io, "", "context"), host(io, "", "pooled")},
                           .empty = {host(io, "", "context0"), host(io, "", "pooled0")},
                           .start = noise(draws, prefix, "start"),
                           .mmd = noise(draws, prefix, "mmd"),
                           .dmd = noise(draws, prefix, "dmd"),
                           .gan = noise(draws, prefix, "gan")};
}

typedef struct loss {
    const char *name;
    enum { GENERATOR, FLOW, FAKE_UPDATE } kind;
    distill_config c;
    unsigned learns; // a bit per set
    bool everywhere; // also where only few are tried; and with blocks computed again
} loss;

static const loss losses[] = {
    {"flow matching", FLOW, {0}, 1 << STUDENT, false},
    {"MMD linear", GENERATOR, {.kernel = MMD_LINEAR, .mmd = 1}, 1 << STUDENT, false},
    {"MMD rbf", GENERATOR, {.kernel = MMD_RBF, .mmd = 1}, 1 << STUDENT, false},
    {"MMD huber",
     GENERATOR,
     {.kernel = MMD_HUBER, .mmd = 1, .features_of_fake = true},
     1 << STUDENT,
     true},
    {"DMD", GENERATOR, {.dmd = 1}, 1 << STUDENT, false},
    {"GAN of the student", GENERATOR, {.gan = 1}, 1 << STUDENT, false},
    {"fake model and discriminator",
     FAKE_UPDATE,
     {.discriminator = 0.2},
     1 << FAKE | 1 << HEAD,
     true},
};

// The loss; gradients stay in the sets.
static double gradients(side *s, const loss *l, const distill_batch *b, bool again)
{
    distill_losses out = {0};
    s->d.c = l->c;
    s->d.c.block = BLOCK;
    s->d.c.guidance = 3;
    tape_checkpoint(s->d.t, again);
    for (int i = 0; i < SETS; i++) OK(params_zero_gradients(s->set[i], &error), error);
    if (l->kind == FLOW)
        OK(distill_flow(&out.total, &s->d, b->target, &b->mmd, &b->text, &error), error);
    else if (l->kind == GENERATOR)
        OK(distill_generator(&out, NULL, &s->d, b, &error), error);
    else
        OK(distill_fake(&out, &s->d, b, &error), error);
    return out.total;
}

// Gradients that are there, and once more with blocks computed again: the same bits.
static void compute_again(side *gpu, const loss *l, const distill_batch *b, double value)
{
    float *kept[SETS];
    for (int i = 0; i < SETS; i++) kept[i] = numbers(gpu, params_gradients(gpu->set[i]));
    CHECK(gradients(gpu, l, b, true) == value, "%s: another loss, computed again", l->name);
    for (int i = 0; i < SETS; i++) {
        swd_tensor g = params_gradients(gpu->set[i]);
        float *again = numbers(gpu, g);
        CHECK(memcmp(kept[i], again, tensor_bytes(g)) == 0, "%s, set %d: computed again", l->name,
              i);
        free(again);
        free(kept[i]);
    }
}

// One loss on the device beside the CPU's float32.
static void compare(side *cpu, side *gpu, const loss *l, const distill_batch *b, double tolerance)
{
    double want = gradients(cpu, l, b, false), value = gradients(gpu, l, b, false);
    CHECK(fabs(value - want) <= tolerance * fabs(want), "%s: loss %.8g, not %.8g", l->name, value,
          want);
    for (int i = 0; i < SETS; i++) {
        swd_tensor g = params_gradients(gpu->set[i]);
        if (!(l->learns & 1u << i)) continue;
        float *got = numbers(gpu, g);
        double d = distance(got, params_gradients(cpu->set[i]).data, NULL, tensor_numel(g));
        printf("# %s, set %d: %.1e\n", l->name, i, d);
        CHECK(d <= tolerance, "%s, set %d: off by %g", l->name, i, d);
        free(got);
    }
    if (l->everywhere) compute_again(gpu, l, b, value);
}

static void losses_of(const char *net, swd_dtype compute, bool all, double tolerance)
{
    side cpu = side_open(net, "cpu", SWD_F32), gpu = side_open(net, "cuda", compute);
    safetensors *io = golden(net, "io");
    distill_batch b = batch_of(io, io, "");
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++)
        if ((all && !only_small()) || losses[i].everywhere)
            compare(&cpu, &gpu, &losses[i], &b, tolerance);
    safetensors_close(&io);
    side_close(&cpu);
    side_close(&gpu);
    nothing_left();
}

// Norms of queries and keys, blocks with a second attention.
static void losses_sd35m(void)
{
    losses_of("sd35m", SWD_F32, true, F32);
}

static void losses_sd3(void)
{
    losses_of("sd3", SWD_F32, false, F32);
}

static void losses_bf16(void)
{
    losses_of("sd35m", SWD_BF16, false, BF16);
}

/* ---- iterations ---- */

enum { ITERATIONS = 3 };

// Two updates of fake model and head, one of the student, three times; parameters afterwards, on the host.
static void iterate(float *after[ITERATIONS][SETS], side *s, const safetensors *io,
                    const safetensors *loop)
{
    static const distill_config full = {.kernel = MMD_HUBER,
                                        .features_of_fake = true,
                                        .block = BLOCK,
                                        .mmd = 1,
                                        .dmd = 0.7,
                                        .gan = 0.3,
                                        .discriminator = 0.2,
                                        .guidance = 3};
    optimizer *o[SETS];
    s->d.c = full;
    tape_checkpoint(s->d.t, true);
    for (int i = 0; i < SETS; i++) {
        optimizer_config c = {.rate = 1e-3,
                              .beta1 = 0.9,
                              .beta2 = 0.999,
                              .eps = 1e-8,
                              .weight_decay = 1e-2,
                              .clip = i == STUDENT ? 0.05 : 1.5};
        OK(optimizer_create(&o[i], s->set[i], &c, &error), error);
    }
    for (int i = 0; i < ITERATIONS; i++) {
        for (int k = 0; k < 3; k++) {
            distill_losses out;
            char prefix[16];
            snprintf(prefix, sizeof prefix, "%d/%d/", i, k);
            distill_batch b = batch_of(io, loop, prefix);
            if (k < 2) {
                OK(distill_fake(&out, &s->d, &b, &error), error);
                OK(optimizer_step_together(o + FAKE, 2, 1, NULL, &error), error);
            } else {
                OK(distill_generator(&out, NULL, &s->d, &b, &error), error);
                OK(optimizer_step(o[STUDENT], 1, NULL, &error), error);
            }
        }
        for (int k = 0; k < SETS; k++) after[i][k] = numbers(s, params_values(s->set[k]));
    }
    for (int i = 0; i < SETS; i++) optimizer_destroy(&o[i]);
}

static void three_iterations(void)
{
    if (only_small()) return;
    static const char *const names[SETS] = {"student", "fake", "head"};
    side cpu = side_open("sd35m", "cpu", SWD_F32), gpu = side_open("sd35m", "cuda", SWD_F32);
    safetensors *io = golden("sd35m", "io"), *loop = golden("sd35m", "loop");
    float *start[SETS], *want[ITERATIONS][SETS], *got[ITERATIONS][SETS];
    for (int k = 0; k < SETS; k++) start[k] = numbers(&cpu, params_values(cpu.set[k]));
    iterate(want, &cpu, io, loop);
    iterate(got, &gpu, io, loop);
    for (int i = 0; i < ITERATIONS; i++)
        for (int k = 0; k < SETS; k++) {
            int64_t n = tensor_numel(params_values(cpu.set[k]));
            double d = distance(got[i][k], want[i][k], start[k], n);
            printf("# after iteration %d, %s: %.1e of the way\n", i, names[k], d);
            CHECK(d <= LOOP, "iteration %d, %s: off by %g", i, names[k], d);
            free(got[i][k]);
            free(want[i][k]);
        }
    for (int k = 0; k < SETS; k++) free(start[k]);
    safetensors_close(&io);
    safetensors_close(&loop);
    side_close(&cpu);
    side_close(&gpu);
    nothing_left();
}

/* ---- from pictures to an adapter ---- */

enum { PICTURES = 2, SIDE = 32 };
static char work[64];

static void work_end(void)
{
    if (durable_remove(work, NULL) != SWD_OK) printf("# %s stays\n", work);
}

static void work_begin(void)
{
    char path[128];
    uint8_t rgb[SIDE * SIDE * 3];
    strcpy(work, "/tmp/swd-emu-XXXXXX");
    CHECK(mkdtemp(work), "no temporary folder");
    atexit(work_end);
    snprintf(path, sizeof path, "%s/data", work);
    CHECK(mkdir(path, 0700) == 0, "%s", path);
    for (int k = 0; k < PICTURES; k++) {
        for (int i = 0; i < SIDE * SIDE * 3; i++)
            rgb[i] = (uint8_t)((i * (7 + 2 * k) + i / 96 * 31 * k) % 251);
        snprintf(path, sizeof path, "%s/data/%d.png", work, k);
        OK(image_write(path, rgb, SIDE, SIDE, NULL, &error), error);
        snprintf(path, sizeof path, "%s/data/%d.txt", work, k);
        FILE *f = fopen(path, "w");
        CHECK(f && fprintf(f, "a face, %d", k) > 0 && fclose(f) == 0, "%s", path);
    }
}

// The patch loss at two scales, a step each, in float32; output is work/name. A large epsilon keeps updates in proportion to gradients.
static swd_train_params job(const char *name, const char *device)
{
    swd_train_params p;
    swd_train_params_default(&p);
    snprintf(p.model, sizeof p.model, "%s", tiny_model());
    snprintf(p.data[0], sizeof p.data[0], "%s/data", work);
    p.n_data = 1;
    snprintf(p.output, sizeof p.output, "%s/%s", work, name);
    snprintf(p.cache, sizeof p.cache, "%s/cache", work);
    snprintf(p.device, sizeof p.device, "%s", device);
    p.precision = SWD_PRECISION_F32;
    p.threads = 1;
    p.n_scales = p.n_sigmas = 2;
    p.scales[0] = 2, p.scales[1] = 4;
    p.sigmas[0] = 1, p.sigmas[1] = 0.7;
    p.max_tokens = 4;
    p.lora_rank = 2;
    p.steps = 2;
    p.batch = 1;
    p.ema = 0.5;
    p.learning_rate = 1e-3;
    p.epsilon = 1;
    return p;
}

static swd_status train(const swd_train_params *p, char *message, size_t n)
{
    swd_context *ctx;
    CHECK(swd_train_open(&ctx) == SWD_OK, "no context");
    swd_status s = swd_train(NULL, p, ctx);
    snprintf(message, n, "%s", swd_message(ctx));
    swd_close(&ctx);
    nothing_left();
    return s;
}

static void trains(const swd_train_params *p)
{
    char message[1024];
    CHECK(train(p, message, sizeof message) == SWD_OK, "%s", message);
}

static void same_file(const char *a, const char *b, const char *name)
{
    char path[2][256];
    swd_mapping m[2];
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s/%s", work, i ? b : a, name);
        OK(mapping_open(&m[i], path[i], 0, &error), error);
    }
    CHECK(m[0].size == m[1].size && memcmp(m[0].data, m[1].data, m[0].size) == 0, "%s is not %s",
          path[0], path[1]);
    for (int i = 0; i < 2; i++) mapping_close(&m[i]);
}

// All learnt numbers of a result whose names end so, behind each other.
static float *learnt(const char *name, const char *suffix, int64_t *n)
{
    char path[256];
    safetensors *file;
    float *all = NULL;
    snprintf(path, sizeof path, "%s/%s/result", work, name);
    OK(safetensors_open(&file, path, "adapter_model", &error), error);
    *n = 0;
    for (int i = 0; i < safetensors_count(file); i++) {
        const st_tensor *t = safetensors_at(file, i);
        size_t length = strlen(t->name), end = strlen(suffix);
        if (length < end || strcmp(t->name + length - end, suffix) != 0) continue;
        all = realloc(all, (size_t)(*n + t->numel) * sizeof *all);
        CHECK(all, "no memory");
        memcpy(all + *n, t->data, t->bytes);
        *n += t->numel;
    }
    safetensors_close(&file);
    return all;
}

// From "samples" to the next "train".
static int nothing_for_a_sheet(void *user, const swd_train_progress *p)
{
    int *before = user;
    if (strcmp(p->stage, "samples") == 0) *before = emu_allocations();
    if (strcmp(p->stage, "train") == 0 && *before)
        CHECK(emu_allocations() == *before, "a sheet has allocated");
    return 0;
}

static int stop_after_one(void *user, const swd_train_progress *p)
{
    (void)user;
    return strcmp(p->stage, "train") == 0 && p->step == 1;
}

// In one go, with a sheet for which all memory is there, and stopped and resumed: the same bits. On the CPU, from the same cache: B, which starts at zero, goes the same
// way. The second gradient is taken where the first one led, so twice what one may be off.
static void pictures_to_adapter(void)
{
    static const char suffix[] = ".lora_B.weight";
    char message[1024];
    int allocations = 0;
    swd_train_params whole = job("whole", "cuda"), parts = job("parts", "cuda"),
                     beside = job("cpu", "cpu");
    whole.sample_every = whole.steps;
    whole.progress = nothing_for_a_sheet;
    whole.user = &allocations;
    trains(&whole);
    CHECK(allocations, "there was no sheet");
    parts.progress = stop_after_one;
    CHECK(train(&parts, message, sizeof message) == SWD_ERR_CANCELLED, "%s", message);
    parts.progress = NULL;
    parts.resume = 1;
    trains(&parts);
    same_file("whole", "parts", "result/adapter_model.safetensors");
    same_file("whole", "parts", "checkpoints/step-00000002/state.safetensors");

    int64_t n, m;
    trains(&beside);
    float *got = learnt("whole", suffix, &n), *want = learnt("cpu", suffix, &m);
    CHECK(n == m && n > 0, "%lld numbers, not %lld", (long long)n, (long long)m);
    double d = distance(got, want, NULL, n);
    printf("# two steps of swd_train(): %.1e of the way\n", d);
    CHECK(d <= 2 * F32, "off by %g", d);
    free(got);
    free(want);
}

/* ---- out of memory ---- */

static int fail_at_the_first_step(void *user, const swd_train_progress *p)
{
    int *armed = user;
    if (strcmp(p->stage, "train") == 0 && p->step == 0) emu_fail_allocation((*armed)++ ? 0 : 1);
    return 0;
}

// The device has no memory for a step: told before the first one, or in it, with what to lower.
static void tells_what_to_lower(void)
{
    char message[1024];
    int armed = 0;
    swd_train_params p = job("failed", "cuda");
    p.batch = 2;
    p.progress = fail_at_the_first_step;
    p.user = &armed;
    CHECK(train(&p, message, sizeof message) == SWD_ERR_MEMORY && armed, "%s", message);
    CHECK(strstr(message, "no memory for the activations of a training step") &&
              strstr(message, "; lower micro_batch (now 2 at once; any divisor of batch 2)"),
          "%s", message);
    p.micro_batch = 1;
    p.gradient_checkpointing = 0;
    armed = 0;
    CHECK(train(&p, message, sizeof message) == SWD_ERR_MEMORY && armed, "%s", message);
    CHECK(strstr(message, "; set gradient_checkpointing to true"), "%s", message);

    p = job("large", "cuda");
    p.batch = 256;
    CHECK(train(&p, message, sizeof message) == SWD_ERR_MEMORY, "%s", message);
    CHECK(strstr(message, "a step takes ") && strstr(message, "; lower micro_batch (now 256"), "%s",
          message);
}

static const tap_test tests[] = {
    {"losses_sd35m", losses_sd35m},
    {"losses_sd3", losses_sd3},
    {"losses_bf16", losses_bf16},
    {"three_iterations", three_iterations},
    {"pictures_to_adapter", pictures_to_adapter},
    {"tells_what_to_lower", tells_what_to_lower},
};

int main(int argc, char **argv)
{
    // 48 MB: less than a step of 256 pictures takes
    CHECK(setenv("EMU_MEMORY_MAX", "50331648", 1) == 0, "no environment");
    work_begin();
    return tap_run(tests, (int)(sizeof tests / sizeof *tests), argc, argv);
}
