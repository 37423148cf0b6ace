/* SPDX-License-Identifier: MIT */
/* What a request gives its caller. */
#ifndef SWD_PIPELINE_RESULT_H
#define SWD_PIPELINE_RESULT_H
#include "pipeline/request.h"

/* r->result, empty, as the plan says; freed by result_free() of generate.h. */
swd_status result_make(request *r, swd_err *err);
/* Notes, device, latencies, memory, time: known when the last picture is there. */
/* Resident, of this process. */
uint64_t result_peak_memory(void);
void result_finish(request *r);
#endif
