/* SPDX-License-Identifier: MIT */
/* swd_eval_write_html, below the public API. */
#ifndef SWD_EVAL_GALLERY_H
#define SWD_EVAL_GALLERY_H
#include "base/status.h"
#include <swd/eval.h>

swd_status gallery_write(const char *path, const swd_eval *e, const swd_gallery_params *a,
                         swd_err *err);
#endif
