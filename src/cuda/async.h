/* SPDX-License-Identifier: MIT */
/* Streams, events, graphs and pinned memory of the CUDA backend. */
#ifndef SWD_CUDA_ASYNC_H
#define SWD_CUDA_ASYNC_H
#include "backend/backend.h"

extern const swd_async cuda_async;
#endif
