// SPDX-License-Identifier: MIT
/* swd eval: pictures, made here or before, in numbers and as a page. */
#include "commands.h"
#include "files.h"
#include "live.h"
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <swd/eval.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct eval_call {
    options *o;
    file_list pictures, reference;
    prompt_list list;
    const char **prompts; /* [pictures.n]; NULL: those in the files */
    const char **pairs;   /* [pictures.n] */
    char *scales;         /* folder; NULL: none */
    swd_context *ctx;
} eval_call;

/* ---- making them ---- */

static bool join(char **out, const char *folder, const char *name)
{
    size_t n = strlen(folder) + strlen(name) + 2;
    *out = malloc(n);
    if (*out)
        snprintf(*out, n, "%s/%s", folder, name);
    else
        print_error("out of memory");
    return *out != NULL;
}

/* The guesses of an earlier call would stand among those of this one. A folder that is not there yet has none. */
static bool remove_guesses(const char *folder)
{
    DIR *d = opendir(folder);
    bool ok = d || errno == ENOENT;
    for (struct dirent *e; ok && d && (e = readdir(d));)
        if (fnmatch("image-*-step-*.png", e->d_name, 0) == 0)
            ok = unlinkat(dirfd(d), e->d_name, 0) == 0;
    if (!ok)
        print_error("%s: what an earlier call left cannot be removed: %s", folder, strerror(errno));
    if (d) closedir(d);
    return ok;
}

/* Into the folder of --output as 00000.png, ..., and for a page the guesses of every step into its folder "scales". */
static int make_pictures(eval_call *c)
{
    options *o = c->o;
    swd_generate_params *g = &o->generate;
    const char *folder = o->output ? o->output : "eval";
    char *pattern = NULL;
    swd_result *r = NULL;
    if (strchr(folder, '%')) {
        print_error("%s: give a folder whose name has no %%", folder);
        return EXIT_USAGE;
    }
    if (mkdir(folder, 0777) != 0 && errno != EEXIST) {
        print_error("%s: the folder cannot be made: %s", folder, strerror(errno));
        return EXIT_FAILED;
    }
    bool ok = join(&pattern, folder, "%05d.png");
    ok = ok && (!o->html || (join(&c->scales, folder, "scales") && remove_guesses(c->scales)));
    int status = ok ? EXIT_DONE : EXIT_FAILED;
    if (ok) {
        g->prompts = (const char *const *)c->list.items;
        g->n_prompts = c->list.n;
        g->output = pattern;
        g->save_scales = c->scales;
        g->drop_pixels = 1;
        g->random_seed = 0; /* the same pictures each time */
        swd_status s = swd_generate(&r, g, c->ctx);
        if (s != SWD_OK) status = fail_with(s, c->ctx);
    }
    for (int i = 0; r && i < r->n_images && status == EXIT_DONE; i++)
        if (!files_add(&c->pictures, r->images[i].file, is_picture)) status = EXIT_FAILED;
    swd_result_free(&r);
    free(pattern);
    return status;
}

/* ---- what belongs to them ---- */

static int assign_prompts(eval_call *c)
{
    int n = c->pictures.n, lines = c->list.n;
    if (n < 1 || lines < 1) return EXIT_DONE;
    if (n % lines != 0) {
        print_error("%d pictures for %d prompts; give as many, or a multiple (in the order of "
                    "their names)",
                    n, lines);
        return EXIT_USAGE;
    }
    c->prompts = calloc((size_t)n, sizeof(*c->prompts));
    if (!c->prompts) {
        print_error("out of memory");
        return EXIT_FAILED;
    }
    for (int i = 0; i < n; i++) c->prompts[i] = c->list.items[i / (n / lines)];
    return EXIT_DONE;
}

/* By the name, its folder and suffix aside. */
static int by_stem(const void *a, const void *b)
{
    const char *x = file_name(*(const char *const *)a), *y = file_name(*(const char *const *)b),
               *dot_x = strrchr(x, '.'), *dot_y = strrchr(y, '.');
    size_t nx = dot_x ? (size_t)(dot_x - x) : strlen(x),
           ny = dot_y ? (size_t)(dot_y - y) : strlen(y);
    int order = strncmp(x, y, nx < ny ? nx : ny);
    return order ? order : (nx > ny) - (nx < ny);
}

static int assign_pairs(eval_call *c)
{
    int n = c->pictures.n, m = c->reference.n;
    if (n < 1 || m < 1) return EXIT_DONE;
    const char **sorted = calloc((size_t)m, sizeof(*sorted));
    c->pairs = calloc((size_t)n, sizeof(*c->pairs));
    if (!c->pairs || !sorted) {
        print_error("out of memory");
        free((void *)sorted);
        return EXIT_FAILED;
    }
    memcpy((void *)sorted, c->reference.items, (size_t)m * sizeof(*sorted));
    qsort((void *)sorted, (size_t)m, sizeof(*sorted), by_stem);
    for (int i = 0; i < n; i++) {
        const char **found = bsearch(&c->pictures.items[i], (const void *)sorted, (size_t)m,
                                     sizeof(*sorted), by_stem);
        c->pairs[i] = found ? *found : NULL;
    }
    free((void *)sorted);
    return EXIT_DONE;
}

/* ---- results ---- */

static json_t *number(double v)
{
    return isnan(v) ? json_null() : json_real(v);
}

