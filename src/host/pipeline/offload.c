// SPDX-License-Identifier: MIT
#include "pipeline/offload.h"
#include "backend/slab.h"
#include "base/clock.h"
#include "base/memory.h"
#include "pipeline/batches.h"
#include "pipeline/networks.h"
#include "pipeline/prompt.h"
#include <stdio.h>
#include <string.h>

enum {
    APART_BYTES_MAX = 256 << 20, /* of latents between denoising and decoding */
    SPARE = 32                   /* one part in so many of the free memory is left to the driver */
};

/* ---- text, ahead of everything else ---- */

static void release_text(pipeline *p)
{
    for (int i = PART_CLIP_L; i <= PART_T5; i++) pipeline_release(p, (pipeline_part)i);
}

static void release_pictures(pipeline *p)
{
    for (int i = PART_TRANSFORMER; i < PIPELINE_PARTS; i++) pipeline_release(p, (pipeline_part)i);
}

/* n prompts at once; host: where their embeddings come to. */
static swd_status encode_group(const request *r, const char *const *prompts, int n, float *host,
                               swd_exec *ex)
{
    const embeds_shape *shape = &r->embeds;
    size_t mark = exec_mark(ex), numbers = embeds_numbers(shape);
    swd_tensor context[T5_EACH_MAX], pooled[T5_EACH_MAX];
    for (int i = 0; i < n; i++) {
        context[i] = exec3(ex, SWD_F32, 1, shape->tokens, shape->width);
        pooled[i] = exec2(ex, SWD_F32, 1, shape->pooled);
    }
    RUN(prompt_encode_each(context, pooled, prompts, n, r->plan.max_tokens, r->p, ex));
    exec_rewind(ex, mark);
    if (ex->dry) return SWD_OK;
    for (int i = 0; i < n; i++) {
        float *to = host + numbers * (size_t)i;
        RUN(ex->backend->download(ex->backend, to, context[i], ex->stream, ex->err));
        RUN(ex->backend->download(ex->backend, to + tensor_numel(context[i]), pooled[i], ex->stream,
                                  ex->err));
    }
    RUN(ex->backend->synchronize(ex->backend, ex->stream, ex->err));
    for (int i = 0; i < n; i++)
        RUN(embeds_keep(r->p->embeds, prompts[i], shape, host + numbers * (size_t)i, ex->err));
    return SWD_OK;
}

static int group_size(int n)
{
    return n < T5_EACH_MAX ? n : T5_EACH_MAX;
}

/* Activations of it; the encoders are there, or planned. */
static swd_status measure_group(size_t *bytes, const request *r, int n, swd_err *err)
{
    static const char *const nothing[T5_EACH_MAX] = {"", "", "", "", "", "", "", ""};
    swd_exec ex = pipeline_exec(r->p, true, err);
    swd_status s = encode_group(r, nothing, group_size(n), NULL, &ex);
    *bytes = ex.peak;
    return s;
}

static swd_status encode_all(const request *r, const char *const *prompts, int n, swd_err *err)
{
    pipeline *p = r->p;
    size_t bytes, each = embeds_numbers(&r->embeds) * sizeof(float);
    SWD_TRY(measure_group(&bytes, r, n, err), err);
    SWD_TRY(pipeline_reserve(p, bytes, err), err);
    SWD_TRY(pipeline_reserve_host(p, each * (size_t)group_size(n), err), err);
    swd_exec ex = pipeline_exec(p, false, err);
    SWD_TRY(stream_create(&ex.stream, p->backend, err), err);
    swd_status s = SWD_OK;
    for (int i = 0; i < n && s == SWD_OK; i += T5_EACH_MAX)
        s = encode_group(r, prompts + i, group_size(n - i), (float *)(void *)p->host, &ex);
    stream_destroy(&ex.stream, p->backend);
    return s;
}

