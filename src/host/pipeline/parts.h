/* SPDX-License-Identifier: MIT */
/* Parts of the way of a request: pictures to latents and back, and what a model folder holds. */
#ifndef SWD_PIPELINE_PARTS_H
#define SWD_PIPELINE_PARTS_H
#include "pipeline/assemble.h"

swd_status parts_encode_file(const char *latents_file, const char *image_file, pipeline *p,
                             swd_err *err);
swd_status parts_decode_file(const char *image_file, const char *latents_file, pipeline *p,
                             swd_err *err);
swd_status parts_info(swd_info *out, pipeline *p, swd_err *err);
#endif
