// SPDX-License-Identifier: MIT
// Whole requests on the emulated device, prompts to RGB8, through the public API: scale-wise and Euler trajectories, a picture to start
// from, adapters, the tiny autoencoder, against the CPU in float32 and against diffusers; the same bytes again and in any batch.
//
// docs/precision.md derives the tolerances: float32 5e-5 on latents and one of 255 on pixels, bf16 2^-8 sqrt(L) an evaluation, twice that
// a trajectory; L counts blocks, layers of the deepest text encoder and two ends.
#include "emu/control.h"
#include "io/safetensors.h"
#include "tiny_folder.h"
#include <math.h>

static const double FLOAT32 = 5e-5, EVALUATION = 0x1p-8;
enum {
    TINY_LAYERS = 3 + 2 + 2,
    FLUX_LAYERS = 2 + 2 + 2,
    EMOJI_LAYERS = 8 + 3 + 2,
    PIXELS_MAX = 128 * 128 * 3
};

static const char *const prompts[] = {"a red apple, 3d emoji", "a cat face", "green book", ""};

typedef struct outcome {
    int n, width, height;
    uint8_t *rgb; // [n, height, width, 3]
    safetensors *latents;
} outcome;

// With latents each stage is waited for; without, stages overlap on streams of their own.
static outcome run(swd_generate_params a, swd_open_params o, bool with_latents)
{
    outcome r = {0};
    swd_err err = {0};
    char file[] = "/tmp/swd-emu-XXXXXX";
    int fd = mkstemp(file);
    CHECK(fd >= 0, "no temporary file");
    close(fd);
    swd_result *result;
    swd_context *ctx = opened(&o);
    a.save_latents = with_latents ? file : NULL;
    CHECK(swd_generate(&result, &a, ctx) == SWD_OK, "%s", swd_message(ctx));
    CHECK(strncmp(result->device, o.device, strlen(o.device)) == 0, "%s", result->device);
    r.n = result->n_images;
    r.width = result->width;
    r.height = result->height;
    size_t bytes = (size_t)r.width * (size_t)r.height * 3;
    r.rgb = malloc(bytes * (size_t)r.n);
    for (int i = 0; i < r.n; i++) memcpy(r.rgb + bytes * (size_t)i, result->images[i].rgb, bytes);
    if (with_latents) OK(safetensors_open(&r.latents, file, "", &err), err);
    swd_result_free(&result);
    swd_close(&ctx);
    unlink(file);
    CHECK(emu_live_bytes() == 0, "%zu bytes of the device are left", emu_live_bytes());
    return r;
}

static void outcome_free(outcome *r)
{
    free(r->rgb);
    safetensors_close(&r->latents);
}

static double distance(const st_tensor *got, const st_tensor *want)
{
    CHECK(got && want && got->numel == want->numel, "latents of another size");
    double d = 0, n = 0;
    for (int64_t i = 0; i < want->numel; i++) {
        float x, y;
        memcpy(&x, got->data + 4 * i, 4);
        memcpy(&y, want->data + 4 * i, 4);
        d += ((double)x - y) * ((double)x - y), n += (double)y * y;
    }
    return sqrt(d / n);
}

static int worst_pixel(const outcome *a, const uint8_t *rgb)
{
    int worst = 0;
    for (int i = 0; i < a->n * a->width * a->height * 3; i++)
        if (abs(a->rgb[i] - rgb[i]) > worst) worst = abs(a->rgb[i] - rgb[i]);
    return worst;
}

static double mean_pixel(const outcome *a, const uint8_t *rgb)
{
    double sum = 0;
    int n = a->n * a->width * a->height * 3;
    for (int i = 0; i < n; i++) sum += abs(a->rgb[i] - rgb[i]);
    return sum / n;
}

static double latents_apart(const outcome *a, const outcome *b)
{
    return distance(safetensors_find(a->latents, "latents"),
                    safetensors_find(b->latents, "latents"));
}

// On the device in float32 and bf16, beside the CPU in float32. layers: L above.
static void beside_the_cpu(const char *what, const swd_generate_params *a, swd_open_params o,
                           int layers)
{
    double tolerance = 2 * EVALUATION * sqrt(layers);
    o.device = "cpu";
    o.precision = SWD_PRECISION_F32;
    outcome cpu = run(*a, o, true);
    o.device = "cuda";
    outcome f32 = run(*a, o, true);
    o.precision = SWD_PRECISION_AUTO; // bf16
    outcome bf16 = run(*a, o, true);
    double d32 = latents_apart(&f32, &cpu), d16 = latents_apart(&bf16, &cpu);
    int pixel = worst_pixel(&f32, cpu.rgb);
    double mean = mean_pixel(&bf16, cpu.rgb);
    printf("# %s: f32 %.1e of %.1e, pixel %d of 1; bf16 %.1e of %.1e, pixels %.2f\n", what, d32,
           FLOAT32, pixel, d16, tolerance, mean);
    CHECK(d32 <= FLOAT32 && pixel <= 1, "%s in f32: %g, a pixel %d apart", what, d32, pixel);
    CHECK(d16 <= tolerance && d16 > FLOAT32, "%s in bf16: %g", what, d16);
    outcome_free(&cpu);
    outcome_free(&f32);
    outcome_free(&bf16);
}

