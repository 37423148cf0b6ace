// SPDX-License-Identifier: MIT
#include "base/log.h"
#include <stdio.h>

enum { LINE_MAX_BYTES = 2048 };

void log_print(const swd_log *log, swd_log_level level, const char *fmt, ...)
{
    if (!log || level > log->level) return;
    char text[LINE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0) return;
    if (log->write) {
        log->write(log->ctx, level, text);
        return;
    }
    static const char *const names[] = {"error: ", "warning: ", "", "debug: "};
    fprintf(stderr, "swd: %s%s\n", names[level], text);
}

void log_err(const swd_log *log, const swd_err *err)
{
    log_print(log, SWD_LOG_ERROR, "%s", err->message);
    for (int i = 0; i < err->n_frames; i++)
        log_print(log, SWD_LOG_DEBUG, "  at %s (%s:%d)", err->frame[i].func, err->frame[i].file,
                  err->frame[i].line);
}