/* The encoders come, the prompts are encoded, the encoders go. */
static swd_status encode_ahead(request *r, const char *const *prompts, int n, swd_err *err)
{
    pipeline *p = r->p;
    release_pictures(p);
    pipeline_drop_slab(p);
    swd_status s = pipeline_load_text(p, err);
    double started_s = clock_now_s();
    if (s == SWD_OK) s = encode_all(r, prompts, n, err);
    if (s != SWD_OK)
        (void)p->backend->synchronize(p->backend, NULL, NULL); /* layers on their way */
    r->result->pub.text_ms += (clock_now_s() - started_s) * 1e3;
    release_text(p);
    pipeline_drop_slab(p);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

/* ---- which prompts ---- */

/* Those of the images from r->first on that are not known, as long as there is room for all that are asked for; r->end is where it ends. With
 * `missing` NULL the first of them ends it. */
static int list_missing(request *r, const char **missing)
{
    pipeline *p = r->p;
    int room = embeds_room(r->p->embeds, &r->embeds), n = 0, i = r->first;
    const char *prompt = request_negative(r), *last = NULL;
    bool ask = r->plan.evaluations > 1;
    for (;;) {
        if (ask && (!last || strcmp(last, prompt) != 0)) {
            if (room-- == 0) { // the image of this prompt is one of the next part
                i--;
                break;
            }
            bool missed = !embeds_find(p->embeds, prompt, &r->embeds);
            for (int k = 0; missing && missed && k < n; k++)
                missed = strcmp(missing[k], prompt) != 0;
            if (missed && missing) missing[n] = prompt;
            n += missed;
            last = prompt;
        }
        if (i == r->n_todo || (n && !missing)) break;
        prompt = request_prompt(r, r->todo[i++]);
        ask = true;
    }
    r->end = i;
    return n;
}

static swd_status prompts_offloaded(request *r, swd_err *err)
{
    const char **missing = NULL;
    int room = embeds_room(r->p->embeds, &r->embeds);
    if (room < 2)
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED,
                        "embeddings of %zu bytes are too large to be kept for --offload",
                        embeds_numbers(&r->embeds) * sizeof(float));
    SWD_TRY(swd_calloc(&missing, (size_t)room, sizeof(*missing), "prompts", err), err);
    if (r->p->no_embeds && r->first == 0) embeds_forget(r->p->embeds);
    int n = list_missing(r, missing);
    swd_status s = n ? encode_ahead(r, missing, n, err) : SWD_OK;
    free(missing);
    r->known = true;
    int64_t most = APART_BYTES_MAX / ((int64_t)r->plan.channels * r->plan.latent_height *
                                      r->plan.latent_width * (int64_t)sizeof(float));
    if (r->apart && r->end - r->first > most) r->end = r->first + (most ? (int)most : 1);
    return s;
}

swd_status offload_prompts(request *r, swd_err *err)
{
    pipeline *p = r->p;
    if (p->offloading) return prompts_offloaded(r, err);
    r->known = !p->text_loaded && !p->no_embeds && embeds_room(r->p->embeds, &r->embeds) > 1 &&
               list_missing(r, NULL) == 0;
    if (r->known) return SWD_OK;
    r->end = r->n_todo;
    return pipeline_load_text(p, err);
}

/* ---- what it takes ---- */

static size_t sum_of(const size_t *bytes, pipeline_part first, pipeline_part last)
{
    size_t n = 0;
    for (pipeline_part i = first; i <= last; i++) n += bytes[i];
    return n;
}

static swd_status load_all(pipeline *p, bool init, swd_err *err)
{
    SWD_TRY(pipeline_load_text(p, err), err);
    SWD_TRY(pipeline_load_transformer(p, err), err);
    SWD_TRY(pipeline_load_decoder(p, err), err);
    return init ? pipeline_load_encoder(p, err) : SWD_OK;
}

