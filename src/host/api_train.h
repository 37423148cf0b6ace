/* SPDX-License-Identifier: MIT */
/* The public functions of swd/train.h: a model opened by the pipeline, a task and a session of train/. */
#ifndef SWD_API_TRAIN_H
#define SWD_API_TRAIN_H
#include <swd/train.h>
#endif
