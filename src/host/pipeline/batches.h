/* SPDX-License-Identifier: MIT */
/* The images of a request, batch by batch. */
#ifndef SWD_PIPELINE_BATCHES_H
#define SWD_PIPELINE_BATCHES_H
#include "pipeline/request.h"

/* A dry run of the first batch, for request_measured() and request_slab_bytes(). The networks it needs are loaded, or planned. */
swd_status batches_measure(request *r, swd_err *err);
/* The images from r->first to r->end: measured, placed, made, collected. */
swd_status batches_run(request *r, swd_err *err);
/* The same in two halves, where the transformer goes before the decoder comes. */
swd_status batches_run_apart(request *r, swd_err *err);
#endif
