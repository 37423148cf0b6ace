/* SPDX-License-Identifier: MIT */
/* Requests to a whole model folder, and trajectories beside those of diffusers. All of it fails the test that calls. */
#ifndef SWD_TESTS_UNIT_TRAJECTORY_H
#define SWD_TESTS_UNIT_TRAJECTORY_H
#include "../files.h"
#include "golden.h"
#include <swd/swd.h>
#include <unistd.h>

static inline swd_context *opened(const swd_open_params *o)
{
    swd_context *ctx = NULL;
    swd_status s = swd_open(&ctx, o);
    cr_assert_eq(s, SWD_OK, "%s", swd_message(ctx));
    return ctx;
}

static inline swd_generate_params request(const char *const *prompts, int n, uint64_t seed)
{
    swd_generate_params a;
    swd_generate_params_default(&a);
    a.prompts = prompts;
    a.n_prompts = n;
    a.random_seed = 0;
    a.seed = seed;
    return a;
}

/* Runs *a with torch's noise. Every F32 tensor of golden (below tests/goldens, without its suffix) is one of those that save_latents
 * writes, within 5e-5; "rgb" is the first picture, within one step of 255. */
static inline void compare_trajectory(const char *golden, swd_generate_params *a,
                                      const swd_open_params *o)
{
    char temp[] = "/tmp/swd-test-XXXXXX", name[256];
    int fd = mkstemp(temp), compared = 0;
    cr_assert_geq(fd, 0);
    close(fd);
    swd_context *ctx = opened(o);
    swd_result *r = NULL;
    safetensors *got = NULL, *want = NULL;
    swd_err err = {0};
    a->rng = SWD_RNG_TORCH;
    a->save_latents = temp;
    cr_assert_eq(swd_generate(&r, a, ctx), SWD_OK, "%s: %s", golden, swd_message(ctx));
    cr_expect_eq(r->n_images, a->n_prompts * a->count);
    snprintf(name, sizeof name, "tests/goldens/%s.safetensors", golden);
    cr_assert_eq(safetensors_open(&want, in_source(name), "golden", &err), SWD_OK, "%s",
                 err.message);
    cr_assert_eq(safetensors_open(&got, temp, "latents", &err), SWD_OK, "%s", err.message);
    for (int i = 0; i < safetensors_count(want); i++) {
        const st_tensor *t = safetensors_at(want, i);
        if (t->dtype != SWD_F32) continue;
        double error = relative_l2(safetensors_find(got, t->name), t);
        cr_expect_leq(error, 5e-5, "%s %s: relative L2 error %.3g", golden, t->name, error);
        compared++;
    }
    cr_assert_gt(compared, 0, "%s", golden);
    const st_tensor *rgb = safetensors_find(want, "rgb");
    for (int64_t i = 0; rgb && i < rgb->numel; i++)
        cr_assert_leq(abs((int)r->images[0].rgb[i] - (int)rgb->data[i]), 1, "%s: pixel value %d",
                      golden, (int)i);
    safetensors_close(&want);
    safetensors_close(&got);
    swd_result_free(&r);
    swd_close(&ctx);
    unlink(temp);
    a->save_latents = NULL;
}
#endif
