// SPDX-License-Identifier: MIT
// Area downscale and posteriors against torch and diffusers (tools/reference/make_train_goldens.py), and the file they are kept in: taken up
// where it was left, made anew when it is stale or damaged.
#include "base/memory.h"
#include "base/rng.h"
#include "../files.h"
#include "io/config.h"
#include "io/safetensors.h"
#include "model/vae.h"
#include "train/area.h"
#include "train/cache.h"
#include "train/durable.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], data_dir[80], cache_path[80];

static void make_dir(void)
{
    make_temporary(dir);
    snprintf(data_dir, sizeof data_dir, "%s/data", dir);
    snprintf(cache_path, sizeof cache_path, "%s/c", dir);
    cr_assert_eq(mkdir(data_dir, 0700), 0);
}

static void remove_dir(void)
{
    cr_assert_eq(durable_remove(dir, NULL), SWD_OK);
    cr_assert_eq(durable_remove(dir, NULL), SWD_OK); /* gone already: fine */
}

TestSuite(cache, .init = make_dir, .fini = remove_dir);

static safetensors *golden(void)
{
    safetensors *s;
    swd_err err = {0};
    cr_assert_eq(safetensors_open(&s, in_source("tests/goldens/train/cache.safetensors"), "", &err),
                 SWD_OK, "%s", err.message);
    return s;
}

static double worst(const float *a, const unsigned char *golden_data, int64_t n)
{
    double d = 0;
    for (int64_t i = 0; i < n; i++) {
        float b;
        memcpy(&b, golden_data + 4 * i, 4);
        d = fmax(d, fabs((double)a[i] - b));
    }
    return d;
}

Test(cache, area)
{
    safetensors *s = golden();
    int seen = 0;
    for (int i = 0; i < safetensors_count(s); i++) {
        const st_tensor *x = safetensors_at(s, i);
        char name[96];
        size_t n = strlen(x->name);
        if (!str_starts(x->name, "area.") || x->name[n - 1] != 'x') continue;
        snprintf(name, sizeof name, "%.*sy", (int)n - 1, x->name);
        const st_tensor *y = safetensors_find(s, name);
        float *in = malloc(x->bytes), *out = malloc(y->bytes);
        memcpy(in, x->data, x->bytes);
        cr_assert_eq(area_resize(out, (int)y->shape[0], (int)y->shape[1], in, (int)x->shape[0],
                                 (int)x->shape[1], NULL),
                     SWD_OK);
        /* torch sums up to 12 floats of N(0, 1) in float32: 12 * 2^-24 * 4 */
        cr_expect_lt(worst(out, y->data, y->numel), 3e-6, "%s", name);
        free(in);
        free(out);
        seen++;
    }
    cr_expect_eq(seen, 5);
    safetensors_close(&s);
}

/* ---- a maker with one of the small autoencoders ---- */

typedef struct coder {
    vae *vae;
    swd_backend *be;
    config_vae config;
    int calls, calls_max; /* of image; the one after calls_max fails */
} coder;

static void coder_open(coder *c, const char *name)
{
    swd_err err = {0};
    weights *w;
    char path[128];
    *c = (coder){.calls_max = 1 << 30};
    snprintf(path, sizeof path, "tests/goldens/vae/%s/config.json", name);
    cr_assert_eq(config_vae_read(&c->config, in_source(path), &err), SWD_OK, "%s", err.message);
    *strrchr(path, '/') = '\0';
    cr_assert_eq(backend_cpu_create(&c->be, 1, &err), SWD_OK);
    cr_assert_eq(weights_open(&w, in_source(path), "diffusion_pytorch_model", &err), SWD_OK);
    cr_assert_eq(vae_create(&c->vae, &c->config, w, c->be, SWD_F32, true, false, &err), SWD_OK,
                 "%s", err.message);
    weights_close(&w);
}

static void coder_close(coder *c)
{
    vae_destroy(&c->vae);
    backend_destroy(&c->be);
}

