// SPDX-License-Identifier: MIT
#include "pipeline/batches.h"
#include "backend/trace.h"
#include "base/clock.h"
#include "base/memory.h"
#include "pipeline/mixed_batches.h"
#include "pipeline/networks.h"
#include "pipeline/share.h"
#include "pipeline/stages.h"

static swd_status stage(const char *name, swd_status (*work)(request *, swd_exec *), int place,
                        request *r)
{
    swd_exec *ex = &r->ex[place];
    if (ex->dry) return work(r, ex);
    range_begin(ex->backend, RANGE_STAGE, name);
    swd_status s = work(r, ex);
    range_end(ex->backend);
    return s;
}

/* ---- two halves ---- */

/* The x0 of a batch to the host, or back. */
static swd_status move_x0(request *r, bool back, swd_err *err)
{
    swd_exec *ex = &r->ex[REQUEST_DECODE];
    const batch *at = r->at;
    swd_tensor x0 = tensor_slice(at->x0, 0, 0, at->n);
    float *host = r->x0_apart + tensor_numel(x0) / at->n * (at->first - r->first);
    if (ex->dry) return SWD_OK;
    swd_status s = back ? ex->backend->upload(ex->backend, x0, host, NULL, err)
                        : ex->backend->download(ex->backend, host, x0, NULL, err);
    return s == SWD_OK ? ex->backend->synchronize(ex->backend, NULL, err) : s;
}

/* ---- one batch ---- */

static swd_status denoise(request *r, swd_err *err)
{
    SWD_TRY(stage("text", stage_encode_prompts, REQUEST_TEXT, r), err);
    if (r->plan.with_init && r->at->first == r->first)
        SWD_TRY(stage("init", stage_encode_init, REQUEST_DENOISE, r), err);
    return stage("denoise", stage_denoise, REQUEST_DENOISE, r);
}

static void begin_batch(request *r, batch *b, int first)
{
    r->at = b;
    b->first = first;
    b->n = r->end - first < r->plan.batch ? r->end - first : r->plan.batch;
    double now_ms = clock_now_s() * 1e3;
    for (int i = 0; i < b->n && !(r->half && r->decoding); i++) r->latency_ms[first + i] = -now_ms;
}

/* The story of a batch, from image `first` on; while measuring nothing is computed. */
static swd_status run_batch(request *r, batch *b, int first, swd_err *err)
{
    begin_batch(r, b, first);
    if (r->half && r->decoding) SWD_TRY(move_x0(r, true, err), err);
    if (!r->half || !r->decoding) SWD_TRY(denoise(r, err), err);
    if (!r->half || r->decoding) SWD_TRY(stage("decode", stage_decode, REQUEST_DECODE, r), err);
    if (r->half && !r->decoding) SWD_TRY(move_x0(r, false, err), err);
    return SWD_OK;
}

/* ---- all of them ---- */

static swd_status measure_mixed(request *r, swd_err *err)
{
    begin_batch(r, &r->batch[0], r->first);
    SWD_TRY(stage("text", stage_encode_prompts, REQUEST_TEXT, r), err);
    SWD_TRY(stage("denoise", mixed_tick, REQUEST_DENOISE, r), err);
    return stage("decode", stage_decode, REQUEST_DECODE, r);
}

swd_status batches_measure(request *r, swd_err *err)
{
    request_measure(r, err);
    if (r->is_mixed) return measure_mixed(r, err);
    return run_batch(r, &r->batch[0], r->first, err);
}

/* Where stages overlap, a batch is collected when the next one has its work. */
static swd_status run_all(request *r, swd_err *err)
{
    int begun = 0, collected = 0, first;
    for (;;) {
        SWD_TRY(share_next(&first, r, err), err);
        if (first < 0) break;
        SWD_TRY(run_batch(r, &r->batch[begun++ % r->n_batches], first, err), err);
        if (begun - collected < r->n_batches) continue;
        SWD_TRY(request_collect(r, &r->batch[collected++ % r->n_batches], err), err);
    }
    while (collected < begun)
        SWD_TRY(request_collect(r, &r->batch[collected++ % r->n_batches], err), err);
    return SWD_OK;
}

/* Where steps are mixed a batch enters at every tick, and the one at the last step leaves it. */
static swd_status run_ticks(request *r, swd_err *err)
{
    int n = 0, first = 0, last = r->plan.n_steps - 1; /* n: batches that have entered */
    for (int tick = 0; first >= 0 || tick <= n + last; tick++) {
        if (first >= 0) SWD_TRY(share_next(&first, r, err), err);
        if (first < 0 && n == 0) break; /* others have made them all */
        if (first >= 0) {
            n++;
            begin_batch(r, mixed_batch_at(r, tick, 0), first);
            SWD_TRY(stage("text", stage_encode_prompts, REQUEST_TEXT, r), err);
        }
        r->mixed.tick = tick;
        r->mixed.n_batches = n;
        if (tick < n + last) SWD_TRY(stage("denoise", mixed_tick, REQUEST_DENOISE, r), err);
        if (tick >= last && tick < n + last) {
            r->at = mixed_batch_at(r, tick, last);
            SWD_TRY(stage("decode", stage_decode, REQUEST_DECODE, r), err);
        }
        if (tick > last) SWD_TRY(request_collect(r, mixed_batch_at(r, tick, last + 1), err), err);
    }
    return SWD_OK;
}

swd_status batches_run(request *r, swd_err *err)
{
    SWD_TRY(batches_measure(r, err), err);
    swd_status s = request_place(r, err);
    r->next = r->first;
    if (s == SWD_OK) s = r->is_mixed ? run_ticks(r, err) : run_all(r, err);
    if (s != SWD_OK) request_drain(r);
    request_release(r);
    return s;
}

static swd_status run_halves(request *r, swd_err *err)
{
    r->decoding = false;
    SWD_TRY(batches_run(r, err), err);
    pipeline_drop_slab(r->p);
    pipeline_release(r->p, PART_TRANSFORMER);
    pipeline_release(r->p, PART_ENCODER);
    double started_s = clock_now_s();
    SWD_TRY(pipeline_load_decoder(r->p, err), err);
    r->result->pub.load_ms += (clock_now_s() - started_s) * 1e3;
    r->decoding = true;
    return batches_run(r, err);
}

swd_status batches_run_apart(request *r, swd_err *err)
{
    size_t numbers =
        (size_t)r->plan.channels * (size_t)r->plan.latent_height * (size_t)r->plan.latent_width;
    SWD_TRY(swd_malloc(&r->x0_apart, numbers * (size_t)(r->end - r->first), sizeof(float),
                       "latents between denoising and decoding", err),
            err);
    r->half = true;
    swd_status s = run_halves(r, err);
    r->half = false;
    free(r->x0_apart);
    r->x0_apart = NULL;
    pipeline_drop_slab(r->p); /* the next half, or request, begins with other networks */
    pipeline_release(r->p, PART_DECODER);
    pipeline_release(r->p, PART_TINY);
    return s;
}
