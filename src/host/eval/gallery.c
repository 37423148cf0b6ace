// SPDX-License-Identifier: MIT
/* An evaluation as one HTML file: style inside, pictures as data URIs, no scripts. */
#include "eval/gallery.h"
#include "base/memory.h"
#include "image/bicubic.h"
#include "image/image.h"
#include "image/jpeg.h"
#include "image/markup.h"
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE_MIN = 16, SIDE_MAX = 2048, STEP_SIDE = 96, STEPS_MAX = 1 << 20 };

/* A picture of save_scales: image-IIII-step-KK-WxH.png */
typedef struct step_file {
    int image, step, width, height;
} step_file;

typedef struct page {
    const swd_eval *e;
    const swd_gallery_params *a;
    markup m;
    step_file *steps; // sorted by image, then step
    size_t n_steps, capacity;
    swd_err *err;
} page;

/* ---- pictures ---- */

static swd_status put_picture(page *g, const char *file, int side, const char *attributes)
{
    image_rgb8 m = {0};
    uint8_t *small = NULL, *jpeg = NULL;
    size_t n = 0;
    SWD_TRY(image_read(&m, file, g->err), g->err);
    int w = m.width, h = m.height, longest = w > h ? w : h;
    swd_status s = SWD_OK;
    if (longest > side) {
        w = (int)fmax(1, round((double)w * side / longest));
        h = (int)fmax(1, round((double)h * side / longest));
        s = bicubic_resize(&small, w, h, m.rgb, m.width, m.height, g->err);
    }
    if (s == SWD_OK) s = jpeg_encode(&jpeg, &n, small ? small : m.rgb, w, h, NULL, g->err);
    if (s == SWD_OK) {
        fprintf(g->m.f, "<img width=\"%d\" height=\"%d\"%s src=\"", w, h, attributes);
        markup_data_uri(&g->m, "image/jpeg", jpeg, n);
        fputs("\">", g->m.f);
    }
    free(jpeg);
    free(small);
    image_free(&m);
    return s;
}

static int by_image(const void *a, const void *b)
{
    const step_file *x = a, *y = b;
    return x->image != y->image ? (x->image > y->image) - (x->image < y->image)
                                : (x->step > y->step) - (x->step < y->step);
}

static swd_status find_steps(page *g)
{
    DIR *d = opendir(g->a->scales);
    if (!d)
        return SWD_FAIL(g->err, SWD_ERR_FILE, "%s: cannot be read: %s", g->a->scales,
                        strerror(errno));
    swd_status s = SWD_OK;
    for (struct dirent *e; s == SWD_OK && (e = readdir(d)) && g->n_steps < STEPS_MAX;) {
        step_file f;
        int used = 0;
        if (sscanf(e->d_name, "image-%d-step-%d-%dx%d.png%n", &f.image, &f.step, &f.width,
                   &f.height, &used) != 4 ||
            !used || e->d_name[used] || f.image < 0)
            continue;
        s = swd_grow(&g->steps, &g->capacity, g->n_steps + 1, sizeof(*g->steps), "a gallery",
                     g->err);
        if (s == SWD_OK) g->steps[g->n_steps++] = f;
    }
    closedir(d);
    if (g->n_steps) qsort(g->steps, g->n_steps, sizeof(*g->steps), by_image);
    return s;
}

static swd_status put_steps(page *g, int image)
{
    size_t i = 0;
    while (i < g->n_steps && g->steps[i].image < image) i++;
    if (i == g->n_steps || g->steps[i].image != image) return SWD_OK;
    fputs("<div class=\"steps\">", g->m.f);
    for (; i < g->n_steps && g->steps[i].image == image; i++) {
        const step_file *f = &g->steps[i];
        char *file = NULL, attributes[160];
        snprintf(attributes, sizeof(attributes),
                 " alt=\"step %d\" title=\"step %d: %dx%d\" style=\"flex-grow:%d\"", f->step,
                 f->step, f->width, f->height, f->width);
        SWD_TRY(swd_asprintf(&file, g->err, "%s/image-%04d-step-%02d-%dx%d.png", g->a->scales,
                             f->image, f->step, f->width, f->height),
                g->err);
        swd_status s = put_picture(g, file, STEP_SIDE, attributes);
        free(file);
        SWD_TRY(s, g->err);
    }
    fputs("</div>", g->m.f);
    return SWD_OK;
}

/* ---- text ---- */

