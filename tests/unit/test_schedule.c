// SPDX-License-Identifier: MIT
// Presets against the printed values, the Euler table against diffusers bit for bit, checks and lists.
#include "../files.h"
#include "sample/schedule.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Test(schedule, presets)
{
    static const char *const names[] = {"sd3.5-medium-6", "sd3.5-medium-4", "sd3.5-large-4",
                                        "flux-4",         "flux-4-paper",   "sdxl-4",
                                        "wan-4"};
    for (int i = 0; i < 7; i++) {
        const schedule_preset *p = schedule_find(names[i]);
        cr_assert_not_null(p, "%s", names[i]);
        cr_assert_eq(p, schedule_at(i));
        cr_assert_eq(p->refused != NULL, i >= 5, "%s", names[i]);
        swd_err err = {0};
        cr_assert_eq(schedule_check(p->scales, p->n_steps, p->sigmas, p->n_steps, &err), SWD_OK,
                     "%s: %s", names[i], err.message);
        if (i < 3) cr_assert_eq(p->max_tokens, 512);
    }
    cr_assert_null(schedule_at(7));
    cr_assert_null(schedule_at(-1));
    cr_assert_null(schedule_find("sd3.5"));
    cr_assert_null(schedule_find(NULL));
}

Test(schedule, sigmas_are_the_teachers)
{
    static const int index[] = {0, 4, 7, 12, 14, 18};
    static const double printed[] = {1.0, .945387, .895900, .790368, .737056, .602151};
    double table[29];
    cr_assert_eq(schedule_euler(table, 28, 3.0, NULL), SWD_OK);
    const schedule_preset *p = schedule_find("sd3.5-medium-6");
    for (int k = 0; k < 6; k++) {
        cr_assert_eq(p->sigmas[k], table[index[k]]);
        cr_assert_lt(fabs(p->sigmas[k] - printed[k]), 6e-7);
    }
    cr_assert_eq(table[28], 0);
}

Test(schedule, cost)
{
    static const struct {
        const char *name;
        double linear, quadratic;
    } cases[] = {{"sd3.5-medium-6", 2.41, 1.56},
                 {"sd3.5-large-4", 2.20, 1.53},
                 {"flux-4-paper", 1.88, 1.38}};
    for (int i = 0; i < 3; i++) {
        const schedule_preset *p = schedule_find(cases[i].name);
        schedule_cost c = schedule_preset_cost(p);
        cr_assert_lt(fabs(c.linear - cases[i].linear), 0.006);
        cr_assert_lt(fabs(c.quadratic - cases[i].quadratic), 0.006);
    }
    // 6x20x34, 11x30x52, 16x40x70 and 21x60x104 over the last
    cr_assert_lt(fabs(schedule_preset_cost(schedule_find("wan-4")).linear -
                      (4080. + 17160 + 44800 + 131040) / 131040),
                 1e-12);
}

static uint64_t fnv(const double *sigmas, int n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (int i = 0; i < n; i++) {
        float f = (float)sigmas[i];
        uint32_t w;
        memcpy(&w, &f, 4);
        for (int b = 0; b < 4; b++) h = (h ^ (w >> 8 * b & 255)) * UINT64_C(0x100000001b3);
    }
    return h;
}

Test(schedule, euler_is_diffusers)
{
    char kind[8];
    const char *path = in_source("tests/goldens/schedule/schedule.txt");
    FILE *f = fopen(path, "r");
    cr_assert_not_null(f, "%s", path);
    double shift, sigmas[1001];
    int n, seen = 0;
    while (fscanf(f, "%7s %lf %d", kind, &shift, &n) == 3) {
        cr_assert(n >= 1 && n <= 1000);
        cr_assert_eq(schedule_euler(sigmas, n, shift, NULL), SWD_OK);
        if (strcmp(kind, "hash") == 0) {
            unsigned long long h;
            cr_assert_eq(fscanf(f, "%llx", &h), 1);
            cr_assert_eq(fnv(sigmas, n + 1), h, "shift %g, %d steps", shift, n);
        } else {
            for (int i = 0; i <= n; i++) {
                unsigned want;
                cr_assert_eq(fscanf(f, "%x", &want), 1);
                float got = (float)sigmas[i], w;
                memcpy(&w, &want, 4);
                cr_assert_eq(got, w, "shift %g, %d steps, sigma %d: %.9g, want %.9g", shift, n, i,
                             got, w);
            }
        }
        seen++;
    }
    fclose(f);
    cr_assert_eq(seen, 7 + 14 * 102);
}