static swd_status coder_image(void *user, float *mean, float *deviation, const float *pixels,
                              int side, swd_err *err)
{
    coder *c = user;
    int channels = c->config.latent_channels, factor = 1 << (c->config.n_blocks - 1);
    int64_t s = side / factor, n = channels * s * s;
    if (c->calls++ >= c->calls_max) return SWD_FAIL(err, SWD_ERR_CANCELLED, "enough");
    float *moments = malloc((size_t)n * 2 * sizeof(float));
    swd_exec ex = {.backend = c->be, .err = err, .act = SWD_F32, .dry = true};
    swd_tensor in = tensor4((void *)pixels, SWD_F32, 1, side, side, 3),
               out = tensor4(moments, SWD_F32, 1, 2 * channels, s, s);
    swd_status st = vae_encode_moments(out, in, c->vae, &ex);
    ex.dry = false;
    ex.slab_bytes = ex.peak;
    ex.slab = aligned_alloc(64, (ex.peak + 63) / 64 * 64);
    if (st == SWD_OK) st = vae_encode_moments(out, in, c->vae, &ex);
    for (int64_t i = 0; i < n; i++) {
        mean[i] = (moments[i] - (float)c->config.shift_factor) * (float)c->config.scaling_factor;
        deviation[i] =
            expf(0.5f * fminf(fmaxf(moments[n + i], -30), 20)) * (float)c->config.scaling_factor;
    }
    free(moments);
    free(ex.slab);
    return st;
}

enum { ROWS = 3, WIDTH = 5, POOLED = 4 };

/* Numbers that tell the caption. */
static swd_status coder_text(void *user, float *context, float *pooled, const char *caption,
                             swd_err *err)
{
    (void)user, (void)err;
    for (int i = 0; i < ROWS * WIDTH; i++) context[i] = (float)strlen(caption) + 0.5f * (float)i;
    for (int i = 0; i < POOLED; i++) pooled[i] = (float)caption[0];
    return SWD_OK;
}

static cache_maker maker_of(coder *c)
{
    return (cache_maker){.user = c,
                         .channels = c->config.latent_channels,
                         .factor = 1 << (c->config.n_blocks - 1),
                         .context_rows = ROWS,
                         .context_width = WIDTH,
                         .pooled_width = POOLED,
                         .digest = 7,
                         .text = coder_text,
                         .image = coder_image};
}

static void put_picture(const char *name, int side, uint64_t seed, const char *caption)
{
    char path[160];
    float noise[64 * 64 * 3];
    uint8_t rgb[64 * 64 * 3];
    cr_assert_leq(side, 64);
    philox_randn(noise, side * side * 3, 0, seed, 0);
    for (int i = 0; i < side * side * 3; i++) rgb[i] = (uint8_t)(128 + 30 * noise[i]);
    snprintf(path, sizeof path, "%s/%s.png", data_dir, name);
    cr_assert_eq(image_write(path, rgb, side, side, NULL, NULL), SWD_OK);
    snprintf(path, sizeof path, "%s/%s.txt", data_dir, name);
    write_text(path, caption);
}

static dataset *data_of(void)
{
    dataset *d;
    const char *path = data_dir;
    swd_err err = {0};
    cr_assert_eq(dataset_open(&d, &path, 1, &err), SWD_OK, "%s", err.message);
    return d;
}

static const int scales[4] = {4, 6, 6, 9};

Test(cache, golden_posteriors)
{
    safetensors *s = golden();
    const st_tensor *rgb = safetensors_find(s, "rgb");
    char path[160];
    snprintf(path, sizeof path, "%s/a.png", data_dir);
    cr_assert_eq(image_write(path, rgb->data, (int)rgb->shape[1], (int)rgb->shape[0], NULL, NULL),
                 SWD_OK);
    memcpy(strrchr(path, '.'), ".txt", 4);
    write_text(path, "");
    coder c;
    for (int quant = 0; quant < 2; quant++) {
        int n_scales = quant ? 1 : 4, two = 2;
        coder_open(&c, quant ? "quant" : "plain");
        cache_maker maker = maker_of(&c);
        cache_params params = {.path = cache_path,
                               .scales = quant ? &two : scales,
                               .n_scales = n_scales,
                               .dtype = SWD_F32};
        dataset *d = data_of();
        cache *k;
        swd_err err = {0};
        cr_assert_eq(cache_open(&k, &params, &maker, d, &err), SWD_OK, "%s", err.message);
        for (int i = 0; i < 2 * n_scales; i++) {
            char name[64];
            snprintf(name, sizeof name, "%s.%s.%d", quant ? "quant" : "plain",
                     i % 2 ? "source" : "target", i / 2);
            const st_tensor *t = safetensors_find(s, name);
            float *got = malloc(t->bytes);
            cr_assert_eq(
                (i % 2 ? cache_source : cache_target)(got, got + t->numel / 2, k, 0, i / 2, &err),
                SWD_OK, "%s", err.message);
            double far = worst(got, t->data, t->numel);
            printf("# %s: %.1e\n", name, far);
            cr_expect_lt(far, 2e-5, "%s: %g", name, far); /* as the tests of the autoencoder */
            free(got);
        }
        cache_close(&k);
        dataset_close(&d);
        coder_close(&c);
    }
    safetensors_close(&s);
}

