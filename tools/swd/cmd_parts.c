// SPDX-License-Identifier: MIT
/* tokenize, encode, decode, info, presets. */
#include "commands.h"
#include <stdio.h>
#include <stdlib.h>

int json_print(json_t *j, bool compact)
{
    char *text = j ? json_dumps(j, compact ? JSON_COMPACT : JSON_INDENT(2)) : NULL;
    json_decref(j);
    if (!text) {
        print_error(
            "the result cannot be written as JSON: a string is not UTF-8, or memory is out");
        return EXIT_FAILED;
    }
    puts(text); /* main() looks whether that went well */
    free(text);
    return EXIT_DONE;
}

static json_t *tokens_json(const swd_tokens t[3])
{
    json_t *o = json_object();
    for (int i = 0; i < 3; i++) {
        if (!t[i].ids) continue;
        json_t *ids = json_array();
        for (int k = 0; k < t[i].n; k++) json_array_append_new(ids, json_integer(t[i].ids[k]));
        json_object_set_new(o, t[i].name, ids);
    }
    return o;
}

static int tokenize_all(const options *o, const char *const *prompts, int n)
{
    swd_context *ctx = NULL;
    swd_tokens tokens[3];
    int status = EXIT_DONE;
    swd_status s = swd_open(&ctx, &o->open);
    if (s != SWD_OK) status = fail_with(s, ctx);
    for (int i = 0; i < n && status == EXIT_DONE && !ferror(stdout); i++) {
        s = swd_tokenize(tokens, prompts[i], o->generate.max_tokens, ctx);
        status = s == SWD_OK ? json_print(tokens_json(tokens), true) : fail_with(s, ctx);
    }
    swd_close(&ctx);
    return status;
}

int command_tokenize(options *o)
{
    if (o->prompts_file ? o->n_arguments != 0 : o->n_arguments != 1) {
        print_error("swd tokenize takes one PROMPT, or --prompts FILE");
        return EXIT_USAGE;
    }
    if (!o->prompts_file) return tokenize_all(o, o->arguments, 1);
    prompt_list list;
    int status = EXIT_FAILED;
    if (prompts_read(&list, o->prompts_file))
        status = tokenize_all(o, (const char *const *)list.items, list.n);
    prompts_free(&list);
    return status;
}

typedef swd_status (*file_fn)(const char *out, const char *in, swd_context *ctx);

static int one_file(const options *o, file_fn fn, const char *usage)
{
    if (o->n_arguments != 1 || !o->output) {
        print_error("usage: %s", usage);
        return EXIT_USAGE;
    }
    swd_context *ctx = NULL;
    swd_status s = swd_open(&ctx, &o->open);
    if (s == SWD_OK) s = fn(o->output, o->arguments[0], ctx);
    int status = s == SWD_OK ? EXIT_DONE : fail_with(s, ctx);
    if (status == EXIT_DONE) print_note(swd_note(ctx));
    swd_close(&ctx);
    if (status == EXIT_DONE && o->json)
        return json_print(json_pack("{s:s}", "file", o->output), false);
    if (status == EXIT_DONE) printf("%s\n", o->output);
    return status;
}

int command_encode(options *o)
{
    return one_file(o, swd_encode_file, "swd encode [-m DIR] IMAGE -o LATENTS.safetensors");
}

int command_decode(options *o)
{
    return one_file(o, swd_decode_file, "swd decode [-m DIR] LATENTS.safetensors -o IMAGE.png");
}

/* ---- presets, info ---- */

static json_t *preset_json(const swd_preset *p)
{
    json_t *scales = json_array(), *sigmas = json_array();
    for (int k = 0; k < p->n_steps; k++) {
        json_array_append_new(scales, json_integer(p->scales[k]));
        json_array_append_new(sigmas, json_real(p->sigmas[k]));
    }
    json_array_append_new(sigmas, json_real(0.0));
    return json_pack("{s:s, s:s, s:o, s:o, s:f, s:i, s:b, s:s}", "name", p->name, "source",
                     p->source, "scales", scales, "sigmas", sigmas, "cost", p->cost, "max_tokens",
                     p->max_tokens, "default", p->is_default, "refused", p->refused);
}