static void scalewise_request(swd_generate_params *a)
{
    static const int scales[] = {4, 6, 8};
    static const double sigmas[] = {1, 0.85, 0.6};
    a->scales = scales;
    a->sigmas = sigmas;
    a->n_scales = a->n_sigmas = 3;
}

static void scalewise(void)
{
    swd_generate_params a = request(prompts, 2);
    scalewise_request(&a);
    beside_the_cpu("scale-wise", &a, opening(tiny_model(), NULL, 0), TINY_LAYERS);
    if (only_small()) return;
    a.rng = SWD_RNG_TORCH;
    a.width = 96;
    a.height = 48;
    beside_the_cpu("scale-wise, wide, torch's noise", &a, opening(tiny_model(), NULL, 0),
                   TINY_LAYERS);
}

static void euler(void)
{
    swd_generate_params a = request(prompts, 2);
    a.sampler = SWD_SAMPLER_EULER;
    a.steps = 3;
    a.guidance = 4;
    a.negative = "blurry";
    a.batch = 1;
    beside_the_cpu("euler with guidance", &a, opening(tiny_model(), NULL, 0), TINY_LAYERS);
}

static void init_picture(void)
{
    swd_generate_params a = request(prompts, 1);
    scalewise_request(&a);
    a.init = in_source("tests/goldens/pipeline/init.png");
    a.strength = 0.9;
    beside_the_cpu("a start from a picture", &a, opening(tiny_model(), NULL, 0), TINY_LAYERS);
}

static void adapters(void)
{
    swd_lora loras[2] = {{in_source("tests/goldens/pipeline/lora_peft"), 1},
                         {in_source("tests/goldens/pipeline/lora_diffusers"), -1.25f}};
    char model[1024];
    snprintf(model, sizeof model, "%s", in_source("weights/emoji"));
    swd_open_params o = opening(model, NULL, 0);
    o.loras = loras;
    o.n_loras = 2;
    swd_generate_params a = request(prompts, 1);
    scalewise_request(&a);
    a.width = a.height = 32;
    beside_the_cpu("two adapters", &a, o, EMOJI_LAYERS);
}

// diffusers' own run: latents of every step, pixels of the tiny autoencoder.
static void golden(void)
{
    swd_err err = {0};
    safetensors *want = NULL;
    char model[1024], tiny[1024];
    snprintf(model, sizeof model, "%s", in_source("weights/emoji"));
    snprintf(tiny, sizeof tiny, "%s", in_source("tests/goldens/pipeline/tiny_vae"));
    OK(safetensors_open(&want, in_source("tests/goldens/pipeline/vae_tiny.safetensors"), "", &err),
       err);
    swd_generate_params a = request(prompts, 1);
    a.seed = 7;
    a.rng = SWD_RNG_TORCH;
    a.preset = "sd3.5-medium-6";
    a.max_tokens = 16;
    swd_open_params o = opening(model, "cuda", SWD_PRECISION_F32);
    o.vae_tiny = tiny;
    outcome got = run(a, o, true);
    for (int i = 0; i < safetensors_count(want); i++) {
        const st_tensor *t = safetensors_at(want, i);
        if (t->dtype != SWD_F32) continue;
        double d = distance(safetensors_find(got.latents, t->name), t);
        printf("# golden %s: %.1e of %.1e\n", t->name, d, FLOAT32);
        CHECK(d <= FLOAT32, "%s: %g", t->name, d);
    }
    const st_tensor *rgb = safetensors_find(want, "rgb");
    CHECK(rgb && rgb->numel <= PIXELS_MAX && worst_pixel(&got, rgb->data) <= 1, "pixels differ");
    safetensors_close(&want);
    outcome_free(&got);
}

