// SPDX-License-Identifier: MIT
/* CLIP folders against transformers (tools/reference/make_eval_goldens.py): the processor's pixels, both towers' embeddings; files that do not fit.
 * float32, 5e-6, as in test_models.c: sums of at most 108 products, some 12 of them behind each other. bf16: 2e-2, as there. */
#include "base/memory.h"
#include "eval/clip_model.h"
#include "eval/features.h"
#include "../files.h"
#include "image/bicubic.h"
#include "io/safetensors.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *golden(const char *name, const char *file)
{
    return path_in(path_in(in_source("tests/goldens/eval"), name), file);
}

static void *copy(const safetensors *io, const char *name, int64_t shape[4])
{
    const st_tensor *t = safetensors_find(io, name);
    cr_assert_not_null(t, "%s", name);
    void *p = malloc(t->bytes);
    memcpy(p, t->data, t->bytes);
    for (int i = 0; i < t->ndim; i++) shape[i] = t->shape[i];
    return p;
}

static void same_direction(const float *got, const float *want, int n, int d, double tolerance,
                           const char *what)
{
    for (int i = 0; i < n; i++, got += d, want += d) { // got has the length sqrt(d)
        double length = 0, off = 0;
        for (int k = 0; k < d; k++) length += (double)want[k] * (double)want[k];
        length = sqrt(length);
        for (int k = 0; k < d; k++) {
            double step = (double)got[k] / sqrt(d) - (double)want[k] / length;
            off += step * step;
        }
        cr_assert(sqrt(off) <= tolerance, "%s %d is off by %g", what, i, sqrt(off));
    }
}

static void run_folder(const char *name, swd_dtype compute, double tolerance)
{
    swd_err err = {0};
    swd_backend *be;
    clip_model *m;
    safetensors *io;
    const char *dir = golden(name, ""), *file = golden(name, "io.safetensors");
    cr_assert_eq(backend_cpu_create(&be, 2, &err), SWD_OK);
    cr_assert_eq(clip_model_open(&m, dir, be, compute, &err), SWD_OK, "%s", err.message);
    cr_assert_eq(safetensors_open(&io, file, "", &err), SWD_OK, "%s", err.message);
    int64_t shape[4];
    float *want_pixels = copy(io, "0/pixels", shape), *want = copy(io, "0/image", shape);
    int n = (int)shape[0], d = (int)shape[1], side = clip_model_side(m);
    size_t one = 3 * (size_t)side * (size_t)side;
    cr_assert_eq(d, clip_model_dim(m));
    float *pixels = malloc((size_t)n * one * sizeof(float)),
          *features = malloc((size_t)n * (size_t)d * sizeof(float));
    for (int i = 0; i < n; i++) {
        char key[32];
        snprintf(key, sizeof key, "picture%d", i);
        uint8_t *rgb = copy(io, key, shape);
        image_rgb8 image = {.width = (int)shape[1], .height = (int)shape[0], .rgb = rgb};
        cr_assert_eq(clip_pixels(pixels + (size_t)i * one, &image, clip_model_processor(m), &err),
                     SWD_OK);
        free(rgb);
    }
    for (size_t i = 0; i < (size_t)n * one;
         i++) // a byte is a step of 1 / 255 / std: not one of them differs
        cr_assert_float_eq(pixels[i], want_pixels[i], 2e-6, "pixel %zu of %s: %g, not %g", i, name,
                           (double)pixels[i], (double)want_pixels[i]);
    cr_assert_eq(clip_model_pictures(features, pixels, n, m, &err), SWD_OK, "%s", err.message);
    same_direction(features, want, n, d, tolerance, "picture");
    float *alone = malloc((size_t)d * sizeof(float)); // a batch changes nothing but rounding
    cr_assert_eq(clip_model_pictures(alone, pixels + one, 1, m, &err), SWD_OK);
    same_direction(alone, want + d, 1, d, tolerance, "picture alone");
    static const char *const prompts[] = {
        "a red apple", "",
        "3d emoji of a very long prompt that does not fit into the window of this model at all"};
    if (clip_model_has_text(m)) {
        float *text = copy(io, "text", shape), *got = malloc(3 * (size_t)d * sizeof(float));
        cr_assert_eq(clip_model_prompts(got, prompts, 3, m, &err), SWD_OK, "%s", err.message);
        same_direction(got, text, 3, d, tolerance, "prompt");
        free(text);
        free(got);
    } else {
        cr_assert_eq(clip_model_prompts(features, prompts, 3, m, &err), SWD_ERR_UNSUPPORTED);
    }
    free(alone);
    free(pixels);
    free(features);
    free(want);
    free(want_pixels);
    safetensors_close(&io);
    clip_model_close(&m);
    backend_destroy(&be);
}

