/* SPDX-License-Identifier: MIT */
/* Whole requests, from prompts to files. */
#ifndef SWD_BENCH_MEASURE_REQUESTS_H
#define SWD_BENCH_MEASURE_REQUESTS_H
#include "bench/session.h"

/* A picture by scales, beside as many and other numbers of steps at full resolution, with and without guidance; the same model and text,
 * interleaved, at each size. Time is that of the request without loading. Of the denoiser alone, round by round:
 *
 *     denoise_ratio = time(full) / time(scales)        efficiency = denoise_ratio / (FLOP(full) / FLOP(scales)) */
swd_status measure_e2e(session *s, swd_err *err);
/* Several pictures in a call, by batch, beside single requests: time of a picture. */
swd_status measure_throughput(session *s, swd_err *err);
#endif
