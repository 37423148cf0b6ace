/* SPDX-License-Identifier: MIT */
/* The context, and what every public function begins with. api.c defines what swd/swd.h declares, api_eval.c swd/plot.h and swd/eval.h. */
#ifndef SWD_API_H
#define SWD_API_H
#include "pipeline/assemble.h"
#include <string.h>
#include <swd/swd.h>

struct swd_context {
    pipeline p;
    swd_err err;
    char frame[256];
    int32_t tokens[3][SWD_TOKENS_MAX];
};

/* Entry of a call: the last message is gone, the device is the thread's; without a context there is nobody to tell. */
#define ENTER(ctx)                                                                                 \
    do {                                                                                           \
        if (!(ctx)) return SWD_ERR_ARGUMENT;                                                       \
        swd_err_clear(&(ctx)->err);                                                                \
        SWD_TRY(pipeline_bind(&(ctx)->p, &(ctx)->err), &(ctx)->err);                               \
    } while (0)

/* Params of a program built against an older header are shorter: what they lack keeps its default. */
#define TAKE_PARAMS(local, given, dflt, ctx)                                                       \
    do {                                                                                           \
        dflt(&(local));                                                                            \
        size_t size_ = (given) ? (given)->size : sizeof(local);                                    \
        if (size_ < sizeof(size_t) || size_ > sizeof(local))                                       \
            return SWD_FAIL(&(ctx)->err, SWD_ERR_ARGUMENT,                                         \
                            "params.size is %zu, this library knows %zu; fill params with " #dflt  \
                            "()",                                                                  \
                            size_, sizeof(local));                                                 \
        if (given) memcpy(&(local), (given), size_);                                               \
    } while (0)
#endif
