/* SPDX-License-Identifier: MIT */
/* One request: prompts to pictures. */
#ifndef SWD_PIPELINE_GENERATE_H
#define SWD_PIPELINE_GENERATE_H
#include "pipeline/assemble.h"

/* All that swd_generate promises. *out may be NULL. */
swd_status generate(swd_result **out, const swd_generate_params *params, pipeline *p, swd_err *err);
void result_free(swd_result **result); /* with all that it points to; writes NULL; accepts it */
#endif
