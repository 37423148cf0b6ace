// SPDX-License-Identifier: MIT
// The choice of a device, through the public API with the emulated backend linked in: names, what auto does without a driver, with an old
// one, without a GPU; the report; uploads larger than the staging buffers and from two streams; plans of memory, as many as you like.
#include "backend/devices.h"
#include "backend/ops.h"
#include "backend/slab.h"
#include "backend_cuda.h"
#include "emu/control.h"
#include "tap.h"
#include <swd/swd.h>

static swd_err error;

static void names(void)
{
    static const struct {
        const char *device, *backend;
        swd_status status;
        const char *message;
    } cases[] = {
        {"cpu", "cpu", SWD_OK, ""},
        {"auto", "cuda", SWD_OK, ""},
        {"cuda", "cuda", SWD_OK, ""},
        {"cuda:0", "cuda", SWD_OK, ""},
        {"cuda:1", NULL, SWD_ERR_DEVICE, "device cuda:1 is not there; the only one is cuda:0"},
        {"cuda:", NULL, SWD_ERR_ARGUMENT, "device cuda: is not known"},
        {"cuda0", NULL, SWD_ERR_ARGUMENT, "not known"},
        {"cuda:-1", NULL, SWD_ERR_ARGUMENT, "not known"},
        {"cuda:00000", NULL, SWD_ERR_ARGUMENT, "not known"},
        {"cuda:1x", NULL, SWD_ERR_ARGUMENT, "not known"},
        {"", NULL, SWD_ERR_ARGUMENT, "not known"},
        {"gpu", NULL, SWD_ERR_ARGUMENT, "use auto, cpu or cuda[:K]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char note[DEVICE_NOTE_MAX];
        swd_backend *b;
        swd_err_clear(&error);
        swd_status s = device_open(&b, note, cases[i].device, 1, &error);
        CHECK(s == cases[i].status, "\"%s\": status %d: %s", cases[i].device, s, error.message);
        CHECK(!b == !cases[i].backend && (!b || !strcmp(b->name, cases[i].backend)), "\"%s\"",
              cases[i].device);
        CHECK(strstr(error.message, cases[i].message) && !note[0], "\"%s\": %s %s", cases[i].device,
              error.message, note);
        backend_destroy(&b);
    }
    CHECK(emu_live_bytes() == 0, "%zu bytes are left", emu_live_bytes());
}

// Through the public API: what a caller sees on a machine with a broken or missing driver.
static void with(const char *device, swd_status want, const char *message, const char *note)
{
    swd_context *ctx = NULL;
    swd_open_params o;
    swd_info *info = calloc(1, sizeof *info);
    swd_open_params_default(&o);
    o.model = in_source("weights/emoji");
    o.device = device;
    swd_status s = swd_open(&ctx, &o);
    CHECK(s == SWD_OK, "%s", swd_message(ctx));
    s = swd_get_info(info, ctx);
    CHECK(s == want, "%s: status %d: %s", device, s, swd_message(ctx));
    CHECK(strstr(swd_message(ctx), message), "%s: %s", device, swd_message(ctx));
    CHECK(strstr(swd_note(ctx), note) && !note[0] == !swd_note(ctx)[0], "%s: note %s", device,
          swd_note(ctx));
    if (s == SWD_OK) CHECK(strncmp(info->device, "cpu: ", 5) == 0, "%s", info->device);
    swd_close(&ctx);
    free(info);
}

static void without_a_driver(void)
{
    emu_set_driver(0);
    with("cuda", SWD_ERR_DEVICE, "no NVIDIA driver is installed", "");
    with("auto", SWD_OK, "", "computing on the CPU: no NVIDIA driver is installed");
    with("cpu", SWD_OK, "", "");
    emu_set_driver(CUDART_VERSION);
}

static void with_an_old_driver(void)
{
    char version[32];
    snprintf(version, sizeof version, "up to 11.8, this build needs %d", CUDART_VERSION / 1000);
    emu_set_driver(11080);
    with("cuda:0", SWD_ERR_DEVICE, version, "");
    with("auto", SWD_OK, "", "update the driver");
    emu_set_driver(CUDART_VERSION);
}

static void without_a_gpu(void)
{
    emu_break_device(cudaErrorNoDevice);
    with("cuda", SWD_ERR_DEVICE, "the NVIDIA driver finds no GPU", "");
    with("auto", SWD_OK, "", "CUDA_VISIBLE_DEVICES");
    emu_break_device(cudaSuccess);
}

// Somebody fills the GPU: that is told, not computed around.
static void with_a_full_gpu(void)
{
    emu_fail_allocation(1);
    with("auto", SWD_ERR_MEMORY, "--device cpu does without a GPU", "");
    CHECK(emu_live_bytes() == 0, "%zu bytes are left", emu_live_bytes());
}

static void report(void)
{
    swd_backend *b;
    swd_memory m;
    OK(backend_cuda_create(&b, 0, &error), error);
    CHECK(!strcmp(b->device, "emulated device, sm_86, 4 SMs, up to 1000 MHz, 8192 MiB, memory 1000 "
                             "MHz, driver for CUDA 13.0") ||
              CUDART_VERSION != 13000,
          "%s", b->device);
    CHECK(b->has_bf16 && b->native_bf16, "no bf16");
    void *p = b->alloc(b, 1000), *q = b->alloc(b, 24);
    b->release(b, p);
    OK(b->memory(b, &m, &error), error);
    CHECK(m.held == 24 && m.peak == 1024 && m.total == (size_t)8 << 30 && m.free < m.total,
          "%zu held, %zu at most, %zu of %zu free", m.held, m.peak, m.free, m.total);
    b->release(b, q);
    backend_destroy(&b);
}

// Pieces of every size through both buffers, from memory that changes as soon as an upload returns.
static void uploads(void)
{
    enum { BYTES = 5 * CUDA_STAGE_BYTES / 2 };
    static const size_t sizes[] = {
        1, 255, 256, 257, 4096, CUDA_STAGE_BYTES - 1, CUDA_STAGE_BYTES, BYTES};
    swd_backend *b;
    OK(backend_cuda_create(&b, 0, &error), error);
    cudaStream_t other;
    CHECK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking) == cudaSuccess, "no stream");
    unsigned char *from = malloc(BYTES), *to = malloc(BYTES);
    for (int round = 0; round < 16; round++) {
        size_t n = sizes[(round * 5) % 8];
        swd_stream *s = round % 3 == 2 ? (swd_stream *)other : NULL;
        swd_tensor t = tensor1(b->alloc(b, n), SWD_U8, (int64_t)n);
        for (size_t i = 0; i < n; i++) from[i] = (unsigned char)(i * 7 + (size_t)round + i / 4093);
        OK(b->upload(b, t, from, s, &error), error);
        memset(from, 0, n);
        OK(b->download(b, to, t, s, &error), error);
        OK(b->synchronize(b, s, &error), error);
        for (size_t i = 0; i < n; i++)
            CHECK(to[i] == (unsigned char)(i * 7 + (size_t)round + i / 4093), "round %d, byte %zu",
                  round, i);
        b->release(b, t.data);
    }
    CHECK(cudaStreamDestroy(other) == cudaSuccess, "the stream");
    free(from);
    free(to);
    backend_destroy(&b);
    CHECK(emu_live_bytes() == 0, "%zu bytes are left", emu_live_bytes());
}

