/* SPDX-License-Identifier: MIT */
/* What was measured as one JSON document, schema 1 (docs/benchmarks.md). */
#ifndef SWD_BENCH_DOCUMENT_H
#define SWD_BENCH_DOCUMENT_H
#include "bench/harness.h"

enum { BENCH_SCHEMA = 1 };

/* program: "swd bench step". The whole text, the caller's to free; SWD_ERR_MEMORY. */
swd_status document_text(char **out, const bench *b, const char *program, swd_err *err);
#endif
