// SPDX-License-Identifier: MIT
#include "pipeline/result.h"
#include "base/clock.h"
#include "base/memory.h"
#include "parallel/group.h"
#include "pipeline/generate.h"
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

swd_status result_make(request *r, swd_err *err)
{
    result *o = NULL;
    const request_plan *plan = &r->plan;
    SWD_TRY(swd_calloc(&o, 1, sizeof(*o), "the result", err), err);
    r->result = o;
    SWD_TRY(swd_calloc(&o->images, (size_t)plan->n_images, sizeof(*o->images), "the list of images",
                       err),
            err);
    SWD_TRY(
        swd_calloc(&o->steps, (size_t)plan->n_steps, sizeof(*o->steps), "the list of steps", err),
        err);
    memcpy(o->preset, plan->preset, sizeof(o->preset));
    memcpy(o->note, plan->note, sizeof(plan->note));
    o->pub = (swd_result){.size = sizeof(o->pub),
                          .images = o->images,
                          .preset = o->preset,
                          .sampler = plan->sampler,
                          .width = plan->width,
                          .height = plan->height,
                          .n_steps = plan->n_steps,
                          .steps = o->steps,
                          .guidance = plan->guidance,
                          .shift = plan->shift,
                          .max_tokens = plan->max_tokens,
                          .seed = r->seed,
                          .device = o->device,
                          .precision = "",
                          .note = o->note};
    for (int k = 0; k < plan->n_steps; k++)
        o->steps[k] = (swd_step){.latent_width = plan->steps[k].width,
                                 .latent_height = plan->steps[k].height,
                                 .sigma = plan->sigmas[k]};
    return SWD_OK;
}

static void add_note(result *o, const char *text)
{
    size_t n = strlen(o->note);
    if (text[0]) snprintf(o->note + n, sizeof(o->note) - n, "%s%s", n ? "; " : "", text);
}

/* A wish that the device cannot fulfil is not passed over in silence. */
static void note_device(result *o, const pipeline *p)
{
    add_note(o, p->device_note);
    if (p->precision == SWD_PRECISION_BF16 && p->compute != SWD_BF16)
        add_note(o, "bf16 was asked for, but this processor has none: computed in float32");
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

uint64_t result_peak_memory(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

void result_finish(request *r)
{
    result *o = r->result;
    note_device(o, r->p);
    add_note(o, group_note(r->p->group));
    add_note(o, r->not_mixed);
    add_note(o, r->p->offload_note);
    if (r->p->embeds) {
        char text[EMBEDS_NOTE_MAX];
        embeds_take_note(r->p->embeds, text);
        add_note(o, text);
    }
    if (r->n_todo < r->plan.n_images) {
        char text[96];
        snprintf(text, sizeof text, "%d of %d pictures were there already",
                 r->plan.n_images - r->n_todo, r->plan.n_images);
        add_note(o, text);
    }
    if (r->p->backend)
        snprintf(o->device, sizeof(o->device), "%s: %s", r->p->backend->name,
                 r->p->backend->device);
    if (r->n_done) {
        qsort(r->latency_ms, (size_t)r->n_done, sizeof(*r->latency_ms), by_size);
        o->pub.latency_p50_ms = r->latency_ms[(r->n_done - 1) / 2];
        o->pub.latency_p90_ms = r->latency_ms[(r->n_done - 1) * 9 / 10];
    }
    o->pub.precision = r->p->compute == SWD_BF16 ? "bf16" : "f32";
    uint64_t peak = result_peak_memory();
    if (peak > o->pub.peak_memory_bytes) o->pub.peak_memory_bytes = peak;
    o->pub.total_ms = (clock_now_s() - r->started_s) * 1e3;
}

void result_free(swd_result **pub)
{
    if (!*pub) return;
    result *o = (result *)(void *)*pub; /* pub is its first member */
    for (int i = 0; i < o->pub.n_images; i++) {
        free((void *)(uintptr_t)o->images[i].rgb);
        free((void *)(uintptr_t)o->images[i].file);
    }
    free(o->images);
    free(o->steps);
    free(o);
    *pub = NULL;
}
