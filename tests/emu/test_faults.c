// SPDX-License-Identifier: MIT
// What a failing runtime and a full device do to a request: every call of the runtime fails once in turn, every allocation fails in turn,
// while a context is made, loaded and used. Each time a status and a message, nothing is lost on the device, and the same context gives
// the right picture afterwards. And: between "loaded" and "pictures are there" nothing is allocated, from the first request on.
#include "backend_cuda.h"
#include "emu/control.h"
#include "tiny_folder.h"
#include <stdbool.h>

enum { SIDE = 16, BYTES = SIDE * SIDE * 3 };

static const char *const prompt = "a cat";

// 16 x 16 pixels, one step: every stage is there and little of it.
static swd_generate_params smallest(void)
{
    static const int scales[] = {2, 2};
    static const double sigmas[] = {1, 0.5};
    swd_generate_params a = request(&prompt, 1);
    a.scales = scales;
    a.sigmas = sigmas;
    a.n_scales = a.n_sigmas = 2;
    a.width = a.height = SIDE;
    a.max_tokens = 2;
    return a;
}

static swd_context *context(void)
{
    swd_open_params o = opening(tiny_model(), "cuda", SWD_PRECISION_AUTO);
    return opened(&o);
}

static swd_status picture(uint8_t rgb[BYTES], swd_context *ctx)
{
    swd_result *r;
    swd_generate_params a = smallest();
    swd_status s = swd_generate(&r, &a, ctx);
    if (s == SWD_OK) memcpy(rgb, r->images[0].rgb, BYTES);
    swd_result_free(&r);
    return s;
}

static uint8_t good[BYTES];

// How often `count` counts during open, load, generate.
static int clean_run(int (*count)(void))
{
    swd_context *ctx = context();
    int before = count();
    CHECK(picture(good, ctx) == SWD_OK, "%s", swd_message(ctx));
    int n = count() - before;
    swd_close(&ctx);
    CHECK(emu_live_bytes() == 0, "%zu bytes are left", emu_live_bytes());
    return n;
}

// What only gives something back, and questions whose answer picks one of two ways to the same result.
static bool may_fail_unseen(const char *call)
{
    static const char *const calls[] = {"cudaFree",
                                        "cudaFreeAsync",
                                        "cudaFreeHost",
                                        "cudaEventDestroy",
                                        "cudaStreamDestroy",
                                        "cudaGraphDestroy",
                                        "cudaGraphExecDestroy",
                                        "cudaGetDevice",
                                        "cudaDeviceGetAttribute"};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (strcmp(call, calls[i]) == 0) return true;
    return false;
}

// Where a library refuses while ways of working are tried, the next one is taken.
static bool ways_are_tried(void)
{
    const char *tune = getenv("SWD_TUNE");
    return tune && strcmp(tune, "vendor") == 0;
}

// One run in which the n-th thing fails, if there are as many: then *came counts it. True if the request failed.
static bool one_fault(int *came, int n, void (*arm)(int), const char *const *told)
{
    uint8_t rgb[BYTES];
    char failed[64];
    swd_context *ctx = context();
    arm(n);
    swd_status s = picture(rgb, ctx);
    snprintf(failed, sizeof failed, "%s", emu_failed());
    arm(0);
    *came += failed[0] != '\0';
    if (s == SWD_OK) {
        CHECK(!failed[0] || may_fail_unseen(failed) || ways_are_tried(),
              "fault %d, of %s, is passed over", n, failed);
        CHECK(memcmp(rgb, good, BYTES) == 0, "fault %d is passed over, the picture is wrong", n);
    } else {
        bool clear = s == SWD_ERR_DEVICE || s == SWD_ERR_MEMORY;
        bool named = false;
        for (int i = 0; told[i]; i++) named = named || strstr(swd_message(ctx), told[i]);
        CHECK(clear && named, "fault %d: status %d, \"%s\"", n, s, swd_message(ctx));
    }
    CHECK(picture(rgb, ctx) == SWD_OK, "after fault %d: %s", n, swd_message(ctx));
    CHECK(memcmp(rgb, good, BYTES) == 0, "after fault %d the picture is wrong", n);
    swd_close(&ctx);
    CHECK(emu_live_bytes() == 0, "fault %d: %zu bytes are left", n, emu_live_bytes());
    return s != SWD_OK;
}

// least: the share in percent, of those that came, that has to be noticed.
static void in_turn(const char *what, int n, int each, int least, void (*arm)(int),
                    const char *const *told)
{
    // All of them take ten minutes: EMU_EVERY=1. By default only some, each order of execution from another one on.
    const char *every = getenv("EMU_EVERY"), *from = getenv("EMU_FROM"),
               *order = getenv("EMU_SCHED");
    int step = every ? atoi(every) : only_small() ? 5 * each : each, failed = 0, came = 0;
    int first = from ? atoi(from) : 1 + (order ? order[0] : 0) % step;
    for (int i = first; i <= n; i += step) failed += one_fault(&came, i, arm, told);
    printf("# of %d %s %d failed in turn, %d of them failed the request\n", n, what, came, failed);
    CHECK(came > 0 && failed * 100 >= came * least, "only %d of %d faults were noticed", failed,
          came);
}

