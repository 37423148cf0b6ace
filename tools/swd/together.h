/* SPDX-License-Identifier: MIT */
/* The processes that mpirun has started, for the commands that share their work: process 0 speaks for all. */
#ifndef TOOLS_SWD_TOGETHER_H
#define TOOLS_SWD_TOGETHER_H
#include <stdbool.h>
#include <swd/parallel.h>

/* An exit status; what went wrong is printed. */
int together_begin(void);
/* status: the command's; gives that of all. */
int together_end(int status);
swd_group *together(void); /* NULL: alone */
bool together_speaks(void);
/* What this process would say of a failure, for the one that speaks. */
void together_note_error(const char *text);
#endif
