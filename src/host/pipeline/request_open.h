/* SPDX-License-Identifier: MIT */
/* The beginning of a request, before any network is there, and its end. */
#ifndef SWD_PIPELINE_REQUEST_OPEN_H
#define SWD_PIPELINE_REQUEST_OPEN_H
#include "pipeline/request.h"

/* Reads the small files, decides what will be done, refuses what can be known to fail, and lists the images. params and p are borrowed.
 * request_close() also after a failure. */
swd_status request_open(request *r, const swd_generate_params *params, pipeline *p, swd_err *err);
void request_close(request *r);
#endif