/* ---- the file ---- */

static char said[4096];

static void hear(void *ctx, swd_log_level level, const char *text)
{
    (void)ctx, (void)level;
    strncat(said, text, sizeof said - strlen(said) - 2);
    strcat(said, "\n");
}

static cache *opened(coder *c, dataset *d, swd_dtype dtype, int n_scales)
{
    static const swd_log log = {.level = SWD_LOG_INFO, .write = hear};
    cache_maker maker = maker_of(c);
    cache_params params = {
        .path = cache_path, .scales = scales, .n_scales = n_scales, .dtype = dtype, .log = &log};
    cache *k;
    swd_err err = {0};
    said[0] = '\0';
    c->calls = 0;
    swd_status s = cache_open(&k, &params, &maker, d, &err);
    cr_assert(s == SWD_OK || c->calls > c->calls_max, "%s", err.message);
    cr_assert_eq(k == NULL, s != SWD_OK);
    return k;
}

static void *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    cr_assert_not_null(f, "%s", path);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    void *p = malloc(*n);
    cr_assert_eq(fread(p, 1, *n, f), *n);
    fclose(f);
    return p;
}

static void three_pictures(void)
{
    put_picture("a", 20, 1, "same");
    put_picture("b", 64, 2, "other one");
    put_picture("c", 17, 3, "too small");
    put_picture("d", 18, 4, "same");
}

Test(cache, contents)
{
    coder c;
    three_pictures();
    coder_open(&c, "plain");
    dataset *d = data_of();
    cache *k = opened(&c, d, SWD_F16, 4);
    cr_assert_eq(cache_count(k), 3);
    cr_expect_eq(cache_item(k, 0), 0);
    cr_expect_eq(cache_item(k, 2), 3);
    cr_expect_eq(dataset_bad_count(d), 1);
    cr_expect_not_null(
        strstr(dataset_bad_at(d, 0).reason, "17x17 pixels; the largest scale needs 18x18"));
    cr_expect_eq(c.calls, 3 * 7);
    size_t n;
    char path[160], *text;
    snprintf(path, sizeof path, "%s.left-out.tsv", cache_path);
    text = slurp(path, &n);
    cr_expect_not_null(memmem(text, n, "c.png\t17x17", 11));
    free(text);

    float context[ROWS * WIDTH], pooled[POOLED];
    static const char *const captions[] = {"", "same", "other one", "same"};
    for (int i = -1; i < 3; i++) {
        cr_assert_eq(cache_text(context, pooled, k, i, NULL), SWD_OK);
        cr_expect_eq(context[3], (float)strlen(captions[i + 1]) + 1.5f);
        cr_expect_eq(pooled[POOLED - 1], (float)captions[i + 1][0]);
    }

    /* samples: mean + deviation * eps, the same for the same (seed, picture, draw) only */
    enum { T = 4 * 9 * 9, S = 4 * 6 * 6 };
    float t[3][T], s[3][S], mean[T], deviation[T], eps[T + S];
    cr_assert_eq(cache_sample(t[0], s[0], k, 1, 3, 42, 5, NULL), SWD_OK);
    cr_assert_eq(cache_sample(t[1], s[1], k, 1, 3, 42, 5, NULL), SWD_OK);
    cr_assert_eq(cache_sample(t[2], s[2], k, 1, 3, 42, 6, NULL), SWD_OK);
    cr_expect_arr_eq(t[0], t[1], sizeof t[0]);
    cr_expect_arr_eq(s[0], s[1], sizeof s[0]);
    cr_expect_arr_neq(t[0], t[2], sizeof t[0]);
    cr_assert_eq(cache_target(mean, deviation, k, 1, 3, NULL), SWD_OK);
    double sum = 0, squares = 0;
    for (int i = 0; i < T; i++) {
        eps[i] = (t[0][i] - mean[i]) / deviation[i];
        sum += eps[i], squares += eps[i] * eps[i];
    }
    /* 5 deviations of the mean and of the variance of T normals */
    cr_expect_lt(fabs(sum / T), 5 / sqrt(T), "mean %g", sum / T);
    cr_expect_lt(fabs(squares / T - 1), 5 * sqrt(2.0 / T), "variance %g", squares / T);
    cr_assert_eq(cache_sample(t[2], s[2], k, 2, 3, 42, 5, NULL), SWD_OK);
    cr_assert_eq(cache_target(mean, deviation, k, 2, 3, NULL), SWD_OK);
    cr_expect_gt(fabs((t[2][0] - mean[0]) / deviation[0] - eps[0]), 1e-3, "pictures share noise");
    cr_assert_eq(cache_sample(t[0], s[0], k, 1, 0, 42, 5, NULL), SWD_OK);
    cr_expect_arr_neq(t[0], s[0], 4 * 4 * 4 * sizeof(float), "k = 0: two samples");
    cache_close(&k);

    k = opened(&c, d, SWD_F16, 4); /* there already */
    cr_expect_eq(c.calls, 0);
    cr_expect_not_null(strstr(said, "1 of 4 pictures cannot be used"), "%s", said);
    cache_close(&k);
    dataset_close(&d);
    coder_close(&c);
}

