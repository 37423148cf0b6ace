/* SPDX-License-Identifier: MIT */
/* What a person sees while long work runs: one line on a terminal, written over; and Ctrl-C, heard between two steps. */
#ifndef TOOLS_SWD_LIVE_H
#define TOOLS_SWD_LIVE_H
#include <stdbool.h>
#include <swd/swd.h>

typedef struct live {
    bool terminal, shown;
    bool lines; /* for all processes of mpirun, which no terminal hears */
    double started_s, told_s;
    void (*tick)(void *user); /* called along with progress; set after live_begin; NULL: nothing */
    void *user;
} live;

/* l must live as long as ctx's calls; ctx may be NULL. A second Ctrl-C ends the program the hard way. */
void live_begin(live *l, swd_context *ctx);
void live_end(live *l); /* wipes the line */

/* For work that tells its progress another way: shows the line, and says whether Ctrl-C was pressed. */
int live_show(live *l, const char *line);
#endif
