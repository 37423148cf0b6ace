// SPDX-License-Identifier: MIT
// Training on the emulated device, whose memory no host code can touch, beside the CPU: gradients of every loss through whole tiny
// networks, recorded and with blocks computed again, in float32 and bf16; iterations of the full method; all weights instead of adapters.
//
// tests/unit/test_train.c derives how far a float32 gradient is off torch's (1e-5 of its norm), and parameters after three iterations
// (3e-4 of how far they moved): two such results are apart by the root of two. Beside bf16 (5e-2) the CPU's float32 is exact.
#include "backend/devices.h"
#include "emu/control.h"
#include "../distill_goldens.h"
#include "train_common.h"

static const double BF16 = 5e-2, LOOP = 4.3e-4;
static swd_err error;

/* ---- a backend with its models ---- */

typedef struct side {
    swd_backend *be;
    denoiser *net;
    head *head;
    params *set[SETS]; // the head's belong to it
    params *whole;     // NULL but where all weights learn
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

static weights *open_weights(const char *net)
{
    char path[256];
    weights *w;
    snprintf(path, sizeof path, "tests/goldens/models/%s", net);
    OK(weights_open(&w, in_source(path), "diffusion_pytorch_model", &error), error);
    return w;
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
    weights *w = open_weights(name);
    char note[DEVICE_NOTE_MAX], path[256];
    snprintf(path, sizeof path, "tests/goldens/models/%s/config.json", name);
    OK(device_open(&s.be, note, device, 1, &error), error);
    OK(denoiser_config_read(&config, DENOISER_SD3, in_source(path), &error), error);
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
    params_destroy(&s->whole);
    denoiser_destroy(&s->net);
    backend_destroy(&s->be);
}

// On the host.
static float *numbers(const side *s, swd_tensor t)
{
    float *x = malloc(tensor_bytes(t));
    OK(s->be->download(s->be, x, t, NULL, &error), error);
    OK(s->be->synchronize(s->be, NULL, &error), error);
    return x;
}

/* ---- losses ---- */

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
    distill_batch b = golden_batch(io, io, "");
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
    if (only_small()) return;
    losses_of("sd3", SWD_F32, false, F32);
}

static void losses_sd35m_bf16(void)
{
    losses_of("sd35m", SWD_BF16, false, BF16);
}

/* ---- iterations ---- */

// Parameters after each, on the host.
static void iterate(float *after[ITERATIONS][SETS], side *s, const safetensors *io,
                    const safetensors *loop)
{
    optimizer *o[SETS];
    s->d.c = golden_method;
    tape_checkpoint(s->d.t, true);
    for (int k = 0; k < SETS; k++) {
        optimizer_config c = golden_optimizer(k);
        OK(optimizer_create(&o[k], s->set[k], &c, &error), error);
    }
    for (int i = 0; i < ITERATIONS; i++) {
        OK(golden_iteration(&s->d, o, io, loop, i, &error), error);
        for (int k = 0; k < SETS; k++) after[i][k] = numbers(s, params_values(s->set[k]));
    }
    for (int k = 0; k < SETS; k++) optimizer_destroy(&o[k]);
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

// All weights, those of norms too, which the model's ops read where they lie: gradients, a step, gradients.
static void all_weights(void)
{
    const loss flow = losses[0];
    side s[2] = {side_open("sd35m", "cpu", SWD_F32), side_open("sd35m", "cuda", SWD_F32)};
    safetensors *io = golden("sd35m", "io");
    distill_batch b = golden_batch(io, io, "");
    optimizer_config c = {.rate = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1};
    optimizer *o[2];
    for (int i = 0; i < 2; i++) {
        weights *w = open_weights("sd35m");
        OK(params_full(&s[i].whole, s[i].be, denoiser_holdings(s[i].net), w, &error), error);
        weights_close(&w);
        OK(optimizer_create(&o[i], s[i].whole, &c, &error), error);
        s[i].d.student.learnt = s[i].whole;
    }
    for (int step = 0; step < 2; step++) {
        double value[2], d;
        for (int i = 0; i < 2; i++) value[i] = gradients(&s[i], &flow, &b, i == 1);
        swd_tensor g = params_gradients(s[1].whole);
        float *got = numbers(&s[1], g);
        d = distance(got, params_gradients(s[0].whole).data, NULL, tensor_numel(g));
        printf("# all weights, step %d: %.1e, loss %.6f\n", step, d, value[1]);
        CHECK(d <= F32 && fabs(value[1] - value[0]) <= F32 * value[0], "step %d: off by %g", step,
              d);
        free(got);
        for (int i = 0; i < 2; i++) OK(optimizer_step(o[i], 1, NULL, &error), error);
    }
    for (int i = 0; i < 2; i++) {
        optimizer_destroy(&o[i]);
        side_close(&s[i]);
    }
    safetensors_close(&io);
    nothing_left();
}

static const tap_test tests[] = {
    {"losses_sd35m", losses_sd35m},
    {"losses_sd3", losses_sd3},
    {"losses_sd35m_bf16", losses_sd35m_bf16},
    {"three_iterations", three_iterations},
    {"all_weights", all_weights},
};

int main(int argc, char **argv)
{
    return tap_run(tests, (int)(sizeof tests / sizeof *tests), argc, argv);
}
