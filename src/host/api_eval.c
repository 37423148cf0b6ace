// SPDX-License-Identifier: MIT
/* The public functions around evaluation: check arguments, call plot and eval, keep the message. */
#include "api_eval.h"
#include "api.h"
#include "eval/eval_run.h"
#include "eval/gallery.h"
#include "eval/spectrum_run.h"
#include "eval/spectrum_write.h"
#include "image/plot.h"
#include "pipeline/bundled.h"
#include <stdlib.h>

swd_status swd_plot_write(const char *path, const swd_plot *plot, swd_context *ctx)
{
    swd_err *err = ctx ? &ctx->err : NULL;
    if (ctx) swd_err_clear(err);
    if (!path) return SWD_FAIL(err, SWD_ERR_ARGUMENT, "the file name is NULL");
    return plot_write(path, plot, err);
}

/* ---- spectra ---- */

void swd_spectrum_params_default(swd_spectrum_params *params)
{
    *params = (swd_spectrum_params){.size = sizeof(*params)};
}

swd_status swd_spectrum_measure(swd_spectrum **out, const swd_spectrum_params *params,
                                swd_context *ctx)
{
    if (out) *out = NULL;
    ENTER(ctx);
    if (!out) return SWD_FAIL(&ctx->err, SWD_ERR_ARGUMENT, "out is NULL");
    swd_spectrum_params local;
    TAKE_PARAMS(local, params, swd_spectrum_params_default, ctx);
    return spectrum_run(out, &local, &ctx->p, &ctx->err);
}

swd_status swd_spectrum_write(const char *path, const swd_spectrum *spectrum, swd_context *ctx)
{
    swd_err *err = ctx ? &ctx->err : NULL;
    if (ctx) swd_err_clear(err);
    if (!path || !spectrum) return SWD_FAIL(err, SWD_ERR_ARGUMENT, "path or spectrum is NULL");
    return spectrum_write(path, spectrum, err);
}

void swd_spectrum_free(swd_spectrum **spectrum)
{
    if (spectrum) spectrum_result_free(spectrum);
}

/* ---- pictures ---- */

swd_status swd_default_features(char *buf, size_t n)
{
    return bundled_tell(buf, n, bundled_features);
}

void swd_eval_params_default(swd_eval_params *params)
{
    *params = (swd_eval_params){.size = sizeof(*params), .resamples = 1000};
}

swd_status swd_eval_measure(swd_eval **out, const swd_eval_params *params, swd_context *ctx)
{
    if (out) *out = NULL;
    ENTER(ctx);
    if (!out) return SWD_FAIL(&ctx->err, SWD_ERR_ARGUMENT, "out is NULL");
    swd_eval_params local;
    TAKE_PARAMS(local, params, swd_eval_params_default, ctx);
    return eval_run(out, &local, &ctx->p, &ctx->err);
}

void swd_eval_free(swd_eval **eval)
{
    if (eval) eval_result_free(eval);
}

void swd_gallery_params_default(swd_gallery_params *params)
{
    *params = (swd_gallery_params){.size = sizeof(*params), .side = 192, .pictures_max = 500};
}

swd_status swd_eval_write_html(const char *path, const swd_eval *eval,
                               const swd_gallery_params *params, swd_context *ctx)
{
    if (!ctx) return SWD_ERR_ARGUMENT;
    swd_err_clear(&ctx->err);
    if (!path || !eval) return SWD_FAIL(&ctx->err, SWD_ERR_ARGUMENT, "path or eval is NULL");
    swd_gallery_params local;
    TAKE_PARAMS(local, params, swd_gallery_params_default, ctx);
    return gallery_write(path, eval, &local, &ctx->err);
}
