// SPDX-License-Identifier: MIT
// torch's generator against torch, Philox against its published answers, our normals against libm in double and against theory.
#include "base/philox.h"
#include "base/rng.h"
#include "../files.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t ordered(float x)
{
    int32_t i;
    memcpy(&i, &x, 4);
    return i < 0 ? -(int64_t)(i & 0x7fffffff) : i;
}

static long ulps(float a, float b)
{
    return labs((long)(ordered(a) - ordered(b)));
}

Test(rng, mersenne_twister)
{
    torch_rng r;
    torch_rng_seed(&r, 5489);
    uint32_t w = 0;
    for (int i = 0; i < 10000; i++) w = torch_rng_u32(&r);
    cr_assert_eq(w, 4123659995u); // the C++ standard's check value
}

Test(rng, torch)
{
    char kind[8];
    const char *path = in_source("tests/goldens/noise/noise.txt");
    FILE *f = fopen(path, "r");
    cr_assert_not_null(f, "%s", path);
    torch_rng r = {0};
    unsigned long long arg, seed = 0;
    int calls = 0;
    long worst = 0;
    while (fscanf(f, "%7s %llu", kind, &arg) == 2) {
        if (strcmp(kind, "seed") == 0) {
            seed = arg;
            torch_rng_seed(&r, seed);
            continue;
        }
        float x[4096];
        cr_assert(arg <= 4096);
        int n = (int)arg, first = n > 48 ? n - 48 : 0;
        bool uniform = strcmp(kind, "rand") == 0;
        if (uniform)
            torch_rng_rand(&r, x, n);
        else
            torch_rng_randn(&r, x, n);
        for (int i = first; i < n; i++) {
            unsigned word;
            float want;
            cr_assert_eq(fscanf(f, "%x", &word), 1);
            memcpy(&want, &word, 4);
            long d = ulps(x[i], want);
            cr_assert(d <= (uniform ? 0 : 4), "seed %llu, %s %d, element %d: %.9g, want %.9g", seed,
                      kind, n, i, x[i], want);
            if (d > worst) worst = d;
        }
        if (uniform) torch_rng_seed(&r, seed);
        calls++;
    }
    fclose(f);
    cr_assert_eq(calls, 6 * 14);
    cr_log_info("worst: %ld ulp", worst);
}

Test(rng, philox_known_answers)
{
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        philox_4x32(out, cases[i].counter, cases[i].key);
        cr_assert_eq(memcmp(out, cases[i].out, sizeof out), 0, "case %d", i);
    }
}

Test(rng, any_range_gives_the_same)
{
    enum { N = 103 };
    float all[N], part[N + 2];
    const int64_t base = (INT64_C(1) << 34) - 50; // the block number passes 2^32 inside
    philox_randn(all, N, base, UINT64_C(0x123456789abcdef0), 3);
    for (int first = 0; first < 9; first++)
        for (int n = 0; n + first <= N; n += 5) {
            part[0] = part[n + 1] = -77;
            philox_randn(part + 1, n, base + first, UINT64_C(0x123456789abcdef0), 3);
            cr_assert_eq(memcmp(part + 1, all + first, (size_t)n * sizeof(float)), 0, "%d from %d",
                         n, first);
            cr_assert(part[0] == -77 && part[n + 1] == -77);
        }
    // Seed (both halves), step and both halves of the block number matter.
    philox_randn(part, 4, base, UINT64_C(0x123456789abcdef1), 3);
    cr_assert_neq(part[0], all[0]);
    philox_randn(part, 4, base, UINT64_C(0x123456799abcdef0), 3);
    cr_assert_neq(part[0], all[0]);
    philox_randn(part, 4, base, UINT64_C(0x123456789abcdef0), 4);
    cr_assert_neq(part[0], all[0]);
    philox_randn(part, 4, base + (INT64_C(1) << 34), UINT64_C(0x123456789abcdef0), 3);
    cr_assert_neq(part[0], all[0]);
}

