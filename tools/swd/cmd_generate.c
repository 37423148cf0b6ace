// SPDX-License-Identifier: MIT
#include "commands.h"
#include "live.h"
#include "make_dataset.h"
#include "together.h"
#include <stdio.h>

/* Loading left out. */
static double images_per_s(const swd_result *r)
{
    double s = (r->total_ms - r->load_ms) * 1e-3;
    return s > 0 ? r->n_images / s : 0;
}

static json_t *result_json(const swd_result *r, const char *const *prompts)
{
    json_t *images = json_array(), *scales = json_array(), *sigmas = json_array(),
           *steps = json_array();
    for (int i = 0; i < r->n_images; i++) {
        const swd_image *m = &r->images[i];
        json_array_append_new(images,
                              json_pack("{s:s?, s:I, s:s, s:i, s:i}", "file", m->file, "seed",
                                        (json_int_t)m->seed, "prompt", prompts[m->prompt], "width",
                                        m->width, "height", m->height));
    }
    for (int k = 0; k < r->n_steps; k++) {
        json_array_append_new(
            scales, json_pack("[i, i]", r->steps[k].latent_width, r->steps[k].latent_height));
        json_array_append_new(sigmas, json_real(r->steps[k].sigma));
        json_array_append_new(steps, json_real(r->steps[k].ms));
    }
    json_array_append_new(sigmas, json_real(0.0));
    return json_pack("{s:o, s:s, s:s, s:[i,i], s:o, s:o, s:f, s:f, s:i, s:I, s:s, s:s, s:{s:f, "
                     "s:f, s:o, s:f, s:f, s:f, s:f}, s:{s:f, s:f}, s:f, s:I}",
                     "images", images, "preset", r->preset, "sampler",
                     r->sampler == SWD_SAMPLER_EULER ? "euler" : "scalewise", "size", r->width,
                     r->height, "sizes", scales, "sigmas", sigmas, "guidance", r->guidance, "shift",
                     r->shift, "max_tokens", r->max_tokens, "seed", (json_int_t)r->seed, "device",
                     r->device, "precision", r->precision, "milliseconds", "load", r->load_ms,
                     "text", r->text_ms, "denoise", steps, "denoise_total", r->denoise_ms, "decode",
                     r->decode_ms, "write", r->write_ms, "total", r->total_ms, "latency_ms", "p50",
                     r->latency_p50_ms, "p90", r->latency_p90_ms, "images_per_second",
                     images_per_s(r), "peak_memory_bytes", (json_int_t)r->peak_memory_bytes);
}

static int report(const options *o, const swd_result *r)
{
    if (!together_speaks()) return EXIT_DONE;
    print_note(r->note);
    if (o->generate.random_seed) fprintf(stderr, "swd: seed %llu\n", (unsigned long long)r->seed);
    if (o->json) return json_print(result_json(r, o->generate.prompts), false);
    for (int i = 0; i < r->n_images; i++) printf("%s\n", r->images[i].file);
    if (r->n_images > 1)
        fprintf(stderr, "swd: %d pictures, %.3g a second; each took %.0f ms (p50), %.0f ms (p90)\n",
                r->n_images, images_per_s(r), r->latency_p50_ms, r->latency_p90_ms);
    return EXIT_DONE;
}

/* Nothing is said about model or sampling: the bundled model draws as its student. */
static bool wants_student(const options *o)
{
    const swd_generate_params *g = &o->generate;
    return !o->open.model && !o->open.n_loras && !o->dataset && g->sampler != SWD_SAMPLER_EULER &&
           !g->preset && !g->n_scales && !g->n_sigmas && !g->steps && g->guidance < 0 &&
           g->shift <= 0 && g->rng != SWD_RNG_TORCH && !g->negative && !g->init;
}

/* data: NULL, or the data set that is made. */
static int run(options *o, make_dataset *data)
{
    static char student[4096];
    swd_context *ctx = NULL;
    swd_result *r = NULL;
    live l;
    if (wants_student(o) && swd_default_student(student, sizeof student) == SWD_OK) {
        o->loras[0] = (swd_lora){.path = student, .scale = 1};
        o->open.loras = o->loras;
        o->open.n_loras = 1;
    }
    o->open.group = together();
    swd_status s = swd_open(&ctx, &o->open);
    live_begin(&l, ctx);
    if (data) {
        l.tick = make_dataset_tick;
        l.user = data;
    }
    if (s == SWD_OK) s = swd_generate(&r, &o->generate, ctx);
    live_end(&l);
    int status = s == SWD_OK ? report(o, r) : fail_with(s, ctx);
    swd_result_free(&r);
    swd_close(&ctx);
    return status;
}

/* What the JSON could not say afterwards: bytes that are no text, seeds beyond its integers. */
static int check(const options *o)
{
    const swd_generate_params *g = &o->generate;
    json_t *name = json_string(g->output);
    bool is_text = name != NULL;
    json_decref(name);
    if (o->json && !is_text) {
        print_error("--output: --json needs a file name in UTF-8");
        return EXIT_USAGE;
    }
    uint64_t images = (uint64_t)g->n_prompts * (uint64_t)g->count;
    if (!g->random_seed && g->seed > (uint64_t)INT64_MAX - (images - 1)) {
        print_error(
            "--seed %llu: seed + j of the last picture is beyond 2^63 - 1; give a smaller one",
            (unsigned long long)g->seed);
        return EXIT_USAGE;
    }
    return EXIT_DONE;
}

/* With --dataset: a fixed seed unless one is given, so that what is left out now can be made later. */
static int run_dataset(options *o)
{
    make_dataset m;
    if (o->generate.random_seed) {
        o->generate.random_seed = 0;
        o->generate.seed = 0;
    }
    int status = make_dataset_begin(&m, o->dataset, o->output, &o->generate);
    if (status == EXIT_DONE) status = run(o, &m);
    if (!make_dataset_end(&m) && status == EXIT_DONE) status = EXIT_FAILED;
    return status;
}

int command_generate(options *o)
{
    prompt_list list = {0};
    swd_generate_params *g = &o->generate;
    if (o->prompts_file && o->n_arguments) {
        print_error("prompts come from --prompts or from the command line, not from both");
        return EXIT_USAGE;
    }
    if (!o->prompts_file && !o->n_arguments) {
        print_error("no prompt; try: swd generate \"a red apple, 3d emoji\"");
        return EXIT_USAGE;
    }
    if (o->strength_given && !g->init) {
        print_error("--strength needs --init IMAGE");
        return EXIT_USAGE;
    }
    if (o->prompts_file && !prompts_read(&list, o->prompts_file)) {
        prompts_free(&list);
        return EXIT_FAILED;
    }
    g->prompts = o->prompts_file ? (const char *const *)list.items : o->arguments;
    g->n_prompts = o->prompts_file ? list.n : o->n_arguments;
    g->output = o->output ? o->output : "out.jpg";
    g->drop_pixels = 1;
    int status = check(o);
    if (status == EXIT_DONE) status = o->dataset ? run_dataset(o) : run(o, NULL);
    prompts_free(&list);
    return status;
}