// A weight that reaches its type in several pieces: by a vector with a single one its columns are read.
static void packed_in_pieces(void)
{
    enum { N = 1500, K = 2051 };
    static const int columns[] = {0, 7, 1024, K - 1};
    swd_backend *b;
    OK(backend_cuda_create(&b, 0, &error), error);
    float *weight = malloc(sizeof *weight * N * K), *y = malloc(sizeof *y * N);
    for (int i = 0; i < N * K; i++) weight[i] = (float)((i * 2654435761u) >> 8) / 0x1p23f - 1;
    swd_linear *w;
    CHECK(sizeof *weight * N * K > 2 * CUDA_STAGE_BYTES, "one piece is enough");
    OK(b->linear_create(b, &w, tensor2(weight, SWD_F32, N, K), tensor_none(), SWD_BF16, &error),
       error);
    swd_exec ex = {.backend = b, .err = &error, .act = SWD_BF16, .slab_bytes = 1 << 20};
    ex.slab = b->alloc(b, ex.slab_bytes);
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        float one[K] = {0};
        one[columns[i]] = 1;
        ex.used = 0;
        swd_tensor x = exec2(&ex, SWD_F32, 1, K), out = exec2(&ex, SWD_F32, 1, N);
        OK(b->upload(b, x, one, NULL, &error), error);
        OK(op_linear(out, x, w, SWD_ACT_NONE, &ex), error);
        OK(b->download(b, y, out, NULL, &error), error);
        OK(b->synchronize(b, NULL, &error), error);
        for (int r = 0; r < N; r++) {
            float want = bf16_to_f32(f32_to_bf16(weight[r * K + columns[i]]));
            CHECK(y[r] == want, "row %d, column %d: %g, not %g", r, columns[i], (double)y[r],
                  (double)want);
        }
    }
    b->release(b, ex.slab);
    b->linear_destroy(b, &w);
    free(weight);
    free(y);
    backend_destroy(&b);
    CHECK(emu_live_bytes() == 0, "%zu bytes are left", emu_live_bytes());
}

// A plan's addresses are given again when nothing of it is left: however many are made, none reaches the device's own.
static void plans_without_end(void)
{
    enum { PLANS = 300 };
    const size_t bytes = (size_t)1 << 40; // 300 times as much is more than addresses have bits for
    swd_backend *b;
    OK(backend_cuda_create(&b, 0, &error), error);
    void *real = b->alloc(b, 1 << 20), *kept = NULL;
    for (int i = 0; i < PLANS; i++) {
        plan_begin(b);
        void *p = b->alloc(b, bytes), *q = b->alloc(b, bytes);
        CHECK(p && q && p != q && p != kept, "plan %d: two pieces at one place", i);
        CHECK((uintptr_t)q + bytes <= (uintptr_t)real, "plan %d: %p is the device's", i, q);
        b->release(b, q);
        plan_end(b);
        if (i == 0) kept = p; // outlives its plan, and the next one
        if (i != 0) b->release(b, p);
        if (i == 1) b->release(b, kept), kept = NULL;
    }
    CHECK(backend_held(b) == 1 << 20, "%zu bytes are held", backend_held(b));
    b->release(b, real);
    backend_destroy(&b);
    CHECK(emu_live_bytes() == 0, "%zu bytes are left", emu_live_bytes());
}

int main(int argc, char **argv)
{
    static const tap_test tests[] = {
        {"names", names},
        {"without_a_driver", without_a_driver},
        {"with_an_old_driver", with_an_old_driver},
        {"without_a_gpu", without_a_gpu},
        {"with_a_full_gpu", with_a_full_gpu},
        {"report", report},
        {"uploads", uploads},
        {"packed_in_pieces", packed_in_pieces},
        {"plans_without_end", plans_without_end},
    };
    return tap_run(tests, sizeof tests / sizeof *tests, argc, argv);
}
