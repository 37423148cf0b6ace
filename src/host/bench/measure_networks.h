/* SPDX-License-Identifier: MIT */
/* The networks one by one, with inputs of their own: a step of the transformer, the autoencoder, the text encoders; and the ops that they
 * are made of. On the CPU oneDNN's own products stand beside them, in the same rounds (bench/yardstick.h): of the shapes of the linear
 * layers, where those are most of the work.
 *
 *     share = rate of the whole / yardstick        linear_share = rate of the linear layers / yardstick
 *
 * On a GPU the share is of the card's nominal peak. */
#ifndef SWD_BENCH_MEASURE_NETWORKS_H
#define SWD_BENCH_MEASURE_NETWORKS_H
#include "bench/session.h"

swd_status measure_step(session *s, swd_err *err);
swd_status measure_vae(session *s, swd_err *err);
swd_status measure_text(session *s, swd_err *err);
swd_status measure_ops(session *s, swd_err *err);
#endif