static json_t *eval_json(const swd_eval *e)
{
    json_t *metrics = json_object(), *images = json_array();
    for (int i = 0; i < e->n_metrics; i++) {
        const swd_metric *m = &e->metrics[i];
        json_object_set_new(metrics, m->name,
                            json_pack("{s:f, s:[f,f], s:i}", "value", m->value, "interval", m->low,
                                      m->high, "pictures", m->n));
    }
    for (int i = 0; i < e->n_images; i++) {
        const swd_eval_image *m = &e->images[i];
        json_array_append_new(images,
                              json_pack("{s:s, s:s?, s:o, s:o, s:o, s:o}", "file", m->file,
                                        "prompt", m->prompt, "score", number(m->score), "rank",
                                        m->rank < 0 ? json_null() : json_integer(m->rank), "psnr",
                                        number(m->psnr), "ssim", number(m->ssim)));
    }
    return json_pack("{s:s, s:i, s:s, s:s, s:i, s:i, s:i, s:o, s:o}", "features", e->features,
                     "dimensions", e->dim, "device", e->device, "precision", e->precision,
                     "pictures", e->n_images, "prompts", e->n_prompts, "reference", e->n_reference,
                     "metrics", metrics, "images", images);
}

static void print_table(const swd_eval *e)
{
    printf("%d pictures, %d different prompts, %d in the reference\nfeatures: %d numbers of %s, "
           "%s\n\n",
           e->n_images, e->n_prompts, e->n_reference, e->dim, e->features, e->precision);
    printf("%-20s %10s   %-24s %8s  %s\n", "metric", "value", "95 %", "pictures", "better");
    for (int i = 0; i < e->n_metrics; i++) {
        const swd_metric *m = &e->metrics[i];
        char interval[48];
        snprintf(interval, sizeof(interval), "%.4g to %.4g", m->low, m->high);
        printf("%-20s %10.4g   %-24s %8d  %s\n", m->name, m->value, interval, m->n,
               m->better > 0   ? "more"
               : m->better < 0 ? "less"
                               : "");
    }
}

static int report(const eval_call *c, const swd_eval *e)
{
    const options *o = c->o;
    swd_gallery_params g;
    swd_gallery_params_default(&g);
    g.title = o->title;
    g.scales = c->scales;
    print_note(swd_note(c->ctx));
    if (o->html) {
        swd_status s = swd_eval_write_html(o->html, e, &g, c->ctx);
        if (s != SWD_OK) return fail_with(s, c->ctx);
    }
    if (o->json) return json_print(eval_json(e), false);
    print_table(e);
    return EXIT_DONE;
}

static int measure(eval_call *c)
{
    swd_eval_params a;
    swd_eval *e = NULL;
    swd_eval_params_default(&a);
    a.features = c->o->features;
    a.images = (const char *const *)c->pictures.items;
    a.n_images = c->pictures.n;
    a.prompts = c->prompts;
    a.reference = (const char *const *)c->reference.items;
    a.n_reference = c->reference.n;
    a.pairs = c->pairs;
    if (c->o->resamples >= 0) a.resamples = c->o->resamples;
    a.seed = c->o->generate.seed;
    swd_status s = swd_eval_measure(&e, &a, c->ctx);
    int status = s == SWD_OK ? report(c, e) : fail_with(s, c->ctx);
    swd_eval_free(&e);
    return status;
}

/* ---- the call ---- */

/* Pictures from the command line, prompts and the reference; whether pictures are there tells what is done. */
static int gather(eval_call *c)
{
    const options *o = c->o;
    bool ok = true;
    for (int i = 0; i < o->n_arguments && ok; i++)
        ok = files_add(&c->pictures, o->arguments[i], is_picture);
    if (ok && o->images) ok = files_add(&c->pictures, o->images, is_picture);
    if (ok && o->reference) ok = files_add(&c->reference, o->reference, is_picture);
    if (!ok) return EXIT_FAILED;
    if ((o->n_arguments || o->images) && !c->pictures.n) {
        print_error("no picture (.jpg, .png) there");
        return EXIT_FAILED;
    }
    if (o->reference && !c->reference.n) {
        print_error("%s: no picture (.jpg, .png) there", o->reference);
        return EXIT_FAILED;
    }
    if (!c->pictures.n && !o->prompts_file) {
        print_error("no pictures and no prompts; try: swd eval FOLDER, or swd eval --prompts FILE");
        return EXIT_USAGE;
    }
    if (o->prompts_file && !prompts_read(&c->list, o->prompts_file)) return EXIT_FAILED;
    return EXIT_DONE;
}

int command_eval(options *o)
{
    eval_call c = {.o = o};
    live l;
    int status = gather(&c);
    if (status == EXIT_DONE) {
        swd_status s = swd_open(&c.ctx, &o->open);
        live_begin(&l, c.ctx);
        if (s != SWD_OK) status = fail_with(s, c.ctx);
        if (status == EXIT_DONE && !c.pictures.n) status = make_pictures(&c);
        if (status == EXIT_DONE) status = assign_prompts(&c);
        if (status == EXIT_DONE) status = assign_pairs(&c);
        if (status == EXIT_DONE) status = measure(&c);
        live_end(&l);
    }
    swd_close(&c.ctx);
    files_free(&c.pictures);
    files_free(&c.reference);
    prompts_free(&c.list);
    free((void *)c.prompts);
    free((void *)c.pairs);
    free(c.scales);
    return status;
}
