/* SPDX-License-Identifier: MIT */
/* Pictures to files on threads of their own, while the next ones are made. */
#ifndef SWD_PIPELINE_WRITER_H
#define SWD_PIPELINE_WRITER_H
#include "base/status.h"
#include <stdbool.h>
#include <swd/swd.h>

typedef struct writer writer;

swd_status writer_create(writer **out, int n_threads, swd_err *err);
/* image->rgb (malloc'ed) to image->file with comment, which the writer frees. drop: the pixels go once they are written. The image lasts
 * until writer_finish(). Waits while several are on their way; after a failure it does nothing but free. */
swd_status writer_push(writer *w, swd_image *image, bool drop, char *comment, swd_err *err);
/* What no thread has begun with is not written. Accepts NULL. */
void writer_abandon(writer *w);
/* Waits for all that was pushed; the first failure. *ms: the time that writing took, of all threads. Writes NULL; accepts NULL. */
swd_status writer_finish(writer **w, double *ms, swd_err *err);
#endif
