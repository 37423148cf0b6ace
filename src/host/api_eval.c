// SPDX-License-Identifier: MIT
/* The public functions around evaluation: check arguments, call plot and eval, keep the message. */
#include "api_eval.h"
#include "api.h"
#include "eval/spectrum_run.h"
#include "eval/spectrum_write.h"
#include "image/plot.h"

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
