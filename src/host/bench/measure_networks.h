/* SPDX-License-Identifier: MIT */
/* The networks one by one, with inputs of their own: a step of the transformer, the autoencoder, the text encoders; and the ops that they
 * are made of. On the CPU the products of linear layers stand beside oneDNN's own, in the same rounds:
 *
 *     yardstick = FLOP of the linear layers / (sum over shapes of count * time of oneDNN's product)
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
