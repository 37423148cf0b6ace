/* SPDX-License-Identifier: MIT */
/* api_bench.c defines what swd/bench.h declares. */
#ifndef SWD_API_BENCH_H
#define SWD_API_BENCH_H
#include <swd/bench.h>
#endif
