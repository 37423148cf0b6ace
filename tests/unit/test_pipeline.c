// SPDX-License-Identifier: MIT
/* Whole trajectories of the bundled model in float32 beside diffusers' (tools/reference/make_pipeline_goldens.py), and the
 * promises of the API around them. */
#include "pipeline/picture.h"
#include "trajectory.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <swd/swd.h>
#include <unistd.h>

static char *golden_path(const char *name)
{
    return path_in(in_source("tests/goldens/pipeline"), name);
}

static swd_open_params bundled(void)
{
    swd_open_params o;
    swd_open_params_default(&o);
    o.model = in_source("weights/emoji");
    o.precision = SWD_PRECISION_F32;
    return o;
}

static swd_context *open_bundled(void)
{
    swd_open_params o = bundled();
    return opened(&o);
}

static void compare_with(const char *golden, swd_generate_params *a, const swd_open_params *o)
{
    char name[128];
    snprintf(name, sizeof name, "pipeline/%s", golden);
    compare_trajectory(name, a, o);
}

static void compare(const char *golden, swd_generate_params *a)
{
    swd_open_params o = bundled();
    compare_with(golden, a, &o);
}

Test(pipeline, scalewise_agrees_with_diffusers_at_every_scale)
{
    const char *const p[] = {"a red apple, 3d emoji"};
    swd_generate_params a = request(p, 1, 7);
    a.preset = "sd3.5-medium-6";
    a.max_tokens = 16;
    compare("scalewise", &a);
}

Test(pipeline, euler_with_guidance_agrees)
{
    const char *const p[] = {"3d emoji of a cat face"};
    swd_generate_params a = request(p, 1, 3);
    compare("euler", &a); /* 28 steps, guidance 4: from the model's swd.json */
}

Test(pipeline, a_wide_picture_with_a_negative_prompt_agrees)
{
    const char *const p[] = {"a rainbow, 3d emoji"};
    swd_generate_params a = request(p, 1, 11);
    a.steps = 6;
    a.guidance = 3;
    a.negative = "red, dark";
    a.width = 160;
    a.height = 96;
    compare("euler_wide_negative", &a);
}

Test(pipeline, a_batch_without_guidance_agrees_however_it_is_cut)
{
    const char *const p[] = {"sunflower", "green book", ""};
    for (int batch = 1; batch <= 3; batch++) {
        swd_generate_params a = request(p, 3, 5);
        a.steps = 4;
        a.guidance = 1;
        a.batch = batch;
        compare("euler_batch_plain", &a);
    }
}

Test(pipeline, a_tall_scalewise_batch_agrees)
{
    const char *const p[] = {"birthday cake", "a dog, 3d emoji"};
    swd_generate_params a = request(p, 2, ((uint64_t)1 << 40) + 1);
    a.preset = "sd3.5-medium-6";
    a.max_tokens = 16;
    a.width = 96;
    a.height = 144;
    compare("scalewise_wide_batch", &a);
}

Test(pipeline, encoders_left_out_are_zeros)
{
    const char *const p[] = {"soccer ball"};
    swd_generate_params a = request(p, 1, 9);
    a.preset = "sd3.5-medium-6";
    a.max_tokens = 16;
    swd_open_params o = bundled();
    o.text_encoders = SWD_CLIP_G | SWD_T5;
    compare_with("scalewise_clip_g_t5", &a, &o);
    a.max_tokens = 32;
    o.text_encoders = SWD_CLIP_L;
    compare_with("scalewise_clip_l", &a, &o);
}

Test(pipeline, a_start_from_a_picture_agrees)
{
    const char *const p[] = {"a green apple, 3d emoji"};
    char *picture = golden_path("init.png");
    swd_generate_params a = request(p, 1, 21);
    a.init = picture;
    a.preset = "sd3.5-medium-6";
    a.max_tokens = 16;
    a.strength = 0.8; /* from 80 of 128: the picture shrinks by 1.6 */
    compare("init_scalewise", &a);
    a = request(p, 1, 21);
    a.init = picture;
    a.count = 2;
    a.steps = 8;
    a.strength = 0.6;
    compare("init_euler", &a);
}

