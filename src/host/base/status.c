// SPDX-License-Identifier: MIT
#include "base/status.h"
#include <stdio.h>
#include <string.h>

// Control characters (a file name may hold a newline or an escape sequence) become \xNN, so that an error stays one line.
static void escape_into(char *out, size_t n, const char *s)
{
    static const char hex[] = "0123456789abcdef";
    size_t k = 0;
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c >= 0x20 && c != 0x7f) {
            if (k + 1 >= n) break;
            out[k++] = (char)c;
        } else {
            if (k + 4 >= n) break;
            out[k++] = '\\';
            out[k++] = 'x';
            out[k++] = hex[c >> 4];
            out[k++] = hex[c & 15];
        }
    }
    out[k] = 0;
}

swd_status swd_err_set(swd_err *err, swd_status status, const char *file, int line,
                       const char *func, const char *fmt, ...)
{
    if (!err) return status;
    char text[SWD_ERR_MESSAGE_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0) snprintf(text, sizeof text, "the message could not be formatted");
    err->status = status;
    escape_into(err->message, sizeof err->message, text);
    err->n_frames = 0;
    return swd_err_frame(err, status, file, line, func);
}

swd_status swd_err_frame(swd_err *err, swd_status status, const char *file, int line,
                         const char *func)
{
    if (err && err->n_frames < SWD_ERR_FRAMES_MAX)
        err->frame[err->n_frames++] =
            (struct swd_err_site){.file = file, .func = func, .line = line};
    return status;
}

void swd_err_clear(swd_err *err)
{
    if (!err) return;
    err->status = SWD_OK;
    err->message[0] = 0;
    err->n_frames = 0;
}