Test(clip_vision, both_towers_agree_with_transformers)
{
    run_folder("clip", SWD_F32, 5e-6);
}
Test(clip_vision, a_vision_tower_alone)
{
    run_folder("vision", SWD_F32, 5e-6);
}
Test(clip_vision, bf16)
{
    swd_backend *be;
    cr_assert_eq(backend_cpu_create(&be, 1, NULL), SWD_OK);
    bool there = be->has_bf16;
    backend_destroy(&be);
    if (there) run_folder("clip", SWD_BF16, 2e-2);
}

Test(clip_vision, an_enlarged_constant_stays)
{
    uint8_t rgb[3 * 5 * 7], *out;
    memset(rgb, 201, sizeof rgb);
    cr_assert_eq(bicubic_resize(&out, 31, 2, rgb, 5, 7, NULL), SWD_OK);
    for (int i = 0; i < 31 * 2 * 3; i++) cr_assert_eq(out[i], 201);
    free(out);
}

Test(clip_vision, a_part_has_the_bytes_of_the_whole)
{
    enum { W = 23, H = 17 };
    static const bicubic_crop part = {5, 3, 11, 40};
    uint8_t rgb[3 * W * H], *whole, *cut;
    for (int i = 0; i < 3 * W * H; i++) rgb[i] = (uint8_t)(i * i % 251);
    cr_assert_eq(bicubic_resize(&whole, 19, 50, rgb, W, H, NULL), SWD_OK);
    cr_assert_eq(bicubic_resize_crop(&cut, 19, 50, part, rgb, W, H, NULL), SWD_OK);
    for (int y = 0; y < part.height; y++)
        cr_assert_arr_eq(cut + (size_t)(3 * part.width * y),
                         whole + (size_t)(3 * (19 * (part.top + y) + part.left)),
                         (size_t)(3 * part.width));
    free(whole);
    free(cut);
}

/* Some 48 convolutions follow each other, of sums of up to 252 products: sqrt(48) 1e-6 = 7e-6, and torch's own error. Both branches of a
 * block being wrong in the same way would need them to be wrong in the script, too, whose parameters are counted there. */
Test(inception, agrees_with_torch)
{
    swd_err err = {0};
    swd_backend *be;
    features *f;
    safetensors *io;
    int64_t shape[4];
    const char *dir = golden("inception", ""), *file = golden("inception", "io.safetensors");
    cr_assert_eq(backend_cpu_create(&be, 2, &err), SWD_OK);
    cr_assert_eq(features_open(&f, dir, be, SWD_F32, &err), SWD_OK, "%s", err.message);
    cr_assert_eq(safetensors_open(&io, file, "", &err), SWD_OK, "%s", err.message);
    float *want_pixels = copy(io, "0/pixels", shape), *want = copy(io, "0/features", shape);
    size_t n = (size_t)features_pixels(f), d = (size_t)features_dim(f);
    cr_assert_eq(shape[1], features_dim(f));
    cr_assert(!features_have_text(f));
    float *pixels = malloc(2 * n * sizeof(float)), *got = malloc(2 * d * sizeof(float));
    for (int i = 0; i < 2; i++) {
        char key[32];
        snprintf(key, sizeof key, "picture%d", i);
        uint8_t *rgb = copy(io, key, shape);
        image_rgb8 image = {.width = (int)shape[1], .height = (int)shape[0], .rgb = rgb};
        cr_assert_eq(features_prepare(pixels + (size_t)i * n, &image, f, &err), SWD_OK);
        free(rgb);
    }
    for (size_t i = 0; i < 2 * n; i++)
        cr_assert_float_eq(pixels[i], want_pixels[i], 2e-6, "pixel %zu: %g, not %g", i,
                           (double)pixels[i], (double)want_pixels[i]);
    cr_assert_eq(features_of_pictures(got, pixels, 2, f, &err), SWD_OK, "%s", err.message);
    double off = 0, length = 0;
    for (size_t i = 0; i < 2 * d; i++) {
        off += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        length += (double)want[i] * (double)want[i];
    }
    cr_assert(sqrt(off / length) < 1e-5, "off by %g", sqrt(off / length));
    free(got);
    free(pixels);
    free(want);
    free(want_pixels);
    safetensors_close(&io);
    features_close(&f);
    backend_destroy(&be);
}