// Image j of a call has seed + j: whatever is beside it in its batch, its bytes are those of a call of its own.
static void any_batch(void)
{
    swd_open_params o = opening(tiny_model(), "cuda", SWD_PRECISION_AUTO);
    swd_generate_params a = request(prompts, 3);
    a.width = a.height = only_small() ? 16 : 32;
    for (int guided = 0; guided < 2; guided++) {
        if (!guided) scalewise_request(&a);
        a.sampler = guided ? SWD_SAMPLER_EULER : SWD_SAMPLER_SCALEWISE;
        if (guided) a.scales = NULL, a.sigmas = NULL, a.n_scales = a.n_sigmas = 0, a.steps = 2;
        if (guided) a.guidance = 3;
        a.batch = 3;
        outcome all = run(a, o, true);
        size_t bytes = (size_t)all.width * (size_t)all.height * 3;
        for (int batch = 1; batch < 3; batch++) {
            a.batch = batch;
            outcome cut = run(a, o, false);
            CHECK(memcmp(cut.rgb, all.rgb, 3 * bytes) == 0, "batches of %d differ from one of 3",
                  batch);
            outcome_free(&cut);
        }
        swd_generate_params one = a; // another prompt beside it, or none
        one.prompts = &prompts[2];
        one.n_prompts = 1;
        one.seed = a.seed + 2;
        outcome alone = run(one, o, false);
        CHECK(memcmp(alone.rgb, all.rgb + 2 * bytes, bytes) == 0, "the third image differs alone");
        outcome_free(&alone);
        outcome_free(&all);
    }
}

// The folder of tests/goldens/flux with the bundled model's tokenizers.
static void link_flux(const char *folder)
{
    static const char *const parts[][2] = {{"model_index.json", "flux/model/model_index.json"},
                                           {"scheduler", "flux/model/scheduler"},
                                           {"text_encoder", "flux/model/text_encoder"},
                                           {"text_encoder_2", "flux/model/text_encoder_2"},
                                           {"transformer", "flux/model/transformer"},
                                           {"vae", "flux/model/vae"},
                                           {"tokenizer", "../../weights/emoji/tokenizer"},
                                           {"tokenizer_2", "../../weights/emoji/tokenizer_3"}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char to[1200], target[128], *from;
        snprintf(target, sizeof target, "tests/goldens/%s", parts[i][1]);
        snprintf(to, sizeof to, "%s/%s", folder, parts[i][0]);
        CHECK((from = realpath(in_source(target), NULL)) && symlink(from, to) == 0, "%s", to);
        free(from);
    }
}

// Both samplers; what is recorded as graphs is what runs step by step.
static void flux(void)
{
    char folder[] = "/tmp/swd-emu-flux-XXXXXX", command[64];
    CHECK(mkdtemp(folder), "no temporary folder");
    link_flux(folder);
    swd_generate_params a = request(prompts, 4);
    swd_open_params o = opening(folder, "cuda", SWD_PRECISION_F32);
    a.width = 24;
    a.height = 16;
    a.batch = 1;
    scalewise_request(&a);
    beside_the_cpu("FLUX, scale-wise", &a, o, FLUX_LAYERS);
    outcome looked_at = run(a, o, true), recorded = run(a, o, false);
    CHECK(memcmp(recorded.rgb, looked_at.rgb, 4 * 24 * 16 * 3) == 0, "graphs give other bytes");
    outcome_free(&looked_at);
    outcome_free(&recorded);
    a = request(prompts, 1);
    a.width = 12;
    a.height = 20;
    a.steps = 2;
    beside_the_cpu("FLUX, euler", &a, o, FLUX_LAYERS);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    CHECK(system(command) == 0, "%s stays", folder);
}

// Threads of the host write pictures while the device draws the next: the same files as one stage after the other gives.
static void files(void)
{
    char folder[] = "/tmp/swd-emu-XXXXXX", pattern[64], command[256];
    CHECK(mkdtemp(folder), "no temporary folder");
    swd_generate_params a = request(prompts, 4);
    swd_open_params o = opening(tiny_model(), "cuda", 0);
    scalewise_request(&a);
    a.batch = 1;
    a.output = pattern;
    for (int overlapped = 0; overlapped < 2; overlapped++) {
        snprintf(pattern, sizeof pattern, "%s/%d-%%d.png", folder, overlapped);
        outcome r = run(a, o, !overlapped);
        outcome_free(&r);
    }
    for (int i = 0; i < 4; i++) {
        snprintf(command, sizeof command, "cmp %s/0-%d.png %s/1-%d.png", folder, i, folder, i);
        CHECK(system(command) == 0, "%s", command);
    }
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0, "%s stays", folder);
}

int main(int argc, char **argv)
{
    static const tap_test tests[] = {
        {"scalewise", scalewise}, {"euler", euler}, {"init_picture", init_picture},
        {"any_batch", any_batch}, {"flux", flux},   {"files", files},
        {"adapters", adapters}, // the last two are not small
        {"golden", golden},
    };
    int n = sizeof tests / sizeof *tests;
    return tap_run(tests, only_small() ? n - 2 : n, argc, argv);
}
