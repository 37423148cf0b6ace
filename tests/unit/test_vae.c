// SPDX-License-Identifier: MIT
// Both autoencoders against diffusers (tools/reference/make_vae_goldens.py), wrong weights, and the slab of a large picture.
#include "base/memory.h"
#include "../files.h"
#include "io/safetensors_write.h"
#include "model/tiny_vae.h"
#include "model/vae.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct coder {
    vae *kl;
    tiny_vae *tiny;
    swd_backend *be;
    safetensors *golden;
} coder;

static swd_tensor find(const coder *c, const char *name)
{
    const st_tensor *t = safetensors_find(c->golden, name);
    cr_assert_not_null(t, "%s", name);
    cr_assert_eq(t->dtype, SWD_F32);
    float *copy = malloc(t->bytes);
    memcpy(copy, t->data, t->bytes);
    return tensor_make(copy, SWD_F32, t->shape, t->ndim);
}

static swd_status coder_load(coder *c, const char *dir, bool tiny, swd_dtype compute, swd_err *err)
{
    weights *w = NULL;
    const char *files = in_source(dir), *json = path_in(files, "config.json");
    SWD_TRY(backend_cpu_create(&c->be, 2, err), err);
    SWD_TRY(weights_open(&w, files, "diffusion_pytorch_model", err), err);
    config_vae kl;
    config_tiny_vae small;
    swd_status s = tiny ? config_tiny_vae_read(&small, json, err) : config_vae_read(&kl, json, err);
    if (s == SWD_OK)
        s = tiny ? tiny_vae_create(&c->tiny, &small, w, c->be, compute, true, true, err)
                 : vae_create(&c->kl, &kl, w, c->be, compute, true, true, err);
    weights_close(&w);
    return s;
}

static void coder_close(coder *c)
{
    vae_destroy(&c->kl);
    tiny_vae_destroy(&c->tiny);
    safetensors_close(&c->golden);
    backend_destroy(&c->be);
}

static void run_coder(const coder *c, bool encode, swd_tensor y, swd_tensor x, swd_dtype act)
{
    swd_err err = {0};
    swd_exec ex = {.backend = c->be, .err = &err, .act = act, .dry = true};
    for (int pass = 0; pass < 2; pass++) {
        swd_status s;
        if (c->tiny)
            s = encode ? tiny_vae_encode(y, x, c->tiny, &ex) : tiny_vae_decode(y, x, c->tiny, &ex);
        else
            s = encode ? vae_encode(y, x, c->kl, &ex) : vae_decode(y, x, c->kl, &ex);
        cr_assert_eq(s, SWD_OK, "%s", err.message);
        cr_assert_eq(ex.used, 0);
        if (pass) break;
        ex = (swd_exec){.backend = c->be,
                        .err = &err,
                        .act = act,
                        .slab_bytes = ex.peak,
                        .slab = aligned_alloc(64, ex.peak)};
    }
    free(ex.slab);
}

static double distance(swd_tensor a, swd_tensor b)
{
    double d = 0, n = 0;
    const float *p = a.data, *q = b.data;
    for (int64_t i = 0; i < tensor_numel(a); i++)
        d += ((double)p[i] - q[i]) * ((double)p[i] - q[i]), n += (double)q[i] * q[i];
    return sqrt(d / n);
}

static void compare(const char *dir, const char *golden, bool tiny, swd_dtype compute,
                    double tolerance)
{
    coder c = {0};
    swd_err err = {0};
    cr_assert_eq(coder_load(&c, dir, tiny, compute, &err), SWD_OK, "%s", err.message);
    const char *path = path_in(in_source(golden), "golden.safetensors");
    cr_assert_eq(safetensors_open(&c.golden, path, "golden", &err), SWD_OK, "%s", err.message);
    swd_tensor latents = find(&c, "latents"), image = find(&c, "image"),
               decoded = find(&c, "decoded"), encoded = find(&c, "encoded");
    swd_tensor y = decoded, z = encoded, rgb = decoded;
    y.data = malloc(tensor_bytes(y));
    z.data = malloc(tensor_bytes(z));
    rgb.dtype = SWD_U8;
    rgb.data = malloc(tensor_bytes(rgb));
    run_coder(&c, false, y, latents, compute);
    run_coder(&c, true, z, image, compute);
    double dy = distance(y, decoded), dz = distance(z, encoded);
    printf("# %s %s: decoded %.2e encoded %.2e\n", golden, dtype_name(compute), dy, dz);
    cr_expect_lt(dy, tolerance, "%s decoded: %g", golden, dy);
    cr_expect_lt(dz, tolerance, "%s encoded: %g", golden, dz);
    run_coder(&c, false, rgb, latents, compute);
    int worst = 0;
    for (int64_t i = 0; i < tensor_numel(rgb); i++) {
        float v = ((float *)y.data)[i] * 0.5f + 0.5f;
        int want = (int)rintf(255 * (v < 0   ? 0
                                     : v > 1 ? 1
                                             : v)),
            d = abs(want - ((uint8_t *)rgb.data)[i]);
        if (d > worst) worst = d;
    }
    cr_expect_leq(worst, 1, "%s: bytes differ by %d", golden, worst);
    void *all[] = {latents.data, image.data, decoded.data, encoded.data, y.data, z.data, rgb.data};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    coder_close(&c);
}