Test(cache, taken_up)
{
    coder c;
    size_t n, m;
    three_pictures();
    coder_open(&c, "plain");
    dataset *d = data_of();
    cache *k = opened(&c, d, SWD_F32, 2);
    cache_close(&k);
    void *whole = slurp(cache_path, &n);
    for (int after = 0; after < 12;
         after += after < 4 ? 1 : 3) { /* stopped after so many encodings */
        char part[160];
        cr_assert_eq(unlink(cache_path), 0);
        c.calls_max = after;
        cr_assert_null(opened(&c, d, SWD_F32, 2));
        cr_assert_neq(access(cache_path, F_OK), 0);
        c.calls_max = 1 << 30;
        if (after == 7) { /* and half of a record more */
            snprintf(part, sizeof part, "%s.part", cache_path);
            FILE *f = fopen(part, "ab");
            fwrite(whole, 1, 100, f);
            fclose(f);
        }
        k = opened(&c, d, SWD_F32, 2);
        cr_expect_eq(c.calls, 12 - after / 3 * 3, "%d, %d", after, c.calls);
        if (after) cr_expect_not_null(strstr(said, "going on behind 4 texts"), "%s", said);
        cache_close(&k);
        void *again = slurp(cache_path, &m);
        cr_assert_eq(n, m);
        cr_expect_arr_eq(whole, again, n);
        free(again);
    }
    free(whole);
    dataset_close(&d);
    coder_close(&c);
}

static void expect_anew(coder *c, swd_dtype dtype, int n_scales, const char *why)
{
    dataset *d = data_of();
    cache *k = opened(c, d, dtype, n_scales);
    cr_expect_gt(c->calls, 0, "%s", why);
    cr_expect_not_null(strstr(said, why), "%s: %s", why, said);
    cache_close(&k);
    k = opened(c, d, dtype, n_scales);
    cr_expect_eq(c->calls, 0);
    cache_close(&k);
    dataset_close(&d);
}

static void patch(size_t at, int from_end, unsigned char by)
{
    FILE *f = fopen(cache_path, "r+b");
    fseek(f, from_end ? -(long)at : (long)at, from_end ? SEEK_END : SEEK_SET);
    int b = fgetc(f);
    fseek(f, -1, SEEK_CUR);
    fputc(b ^ by, f);
    fclose(f);
}

