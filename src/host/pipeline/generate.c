// SPDX-License-Identifier: MIT
// The story: what a request is (request_open.c), which networks are there when (offload.c), its images batch by batch, text to pictures
// (batches.c over stages.c), what the caller gets (result.c). Where several processes make them together, share.c says which are whose.
#include "pipeline/generate.h"
#include "backend/trace.h"
#include "base/clock.h"
#include "parallel/group.h"
#include "pipeline/batches.h"
#include "pipeline/networks.h"
#include "pipeline/offload.h"
#include "pipeline/request_open.h"
#include "pipeline/result.h"
#include "pipeline/share.h"

static swd_status load(request *r, swd_err *err)
{
    swd_status (*const parts[])(pipeline *, swd_err *) = {
        pipeline_load_transformer, pipeline_load_decoder, pipeline_load_encoder};
    int n = r->params->init ? 4 : 3;
    double started_s = clock_now_s(), text_ms = r->result->pub.text_ms;
    SWD_TRY(request_progress(r, SWD_STAGE_LOAD, 1, n, 0, err), err);
    SWD_TRY(offload_prompts(r, err), err);
    SWD_TRY(share_whole(r, err), err);
    for (int i = 1; i < n; i++) {
        if (i == 2 && r->apart) continue; /* the decoder comes when its turn comes */
        SWD_TRY(request_progress(r, SWD_STAGE_LOAD, i + 1, n, 0, err), err);
        SWD_TRY(parts[i - 1](r->p, err), err);
    }
    text_ms = r->result->pub.text_ms - text_ms; /* what was encoded ahead */
    r->result->pub.load_ms += (clock_now_s() - started_s) * 1e3 - text_ms;
    return SWD_OK;
}

/* The images from r->first to r->end. */
static swd_status run_part(request *r, swd_err *err)
{
    SWD_TRY(load(r, err), err);
    if (r->apart) return batches_run_apart(r, err);
    return batches_run(r, err);
}

static swd_status run(request *r, swd_err *err)
{
    swd_status s = SWD_OK;
    range_begin(r->p->backend, RANGE_REQUEST, "request");
    s = offload_choose(r, err);
    if (s == SWD_OK) s = share_out(r, err);
    for (r->first = 0; r->first < r->n_todo && s == SWD_OK; r->first = r->end) s = run_part(r, err);
    range_end(r->p->backend);
    if (s != SWD_OK) share_stop(r);
    if (s == SWD_ERR_CANCELLED) writer_abandon(r->writer);
    swd_status written =
        writer_finish(&r->writer, &r->result->pub.write_ms, err->status == SWD_OK ? err : NULL);
    if (s == SWD_OK) s = written;
    if (s != SWD_OK || !r->params->save_latents) return s;
    return latent_log_write(&r->latents, &r->plan, err);
}

swd_status generate(swd_result **out, const swd_generate_params *params, pipeline *p, swd_err *err)
{
    request r;
    swd_status s;
    if (out) *out = NULL;
    SWD_TRY(group_agree(p->group, SWD_OK, err), err); /* what process 0 has prepared is there */
    s = share_begin(&r, request_open(&r, params, p, err), err);
    r.keep_pixels = out && !params->drop_pixels;
    if (s == SWD_OK && r.n_todo) s = run(&r, err);
    SWD_TRY_GOTO(s, share_end(&r, s, err), err, done);
    result_finish(&r);
    if (out) {
        *out = &r.result->pub;
        r.result = NULL;
    }
done:
    request_close(&r);
    return s;
}