Test(schedule, euler_refuses)
{
    double sigmas[2];
    cr_assert_eq(schedule_euler(sigmas, 0, 3, NULL), SWD_ERR_ARGUMENT);
    cr_assert_eq(schedule_euler(sigmas, 1001, 3, NULL), SWD_ERR_ARGUMENT);
    cr_assert_eq(schedule_euler(sigmas, 1, 0, NULL), SWD_ERR_ARGUMENT);
    cr_assert_eq(schedule_euler(sigmas, 1, -1, NULL), SWD_ERR_ARGUMENT);
    cr_assert_eq(schedule_euler(sigmas, 1, NAN, NULL), SWD_ERR_ARGUMENT);
    cr_assert_eq(schedule_euler(sigmas, 1, INFINITY, NULL), SWD_ERR_ARGUMENT);
}

Test(schedule, check)
{
    static const struct {
        int n, scales[4];
        double sigmas[4];
        const char *word;
    } bad[] = {
        {0, {0}, {0}, "0 steps"},
        {2, {8, 6}, {1, .5}, "must not decrease"},
        {2, {5, 8}, {1, .5}, "scale 1"},
        {2, {0, 8}, {1, .5}, "scale 1"},
        {1, {4098}, {1}, "scale 1"},
        {2, {4, 8}, {1, 1}, "must decrease"},
        {2, {4, 8}, {1, 1 - 1e-12}, "must decrease"}, // the same float
        {2, {4, 8}, {.5, 1}, "must decrease"},
        {2, {4, 8}, {1, 0}, "(0, 1]"},
        {2, {4, 8}, {1.5, 1}, "(0, 1]"},
        {2, {4, 8}, {NAN, 1}, "(0, 1]"},
        {2, {4, 8}, {1, NAN}, "(0, 1]"},
        {2, {4, 8}, {.9, .5}, "must be 1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        swd_err err = {0};
        cr_assert_eq(schedule_check(bad[i].scales, bad[i].n, bad[i].sigmas, bad[i].n, &err),
                     SWD_ERR_ARGUMENT, "case %zu", i);
        cr_assert(strstr(err.message, bad[i].word), "case %zu: %s", i, err.message);
    }
    static const int scales[] = {4, 6, 6};
    static const double sigmas[] = {1, .9, .5, 0};
    cr_assert_eq(schedule_check(scales, 3, sigmas, 4, NULL), SWD_OK);
    cr_assert_eq(schedule_check(scales, 3, sigmas, 3, NULL), SWD_OK);
    cr_assert_eq(schedule_check(scales, 2, sigmas, 3, NULL), SWD_ERR_ARGUMENT);
    cr_assert_eq(schedule_check(scales, 0, sigmas, 0, NULL), SWD_ERR_ARGUMENT);
}

Test(schedule, sides)
{
    for (int side = 2; side <= 256; side += 2)
        for (int last = 2; last <= 128; last += 2)
            for (int s = 2; s <= last; s += 2) {
                int want = (int)(2 * floor((double)side * s / last / 2 + 0.5));
                if (want < 2) want = 2;
                int got = schedule_side(side, s, last);
                cr_assert_eq(got, want, "side %d, %d of %d: %d, want %d", side, s, last, got, want);
            }
    cr_assert_eq(schedule_side(96, 32, 128), 24);
    cr_assert_eq(schedule_side(4096, 4096, 4096), 4096);
}
