// SPDX-License-Identifier: MIT
// A whole FLUX folder beside diffusers (tools/reference/make_flux_goldens.py): noise levels bit for bit, trajectories of both samplers in
// float32, an adapter, a model without guidance; and what the family says about calls, prompts and folders.
#include "base/memory.h"
#include "io/safetensors_write.h"
#include "sample/schedule.h"
#include "trajectory.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <swd/swd.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static char *in_folder(const char *name)
{
    return path_in(folder, name);
}

// folder/name -> of the source tree
static void link_part(const char *name, const char *target)
{
    char *from = realpath(in_source(target), NULL);
    cr_assert_not_null(from, "%s", target);
    cr_assert_eq(symlink(from, in_folder(name)), 0, "%s", name);
    free(from);
}

// The golden folder with the bundled model's tokenizers.
static void make_folder(void)
{
    make_temporary(folder);
    static const char *const parts[] = {"model_index.json", "scheduler",   "text_encoder",
                                        "text_encoder_2",   "transformer", "vae"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        link_part(parts[i], path_in("tests/goldens/flux/model", parts[i]));
    link_part("tokenizer", "weights/emoji/tokenizer");
    link_part("tokenizer_2", "weights/emoji/tokenizer_3");
}

static void remove_folder(void)
{
    remove_temporary(folder);
}

TestSuite(flux_pipeline, .init = make_folder, .fini = remove_folder);

static swd_open_params params_of(const swd_lora *lora, unsigned encoders)
{
    swd_open_params o;
    swd_open_params_default(&o);
    o.model = folder;
    o.precision = SWD_PRECISION_F32;
    o.device = "cpu";
    o.threads = 1;
    o.loras = lora;
    o.n_loras = lora != NULL;
    o.text_encoders = encoders;
    return o;
}

static swd_context *open_folder(const swd_lora *lora, unsigned encoders)
{
    swd_open_params o = params_of(lora, encoders);
    return opened(&o);
}

static swd_generate_params sized(const char *const *prompts, int n, uint64_t seed, int width,
                                 int height)
{
    swd_generate_params a = request(prompts, n, seed);
    a.rng = SWD_RNG_TORCH;
    a.width = width;
    a.height = height;
    a.max_tokens = 16;
    return a;
}

static void compare(const char *golden, swd_generate_params *a, const swd_lora *lora)
{
    swd_open_params o = params_of(lora, SWD_TEXT_ALL);
    compare_trajectory(path_in("flux", golden), a, &o);
}

// dev: guidance 3.5, 512 tokens and the dynamic shift are what it does unasked; 12 x 8 latents.
Test(flux_pipeline, dev)
{
    const char *const p[] = {"a red apple", "3d emoji"};
    swd_generate_params a = sized(p, 2, 7, 24, 16);
    a.max_tokens = 0;
    a.steps = 4;
    compare("euler_dev", &a, NULL);
}

// Four images by three leave one over, whose eight steps have conditions of their own number.
Test(flux_pipeline, a_batch_that_is_left_over)
{
    const char *const p[] = {"a", "b", "c", "d"};
    swd_generate_params a = sized(p, 4, 1, 16, 16);
    safetensors *file[2];
    swd_err err = {0};
    a.steps = 8;
    for (int i = 0; i < 2; i++) {
        swd_context *ctx = open_folder(NULL, SWD_TEXT_ALL);
        a.batch = i ? 1 : 3;
        a.save_latents = in_folder(i ? "one" : "three");
        cr_assert_eq(swd_generate(NULL, &a, ctx), SWD_OK, "%s", swd_message(ctx));
        cr_assert_eq(safetensors_open(&file[i], a.save_latents, "latents", &err), SWD_OK, "%s",
                     err.message);
        swd_close(&ctx);
    }
    cr_expect_leq(
        relative_l2(safetensors_find(file[0], "latents"), safetensors_find(file[1], "latents")),
        5e-5);
    for (int i = 0; i < 2; i++) safetensors_close(&file[i]);
}

// Guidance 4.5 is what it does unasked.
Test(flux_pipeline, scalewise)
{
    const char *const p[] = {"a cat", "a dog, 3d emoji"};
    swd_generate_params a = sized(p, 2, 3, 32, 20);
    a.preset = "flux-4";
    compare("scalewise", &a, NULL);
    a.batch = 1;
    compare("scalewise", &a, NULL);
    a = sized(p, 1, 4, 16, 32);
    a.preset = "flux-4-paper";
    a.guidance = 1;
    compare("scalewise_paper", &a, NULL);
}

// Its tokens of several sizes do not share a pass.
Test(flux_pipeline, not_mixed)
{
    const char *const p[] = {"a cat", "a dog"};
    swd_generate_params a = sized(p, 2, 3, 16, 16);
    swd_context *ctx = open_folder(NULL, SWD_TEXT_ALL);
    swd_result *r = NULL;
    a.preset = "flux-4";
    a.rng = SWD_RNG_PHILOX;
    a.mix = 1;
    cr_assert_eq(swd_generate(&r, &a, ctx), SWD_OK, "%s", swd_message(ctx));
    cr_expect(strstr(r->note, "not mixed: this transformer takes one size"), "%s", r->note);
    swd_result_free(&r);
    swd_close(&ctx);
}

// An adapter without swd.json takes flux-4, and its 512 tokens unless the call says otherwise.
Test(flux_pipeline, adapter)
{
    const char *const p[] = {"a cat"}, *path = in_source("tests/goldens/flux/lora");
    swd_generate_params a = sized(p, 1, 9, 16, 16);
    compare("scalewise_lora", &a, &(swd_lora){.path = path, .scale = .75f});
    swd_context *ctx = open_folder(&(swd_lora){.path = path, .scale = 1}, SWD_TEXT_ALL);
    swd_tokens t[3];
    cr_assert_eq(swd_tokenize(t, "x", 0, ctx), SWD_OK, "%s", swd_message(ctx));
    cr_expect_eq(t[1].n, 512);
    swd_close(&ctx);
}

// schnell: no guidance embedding, no shift.
static void make_schnell(void)
{
    const char *transformer = in_folder("transformer"), *scheduler = in_folder("scheduler");
    safetensors *file;
    st_write_tensor t[128];
    int n = 0;
    swd_err err = {0};
    cr_assert_eq(unlink(transformer) | unlink(scheduler), 0);
    cr_assert_eq(mkdir(transformer, 0777) | mkdir(scheduler, 0777), 0);
    write_text(path_in(scheduler, "scheduler_config.json"), "{\"shift\":1.0}");
    write_text(
        path_in(transformer, "config.json"),
        "{\"in_channels\":16,\"num_layers\":1,\"num_single_layers\":1,\"attention_head_dim\":"
        "16,\"num_attention_heads\":1,\"joint_attention_dim\":16,\"pooled_projection_dim\":16,"
        "\"axes_dims_rope\":[4,6,6]}");
    cr_assert_eq(safetensors_open(&file, in_source("tests/goldens/flux/model/transformer"),
                                  "diffusion_pytorch_model", &err),
                 SWD_OK, "%s", err.message);
    for (int i = 0; i < safetensors_count(file); i++) {
        const st_tensor *s = safetensors_at(file, i);
        if (strstr(s->name, "guidance")) continue;
        t[n] =
            (st_write_tensor){.name = s->name, .dtype = s->dtype, .ndim = s->ndim, .data = s->data};
        memcpy(t[n++].shape, s->shape, sizeof s->shape);
    }
    const char *to = path_in(transformer, "diffusion_pytorch_model.safetensors");
    cr_assert_eq(safetensors_write(to, t, n, NULL, 0, &err), SWD_OK, "%s", err.message);
    safetensors_close(&file);
}

Test(flux_pipeline, schnell)
{
    const char *const p[] = {"a rainbow"};
    make_schnell();
    swd_generate_params a = sized(p, 1, 11, 12, 24);
    a.steps = 4;
    compare("euler_schnell", &a, NULL);
    swd_context *ctx = open_folder(NULL, SWD_TEXT_ALL);
    swd_result *r = NULL;
    a.guidance = 7;
    cr_assert_eq(swd_generate(&r, &a, ctx), SWD_OK, "%s", swd_message(ctx));
    cr_expect(strstr(r->note, "no guidance") && r->guidance == 0, "%s", r->note);
    swd_result_free(&r);
    swd_close(&ctx);
}

/* ---- noise levels ---- */

Test(flux_pipeline, noise_levels)
{
    char kind[16];
    double shift, want[64], got[64];
    int steps, n = 0;
    FILE *f = fopen(in_source("tests/goldens/flux/schedule.txt"), "r");
    cr_assert_not_null(f);
    for (; fscanf(f, "%15s", kind) == 1; n++) {
        bool dynamic = strcmp(kind, "dynamic") == 0;
        if (dynamic) {
            schedule_dynamic d;
            int tokens, linear;
            cr_assert_eq(fscanf(f, "%d %lf %lf %d %d %d", &tokens, &d.base_shift, &d.max_shift,
                                &d.base_tokens, &d.max_tokens, &linear),
                         6);
            d.linear = linear;
            shift = schedule_dynamic_shift(tokens, &d);
        } else {
            cr_assert_eq(fscanf(f, "%lf", &shift), 1);
        }
        cr_assert_eq(fscanf(f, "%d", &steps), 1);
        for (int i = 0; i <= steps; i++) {
            uint32_t word;
            float x;
            cr_assert_eq(fscanf(f, "%x", &word), 1);
            memcpy(&x, &word, 4);
            want[i] = (double)x;
        }
        cr_assert_eq(schedule_linear(got, steps, shift, dynamic, NULL), SWD_OK);
        for (int i = 0; i <= steps; i++)
            cr_expect_eq(got[i], want[i], "%s %g of %d: %a, not %a", kind, shift, i, got[i],
                         want[i]);
    }
    fclose(f);
    cr_expect_eq(n, 9);
    cr_expect_eq(schedule_linear(got, 0, 1, true, NULL), SWD_ERR_ARGUMENT);
    cr_expect_eq(schedule_linear(got, 4, 0, true, NULL), SWD_ERR_ARGUMENT);
}

/* ---- what the family says ---- */

Test(flux_pipeline, tokens_and_info)
{
    swd_context *ctx = open_folder(NULL, SWD_TEXT_ALL);
    swd_tokens t[3];
    swd_info info;
    cr_assert_eq(swd_tokenize(t, "a cat", 7, ctx), SWD_OK, "%s", swd_message(ctx));
    cr_expect(strcmp(t[0].name, "tokenizer") == 0 && t[0].n == 16 && t[0].ids[0] == 2046);
    cr_expect(strcmp(t[1].name, "tokenizer_2") == 0 && t[1].n == 7 && t[1].ids[6] == 0);
    cr_expect(t[2].ids == NULL);
    cr_assert_eq(swd_get_info(&info, ctx), SWD_OK, "%s", swd_message(ctx));
    cr_expect(strcmp(info.family, "FluxPipeline") == 0 && info.size_multiple == 4 &&
              info.width == 256 && info.latent_channels == 4);
    bool told = false;
    for (int i = 0; i < info.n_components; i++)
        told |= strstr(info.components[i].summary, "1 double and 1 single blocks") != NULL;
    cr_expect(told);
    swd_close(&ctx);
    // without the index the tokenizers tell
    unlink(in_folder("model_index.json"));
    ctx = open_folder(NULL, SWD_TEXT_ALL);
    cr_assert_eq(swd_tokenize(t, "a cat", 7, ctx), SWD_OK, "%s", swd_message(ctx));
    cr_expect(t[1].n == 7 && t[2].ids == NULL);
    swd_close(&ctx);
}

static void refused(swd_generate_params a, unsigned encoders, swd_status status, const char *part)
{
    swd_context *ctx = open_folder(NULL, encoders);
    cr_expect_eq(swd_generate(NULL, &a, ctx), status, "%s: %s", part, swd_message(ctx));
    cr_expect_not_null(strstr(swd_message(ctx), part), "%s: %s", part, swd_message(ctx));
    swd_close(&ctx);
}

Test(flux_pipeline, refusals)
{
    const char *const p[] = {"x"}, *scheduler = in_folder("scheduler"),
                      *config = path_in(scheduler, "scheduler_config.json");
    swd_generate_params a = sized(p, 1, 1, 16, 16), b = a;
    a.steps = b.steps = 1;
    b.negative = "blurry";
    refused(b, SWD_TEXT_ALL, SWD_ERR_ARGUMENT, "negative");
    b = a, b.width = 18;
    refused(b, SWD_TEXT_ALL, SWD_ERR_ARGUMENT, "multiples of 4");
    unlink(in_folder("tokenizer_2"));
    refused(a, SWD_TEXT_ALL, SWD_ERR_FILE, "--text-encoders clip_l");
    unlink(scheduler);
    cr_assert_eq(mkdir(scheduler, 0777), 0);
    write_text(config, "{\"use_karras_sigmas\":true}");
    refused(a, SWD_CLIP_L, SWD_ERR_UNSUPPORTED, "use_karras_sigmas");
    unlink(config);
    refused(a, SWD_CLIP_L, SWD_ERR_FILE, "scheduler_config.json");
}
