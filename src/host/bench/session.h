/* SPDX-License-Identifier: MIT */
/* What every kind of measurement works with. */
#ifndef SWD_BENCH_SESSION_H
#define SWD_BENCH_SESSION_H
#include "bench/harness.h"
#include "pipeline/networks.h"
#include <swd/bench.h>

typedef struct session {
    bench *b;
    const swd_bench_params *params;
    swd_open_params open;
    pipeline p;
    int sides[SWD_BENCH_LIST_MAX], n_sides; /* pixels, as given or by default */
    int batches[SWD_BENCH_LIST_MAX], n_batches;
    int max_tokens;                  /* T5's share of the text */
    double peak_flop_s, peak_byte_s; /* nominal, of a GPU; 0: not known */
} session;

static inline const char *session_precision(const session *s)
{
    return s->p.compute == SWD_BF16 ? "bf16" : "f32";
}

/* Longer cases are not repeated. */
static inline double session_patience_s(const session *s)
{
    return 10 * (s->params->time_box_s > 0 ? s->params->time_box_s : 2);
}
#endif
