/* SPDX-License-Identifier: MIT */
/* Errors: a status travels up as the return value, its message and frames in a swd_err owned by the caller.
 * The first SWD_FAIL writes the message; every SWD_TRY it passes adds a frame, so a failure prints its own backtrace. */
#ifndef SWD_BASE_STATUS_H
#define SWD_BASE_STATUS_H
#include <stdarg.h>
#include <stddef.h>
#include <swd/status.h>

enum { SWD_ERR_MESSAGE_MAX = 1024, SWD_ERR_FRAMES_MAX = 16 };

typedef struct swd_err {
    swd_status status;
    char message[SWD_ERR_MESSAGE_MAX]; /* "what and where; what to do", one line, no newline */
    int n_frames;                      /* innermost first */
    struct swd_err_site {
        const char *file, *func;
        int line;
    } frame[SWD_ERR_FRAMES_MAX];
} swd_err;

#if defined(__GNUC__)
#define SWD_PRINTF(fmt_index, first_arg) __attribute__((format(printf, fmt_index, first_arg)))
#else
#define SWD_PRINTF(fmt_index, first_arg)
#endif

/* Records message and first frame (err may be NULL) and returns status. Control characters in the message are escaped. */
swd_status swd_err_set(swd_err *err, swd_status status, const char *file, int line,
                       const char *func, const char *fmt, ...) SWD_PRINTF(6, 7);
/* Adds a frame and returns status unchanged. */
swd_status swd_err_frame(swd_err *err, swd_status status, const char *file, int line,
                         const char *func);
void swd_err_clear(swd_err *err);

#define SWD_FAIL(err, status, ...)                                                                 \
    swd_err_set((err), (status), __FILE__, __LINE__, __func__, __VA_ARGS__)
/* Return on failure. */
#define SWD_TRY(call, err)                                                                         \
    do {                                                                                           \
        swd_status status_ = (call);                                                               \
        if (status_ != SWD_OK) return swd_err_frame((err), status_, __FILE__, __LINE__, __func__); \
    } while (0)
/* Store in `s` and go to the one cleanup label on failure. */
#define SWD_TRY_GOTO(s, call, err, label)                                                          \
    do {                                                                                           \
        (s) = (call);                                                                              \
        if ((s) != SWD_OK) {                                                                       \
            (s) = swd_err_frame((err), (s), __FILE__, __LINE__, __func__);                         \
            goto label;                                                                            \
        }                                                                                          \
    } while (0)
#endif
