// SPDX-License-Identifier: MIT
#include "pipeline/ahead.h"
#include "backend/slab.h"
#include "pipeline/batches.h"
#include "pipeline/networks.h"
#include "pipeline/offload.h"
#include "pipeline/request_open.h"

/* One picture of the default size. */
static swd_generate_params one_picture(void)
{
    static const char *const prompt = "";
    swd_generate_params a;
    swd_generate_params_default(&a);
    a.prompts = &prompt;
    return a;
}

static swd_status load_and_reserve(request *r, swd_err *err)
{
    SWD_TRY(offload_choose(r, err), err);
    if (r->p->offloading) return SWD_OK;
    SWD_TRY(pipeline_load_text(r->p, err), err);
    SWD_TRY(pipeline_load_transformer(r->p, err), err);
    SWD_TRY(pipeline_load_decoder(r->p, err), err);
    if (!slab_has(r->p->backend)) return SWD_OK;
    r->end = r->n_todo;
    SWD_TRY(batches_measure(r, err), err);
    swd_status s = request_place(r, err);
    request_release(r);
    if (s != SWD_ERR_MEMORY) return s;
    swd_err_clear(err); /* a smaller picture may find room */
    return SWD_OK;
}

swd_status ahead_load(pipeline *p, swd_err *err)
{
    swd_generate_params a = one_picture();
    request r;
    swd_status s = request_open(&r, &a, p, err);
    if (s == SWD_OK) s = load_and_reserve(&r, err);
    request_close(&r);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

swd_status ahead_measure(size_t *bytes, pipeline *p, swd_err *err)
{
    swd_generate_params a = one_picture();
    request r;
    swd_status s = request_open(&r, &a, p, err);
    r.end = r.n_todo;
    if (s == SWD_OK) s = batches_measure(&r, err);
    if (s == SWD_OK) *bytes = request_slab_bytes(&r);
    request_close(&r);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}

swd_status ahead_plan(memory_plan *out, const swd_generate_params *params, pipeline *p,
                      swd_err *err)
{
    swd_generate_params one = one_picture();
    request r;
    swd_status s = request_open(&r, params ? params : &one, p, err);
    if (s == SWD_OK) s = memory_plan_make(out, &r, true, err);
    request_close(&r);
    return s == SWD_OK ? s : swd_err_frame(err, s, __FILE__, __LINE__, __func__);
}
