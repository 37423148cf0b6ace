// SPDX-License-Identifier: MIT
#include "api_train.h"
#include "api.h"
#include "train/train_config.h"
#include "train_run.h"
#include <stdlib.h>

void swd_train_params_default(swd_train_params *params)
{
    train_config_default(params);
}

const swd_train_key *swd_train_key_at(int i)
{
    return train_config_key(i);
}

/* Params of a program built against an older header cannot be written to: what is read may lie beyond their end. */
static swd_status check_size(const swd_train_params *params, swd_err *err)
{
    if (params && params->size == sizeof(*params)) return SWD_OK;
    return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                    "params are not of this library; fill them with swd_train_params_default()");
}

swd_status swd_train_read(swd_train_params *params, const char *file, swd_context *ctx)
{
    swd_err *err = ctx ? &ctx->err : NULL;
    if (ctx) swd_err_clear(err);
    SWD_TRY(check_size(params, err), err);
    if (!file) return SWD_FAIL(err, SWD_ERR_ARGUMENT, "the file name is NULL");
    return train_config_read(params, file, err);
}

swd_status swd_train_set(swd_train_params *params, const char *key, const char *value,
                         swd_context *ctx)
{
    swd_err *err = ctx ? &ctx->err : NULL;
    if (ctx) swd_err_clear(err);
    SWD_TRY(check_size(params, err), err);
    if (!key || !value) return SWD_FAIL(err, SWD_ERR_ARGUMENT, "key or value is NULL");
    return train_config_set(params, key, value, err);
}

swd_status swd_train_open(swd_context **out)
{
    if (!out) return SWD_ERR_ARGUMENT;
    *out = calloc(1, sizeof(**out));
    return *out ? SWD_OK : SWD_ERR_MEMORY;
}

swd_status swd_train(swd_train_result *out, const swd_train_params *params, swd_context *ctx)
{
    ENTER(ctx);
    SWD_TRY(check_size(params, &ctx->err), &ctx->err);
    if (ctx->p.dir)
        return SWD_FAIL(&ctx->err, SWD_ERR_ARGUMENT,
                        "the context has a model; swd_train wants one of swd_train_open()");
    return train_run(out, params, &ctx->p, &ctx->err);
}
