/* SPDX-License-Identifier: MIT */
/* Which source this is; apart from machine.h, which wants oneDNN, for programs that go to machines without it (tools/gpu_check). */
#ifndef SWD_BENCH_SOURCE_H
#define SWD_BENCH_SOURCE_H

const char *source_revision(void); /* `git describe`; static */
#endif
