/* SPDX-License-Identifier: MIT */
/* Whole requests on a device, from prompts to RGB8, through the public API: beside the CPU, with and without graphs, in any batch,
 * many of them, and how much of neighbouring ones overlaps. */
#ifndef SWD_TOOLS_GPU_CHECK_REQUESTS_H
#define SWD_TOOLS_GPU_CHECK_REQUESTS_H
#include "report.h"

typedef struct requests_options {
    const char *model;  /* a diffusers folder */
    const char *device; /* "cuda:0" */
    int many; /* pictures of one call that must not need more memory than the first few; at least 4 */
    int side;    /* pixels; 0: the model's */
    int at_once; /* pictures of one call beside as many calls of one */
    int runs;    /* rounds of what is timed, 1 to 1000 */
} requests_options;

/* Checks go to section "requests", times to the results; failures do not end it. */
void requests_check(report *r, const requests_options *o);
#endif
