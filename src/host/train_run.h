/* SPDX-License-Identifier: MIT */
/* Training of a model folder: what pipeline/ opens and train/ needs, brought together (neither may include the other). */
#ifndef SWD_TRAIN_RUN_H
#define SWD_TRAIN_RUN_H
#include "pipeline/assemble.h"
#include <swd/train.h>

/* p is closed, and closed again afterwards. */
swd_status train_run(swd_train_result *out, const swd_train_params *params, pipeline *p,
                     swd_err *err);
#endif
