// SPDX-License-Identifier: MIT
/* Spectra against numpy (tools/reference/make_eval_goldens.py), white noise, a field of known power law with what the paper found for
 * SD3.5, proposals there and back, what is written, and what is refused. */
#include "base/memory.h"
#include "base/rng.h"
#include "eval/spectrum.h"
#include "eval/spectrum_run.h"
#include "eval/spectrum_write.h"
#include "../files.h"
#include "io/safetensors_write.h"
#include <criterion/criterion.h>
#include <fftw3.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char folder[64];
static void setup(void)
{
    make_temporary(folder);
}
static const char *in_folder(const char *name)
{
    return path_in(folder, name);
}
static void teardown(void)
{
    static const char *const names[] = {"z.safetensors", "z.csv", "z.svg", "again.svg"};
    for (int i = 0; i < 4; i++) unlink(in_folder(names[i]));
    cr_assert_eq(rmdir(folder), 0, "something else was left in %s", folder);
}
TestSuite(spectrum, .init = setup, .fini = teardown);

Test(spectrum, agrees_with_numpy)
{
    static const char *const names[] = {"square", "odd", "tall"};
    char name[64];
    safetensors *st;
    swd_err err = {0};
    cr_assert_eq(
        safetensors_open(&st, in_source("tests/goldens/eval/spectrum.safetensors"), "", &err),
        SWD_OK, "%s", err.message);
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s.latents", names[i]);
        const st_tensor *z = safetensors_find(st, name);
        snprintf(name, sizeof name, "%s.power", names[i]);
        const st_tensor *want = safetensors_find(st, name);
        cr_assert(z && want);
        int h = (int)z->shape[2], w = (int)z->shape[3];
        spectrum *s;
        cr_assert_eq(spectrum_create(&s, h, w, NULL), SWD_OK);
        cr_assert_eq(spectrum_bins(s), want->numel);
        float *plane = malloc(z->bytes), expected[64];
        double got[64];
        memcpy(plane, z->data, z->bytes);
        memcpy(expected, want->data, want->bytes);
        for (int p = 0; p < z->shape[0] * z->shape[1]; p++) spectrum_add(s, plane + p * h * w);
        spectrum_mean(got, s);
        for (int k = 0; k < want->numel; k++) // goldens are float32
            cr_assert_float_eq(got[k], expected[k], 1e-6 * expected[k], "%s ring %d", names[i],
                               k + 1);
        free(plane);
        spectrum_destroy(&s);
        cr_assert_null(s);
    }
    safetensors_close(&st);
}

Test(spectrum, white_noise_has_power_one)
{
    enum { SIDE = 64, PLANES = 64, N = SIDE * SIDE };
    static float z[N];
    double p[SIDE / 2];
    spectrum *s;
    cr_assert_eq(spectrum_create(&s, SIDE, SIDE, NULL), SWD_OK);
    for (uint32_t i = 0; i < PLANES; i++) {
        philox_randn(z, N, 0, 7, i);
        spectrum_add(s, z);
    }
    spectrum_mean(p, s);
    /* The mean of m independent squared magnitudes has the deviation 1 / sqrt(m); ring k has about pi k pairs of them. */
    for (int k = 1; k <= SIDE / 2; k++)
        cr_assert_float_eq(p[k - 1], 1, 4.5 / sqrt(3.1 * k * PLANES), "ring %d: %g", k, p[k - 1]);
    spectrum_destroy(&s);
}

/* One field whose every coefficient at f has the power law's magnitude, with the phases of noise: |F|^2 / N = (f / f1)^-slope. */
static void power_law(float *z, int side, double f1, double slope, uint64_t seed)
{
    int n = side * side;
    fftw_complex *f = fftw_alloc_complex((size_t)n);
    fftw_plan there = fftw_plan_dft_2d(side, side, f, f, FFTW_FORWARD, FFTW_ESTIMATE),
              back = fftw_plan_dft_2d(side, side, f, f, FFTW_BACKWARD, FFTW_ESTIMATE);
    philox_randn(z, n, 0, seed, 0);
    for (int i = 0; i < n; i++) f[i][0] = (double)z[i], f[i][1] = 0;
    fftw_execute(there);
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            double *c = f[y * side + x], fy = y <= side / 2 ? y : side - y,
                   fx = x <= side / 2 ? x : side - x;
            double r = hypot(fx, fy) / side, power = r > 0 ? pow(r / f1, -slope) : 0;
            double k = sqrt(power * n) / hypot(c[0], c[1]);
            c[0] *= k;
            c[1] *= k;
        }
    fftw_execute(back);
    for (int i = 0; i < n; i++) z[i] = (float)(f[i][0] / n);
    fftw_destroy_plan(there);
    fftw_destroy_plan(back);
    fftw_free(f);
}

static swd_spectrum *measure(const swd_spectrum_params *a, swd_err *err)
{
    static pipeline p; // no model: latents need none
    swd_spectrum *s = NULL;
    swd_status status = spectrum_run(&s, a, &p, err);
    cr_assert_eq(status == SWD_OK, s != NULL);
    return s;
}

