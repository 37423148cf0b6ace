/* SPDX-License-Identifier: MIT */
/* Messages for people. A swd_log is passed to who may speak; NULL is silence. There is no global one. */
#ifndef SWD_BASE_LOG_H
#define SWD_BASE_LOG_H
#include "base/status.h"

typedef enum swd_log_level {
    SWD_LOG_ERROR,
    SWD_LOG_WARNING,
    SWD_LOG_INFO,
    SWD_LOG_DEBUG
} swd_log_level;

typedef struct swd_log {
    swd_log_level level; /* messages above it are dropped */
    /* text is one line without newline, valid during the call; may be called from several threads. NULL: stderr. */
    void (*write)(void *ctx, swd_log_level level, const char *text);
    void *ctx;
} swd_log;

void log_print(const swd_log *log, swd_log_level level, const char *fmt, ...) SWD_PRINTF(3, 4);
/* The message of err at level ERROR and its frames at level DEBUG. */
void log_err(const swd_log *log, const swd_err *err);
#endif
