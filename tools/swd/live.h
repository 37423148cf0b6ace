/* SPDX-License-Identifier: MIT */
/* What a person sees while long work runs: one line on a terminal, written over; and Ctrl-C, heard between two steps. */
#ifndef TOOLS_SWD_LIVE_H
#define TOOLS_SWD_LIVE_H
#include <stdbool.h>
#include <swd/swd.h>

typedef struct live {
    bool terminal, shown;
    double started_s;
} live;

/* l must live as long as ctx's calls; ctx may be NULL. A second Ctrl-C ends the program the hard way. */
void live_begin(live *l, swd_context *ctx);
void live_end(live *l); /* wipes the line */
#endif