Test(pipeline, adapters_agree)
{
    const char *const p[] = {"a red apple, 3d emoji"};
    swd_lora loras[] = {{golden_path("lora_peft"), 1.0f},
                        {golden_path("lora_diffusers/pytorch_lora_weights.safetensors"), -1.25f}};
    swd_generate_params a = request(p, 1, 7);
    a.preset = "sd3.5-medium-6";
    a.max_tokens = 16;
    swd_open_params o = bundled();
    o.loras = loras;
    o.n_loras = 1;
    compare_with("lora_peft", &a, &o);
    loras[0].scale = 0.5f;
    o.n_loras = 2;
    compare_with("lora_both", &a, &o);
}

Test(pipeline, a_tiny_decoder_agrees)
{
    const char *const p[] = {"a red apple, 3d emoji"};
    swd_generate_params a = request(p, 1, 7);
    a.preset = "sd3.5-medium-6";
    a.max_tokens = 16;
    a.width = a.height = 64;
    swd_open_params o = bundled();
    o.vae_tiny = golden_path("tiny_vae");
    compare_with("vae_tiny", &a, &o);
}

Test(pipeline, pictures_are_fitted_by_area)
{
    const uint8_t gray[5] = {0, 51, 102, 204, 255};
    uint8_t rgb[15];
    float *out = NULL;
    for (int i = 0; i < 15; i++) rgb[i] = gray[i / 3];
    static const double three[] = {51 / 2., (51 + 102 + 204) / 3., (204 + 255) / 2.},
                        ten[] = {0, 12.75, 38.25, 63.75, 89.25, 127.5, 178.5, 216.75, 242.25, 255};
    static const struct {
        int n;
        const double *want;
    } cases[] = {{3, three}, {10, ten}};
    for (int k = 0; k < 2; k++)
        for (int column = 0; column < 2; column++) {
            int n = cases[k].n, w = column ? 1 : n, h = column ? n : 1;
            cr_assert_eq(picture_resize(&out, w, h, rgb, column ? 1 : 5, column ? 5 : 1, NULL),
                         SWD_OK);
            for (int i = 0; i < 3 * n; i++)
                cr_expect_lt(fabs(out[i] - (cases[k].want[i / 3] / 127.5 - 1)), 1e-6,
                             "%d of %d: %g", i / 3, n, out[i]);
            free(out);
        }
}

/* ---- the API around it ---- */

Test(pipeline, philox_gives_the_same_pixels_in_any_batch)
{
    const char *const p[] = {"crying face", "fire engine"};
    swd_context *ctx = open_bundled();
    swd_result *together = NULL, *alone = NULL;
    swd_generate_params a = request(p, 2, 40);
    a.preset = "sd3.5-medium-4";
    a.max_tokens = 16;
    cr_assert_eq(swd_generate(&together, &a, ctx), SWD_OK, "%s", swd_message(ctx));
    a.prompts = &p[1];
    a.n_prompts = 1;
    a.seed = 41;
    cr_assert_eq(swd_generate(&alone, &a, ctx), SWD_OK, "%s", swd_message(ctx));
    cr_assert_eq(together->images[1].seed, 41);
    int worst = 0;
    for (int i = 0; i < 128 * 128 * 3; i++) {
        int d = abs((int)together->images[1].rgb[i] - (int)alone->images[0].rgb[i]);
        worst = d > worst ? d : worst;
    }
    cr_expect_leq(worst, 1); /* the products of a larger batch may be summed in another order */
    swd_result_free(&together);
    swd_result_free(&alone);
    swd_close(&ctx);
}

typedef struct seen {
    int calls, stop_at, pictures, last_side;
} seen;