static void write_latents(const float *z, int b, int c, int h, int w)
{
    st_write_tensor t = {
        .name = "latents", .dtype = SWD_F32, .ndim = 4, .shape = {b, c, h, w}, .data = z};
    cr_assert_eq(safetensors_write(in_folder("z.safetensors"), &t, 1, NULL, 0, NULL), SWD_OK);
}

/* SD3.5's latents at 128x128 as the paper describes them: t = 800 allows 32x32 where 16x16 loses content, 600 allows 80x80 where 32x32 loses,
 * 500 allows 96x96 where 48x48 loses. A law that crosses 1 at f = 0.36 with the slope 2.5 is one that does so, for sides in steps of 16. */
Test(spectrum, what_the_paper_found)
{
    enum { R = 128 };
    static float z[R * R];
    swd_err err = {0};
    const char *file = in_folder("z.safetensors");
    power_law(z, R, 0.36, 2.5, 3);
    write_latents(z, 1, 1, R, R);
    double sigmas[] = {1, .8, .6, .5};
    swd_spectrum_params a = {
        .size = sizeof a, .latents = &file, .n_latents = 1, .sigmas = sigmas, .n_sigmas = 4};
    swd_spectrum *s = measure(&a, &err);
    cr_assert_not_null(s, "%s", err.message);
    for (int i = 0; i < s->n_bins;
         i++) { // a ring is half a step wide on either side of its frequency
        double lo = pow((s->frequency[i] + .5 / R) / .36, -2.5),
               hi = pow((s->frequency[i] - .5 / R) / .36, -2.5);
        cr_assert(s->power[i] >= lo && s->power[i] <= hi, "%g: %g", s->frequency[i], s->power[i]);
    }
    int want[] = {32, 32, 80, 96}, loses[] = {0, 16, 32, 48};
    for (int k = 0; k < 4; k++) {
        cr_assert_eq(s->steps[k].side, want[k], "sigma %g: side %d", sigmas[k], s->steps[k].side);
        cr_assert(loses[k] == 0 || 0.5 * loses[k] / R < s->steps[k].masked_from);
        if (k) { // (1 - sigma)^2 P = sigma^2 there
            double f = .36 * pow(sigmas[k] / (1 - sigmas[k]), -2 / 2.5);
            cr_assert_float_eq(s->steps[k].masked_from, f, 0.5 / R);
        }
    }
    cr_assert_eq(s->n_scales, 8); // multiples of R / 8

    /* Those sides give noise levels for which they are proposed again. */
    int scales[] = {32, 64, 96, 128};
    a.sigmas = NULL;
    a.scales = scales;
    a.n_scales = 4;
    swd_spectrum *back = measure(&a, &err);
    cr_assert_not_null(back, "%s", err.message);
    cr_assert_eq(back->steps[0].sigma, 1);
    for (int k = 1; k < 4; k++) {
        double root = pow(0.5 * scales[k - 1] / R / .36, -1.25);
        cr_assert_float_eq(back->steps[k].sigma, root / (1 + root), 0.01);
        cr_assert_float_eq(back->steps[k].masked_from, 0.5 * scales[k - 1] / R, 1e-12);
    }
    swd_spectrum_params forth = {
        .size = sizeof a, .latents = &file, .n_latents = 1, .sigmas = sigmas, .n_sigmas = 4};
    for (int k = 0; k < 4; k++)
        sigmas[k] = back->steps[k].sigma -
                    (k ? 1e-6 : 0); // a little less noise: now the next side is needed
    swd_spectrum *again = measure(&forth, &err);
    cr_assert_not_null(again, "%s", err.message);
    for (int k = 1; k < 4; k++) cr_assert_eq(again->steps[k].side, scales[k - 1] + 16);
    spectrum_result_free(&again);
    spectrum_result_free(&back);
    spectrum_result_free(&s);
}

/* (1 - sigma) z + sigma noise has the spectrum that is drawn for it. */
Test(spectrum, noisy_latents)
{
    enum { R = 32, PLANES = 200, N = R * R };
    static float z[N], noise[N];
    double clean[R / 2], noisy[R / 2], sigma = 0.6;
    spectrum *a, *b;
    cr_assert_eq(spectrum_create(&a, R, R, NULL), SWD_OK);
    cr_assert_eq(spectrum_create(&b, R, R, NULL), SWD_OK);
    for (uint32_t i = 0; i < PLANES; i++) {
        power_law(z, R, 0.3, 2, i);
        spectrum_add(a, z);
        philox_randn(noise, N, 0, 1000 + i, 1);
        for (int k = 0; k < N; k++) z[k] = (float)((1 - sigma) * z[k] + sigma * noise[k]);
        spectrum_add(b, z);
    }
    spectrum_mean(clean, a);
    spectrum_mean(noisy, b);
    for (int k = 0; k < R / 2; k++) {
        double want = (1 - sigma) * (1 - sigma) * clean[k] + sigma * sigma;
        cr_assert_float_eq(noisy[k], want, want * 6 / sqrt(3.1 * (k + 1) * PLANES));
    }
    spectrum_destroy(&a);
    spectrum_destroy(&b);
}

