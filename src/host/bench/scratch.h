/* SPDX-License-Identifier: MIT */
/* A folder for the files that measured requests write; it goes with them. */
#ifndef SWD_BENCH_SCRATCH_H
#define SWD_BENCH_SCRATCH_H
#include "base/status.h"

enum { SCRATCH_PATH_MAX = 64 };

/* Writes its path; it is empty. */
swd_status scratch_make(char folder[SCRATCH_PATH_MAX], swd_err *err);
/* Removes what is in it, and the folder. */
void scratch_remove(const char *folder);
#endif
