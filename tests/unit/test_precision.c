// SPDX-License-Identifier: MIT
/* bf16 beside float32 on the bundled model, at each level of instructions that this processor has: the tolerances that
 * docs/precision.md derives. A level without bf16 must compute in float32 and say so. */
#include "../files.h"
#include "io/safetensors.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <swd/swd.h>
#include <unistd.h>

static const double EVALUATION =
    0x1p-8 * 3.6055513; /* 2^-8 sqrt(8 blocks + 3 layers of text + 2 ends) */
static const double TRAJECTORY = 2 * EVALUATION;
static const double FLOAT32 = 5e-5; /* two float32 computations */

static const char *const prompts[] = {"a red apple, 3d emoji", "a cat face", "green book", ""};

typedef struct outcome {
    char precision[8], note[256];
    safetensors *latents;
} outcome;

static outcome run(swd_generate_params a, swd_precision precision)
{
    outcome o;
    char file[] = "/tmp/swd-precision-XXXXXX";
    swd_context *ctx = NULL;
    swd_result *r = NULL;
    swd_open_params p;
    swd_err err = {0};
    swd_open_params_default(&p);
    p.model = in_source("weights/emoji");
    p.precision = precision;
    p.threads = 1;
    int fd = mkstemp(file);
    cr_assert_geq(fd, 0);
    close(fd);
    a.save_latents = file;
    cr_assert_eq(swd_open(&ctx, &p), SWD_OK, "%s", swd_message(ctx));
    cr_assert_eq(swd_generate(&r, &a, ctx), SWD_OK, "%s", swd_message(ctx));
    snprintf(o.precision, sizeof o.precision, "%s", r->precision);
    snprintf(o.note, sizeof o.note, "%s", r->note);
    cr_assert_eq(safetensors_open(&o.latents, file, "latents", &err), SWD_OK, "%s", err.message);
    swd_result_free(&r);
    swd_close(&ctx);
    unlink(file);
    return o;
}

/* The largest relative L2 error of an image. */
static double distance(const outcome *a, const outcome *b)
{
    const st_tensor *got = safetensors_find(a->latents, "latents"),
                    *want = safetensors_find(b->latents, "latents");
    cr_assert(got && want && got->numel == want->numel);
    int64_t images = want->shape[0], n = want->numel / images;
    double worst = 0;
    for (int64_t i = 0; i < images; i++) {
        double diff = 0, norm = 0;
        for (int64_t k = i * n; k < (i + 1) * n; k++) {
            float x, y;
            memcpy(&x, got->data + 4 * k, 4);
            memcpy(&y, want->data + 4 * k, 4);
            diff += ((double)x - y) * ((double)x - y);
            norm += (double)y * y;
        }
        worst = fmax(worst, sqrt(diff / norm));
    }
    return worst;
}

static void beside_f32(const char *what, swd_generate_params a, double tolerance, bool has_bf16)
{
    a.random_seed = 0;
    a.seed = 5;
    outcome f32 = run(a, SWD_PRECISION_F32), bf16 = run(a, SWD_PRECISION_BF16);
    double error = distance(&bf16, &f32);
    printf("# %s in %s: %.2e of %.2e\n", what, bf16.precision, error, tolerance);
    cr_expect_str_eq(f32.precision, "f32");
    cr_expect_str_eq(f32.note, "");
    cr_expect_str_eq(bf16.precision, has_bf16 ? "bf16" : "f32");
    cr_expect_eq(strstr(bf16.note, "float32") != NULL, !has_bf16, "the note is \"%s\"", bf16.note);
    cr_expect_leq(error, has_bf16 ? tolerance : FLOAT32, "%s: %g", what, error);
    if (has_bf16) cr_expect_gt(error, FLOAT32, "%s: no bf16 at all", what);
    safetensors_close(&f32.latents);
    safetensors_close(&bf16.latents);
}

/* oneDNN reads the limit once, when it is first used: each level has a process of its own. */
static void at_level(const char *isa, bool has_bf16)
{
    static const int side[] = {16};
    static const double one[] = {1.0};
    swd_generate_params a;
    setenv("ONEDNN_MAX_CPU_ISA", isa, 1);
    swd_generate_params_default(&a);
    a.prompts = prompts;
    a.n_prompts = 4;
    a.max_tokens = 16;
    a.scales = side;
    a.sigmas = one;
    a.n_scales = a.n_sigmas = 1;
    beside_f32("one evaluation", a, EVALUATION, has_bf16);
    a.scales = NULL;
    a.sigmas = NULL;
    a.n_scales = a.n_sigmas = 0;
    a.preset = "sd3.5-medium-6";
    beside_f32("six scales", a, TRAJECTORY, has_bf16);
    a.preset = NULL;
    a.n_prompts = 1;
    a.steps = 28;
    a.guidance = 4;
    beside_f32("28 guided steps", a, TRAJECTORY, has_bf16);
}

static bool has_avx512(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
#else
    return false;
#endif
}

/* A processor without AMX, or without AVX512-BF16, takes what it has below. */
Test(precision, amx)
{
    at_level("AVX512_CORE_AMX", has_avx512());
}
Test(precision, avx512_bf16)
{
    at_level("AVX512_CORE_BF16", has_avx512());
}
Test(precision, avx512_emulates_bf16)
{
    at_level("AVX512_CORE", has_avx512());
}
Test(precision, avx2_has_no_bf16_and_says_so)
{
    at_level("AVX2", false);
}