/* Of a request whose pipeline is planned. */
static swd_status plan_all(memory_plan *out, request *r, swd_err *err)
{
    pipeline *p = r->p;
    SWD_TRY(load_all(p, r->plan.with_init, err), err);
    for (int i = 0; i < PIPELINE_PARTS; i++) out->weights[i] = p->weights[i].bytes;
    SWD_TRY(batches_measure(r, err), err);
    out->activations = request_slab_bytes(r);
    out->all = sum_of(out->weights, PART_CLIP_L, PART_TINY) + out->activations;
    return SWD_OK;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static swd_status plan_turns(memory_plan *out, request *r, swd_err *err)
{
    pipeline *p = r->p;
    size_t activations;
    release_text(p);
    p->offloading = r->known = true;
    SWD_TRY(batches_measure(r, err), err);
    request_sizes s = request_measured(r);
    size_t denoise = larger(s.stage[REQUEST_TEXT], s.stage[REQUEST_DENOISE]),
           decode = s.stage[REQUEST_DECODE];
    const size_t *w = out->weights;
    size_t decoding = w[PART_DECODER] + w[PART_TINY],
           denoising = w[PART_TRANSFORMER] + w[PART_ENCODER];
    out->pictures = denoising + decoding + s.kept + larger(denoise, decode);
    out->denoise = denoising + s.kept + denoise;
    out->decode = decoding + s.kept + decode;
    SWD_TRY(pipeline_load_text(p, err), err);
    out->t5_streamed = p->weights[PART_T5].bytes;
    SWD_TRY(measure_group(&activations, r, r->params->n_prompts + (r->plan.evaluations > 1), err),
            err);
    out->text = w[PART_CLIP_L] + w[PART_CLIP_G] + out->t5_streamed + activations;
    return SWD_OK;
}

/* The same transformer with modulations that come one by one. */
static swd_status plan_streamed(memory_plan *out, pipeline *p, swd_err *err)
{
    pipeline_release(p, PART_TRANSFORMER);
    p->streaming = true;
    SWD_TRY(pipeline_load_transformer(p, err), err);
    out->streamed =
        out->denoise - out->weights[PART_TRANSFORMER] + p->weights[PART_TRANSFORMER].bytes;
    return SWD_OK;
}

swd_status memory_plan_make(memory_plan *out, const request *r, bool streamed, swd_err *err)
{
    pipeline *q = NULL; /* the same model, of which nothing is there */
    *out = (memory_plan){0};
    SWD_TRY(swd_malloc(&q, 1, sizeof(*q), "a plan of memory", err), err);
    *q = *r->p;
    memset(q->weights, 0, sizeof(q->weights));
    q->clip[0] = q->clip[1] = NULL;
    q->t5 = NULL;
    q->t5_weights = q->transformer_weights = NULL;
    memset(q->transformer_loras, 0, sizeof(q->transformer_loras));
    q->transformer = NULL;
    q->decoder = q->encoder = NULL;
    q->tiny = NULL;
    q->text_loaded = q->offloading = q->streaming = false;
    q->planning = true;
    request s = *r;
    s.p = q;
    s.known = s.apart = false;
    s.first = 0;
    s.end = s.n_todo;
    plan_begin(q->backend);
    swd_status st = plan_all(out, &s, err);
    if (st == SWD_OK) st = plan_turns(out, &s, err);
    if (st == SWD_OK && streamed) st = plan_streamed(out, q, err);
    release_text(q);
    release_pictures(q);
    plan_end(q->backend);
    free(q);
    return st == SWD_OK ? st : swd_err_frame(err, st, __FILE__, __LINE__, __func__);
}

/* ---- the choice ---- */

static double gb(size_t bytes)
{
    return (double)bytes / 1e9;
}

static void choose_streaming(pipeline *p, bool streaming)
{
    if (streaming != p->streaming && p->transformer) {
        pipeline_drop_slab(p); /* its steps are recorded */
        pipeline_release(p, PART_TRANSFORMER);
    }
    size_t n = strlen(p->offload_note);
    if (streaming && !p->streaming && n)
        snprintf(p->offload_note + n, sizeof(p->offload_note) - n,
                 "; the transformer's modulations are read again for every batch");
    p->streaming = streaming;
}

/* What is there came with a plan that had room for everything: a request whose activations find room in the slab needs no other. */
static swd_status has_room(bool *out, request *r, swd_err *err)
{
    const pipeline *p = r->p;
    *out = false;
    if (p->offloading || !p->transformer || (!p->decoder && !p->tiny) ||
        (r->plan.with_init && !p->encoder))
        return SWD_OK;
    r->end = r->n_todo;
    SWD_TRY(batches_measure(r, err), err);
    *out = request_slab_bytes(r) <= p->slab_bytes;
    return SWD_OK;
}

swd_status offload_choose(request *r, swd_err *err)
{
    pipeline *p = r->p;
    swd_memory m;
    memory_plan plan;
    bool room;
    r->apart = false;
    if (p->offload == SWD_OFFLOAD_OFF || !slab_has(p->backend)) return SWD_OK;
    SWD_TRY(has_room(&room, r, err), err);
    if (room) return SWD_OK;
    SWD_TRY(memory_plan_make(&plan, r, false, err), err);
    SWD_TRY(p->backend->memory(p->backend, &m, err), err);
    size_t budget = m.free + m.held;
    budget -= budget / SPARE;
    if (p->offload == SWD_OFFLOAD_AUTO && !p->offloading && plan.all > budget) {
        p->offloading = true;
        release_text(p);
        snprintf(p->offload_note, sizeof(p->offload_note),
                 "the networks take turns in the device's memory (--offload): all of them need "
                 "%.2f GB, %.2f GB are free",
                 gb(plan.all), gb(budget));
    }
    r->apart = p->offloading && plan.pictures > budget && !request_is_watched(r);
    choose_streaming(p, p->offloading && (r->apart ? plan.denoise : plan.pictures) > budget);
    return SWD_OK;
}
