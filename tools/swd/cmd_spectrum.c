// SPDX-License-Identifier: MIT
/* swd spectrum: from pictures or latents to spectra, and from these to a schedule. */
#include "commands.h"
#include "files.h"
#include "live.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <swd/eval.h>
#include <unistd.h>

static const char *const preset_name = "spectrum";

static json_t *numbers(const double *v, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(list, json_real(v[i]));
    return list;
}

/* {"scales": [...], "sigmas": [..., 0]} as swd.json has it */
static json_t *schedule_json(const swd_spectrum *s)
{
    json_t *scales = json_array(), *sigmas = json_array();
    for (int k = 0; k < s->n_steps; k++) {
        json_array_append_new(scales, json_integer(s->steps[k].side));
        json_array_append_new(sigmas, json_real(s->steps[k].sigma));
    }
    json_array_append_new(sigmas, json_real(0));
    return json_pack("{s:o, s:o}", "scales", scales, "sigmas", sigmas);
}

static json_t *spectrum_json(const swd_spectrum *s)
{
    json_t *scales = json_array(), *steps = json_array();
    for (int i = 0; i < s->n_scales; i++)
        json_array_append_new(scales,
                              json_pack("{s:i, s:f, s:f}", "side", s->scales[i].side, "nyquist",
                                        s->scales[i].nyquist, "sigma", s->scales[i].sigma));
    for (int k = 0; k < s->n_steps; k++)
        json_array_append_new(steps,
                              json_pack("{s:i, s:f, s:f}", "side", s->steps[k].side, "sigma",
                                        s->steps[k].sigma, "masked_from", s->steps[k].masked_from));
    return json_pack("{s:i, s:i, s:[i,i], s:o, s:o, s:o, s:o, s:o, s:o}", "pictures", s->n_pictures,
                     "channels", s->channels, "size", s->width, s->height, "frequency",
                     numbers(s->frequency, s->n_bins), "power", numbers(s->power, s->n_bins),
                     "masking_sigma", numbers(s->sigma, s->n_bins), "scales", scales, "steps",
                     steps, "schedule", schedule_json(s));
}

/* Into swd.json, whose other keys stay. */
static bool write_preset(const char *path, const swd_spectrum *s)
{
    json_error_t why;
    json_t *j = NULL;
    if (access(path, F_OK) == 0) {
        j = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
        if (!json_is_object(j)) {
            print_error("%s: %s; it is left as it is", path, j ? "not an object" : why.text);
            json_decref(j);
            return false;
        }
    } else {
        j = json_object();
    }
    json_t *presets = json_object_get(j, "presets");
    if (!json_is_object(presets)) {
        presets = json_object();
        json_object_set_new(j, "presets", presets);
    }
    json_object_set_new(presets, preset_name, schedule_json(s));
    json_object_set_new(j, "default", json_string(preset_name));
    return json_write(path, j);
}

static void print_table(const swd_spectrum *s)
{
    printf("%d pictures, latents %dx%d, %d channels\n\n", s->n_pictures, s->width, s->height,
           s->channels);
    printf("%6s %10s %22s\n", "side", "boundary", "suffices from sigma");
    for (int i = 0; i < s->n_scales; i++)
        printf("%6d %10.4f %22.3f\n", s->scales[i].side, s->scales[i].nyquist, s->scales[i].sigma);
    printf("\nproposed schedule\n%6s %10s %22s\n", "side", "sigma", "noise masks beyond");
    for (int k = 0; k < s->n_steps; k++)
        printf("%6d %10.4f %22.4f\n", s->steps[k].side, s->steps[k].sigma, s->steps[k].masked_from);
    printf("\n  --scales ");
    for (int k = 0; k < s->n_steps; k++) printf("%s%d", k ? "," : "", s->steps[k].side);
    printf(" --sigmas ");
    for (int k = 0; k < s->n_steps; k++) printf("%s%.6g", k ? "," : "", s->steps[k].sigma);
    printf("\n");
}

/* NAME.json, NAME.csv, NAME.svg */
static int write_files(const char *name, const swd_spectrum *s, swd_context *ctx)
{
    static const char *const suffixes[] = {".json", ".csv", ".svg"};
    size_t n = strlen(name) + 8;
    char *path = malloc(n);
    if (!path) {
        print_error("out of memory");
        return EXIT_FAILED;
    }
    int status = EXIT_DONE;
    for (int i = 0; i < 3 && status == EXIT_DONE; i++) {
        snprintf(path, n, "%s%s", name, suffixes[i]);
        if (i == 0) {
            status = json_write(path, spectrum_json(s)) ? EXIT_DONE : EXIT_FAILED;
        } else {
            swd_status w = swd_spectrum_write(path, s, ctx);
            if (w != SWD_OK) status = fail_with(w, ctx);
        }
    }
    free(path);
    return status;
}

static int report(const options *o, const swd_spectrum *s, swd_context *ctx)
{
    print_note(swd_note(ctx));
    int status = o->output ? write_files(o->output, s, ctx) : EXIT_DONE;
    if (status == EXIT_DONE && o->write && !write_preset(o->write, s)) status = EXIT_FAILED;
    if (status != EXIT_DONE) return status;
    if (o->json) return json_print(spectrum_json(s), false);
    print_table(s);
    return EXIT_DONE;
}

static int measure(const options *o, const swd_spectrum_params *a)
{
    swd_context *ctx = NULL;
    swd_spectrum *s = NULL;
    live l;
    swd_status status = swd_open(&ctx, &o->open);
    live_begin(&l, ctx);
    if (status == SWD_OK) status = swd_spectrum_measure(&s, a, ctx);
    live_end(&l);
    int e = status == SWD_OK ? report(o, s, ctx) : fail_with(status, ctx);
    swd_spectrum_free(&s);
    swd_close(&ctx);
    return e;
}

int command_spectrum(options *o)
{
    file_list pictures = {0}, latents = {0};
    const swd_generate_params *g = &o->generate;
    bool ok = true;
    if (!o->n_arguments) {
        print_error("no pictures; try: swd spectrum FOLDER, or see swd spectrum --help");
        return EXIT_USAGE;
    }
    if (g->width != g->height) {
        print_error("--size %dx%d: spectra are of squares", g->width, g->height);
        return EXIT_USAGE;
    }
    for (int i = 0; i < o->n_arguments && ok; i++) {
        int before = pictures.n + latents.n;
        ok = files_add(&pictures, o->arguments[i], is_picture) &&
             files_add(&latents, o->arguments[i], is_latents);
        if (ok && pictures.n + latents.n == before) {
            print_error("%s: no picture (.jpg, .png) and no latents (.safetensors)",
                        o->arguments[i]);
            ok = false;
        }
    }
    swd_spectrum_params a;
    swd_spectrum_params_default(&a);
    a.images = (const char *const *)pictures.items;
    a.n_images = pictures.n;
    a.latents = (const char *const *)latents.items;
    a.n_latents = latents.n;
    a.side = g->width;
    a.scales = g->scales;
    a.n_scales = g->n_scales;
    a.sigmas = g->sigmas;
    a.n_sigmas = g->n_sigmas;
    a.scale_multiple = o->scale_multiple;
    a.scale_min = o->scale_min;
    int status = ok ? measure(o, &a) : EXIT_FAILED;
    files_free(&pictures);
    files_free(&latents);
    return status;
}