static char *read_text(const char *path)
{
    FILE *f = fopen(path, "rb");
    cr_assert(f);
    static char text[1 << 16];
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    return text;
}

Test(spectrum, written)
{
    static float z[2 * 16 * 16];
    const char *file = in_folder("z.safetensors");
    swd_err err = {0};
    philox_randn(z, 512, 0, 5, 0);
    write_latents(z, 2, 1, 16, 16);
    swd_spectrum_params a = {.size = sizeof a, .latents = &file, .n_latents = 1};
    swd_spectrum *s = measure(&a, &err), *t = measure(&a, &err);
    cr_assert(s && t);
    cr_assert_eq(s->n_pictures, 2);
    cr_assert_arr_eq(s->power, t->power, 8 * sizeof(double)); // the same bits
    cr_assert_eq(s->n_steps, 6);
    cr_assert_eq(spectrum_write(in_folder("z.csv"), s, &err), SWD_OK);
    cr_assert_eq(spectrum_write(in_folder("z.svg"), s, &err), SWD_OK);
    cr_assert_eq(spectrum_write(in_folder("again.svg"), t, &err), SWD_OK);
    cr_assert_eq(spectrum_write(in_folder("z.txt"), s, &err), SWD_ERR_ARGUMENT);
    char *csv = read_text(in_folder("z.csv")), *line = strchr(csv, '\n');
    int lines = 0;
    for (char *p = csv; (p = strchr(p, '\n')); p++) lines++;
    cr_assert_eq(lines, 9);
    double f, p, sigma, at_one;
    cr_assert_eq(sscanf(line, "%lf,%lf,%lf,%lf", &f, &p, &sigma, &at_one), 4);
    cr_assert_float_eq(f, 1. / 16, 1e-9);
    cr_assert_float_eq(p, s->power[0], 1e-8 * p);
    cr_assert_float_eq(sigma, sqrt(p) / (1 + sqrt(p)), 1e-8);
    cr_assert_float_eq(at_one, 1, 1e-12); // pure noise
    char *first = strdup(read_text(in_folder("z.svg")));
    cr_assert_str_eq(first, read_text(in_folder("again.svg")));
    cr_assert(strstr(first, "clean latents") && strstr(first, ">4x4<"));
    free(first);
    spectrum_result_free(&s);
    spectrum_result_free(&t);
}

Test(spectrum, refused)
{
    static float z[2 * 16 * 16];
    const char *file = in_folder("z.safetensors"), *missing = in_folder("none.safetensors"),
               *twice[2] = {file, file};
    double rising[] = {.5, .6}, zero[] = {0}, one[] = {1};
    int falling[] = {8, 4}, odd[] = {5, 16}, ends_early[] = {4, 8};
    write_latents(z, 2, 1, 16, 16); // all zero: P = 0
    const swd_spectrum_params wrong[] = {
        {.size = 1},
        {.latents = &file, .n_latents = 1, .sigmas = rising, .n_sigmas = 2},
        {.latents = &file, .n_latents = 1, .sigmas = zero, .n_sigmas = 1},
        {.latents = &file,
         .n_latents = 1,
         .sigmas = one,
         .n_sigmas = 1,
         .scales = odd,
         .n_scales = 2},
        {.latents = &file, .n_latents = 1, .scales = falling, .n_scales = 2},
        {.latents = &file, .n_latents = 1, .scales = odd, .n_scales = 2},
        {.latents = &file, .n_latents = 1, .scales = ends_early, .n_scales = 2},
        {.latents = &file, .n_latents = 1, .scale_multiple = 3},
        {.latents = &file, .n_latents = 1, .scale_min = 18},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        swd_err err = {0};
        cr_assert_null(measure(&wrong[i], &err), "%zu", i);
        cr_assert_eq(err.status, SWD_ERR_ARGUMENT, "%zu: %s", i, err.message);
    }
    swd_err err = {0};
    swd_spectrum_params a = {.latents = &missing, .n_latents = 1};
    cr_assert_null(measure(&a, &err));
    cr_assert_eq(err.status, SWD_ERR_FILE);
    a = (swd_spectrum_params){.latents = twice, .n_latents = 2};
    swd_spectrum *s = measure(&a, &err);
    cr_assert_not_null(s);
    cr_assert_eq(s->n_pictures, 4);
    for (int k = 0; k < s->n_steps; k++)
        cr_assert_eq(s->steps[k].side, 4); // nothing to see: the smallest
    spectrum_result_free(&s);
    z[3] = NAN;
    write_latents(z, 2, 1, 16, 16);
    cr_assert_null(measure(&a, &err));
    cr_assert(strstr(err.message, "NaN"));
    spectrum *none;
    cr_assert_eq(spectrum_create(&none, 2, 16, &err), SWD_ERR_ARGUMENT);
}