static void put_head(page *g)
{
    const char *title = g->a->title ? g->a->title : "swd eval";
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>",
          g->m.f);
    markup_text(&g->m, title);
    fputs("</title>\n<style>\n"
          ":root{color-scheme:light dark;--line:#8884;--quiet:#777;--good:#0a7d4f}\n"
          "*{box-sizing:border-box}\n"
          "body{font:15px/1.45 system-ui,'Segoe UI','DejaVu Sans',sans-serif;margin:0 auto;"
          "max-width:1200px;padding:16px}\n"
          "h1{font-size:22px;margin:4px 0}\np{margin:4px "
          "0;color:var(--quiet);overflow-wrap:anywhere}\n"
          ".wide{overflow-x:auto}\ntable{border-collapse:collapse;margin:14px 0}\n"
          "td,th{padding:4px 14px 4px 0;border-bottom:1px solid var(--line);text-align:right;"
          "white-space:nowrap}\ntd:first-child,th:first-child{text-align:left}\n"
          "main{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:14px}\n"
          "figure{margin:0;border:1px solid "
          "var(--line);border-radius:8px;padding:8px;overflow:hidden}\n"
          "figure>img{display:block;width:100%;height:auto;border-radius:4px}\n"
          "figcaption{font-size:13px;margin-top:6px;overflow-wrap:anywhere}\n"
          "small{display:block;color:var(--quiet);font-size:11px}\n.first{color:var(--good)}\n"
          ".steps{display:flex;align-items:flex-end;gap:2px;margin-top:6px}\n"
          ".steps img{flex:1 1 0;min-width:0;height:auto}\n"
          "summary{font-size:11px;color:var(--quiet);cursor:pointer}\n"
          "@media(max-width:480px){table{font-size:13px}td,th{padding-right:9px}}\n"
          "</style></head><body>\n<h1>",
          g->m.f);
    markup_text(&g->m, title);
    fputs("</h1>\n", g->m.f);
}

/* Of a path: where on a machine something lay is nothing for a page. */
static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static void put_metrics(page *g)
{
    const swd_eval *e = g->e;
    fprintf(g->m.f, "<p>%d pictures", e->n_images);
    if (e->n_prompts) fprintf(g->m.f, ", %d different prompts", e->n_prompts);
    if (e->n_reference) fprintf(g->m.f, ", %d in the reference", e->n_reference);
    fprintf(g->m.f, ". Features: %d numbers of ", e->dim);
    markup_text(&g->m, last_part(e->features));
    fputs(", ", g->m.f);
    markup_text(&g->m, e->precision);
    fputs(".</p>\n<div class=\"wide\"><table><tr><th>metric</th><th>value</th><th>95 %</th>"
          "<th>pictures</th><th>better</th></tr>\n",
          g->m.f);
    for (int i = 0; i < e->n_metrics; i++) {
        const swd_metric *v = &e->metrics[i];
        fputs("<tr><td>", g->m.f);
        markup_text(&g->m, v->name);
        fprintf(g->m.f, "</td><td>%.4g</td><td>%.4g to %.4g</td><td>%d</td><td>%s</td></tr>\n",
                v->value, v->low, v->high, v->n,
                v->better > 0   ? "more"
                : v->better < 0 ? "less"
                                : "");
    }
    fputs("</table></div>\n", g->m.f);
}

static swd_status put_figure(page *g, int i)
{
    const swd_eval_image *o = &g->e->images[i];
    fputs("<figure>", g->m.f);
    SWD_TRY(put_picture(g, o->file, g->a->side, " alt=\"\" loading=\"lazy\""), g->err);
    SWD_TRY(put_steps(g, i), g->err);
    fputs("<figcaption>", g->m.f);
    markup_text(&g->m, o->prompt ? o->prompt : last_part(o->file));
    if (!isnan(o->score))
        fprintf(g->m.f, "<small%s>cosine %.3f, rank %d of %d</small>",
                o->rank == 0 ? " class=\"first\"" : "", o->score, o->rank + 1, g->e->n_prompts);
    if (!isnan(o->psnr))
        fprintf(g->m.f, "<small>PSNR %.2f dB, SSIM %.4f</small>", o->psnr, o->ssim);
    if (o->settings) {
        fputs("<details><summary>settings</summary><small>", g->m.f);
        markup_text(&g->m, o->settings);
        fputs("</small></details>", g->m.f);
    }
    fputs("</figcaption></figure>\n", g->m.f);
    return SWD_OK;
}

static swd_status put_all(page *g)
{
    int n = g->e->n_images < g->a->pictures_max ? g->e->n_images : g->a->pictures_max;
    put_head(g);
    put_metrics(g);
    if (n < g->e->n_images) fprintf(g->m.f, "<p>The first %d pictures.</p>\n", n);
    fputs("<main>\n", g->m.f);
    for (int i = 0; i < n; i++) SWD_TRY(put_figure(g, i), g->err);
    fputs("</main>\n</body></html>\n", g->m.f);
    return SWD_OK;
}

swd_status gallery_write(const char *path, const swd_eval *e, const swd_gallery_params *a,
                         swd_err *err)
{
    page g = {.e = e, .a = a, .err = err};
    char *text = NULL;
    size_t n;
    if (a->side < SIDE_MIN || a->side > SIDE_MAX || a->pictures_max < 0)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a gallery of %d pictures of %d pixels; %d to %d",
                        a->pictures_max, a->side, SIDE_MIN, SIDE_MAX);
    if (a->scales) SWD_TRY(find_steps(&g), err);
    swd_status s = markup_begin(&g.m, err);
    if (s == SWD_OK) {
        s = put_all(&g);
        swd_status end = markup_end(&g.m, s == SWD_OK ? &text : NULL, &n, err);
        if (s == SWD_OK) s = end;
    }
    if (s == SWD_OK) s = image_write_bytes(path, text, n, err);
    free(text);
    free(g.steps);
    return s;
}
