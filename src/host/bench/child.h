/* SPDX-License-Identifier: MIT */
/* Another program as a contestant: started, spoken to line by line, stopped, its memory read. */
#ifndef SWD_BENCH_CHILD_H
#define SWD_BENCH_CHILD_H
#include "base/status.h"

typedef struct child child;

/* argv ends with NULL; argv[0] is looked for in PATH. What it writes to stdout, and to stderr if merge_stderr, is read with child_read;
 * else stderr is ours. */
swd_status child_start(child **out, char *const argv[], int merge_stderr, swd_err *err);
/* A short line to its stdin; SWD_ERR_DEVICE where it does not read any more. */
swd_status child_write(child *c, const char *line, swd_err *err);
/* Its next line without the newline, cut at n. A carriage return ends a line too (progress bars). SWD_ERR_DEVICE at the end. */
swd_status child_read(child *c, char *line, size_t n, swd_err *err);
/* Reads until a line that holds text; the line is in buf. */
swd_status child_read_until(child *c, char *buf, size_t n, const char *text, swd_err *err);
double child_peak_bytes(const child *c); /* most memory it had resident so far */
/* Closes its stdin, or ends it at once (kill_it), waits; writes NULL. An exit status other than 0 is SWD_ERR_DEVICE, unless it was
 * killed. Accepts NULL. */
swd_status child_stop(child **c, int kill_it, swd_err *err);
#endif