// float32: sums of up to a few hundred products through about 20 layers. bf16: 2^-8 a layer, adding up as its root, and slack.
static void both(const char *dir, const char *golden, bool tiny)
{
    compare(dir, golden, tiny, SWD_F32, 1e-5);
    compare(dir, golden, tiny, SWD_BF16, 5e-2);
}

Test(vae, plain)
{
    both("tests/goldens/vae/plain", "tests/goldens/vae/plain", false);
}
Test(vae, quant)
{
    both("tests/goldens/vae/quant", "tests/goldens/vae/quant", false);
}
Test(vae, no_attention)
{
    both("tests/goldens/vae/no_attention", "tests/goldens/vae/no_attention", false);
}
Test(vae, odd_attention)
{
    both("tests/goldens/vae/odd_attention", "tests/goldens/vae/odd_attention", false);
}
Test(vae, bundled)
{
    both("weights/emoji/vae", "tests/goldens/vae/bundled", false);
}
Test(vae, sixteenth)
{
    both("tests/goldens/vae/sixteenth", "tests/goldens/vae/sixteenth", false);
}
Test(vae, tiny)
{
    both("tests/goldens/vae/tiny", "tests/goldens/vae/tiny", true);
}

Test(vae, wrong_weights)
{
    config_vae c;
    swd_err err = {0};
    swd_backend *be;
    weights *w;
    vae *m = NULL;
    const char *dir = in_source("tests/goldens/vae/plain"), *json = path_in(dir, "config.json");
    cr_assert_eq(backend_cpu_create(&be, 1, &err), SWD_OK);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(config_vae_read(&c, json, &err), SWD_OK, "%s", err.message);
        if (i == 0) c.use_post_quant_conv = true;      // missing
        if (i == 1) c.block_out_channels[0] = 12;      // misshapen
        if (i == 2) c.mid_block_add_attention = false; // left over
        swd_err_clear(&err);
        cr_assert_eq(weights_open(&w, dir, "diffusion_pytorch_model", &err), SWD_OK, "%s",
                     err.message);
        swd_status s = vae_create(&m, &c, w, be, SWD_F32, false, true, &err);
        static const char *const said[] = {"post_quant_conv.weight", "decoder.", "attentions"};
        if (i < 3) {
            cr_expect_eq(s, SWD_ERR_FILE, "case %d", i);
            cr_expect_null(m);
            cr_expect_not_null(strstr(err.message, said[i]), "%s", err.message);
        } else {
            cr_expect_eq(s, SWD_OK, "%s", err.message);
            swd_exec ex = {.backend = be, .err = &err, .dry = true};
            swd_tensor latents = tensor4(NULL, SWD_F32, 1, 4, 4, 4),
                       image = tensor4(NULL, SWD_U8, 1, 8, 9, 3);
            cr_expect_eq(vae_decode(image, latents, m, &ex), SWD_ERR_ARGUMENT);
            image.shape[2] = 8;
            cr_expect_eq(vae_encode(latents, image, m, &ex),
                         SWD_ERR_ARGUMENT); // without the encoder
        }
        weights_close(&w);
        vae_destroy(&m);
    }
    backend_destroy(&be);
}

