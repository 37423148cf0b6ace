// SPDX-License-Identifier: MIT
/* The public functions around evaluation: check arguments, call plot and eval, keep the message. */
#include "api_eval.h"
#include "api.h"
#include "image/plot.h"

swd_status swd_plot_write(const char *path, const swd_plot *plot, swd_context *ctx)
{
    swd_err *err = ctx ? &ctx->err : NULL;
    if (ctx) swd_err_clear(err);
    if (!path) return SWD_FAIL(err, SWD_ERR_ARGUMENT, "the file name is NULL");
    return plot_write(path, plot, err);
}