static int watch(void *user, const swd_progress *now)
{
    seen *s = user;
    if (now->x0) {
        s->pictures++;
        s->last_side = now->x0->width;
    }
    return s->stop_at && ++s->calls >= s->stop_at;
}

Test(pipeline, progress_shows_every_scale_and_can_cancel)
{
    const char *const p[] = {"a red apple"};
    swd_context *ctx = open_bundled();
    swd_generate_params a = request(p, 1, 1);
    char temp[64];
    make_temporary(temp);
    const char *path = path_in(temp, "out.png");
    seen s = {0};
    a.preset = "sd3.5-medium-4";
    a.output = path;
    swd_set_progress(ctx, watch, &s, 1);
    cr_assert_eq(swd_generate(NULL, &a, ctx), SWD_OK, "%s", swd_message(ctx));
    cr_expect_eq(s.pictures, 4);
    cr_expect_eq(s.last_side, 128);
    cr_expect_eq(unlink(path), 0);
    s = (seen){.stop_at = 4};
    swd_result *r = (swd_result *)temp;
    cr_expect_eq(swd_generate(&r, &a, ctx), SWD_ERR_CANCELLED);
    cr_expect_null(r);
    cr_expect_neq(access(path, F_OK), 0);
    cr_expect_eq(rmdir(temp), 0, "a file was left behind");
    swd_close(&ctx);
}

Test(pipeline, wrong_calls_have_messages)
{
    const char *const p[] = {"x"};
    swd_context *ctx = open_bundled();
    const int scales[] = {4, 16};
    const double sigmas[] = {1.0, 0.6, 0.0};
    struct {
        swd_generate_params a;
        swd_status s;
        const char *part;
    } c[9];
    for (int i = 0; i < 9; i++) c[i].a = request(p, 1, 1);
    c[0].a.width = 100, c[0].s = SWD_ERR_ARGUMENT, c[0].part = "multiples of 16";
    c[1].a.preset = "nothing", c[1].s = SWD_ERR_ARGUMENT, c[1].part = "preset nothing";
    c[2].a.preset = "sdxl-4", c[2].s = SWD_ERR_UNSUPPORTED, c[2].part = "sdxl-4";
    c[3].a.scales = scales, c[3].a.n_scales = 2, c[3].s = SWD_ERR_ARGUMENT,
    c[3].part = "2 scales and 0 sigmas";
    c[4].a = c[3].a, c[4].a.sigmas = sigmas, c[4].a.n_sigmas = 3,
    c[4].a.sampler = SWD_SAMPLER_EULER, c[4].s = SWD_ERR_ARGUMENT, c[4].part = "scale-wise";
    c[5].a.output = "/tmp/x.gif", c[5].s = SWD_ERR_ARGUMENT, c[5].part = "suffix";
    c[6].a.init = "/nowhere/x.png", c[6].s = SWD_ERR_FILE, c[6].part = "no such file";
    c[7].a.size = 1, c[7].s = SWD_ERR_ARGUMENT, c[7].part = "params.size";
    c[8].a.count = 0, c[8].s = SWD_ERR_ARGUMENT, c[8].part = "at least one";
    for (int i = 0; i < 9; i++) {
        cr_expect_eq(swd_generate(NULL, &c[i].a, ctx), c[i].s, "case %d: %s", i, swd_message(ctx));
        cr_expect(strstr(swd_message(ctx), c[i].part), "case %d: %s", i, swd_message(ctx));
        cr_expect_not_null(swd_message_frame(ctx, 0));
    }
    swd_close(&ctx);
    cr_expect_null(ctx);
    cr_expect_eq(
        swd_open(&ctx, &(swd_open_params){.size = sizeof(swd_open_params), .model = "/nowhere"}),
        SWD_ERR_FILE);
    cr_expect(strstr(swd_message(ctx), "/nowhere"));
    swd_close(&ctx);
}
