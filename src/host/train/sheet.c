// SPDX-License-Identifier: MIT
#include "train/sheet.h"
#include "base/memory.h"
#include "image/image.h"
#include "train/passes.h"
#include <string.h>

enum { COLUMNS = 8 };

typedef struct sampler {
    const sheet_setup *s;
    const distill *d;
    text_input text, empty;
    swd_exec *ex;
    noise_source *noise;
    float *latents; // the result, on the host
    int channels;
} sampler;

static const sample_step *last_step(const sheet_setup *s)
{
    return &s->steps[s->n_steps - 1];
}

static swd_status denoise(void *user, int step, swd_tensor velocity, swd_tensor latents)
{
    sampler *p = user;
    swd_exec *ex = p->ex;
    float sigma = p->s->steps[step].sigma, guidance = p->d->c.network_guidance;
    const denoiser *net = p->d->student.net;
    RUN(passes_run(velocity, tensor_none(), 0, latents, &sigma, &p->text, guidance, net, ex));
    if (p->s->guidance <= 1) return SWD_OK;
    size_t mark = exec_mark(ex);
    swd_tensor without = exec_alloc(ex, SWD_F32, velocity.shape, 4);
    RUN(passes_run(without, tensor_none(), 0, latents, &sigma, &p->empty, guidance, net, ex));
    RUN(op_guidance_combine(velocity, velocity, without, (float)p->s->guidance, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

// A step of the tape that records nothing: the student's layers take part, that is all.
static swd_status sample(void *ctx, tape *t, swd_exec *ex)
{
    sampler *p = ctx;
    const sheet_setup *s = p->s;
    sample_args a = {
        .steps = s->steps, .n_steps = s->n_steps, .noise = p->noise, .user = p, .denoise = denoise};
    p->ex = ex;
    tape_record(t, false);
    passes_use(t, &p->d->student, false);
    swd_tensor x0 = exec4(ex, SWD_F32, 1, p->channels, last_step(s)->height, last_step(s)->width);
    RUN(sample_prepare(&a, 1, ex));
    RUN(s->euler ? euler_sample(x0, &a, ex) : scalewise_sample(x0, &a, ex));
    if (ex->dry) return SWD_OK;
    RUN(ex->backend->download(ex->backend, p->latents, x0, ex->stream, ex->err));
    return ex->backend->synchronize(ex->backend, ex->stream, ex->err);
}

static void place(uint8_t *page, int columns, int i, const uint8_t *rgb, int height, int width)
{
    size_t row = (size_t)width * 3, page_row = row * (size_t)columns;
    uint8_t *to =
        page + (size_t)(i / columns) * (size_t)height * page_row + (size_t)(i % columns) * row;
    for (int y = 0; y < height; y++) memcpy(to + (size_t)y * page_row, rgb + (size_t)y * row, row);
}

static swd_status one_picture(uint8_t *rgb, sampler *p, int i, const text_input *text, swd_err *err)
{
    const sheet_setup *s = p->s;
    uint64_t seed = s->seed + (uint64_t)i;
    p->text = *text;
    p->text.context.data = (float *)s->context + i * tensor_numel(text->context);
    p->text.pooled.data = (float *)s->pooled + i * tensor_numel(text->pooled);
    noise_begin(p->noise, &seed, 1);
    SWD_TRY(tape_run(p->d->t, sample, p, p->d->act, err), err);
    return s->decode(s->user, rgb, p->latents, last_step(s)->height, last_step(s)->width, err);
}

static swd_status write_page(const char *path, sampler *p, const text_input *text, swd_err *err)
{
    const sheet_setup *s = p->s;
    int height = last_step(s)->height * s->factor, width = last_step(s)->width * s->factor;
    int columns = s->n < COLUMNS ? s->n : COLUMNS, rows = (s->n + columns - 1) / columns;
    size_t one = (size_t)height * (size_t)width * 3;
    uint8_t *rgb, *page = NULL;
    SWD_TRY(swd_malloc(&rgb, one, 1, "a sheet", err), err);
    swd_status st = swd_calloc(&page, one * (size_t)(columns * rows), 1, "a sheet", err);
    for (int i = 0; i < s->n && st == SWD_OK; i++) {
        st = one_picture(rgb, p, i, text, err);
        if (st == SWD_OK) place(page, columns, i, rgb, height, width);
    }
    if (st == SWD_OK) st = image_write(path, page, columns * width, rows * height, NULL, err);
    free(rgb);
    free(page);
    return st;
}

swd_status sheet_write(const char *path, const sheet_setup *s, const distill *d, int channels,
                       const text_input *text, swd_err *err)
{
    sampler p = {.s = s, .d = d, .channels = channels, .empty = *text};
    int64_t n = (int64_t)channels * last_step(s)->height * last_step(s)->width;
    p.empty.context.data = (void *)s->empty;
    p.empty.pooled.data = (void *)s->empty_pooled;
    SWD_TRY(swd_malloc(&p.latents, (size_t)n, sizeof *p.latents, "latents", err), err);
    swd_status st = noise_create(&p.noise, false, 1, n, err);
    if (st == SWD_OK) st = write_page(path, &p, text, err);
    noise_destroy(&p.noise);
    free(p.latents);
    return st;
}
