/* SPDX-License-Identifier: MIT */
/* What was measured as tables for people: columns that no case has a number for are left out. */
#ifndef SWD_BENCH_TABLES_H
#define SWD_BENCH_TABLES_H
#include "bench/harness.h"

/* The machine, how it was measured and the cases, for a terminal or as markdown. The caller frees *out. SWD_ERR_MEMORY. */
swd_status tables_text(char **out, const bench *b, bool markdown, swd_err *err);
/* One line about an entry as it is made, into buf; returns buf. */
char *tables_line(const bench_entry *e, char *buf, size_t n);

/* Entries of pictures are named "SIDE px: WHAT". The side, 0 if the name is another; *what: the rest. */
int tables_side(const char **what, const bench_entry *e);
#endif
