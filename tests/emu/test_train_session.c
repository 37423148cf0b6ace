// SPDX-License-Identifier: MIT
// swd_train() on the emulated device, from pictures to an adapter: resumed, beside the CPU, out of memory.
#include "image/image.h"
#include "io/mapping.h"
#include "io/safetensors.h"
#include "train/durable.h"
#include "train_common.h"
#include <swd/train.h>
#include <sys/stat.h>

static swd_err error;

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

/* ---- kernels that are tried ---- */

static int since_the_first(void *user, const swd_train_progress *p)
{
    int *n = user;
    if (strcmp(p->stage, "train") == 0 && p->step == 0) n[0] = emu_allocations();
    if (strcmp(p->stage, "train") == 0) n[1] = emu_allocations();
    return 0;
}

// A library's kernels are tried, which takes memory, for all scales before the first step: that allocates what it does without one.
static void tried_before_the_first_step(void)
{
    static const char *const ways[] = {"ours", "vendor"};
    int n[2][2];
    if (!getenv("SWD_VENDOR_LIBS")) return; // there is none
    for (int i = 0; i < 2; i++) {
        CHECK(setenv("SWD_TUNE", ways[i], 1) == 0, "no environment");
        swd_train_params p = job(ways[i], "cuda");
        p.batch = 16; // fewer rows are nothing for a library
        p.steps = 1;  // at the smaller scale
        p.progress = since_the_first;
        p.user = n[i];
        trains(&p);
    }
    CHECK(n[1][0] > n[0][0], "nothing was tried");
    CHECK(n[1][1] - n[1][0] == n[0][1] - n[0][0], "a step allocates %d times, not %d",
          n[1][1] - n[1][0], n[0][1] - n[0][0]);
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
    {"pictures_to_adapter", pictures_to_adapter},
    {"tried_before_the_first_step", tried_before_the_first_step},
    {"tells_what_to_lower", tells_what_to_lower},
};

int main(int argc, char **argv)
{
    // 48 MB: less than a step of 256 pictures takes
    CHECK(setenv("EMU_MEMORY_MAX", "50331648", 1) == 0, "no environment");
    work_begin();
    return tap_run(tests, (int)(sizeof tests / sizeof *tests), argc, argv);
}