static void calls(void)
{
    static const char *const told[] = {"cudaErrorUnknown",    "no memory",      "no device memory",
                                       "cudnnBackendExecute", "cublasLtMatmul", NULL};
    in_turn("calls", clean_run(emu_calls), 13, 50, emu_fail_call, told);
}

static void allocations(void)
{
    static const char *const told[] = {"no memory", "cudaErrorMemoryAllocation", "no device memory",
                                       NULL};
    // the count holds what is given back, about half of it: those never come
    in_turn("allocations", clean_run(emu_allocations), 5, 100, emu_fail_allocation, told);
}

static void none_while_running(void)
{
    uint8_t rgb[BYTES];
    swd_context *ctx = context();
    CHECK(swd_load(ctx) == SWD_OK, "%s", swd_message(ctx));
    int loaded = emu_allocations();
    for (int i = 0; i < 4; i++) {
        CHECK(picture(rgb, ctx) == SWD_OK, "%s", swd_message(ctx));
        CHECK(emu_allocations() == loaded, "request %d: %d pieces of memory were given or taken", i,
              emu_allocations() - loaded);
    }
    swd_close(&ctx);
}

// Pieces of memory that a backend takes when it opens.
static int of_opening(void)
{
    swd_backend *b;
    swd_err err = {0};
    int before = emu_allocations();
    CHECK(backend_cuda_create(&b, 0, &err) == SWD_OK, "%s", err.message);
    int n = emu_allocations() - before;
    backend_destroy(&b);
    return n;
}

// The table of memory adds up to what the device has given, and a full device is told with it.
static void memory_table(void)
{
    uint8_t rgb[BYTES];
    swd_info *info = calloc(1, sizeof *info);
    swd_context *ctx = context();
    CHECK(swd_get_info(info, ctx) == SWD_OK, "%s", swd_message(ctx));
    for (int i = 0; i < info->n_components; i++)
        CHECK(info->components[i].memory_loaded == 0, "%s", info->components[i].name);
    size_t empty = emu_live_bytes();
    int64_t others = info->device_total - info->device_free, sum = 0;
    CHECK(swd_load(ctx) == SWD_OK && swd_get_info(info, ctx) == SWD_OK, "%s", swd_message(ctx));
    for (int i = 0; i < info->n_components; i++) {
        const swd_component *c = &info->components[i];
        printf("# %s: %lld bytes, %lld expected\n", c->name, (long long)c->memory_loaded,
               (long long)c->memory_bf16);
        // norms, biases and position tables are float32; only half of the autoencoder is loaded
        CHECK(c->memory_loaded > c->memory_bf16 / 3 && c->memory_loaded < 2 * c->memory_bf16, "%s",
              c->name);
        sum += c->memory_loaded;
    }
    sum += info->memory_activations;
    CHECK(sum == info->memory_peak && sum == info->plan_all,
          "%lld bytes in the table, %lld on the device, %lld planned", (long long)sum,
          (long long)info->memory_peak, (long long)info->plan_all);
    CHECK((size_t)sum < emu_live_bytes() - empty, "what the host reads is not pinned");
    CHECK(info->memory_activations > 0 && info->plan_text < info->plan_all &&
              info->device_free == info->device_total - sum - others,
          "%lld %lld %lld %lld", (long long)info->memory_activations, (long long)info->memory_peak,
          (long long)info->device_total, (long long)info->device_free);
    swd_generate_params large = smallest();
    large.width = large.height = 256;
    emu_fail_allocation(1); // the slab
    CHECK(swd_generate(NULL, &large, ctx) == SWD_ERR_MEMORY, "the slab is refused");
    printf("# %s\n", swd_message(ctx));
    CHECK(strstr(swd_message(ctx), "no memory for") && strstr(swd_message(ctx), "8590 MB") &&
              strstr(swd_message(ctx), "transformer ") && strstr(swd_message(ctx), "(needed)"),
          "%s", swd_message(ctx));
    CHECK(picture(rgb, ctx) == SWD_OK, "%s", swd_message(ctx));
    swd_close(&ctx);
    ctx = context();
    emu_fail_allocation(of_opening() + 2); // the second block of weights
    CHECK(swd_load(ctx) == SWD_ERR_MEMORY && strstr(swd_message(ctx), "text_encoder 7") &&
              strstr(swd_message(ctx), "block of"),
          "%s", swd_message(ctx));
    printf("# %s\n", swd_message(ctx));
    swd_close(&ctx);
    free(info);
}

int main(int argc, char **argv)
{
    static const tap_test tests[] = {
        {"none_while_running", none_while_running},
        {"memory_table", memory_table},
        {"calls", calls},
        {"allocations", allocations},
    };
    return tap_run(tests, sizeof tests / sizeof *tests, argc, argv);
}
