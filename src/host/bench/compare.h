/* SPDX-License-Identifier: MIT */
/* Other programs on this machine on the same work, in turns with ours: the same shapes, steps and seed, as many threads; each tells its own
 * time or is watched by our clock. Nothing is downloaded: what is not given is left out. */
#ifndef SWD_BENCH_COMPARE_H
#define SWD_BENCH_COMPARE_H
#include "bench/session.h"

/* diffusers (python): pictures, warm. With program: also as processes, from their start to the finished file. stable-diffusion.cpp
 * (sd_cli): a step, and the decoding, from its own report. */
swd_status measure_compare(session *s, swd_err *err);
#endif