Test(cache, stale_and_damaged)
{
    coder c;
    size_t n;
    put_picture("a", 20, 1, "one");
    put_picture("b", 20, 2, "two");
    coder_open(&c, "plain");
    dataset *d = data_of();
    cache *k = opened(&c, d, SWD_F32, 2);
    cache_close(&k);
    dataset_close(&d);
    free(slurp(cache_path, &n));
    expect_anew(&c, SWD_F32, 1, "of other models, data or scales");
    expect_anew(&c, SWD_F16, 1, "of other models, data or scales");
    put_picture("b", 20, 2, "three");
    expect_anew(&c, SWD_F16, 1, "of other models, data or scales");
    expect_anew(&c, SWD_F32, 2, "of other models, data or scales");
    patch(300, 0, 1);
    expect_anew(&c, SWD_F32, 2, "has a damaged text");
    patch(200, 1, 1);
    expect_anew(&c, SWD_F32, 2, "has a damaged picture");
    patch(60, 1, 1);
    expect_anew(&c, SWD_F32, 2, "is damaged at its end");
    cr_assert_eq(truncate(cache_path, (off_t)n - 1), 0);
    expect_anew(&c, SWD_F32, 2, "has the wrong size");
    cr_assert_eq(truncate(cache_path, 0), 0);
    expect_anew(&c, SWD_F32, 2, "of other models");

    /* damaged while it is in use */
    float x[2 * 4 * 6 * 6];
    swd_err err = {0};
    d = data_of();
    k = opened(&c, d, SWD_F32, 2);
    cr_assert_eq(cache_target(x, x + 144, k, 1, 1, &err), SWD_OK);
    patch(200, 1, 1);
    cr_expect_eq(cache_target(x, x + 144, k, 1, 1, &err), SWD_ERR_FILE);
    cr_expect_eq(cache_text(x, x + 144, k, 1, &err), SWD_ERR_FILE);
    cr_expect_not_null(strstr(err.message, "is damaged at byte"), "%s", err.message);
    cr_assert_eq(cache_target(x, x + 144, k, 0, 1, &err), SWD_OK);
    cache_close(&k);
    dataset_close(&d);
    coder_close(&c);
}

static swd_status huge_text(void *user, float *context, float *pooled, const char *caption,
                            swd_err *err)
{
    (void)user, (void)caption, (void)err;
    for (int i = 0; i < ROWS * WIDTH; i++) context[i] = 7e4f;
    for (int i = 0; i < POOLED; i++) pooled[i] = 0;
    return SWD_OK;
}

static bool stop(void *user, const char *what, int64_t done, int64_t total)
{
    int *calls = user;
    cr_expect_leq(done, total);
    cr_expect(strcmp(what, "captions") == 0 || strcmp(what, "pictures") == 0);
    return ++*calls < 4;
}

Test(cache, refused)
{
    coder c;
    swd_err err = {0};
    cache *k;
    put_picture("a", 20, 1, "one");
    put_picture("b", 20, 1, "two");
    coder_open(&c, "plain");
    dataset *d = data_of();
    int calls = 0;
    cache_maker maker = maker_of(&c);
    cache_params params = {.path = cache_path,
                           .scales = scales,
                           .n_scales = 1,
                           .dtype = SWD_F16,
                           .progress = stop,
                           .progress_user = &calls};
    cr_expect_eq(cache_open(&k, &params, &maker, d, &err), SWD_ERR_CANCELLED);
    cr_expect_eq(calls, 4); /* three texts, one picture */
    maker.text = huge_text;
    maker.digest++;
    cr_expect_eq(cache_open(&k, &params, &maker, d, &err), SWD_ERR_FILE);
    cr_expect_not_null(strstr(err.message, "set cache_dtype to f32"), "%s", err.message);
    cr_expect_null(k);
    static const int falling[2] = {6, 4};
    params.scales = falling;
    params.n_scales = 2;
    cr_expect_eq(cache_open(&k, &params, &maker, d, &err), SWD_ERR_ARGUMENT);
    static const int large[1] = {40};
    params = (cache_params){.path = cache_path, .scales = large, .n_scales = 1};
    cr_expect_eq(cache_open(&k, &params, &maker, d, &err), SWD_ERR_FILE);
    cr_expect_not_null(strstr(err.message, "no picture can be used"), "%s", err.message);
    params.path = "/nowhere/c";
    cr_expect_eq(cache_open(&k, &params, &maker, d, &err), SWD_ERR_FILE);
    dataset_close(&d);
    coder_close(&c);
}
