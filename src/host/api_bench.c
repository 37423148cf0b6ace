// SPDX-License-Identifier: MIT
/* The public functions around measuring: check arguments, call bench, keep the message. */
#include "api_bench.h"
#include "base/memory.h"
#include "bench/baseline.h"
#include "bench/document.h"
#include "bench/measure.h"
#include "bench/pictures.h"
#include "bench/tables.h"
#include "weights/shapes.h"
#include <stdio.h>
#include <string.h>

struct swd_bench {
    bench *b; /* NULL after a failure */
    swd_err err;
    char program[48], *text;
};

const char *swd_bench_what_name(swd_bench_what what)
{
    return measure_name(what);
}

const char *swd_bench_arch(const char **about, int i)
{
    const model_shape *s = shape_at(i);
    if (s && about) *about = s->about;
    return s ? s->name : NULL;
}

void swd_bench_params_default(swd_bench_params *params)
{
    *params = (swd_bench_params){
        .size = sizeof *params, .what = SWD_BENCH_E2E, .guidance = 4.5, .sd_type = "f16"};
}

swd_status swd_bench_run(swd_bench **out, const swd_bench_params *params)
{
    if (!out) return SWD_ERR_ARGUMENT;
    swd_bench *h = *out = calloc(1, sizeof *h);
    if (!h) return SWD_ERR_MEMORY;
    swd_bench_params local;
    swd_bench_params_default(&local);
    size_t size = params ? params->size : sizeof local;
    if (size < sizeof(size_t) || size > sizeof local)
        return SWD_FAIL(&h->err, SWD_ERR_ARGUMENT,
                        "params.size is %zu, this library knows %zu; fill params with "
                        "swd_bench_params_default()",
                        size, sizeof local);
    if (params) memcpy(&local, params, size);
    SWD_TRY(measure_run(&h->b, &local, NULL, &h->err), &h->err);
    snprintf(h->program, sizeof h->program, "swd bench %s", measure_name(local.what));
    return SWD_OK;
}

const char *swd_bench_message(const swd_bench *h)
{
    return h ? h->err.message : "out of memory";
}

void swd_bench_close(swd_bench **h)
{
    if (!h || !*h) return;
    bench_destroy(&(*h)->b);
    free((*h)->text);
    free(*h);
    *h = NULL;
}

int swd_bench_count(const swd_bench *h)
{
    return h && h->b ? bench_count(h->b) : 0;
}

swd_status swd_bench_get(swd_bench_result *out, int i, const swd_bench *h)
{
    if (!out || i < 0 || i >= swd_bench_count(h)) return SWD_ERR_ARGUMENT;
    const bench_entry *e = bench_at(h->b, i);
    *out = (swd_bench_result){.size = sizeof *out,
                              .runs = e->wall.runs,
                              .median_ms = e->wall.median * 1e3,
                              .p10_ms = e->wall.p10 * 1e3,
                              .p90_ms = e->wall.p90 * 1e3,
                              .flop = e->flop,
                              .bytes = e->bytes,
                              .share = bench_share(e)};
    memcpy(out->name, e->name, sizeof out->name);
    memcpy(out->precision, e->precision, sizeof out->precision);
    memcpy(out->peak, e->peak, sizeof out->peak);
    memcpy(out->first, e->first, sizeof out->first);
    if (!e->first[0]) return SWD_OK;
    out->ratio = e->ratio.median;
    out->ratio_p10 = e->ratio.p10;
    out->ratio_p90 = e->ratio.p90;
    return SWD_OK;
}

/* A call on results: they are there. */
static swd_status enter(swd_bench *h)
{
    if (!h) return SWD_ERR_ARGUMENT;
    if (!h->b) return h->err.status; /* of the run that failed, with its message */
    swd_err_clear(&h->err);
    return SWD_OK;
}

swd_status swd_bench_baseline(swd_bench *h, const char *file)
{
    swd_status s = enter(h);
    if (s != SWD_OK) return s;
    if (!file) return SWD_FAIL(&h->err, SWD_ERR_ARGUMENT, "the file name is NULL");
    return baseline_read(h->b, file, &h->err);
}

swd_status swd_bench_text(const char **out, swd_bench_form form, swd_bench *h)
{
    if (out) *out = NULL;
    swd_status s = enter(h);
    if (s != SWD_OK) return s;
    if (!out || form < SWD_BENCH_TABLE || form > SWD_BENCH_JSON)
        return SWD_FAIL(&h->err, SWD_ERR_ARGUMENT, "out is NULL, or form %d is none", (int)form);
    free(h->text);
    h->text = NULL;
    if (form == SWD_BENCH_JSON)
        SWD_TRY(document_text(&h->text, h->b, h->program, &h->err), &h->err);
    else
        SWD_TRY(tables_text(&h->text, h->b, form == SWD_BENCH_MARKDOWN, &h->err), &h->err);
    *out = h->text;
    return SWD_OK;
}

swd_status swd_bench_plot(swd_bench *h, const char *file)
{
    swd_status s = enter(h);
    if (s != SWD_OK) return s;
    if (!file) return SWD_FAIL(&h->err, SWD_ERR_ARGUMENT, "the file name is NULL");
    return pictures_write(h->b, file, &h->err);
}