static json_t *presets_json(swd_context *ctx)
{
    json_t *list = json_array();
    swd_preset p;
    for (int i = 0; swd_get_preset(&p, i, ctx) == SWD_OK; i++)
        json_array_append_new(list, preset_json(&p));
    return list;
}

static void print_presets(swd_context *ctx)
{
    swd_preset p;
    for (int i = 0; swd_get_preset(&p, i, ctx) == SWD_OK; i++) {
        printf("%s%s  (%s, %d steps, cost %.2f full-resolution steps", p.name,
               p.is_default ? " *" : "", p.source, p.n_steps, p.cost);
        if (p.max_tokens) printf(", max-tokens %d", p.max_tokens);
        printf(")\n  scales ");
        for (int k = 0; k < p.n_steps; k++) printf(" %d", p.scales[k]);
        printf("\n  sigmas ");
        for (int k = 0; k < p.n_steps; k++) printf(" %.6f", p.sigmas[k]);
        printf(" 0\n");
        if (p.refused[0]) printf("  not yet: %s\n", p.refused);
    }
}

int command_presets(options *o)
{
    swd_context *ctx = NULL;
    if (o->n_arguments) {
        print_error("swd presets takes no argument");
        return EXIT_USAGE;
    }
    bool of_model = o->open.model || o->open.n_loras;
    swd_status s = of_model ? swd_open(&ctx, &o->open) : SWD_OK;
    int status = EXIT_DONE;
    if (s != SWD_OK)
        status = fail_with(s, ctx);
    else if (o->json)
        status = json_print(presets_json(ctx), false);
    else
        print_presets(ctx);
    swd_close(&ctx);
    return status;
}

static int info_json(const swd_info *f, swd_context *ctx)
{
    json_t *parts = json_array();
    for (int i = 0; i < f->n_components; i++) {
        const swd_component *c = &f->components[i];
        json_array_append_new(
            parts,
            json_pack("{s:s, s:s, s:s, s:I, s:i, s:I, s:I, s:I, s:I}", "name", c->name, "class",
                      c->class_name, "summary", c->summary, "parameters", (json_int_t)c->parameters,
                      "files", c->n_files, "file_bytes", (json_int_t)c->file_bytes, "memory_f32",
                      (json_int_t)c->memory_f32, "memory_bf16", (json_int_t)c->memory_bf16,
                      "memory_loaded", (json_int_t)c->memory_loaded));
    }
    return json_print(
        json_pack("{s:s, s:s, s:[i,i], s:i, s:i, s:i, s:s, s:s, s:{s:I, s:I, s:I, s:I, s:I, s:I}, "
                  "s:{s:I, s:I, s:I, s:I}, s:o, s:o}",
                  "model", f->model, "family", f->family, "size", f->width, f->height,
                  "size_multiple", f->size_multiple, "latent_channels", f->latent_channels,
                  "vae_factor", f->vae_factor, "device", f->device, "precision", f->precision,
                  "plan", "all", (json_int_t)f->plan_all, "text", (json_int_t)f->plan_text,
                  "pictures", (json_int_t)f->plan_pictures, "denoise", (json_int_t)f->plan_denoise,
                  "decode", (json_int_t)f->plan_decode, "streamed", (json_int_t)f->plan_streamed,
                  "memory", "activations", (json_int_t)f->memory_activations, "peak",
                  (json_int_t)f->memory_peak, "device_free", (json_int_t)f->device_free,
                  "device_total", (json_int_t)f->device_total, "components", parts, "presets",
                  presets_json(ctx)),
        false);
}