// Maps at 1024 x 1024 in float32 are a sixteenth of what SD3's widths need: 2 GiB there (one map of 256 channels, two of 128),
// which leaves most of the 2.6 GB allowed; scratch does not shrink with the width and is allowed 64 MiB.
Test(vae, slab_of_a_large_picture)
{
    coder c = {0};
    swd_err err = {0};
    cr_assert_eq(coder_load(&c, "tests/goldens/vae/sixteenth", false, SWD_F32, &err), SWD_OK, "%s",
                 err.message);
    swd_exec ex = {.backend = c.be, .err = &err, .act = SWD_F32, .dry = true};
    cr_assert_eq(vae_decode(tensor4(NULL, SWD_U8, 1, 1024, 1024, 3),
                            tensor4(NULL, SWD_F32, 1, 4, 128, 128), c.kl, &ex),
                 SWD_OK);
    printf("# slab of 1024 x 1024: %.1f MiB\n", (double)ex.peak / (1 << 20));
    cr_expect_geq(ex.peak, (size_t)128 << 20);
    cr_expect_leq(ex.peak, (size_t)(128 + 64) << 20);
    coder_close(&c);
}

// SD3's own widths (128, 256, 512, 512), two resnets a block: the sixteenth's tensors grown by 16, their numbers zero. What a decode of
// 1024 x 1024 holds, weights and slab, is measured by the dry run; 3 GB are allowed, the program around it takes less than 0.1.
static void zeros(void *ctx, void *to, int64_t first, int64_t n)
{
    (void)ctx, (void)first;
    memset(to, 0, (size_t)n * 2);
}

static void write_full_width(const char *path, const safetensors *sixteenth)
{
    st_write_tensor all[512] = {0};
    int n = safetensors_count(sixteenth);
    cr_assert_lt(n, 512);
    for (int i = 0; i < n; i++) {
        const st_tensor *t = safetensors_at(sixteenth, i);
        all[i] =
            (st_write_tensor){.name = t->name, .dtype = SWD_BF16, .ndim = t->ndim, .fill = zeros};
        for (int k = 0; k < t->ndim;
             k++) { // 3: colours and kernels, 4: latents, encoder's 2 x 4 = 8
            bool moments = t->shape[k] == 8 && k == 0 && strstr(t->name, "encoder.conv_out");
            all[i].shape[k] = t->shape[k] >= 8 && !moments ? 16 * t->shape[k] : t->shape[k];
        }
    }
    swd_err err = {0};
    cr_assert_eq(safetensors_write(path, all, n, NULL, 0, &err), SWD_OK, "%s", err.message);
}

Test(vae, memory_of_sd3_at_1024)
{
    swd_err err = {0};
    safetensors *small;
    weights *w;
    config_vae c;
    vae *m;
    swd_backend *be;
    char path[] = "/tmp/swd_vae_XXXXXX";
    const char *dir = in_source("tests/goldens/vae/sixteenth"), *json = path_in(dir, "config.json");
    cr_assert_eq(config_vae_read(&c, json, &err), SWD_OK, "%s", err.message);
    cr_assert_eq(safetensors_open(&small, dir, "diffusion_pytorch_model", &err), SWD_OK, "%s",
                 err.message);
    close(mkstemp(path));
    write_full_width(path, small);
    for (int i = 0; i < c.n_blocks; i++) c.block_out_channels[i] *= 16;
    cr_assert(c.n_blocks == 4 && c.block_out_channels[0] == 128 && c.block_out_channels[1] == 256 &&
              c.block_out_channels[2] == 512 && c.block_out_channels[3] == 512 &&
              c.layers_per_block == 2);
    cr_assert_eq(backend_cpu_create(&be, 1, &err), SWD_OK);
    cr_assert_eq(weights_open(&w, path, "", &err), SWD_OK, "%s", err.message);
    cr_assert_eq(vae_create(&m, &c, w, be, SWD_F32, false, true, &err), SWD_OK, "%s", err.message);
    weights_close(&w);
    swd_exec ex = {.backend = be, .err = &err, .act = SWD_F32, .dry = true};
    cr_assert_eq(vae_decode(tensor4(NULL, SWD_U8, 1, 1024, 1024, 3),
                            tensor4(NULL, SWD_F32, 1, 4, 128, 128), m, &ex),
                 SWD_OK, "%s", err.message);
    double slab = (double)ex.peak / 1e9, packed = (double)be->weight_bytes(be) / 1e9;
    printf("# SD3's decoder at 1024 x 1024: slab %.2f GB, weights %.2f GB\n", slab, packed);
    cr_expect_lt(slab + packed, 2.9);
    cr_expect_gt(slab,
                 2.1); // the one map of 256 channels and two of 128 that are needed at once: 2 GiB
    vae_destroy(&m);
    backend_destroy(&be);
    safetensors_close(&small);
    unlink(path);
}
