// SPDX-License-Identifier: MIT
// Images at different scales in one pass give what each gives alone, on the CPU and on the emulated device. Sums are made in another
// order: in float32 within the 5e-6 that docs/precision.md grants an evaluation, in bf16 within 2^-8 sqrt(L).
#include "backend/devices.h"
#include "model/denoiser.h"
#include "tap.h"
#include <math.h>

enum { PARTS = 3, LAYERS = 3 + 2, TEXT = 7 };

static swd_err error;

typedef struct net {
    swd_backend *be;
    config_denoiser cfg;
    denoiser *d;
} net;

static net net_open(const char *name, const char *device, swd_dtype compute)
{
    net n;
    weights *w;
    char note[DEVICE_NOTE_MAX], path[256];
    OK(device_open(&n.be, note, device, 1, &error), error);
    snprintf(path, sizeof path, "tests/goldens/models/%s/config.json", name);
    OK(denoiser_config_read(&n.cfg, DENOISER_SD3, in_source(path), &error), error);
    snprintf(path, sizeof path, "tests/goldens/models/%s", name);
    OK(weights_open(&w, in_source(path), "diffusion_pytorch_model", &error), error);
    OK(denoiser_create(&n.d, &n.cfg, w, n.be, compute, &error), error);
    weights_close(&w);
    return n;
}

static void net_close(net *n)
{
    denoiser_destroy(&n->d);
    backend_destroy(&n->be);
}

// Numbers around zero, the same for the same name.
static swd_tensor random_tensor(swd_tensor t, uint64_t seed, swd_exec *ex)
{
    if (ex->dry) return t;
    int64_t n = tensor_numel(t);
    float *host = malloc((size_t)n * sizeof *host);
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        host[i] = (float)(int32_t)(seed >> 32) * 0x1p-30f;
    }
    OK(ex->backend->upload(ex->backend, t, host, NULL, ex->err), error);
    OK(ex->backend->synchronize(ex->backend, NULL, ex->err), error);
    free(host);
    return t;
}

// height, width, images: wide, square and small ones
static const int sizes[PARTS][3] = {{8, 4, 2}, {4, 4, 1}, {6, 8, 1}};

typedef struct task {
    const net *n;
    float *alone, *together; // all velocities, one after another
} task;

static void fetch(float **to, swd_tensor t, swd_exec *ex)
{
    if (ex->dry) return;
    OK(ex->backend->download(ex->backend, *to, t, NULL, ex->err), error);
    OK(ex->backend->synchronize(ex->backend, NULL, ex->err), error);
    *to += tensor_numel(t);
}

static swd_status run(const task *k, swd_exec *ex)
{
    const denoiser *d = k->n->d;
    const config_sd3 *c = &k->n->cfg.sd3;
    float *alone = k->alone, *together = k->together;
    mixed_part parts[PARTS];
    int images = 0, first = 0;
    for (int i = 0; i < PARTS; i++) images += sizes[i][2];
    swd_tensor t = exec1(ex, SWD_F32, images),
               pooled = random_tensor(exec2(ex, SWD_F32, images, c->pooled_projection_dim), 1, ex),
               context =
                   random_tensor(exec3(ex, SWD_F32, images, TEXT, c->joint_attention_dim), 2, ex);
    for (int i = 0; i < images; i++)
        RUN(op_fill(tensor_slice(t, 0, i, 1), 100.0f * (float)(i + 2), ex));
    conditions all = denoiser_conditions(images, images, TEXT, d, ex);
    RUN(denoiser_embed_context(&all, context, d, ex));
    RUN(denoiser_modulate(&all, t, pooled, 0, d, ex));
    for (int i = 0; i < PARTS; i++, first += sizes[i - 1][2]) {
        const int *s = sizes[i];
        parts[i].latents = random_tensor(exec4(ex, SWD_F32, s[2], c->in_channels, s[0], s[1]),
                                         3 + (uint64_t)i, ex);
        parts[i].velocity = exec4(ex, SWD_F32, s[2], c->out_channels, s[0], s[1]);
        size_t mark = exec_mark(ex);
        conditions some = all;
        some.context = tensor_slice(all.context, 0, first, s[2]);
        RUN(denoiser_forward(parts[i].velocity, parts[i].latents, &some, first, d, ex));
        exec_rewind(ex, mark);
        fetch(&alone, parts[i].velocity, ex);
        RUN(op_fill(parts[i].velocity, NAN, ex));
    }
    mixed_batch mix;
    RUN(mixed_prepare(&mix, parts, PARTS, c->patch_size, TEXT, ex));
    CHECK(mix.chunk == 4 && mix.rows == 2 * 8 + 4 + 12, "chunks of %lld", (long long)mix.chunk);
    RUN(denoiser_forward_mixed(&mix, &all, d, ex));
    for (int i = 0; i < PARTS; i++) fetch(&together, parts[i].velocity, ex);
    return SWD_OK;
}

static void compare(const char *name, const char *device, swd_dtype compute)
{
    enum { NUMBERS_MAX = 1 << 14 };
    static float alone[NUMBERS_MAX], together[NUMBERS_MAX];
    net n = net_open(name, device, compute);
    task k = {&n, alone, together};
    int count = 0;
    for (int i = 0; i < PARTS; i++) count += sizes[i][0] * sizes[i][1] * sizes[i][2];
    count *= n.cfg.sd3.out_channels;
    CHECK(count <= NUMBERS_MAX, "%d numbers", count);
    swd_exec ex = {.backend = n.be, .err = &error, .act = compute, .dry = true};
    OK(run(&k, &ex), error);
    size_t bytes = ex.peak;
    ex = (swd_exec){.backend = n.be, .err = &error, .act = compute, .slab_bytes = bytes};
    ex.slab = n.be->alloc(n.be, bytes);
    CHECK(ex.slab, "no memory");
    OK(run(&k, &ex), error);
    n.be->release(n.be, ex.slab);
    double d = 0, sum = 0, most = compute == SWD_F32 ? 5e-6 : 0x1p-8 * sqrt(LAYERS);
    for (int i = 0; i < count; i++) {
        double x = (double)together[i] - (double)alone[i];
        d += x * x, sum += (double)alone[i] * (double)alone[i];
    }
    printf("# %s on %s: %.1e of %.1e\n", name, device, sqrt(d / sum), most);
    CHECK(sqrt(d / sum) <= most && sum > 0, "%s on %s: %g", name, device, sqrt(d / sum));
    net_close(&n);
}

static void on_cpu(void)
{
    compare("sd3", "cpu", SWD_F32);
    compare("sd35m", "cpu", SWD_F32);
    compare("sd35l", "cpu", SWD_F32);
}

static void on_device(void)
{
    compare("sd35m", "cuda", SWD_F32);
    compare("sd35m", "cuda", SWD_BF16);
    compare("sd3", "cuda", SWD_BF16);
}

int main(int argc, char **argv)
{
    static const tap_test tests[] = {{"on the CPU", on_cpu}, {"on the device", on_device}};
    return tap_run(tests, 2, argc, argv);
}