/* What one picture takes on a device, in MB: everything at once, or in turns. */
static void print_plan(const swd_info *f)
{
    if (!f->plan_all) return;
    printf("one picture of %dx%d, weights and activations in MB\n", f->width, f->height);
    printf("  %-30s %12.1f\n", "everything there", (double)f->plan_all / 1e6);
    printf("  %-30s %12.1f\n", "--offload: text", (double)f->plan_text / 1e6);
    printf("  %-30s %12.1f\n", "--offload: denoise and decode", (double)f->plan_pictures / 1e6);
    printf("  %-30s %12.1f\n", "  in turns: denoise", (double)f->plan_denoise / 1e6);
    printf("  %-30s %12.1f\n", "  the same, streamed", (double)f->plan_streamed / 1e6);
    printf("  %-30s %12.1f\n", "  in turns: decode", (double)f->plan_decode / 1e6);
    printf("  %-30s %12.1f  of %.1f\n\n", "the device has free", (double)f->device_free / 1e6,
           (double)f->device_total / 1e6);
}

/* What the loaded networks and a picture take, in MB. */
static void print_memory(const swd_info *f)
{
    double sum = 0;
    for (int i = 0; i < f->n_components; i++) sum += (double)f->components[i].memory_loaded / 1e6;
    if (sum == 0) return;
    printf("%-18s %12s\n", "loaded", "memory, MB");
    for (int i = 0; i < f->n_components; i++)
        if (f->components[i].memory_loaded)
            printf("%-18s %12.1f\n", f->components[i].name,
                   (double)f->components[i].memory_loaded / 1e6);
    printf("%-18s %12.1f  one picture of %dx%d\n", "activations",
           (double)f->memory_activations / 1e6, f->width, f->height);
    printf("%-18s %12.1f\n", "peak", sum + (double)f->memory_activations / 1e6);
    if (f->device_total)
        printf("%-18s %12.1f  of %.1f, with what is loaded\n", "free", (double)f->device_free / 1e6,
               (double)f->device_total / 1e6);
    printf("\n");
}

static void print_info(const swd_info *f, swd_context *ctx)
{
    double mb[3] = {0};
    printf("%s\n  %s, %dx%d pixels (multiples of %d), %d latent channels, factor %d\n  %s, %s\n\n",
           f->model, f->family, f->width, f->height, f->size_multiple, f->latent_channels,
           f->vae_factor, f->device, f->precision);
    printf("%-18s %12s %6s %12s %12s %12s\n", "part", "parameters", "files", "on disk, MB",
           "f32, MB", "bf16, MB");
    for (int i = 0; i < f->n_components; i++) {
        const swd_component *c = &f->components[i];
        printf("%-18s %12lld %6d %12.1f %12.1f %12.1f  %s%s%s\n", c->name, (long long)c->parameters,
               c->n_files, (double)c->file_bytes / 1e6, (double)c->memory_f32 / 1e6,
               (double)c->memory_bf16 / 1e6, c->class_name, c->summary[0] ? ": " : "", c->summary);
        mb[0] += (double)c->file_bytes / 1e6;
        mb[1] += (double)c->memory_f32 / 1e6;
        mb[2] += (double)c->memory_bf16 / 1e6;
    }
    printf("%-18s %12s %6s %12.1f %12.1f %12.1f\n\n", "weights", "", "", mb[0], mb[1], mb[2]);
    print_memory(f);
    print_plan(f);
    print_presets(ctx);
}

int command_info(options *o)
{
    swd_context *ctx = NULL;
    swd_info *f = calloc(1, sizeof(*f));
    if (o->n_arguments || !f) {
        print_error("swd info takes no argument; name the model with -m DIR");
        free(f);
        return EXIT_USAGE;
    }
    swd_status s = swd_open(&ctx, &o->open);
    if (s == SWD_OK && o->device_given) s = swd_load(ctx); /* to measure what it takes there */
    if (s == SWD_OK) s = swd_get_info(f, ctx);
    int status = EXIT_DONE;
    if (s == SWD_OK) print_note(swd_note(ctx));
    if (s != SWD_OK)
        status = fail_with(s, ctx);
    else if (o->json)
        status = info_json(f, ctx);
    else
        print_info(f, ctx);
    swd_close(&ctx);
    free(f);
    return status;
}