/* ---- wrong folders ---- */

Test(clip_vision, wrong_configs_are_refused)
{
    static const struct {
        const char *config, *processor, *message;
        swd_status status;
    } wrong[] = {
        {"{\"model_type\": \"siglip\"}", "{}", "model_type", SWD_ERR_UNSUPPORTED},
        {"{\"hidden_act\": \"relu\"}", "{}", "hidden_act", SWD_ERR_UNSUPPORTED},
        {"{\"hidden_size\": 30, \"num_attention_heads\": 4}", "{}", "num_attention_heads",
         SWD_ERR_FILE},
        {"{\"hidden_size\": 48, \"num_attention_heads\": 4}", "{}", "heads of 12",
         SWD_ERR_UNSUPPORTED},
        {"{\"image_size\": 30, \"patch_size\": 16}", "{}", "patch_size", SWD_ERR_UNSUPPORTED},
        {"{\"num_channels\": 4}", "{}", "num_channels", SWD_ERR_FILE},
        {"{}", "{\"do_resize\": false}", "do_resize", SWD_ERR_UNSUPPORTED},
        {"{}", "{\"resample\": 2}", "resample", SWD_ERR_UNSUPPORTED},
        {"{}", "{\"size\": {\"longest_edge\": 224}}", "shortest_edge", SWD_ERR_UNSUPPORTED},
        {"{}", "{\"crop_size\": {\"height\": 224, \"width\": 200}}", "crop_size",
         SWD_ERR_UNSUPPORTED},
        {"{}", "{\"crop_size\": 225}", "crop_size", SWD_ERR_UNSUPPORTED},
        {"{}", "{\"image_std\": [1, 0, 1]}", "image_std", SWD_ERR_FILE},
        {"{}", "{\"image_mean\": [1, 0]}", "image_mean", SWD_ERR_FILE},
        {"{}", "{\"size\": 112, \"crop_size\": 112}", "image_size", SWD_ERR_FILE},
        {"{}", "{}", "safetensors", SWD_ERR_FILE},
        {"{\"model_type\": \"inception_v3_fid\", \"image_size\": 74}", "{}", "image_size",
         SWD_ERR_FILE},
        {"{\"model_type\": \"inception_v3_fid\", \"width_divisor\": 3}", "{}", "width_divisor",
         SWD_ERR_FILE},
        {"{\"model_type\": \"inception_v3_fid\"}", "{}", "safetensors", SWD_ERR_FILE},
    };
    char dir[64];
    swd_backend *be;
    make_temporary(dir);
    cr_assert_eq(backend_cpu_create(&be, 1, NULL), SWD_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        swd_err err = {0};
        features *f;
        write_text(path_in(dir, "config.json"), wrong[i].config);
        write_text(path_in(dir, "preprocessor_config.json"), wrong[i].processor);
        cr_assert_eq(features_open(&f, dir, be, SWD_F32, &err), wrong[i].status, "%zu: %s", i,
                     err.message);
        cr_assert(strstr(err.message, wrong[i].message), "%zu: %s", i, err.message);
        cr_assert_null(f);
    }
    backend_destroy(&be);
    remove_temporary(dir);
}