// The bits are a promise: files made with a seed yesterday must come out the same from any compiler and processor.
Test(rng, philox_normals_are_frozen)
{
    enum { N = 1 << 16 };
    static float x[N];
    philox_randn(x, N, 0, 42, 1);
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (int i = 0; i < N; i++) {
        uint32_t w;
        memcpy(&w, &x[i], 4);
        h = (h ^ w) * UINT64_C(0x100000001b3);
    }
    cr_assert_eq(h, UINT64_C(0x907269b441e60260), "%016llx", (unsigned long long)h);
}

Test(rng, functions_against_double)
{
    double worst_log = 0, worst_trig = 0, worst_normal = 0;
    for (uint32_t i = 0; i < 400000; i++) {
        uint32_t w = i < 1000 ? i : i < 2000 ? UINT32_MAX - (i - 1000) : i * 2654435761u;
        float u = fmaf((float)w, 0x1p-32f, 0x1p-33f), c, s, n[2];
        double l = log((double)u), angle = 6.283185307179586 * w / 4294967296.0;
        if (l != 0) {
            double e = fabs(philox_log(u) - l) / fabs(l);
            if (e > worst_log) worst_log = e;
        }
        philox_cos_sin(&c, &s, w);
        double e = fmax(fabs(c - cos(angle)), fabs(s - sin(angle)));
        if (e > worst_trig) worst_trig = e;
        philox_box_muller(n, w, i * 40503u * 65537u);
        double radius = sqrt(-2 * l), a2 = 6.283185307179586 * (i * 40503u * 65537u) / 4294967296.0;
        e = fmax(fabs(n[0] - radius * cos(a2)), fabs(n[1] - radius * sin(a2)));
        if (e > worst_normal) worst_normal = e;
    }
    cr_log_info("log %.3g relative, cos and sin %.3g absolute, normals %.3g absolute", worst_log,
                worst_trig, worst_normal);
    cr_assert_lt(worst_log, 2 * 0x1p-23);
    cr_assert_lt(worst_trig, 1.2e-7);
    cr_assert_lt(worst_normal, 1.5e-6);
    float n[2];
    philox_box_muller(n, 0, 0); // the far tail
    cr_assert_lt(fabs(n[0] - 6.7637), 1e-3);
    philox_box_muller(n, UINT32_MAX, 0); // u = 1
    cr_assert(n[0] == 0 && n[1] == 0);
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

// The seeds are fixed, so these either always pass or never; the bounds are those a right generator misses once in 10^5 seeds.
Test(rng, distribution)
{
    enum { N = 1 << 20 };
    float *x = malloc(N * sizeof *x);
    cr_assert(x);
    for (uint64_t seed = 0; seed < 3; seed++) {
        philox_randn(x, N, 0, seed << 33 | seed, (uint32_t)seed);
        double m[5] = {0}, lag = 0, pair = 0;
        for (int i = 0; i < N; i++) {
            double p = 1;
            for (int k = 1; k <= 4; k++) m[k] += p *= x[i];
            if (i) lag += (double)x[i] * x[i - 1];
            if (i % 2) pair += (double)x[i] * x[i] * x[i - 1] * x[i - 1];
        }
        double root = sqrt((double)N);
        cr_assert_lt(fabs(m[1]) / root, 4.5);
        cr_assert_lt(fabs(m[2] - N) / root, 4.5 * sqrt(2));
        cr_assert_lt(fabs(m[3]) / root, 4.5 * sqrt(15));
        cr_assert_lt(fabs(m[4] - 3.0 * N) / root, 4.5 * sqrt(96));
        cr_assert_lt(fabs(lag) / root, 4.5);
        cr_assert_lt(fabs(pair - N / 2) / sqrt(N / 2.0), 4.5 * sqrt(8));
        qsort(x, N, sizeof *x, by_value);
        double ks = 0;
        for (int i = 0; i < N; i++) {
            double cdf = 0.5 * erfc(-x[i] / sqrt(2.0));
            ks = fmax(ks, fmax(fabs(cdf - (double)i / N), fabs(cdf - (i + 1.0) / N)));
        }
        cr_assert_lt(ks * root, 2.47, "seed %d: %g", (int)seed, ks * root);
        int tail = 0; // |x| > 4: 66.4 expected
        for (int i = 0; i < N; i++) tail += fabsf(x[i]) > 4;
        cr_assert(tail > 30 && tail < 105, "%d", tail);
    }
    free(x);
}
