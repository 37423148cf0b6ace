/* SPDX-License-Identifier: MIT */
/* Op cases of this very program under compute-sanitizer. */
#ifndef SWD_TOOLS_GPU_CHECK_SANITIZE_H
#define SWD_TOOLS_GPU_CHECK_SANITIZE_H
#include "options.h"
#include "report.h"

/* memcheck, racecheck, synccheck and initcheck, each over small op cases and training that pass the filter; a check each in section
 * "sanitizers". Logs go to the report's folder, else to a temporary one that is named. Where the tool is missing it says so. */
void sanitize(report *r, const options *o);
#endif
