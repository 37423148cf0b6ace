/* SPDX-License-Identifier: MIT */
/* A session: steps of a task with everything around them. In the output folder:
 *
 *     config.json                every key as it was used
 *     log.jsonl                  a line for each log_every steps: means of the losses, in all and by scale, rate, seconds
 *     loss.svg                   the loss by scale
 *     samples/step-00000500.png  sheets
 *     checkpoints/               checkpoint.h; each holds result/, what was learnt until then
 *     result/                    at the end
 *
 * A session that goes on (resume) does what it would have done: its tensors after step N are the same bits however often it was stopped or
 * killed, and the log has each line once. Where several processes train together (params->group) process 0 writes. */
#ifndef SWD_TRAIN_SESSION_H
#define SWD_TRAIN_SESSION_H
#include "base/log.h"
#include "train/task.h"
#include <swd/train.h>

typedef struct session_args {
    const swd_train_params *params; /* checked */
    const task *task;
    const swd_log *log;
} session_args;

/* The output folder as an earlier session left it: fails if there are checkpoints and params say nothing of going on, or were others.
 * Makes the folder. To be called before anything costly. */
swd_status session_prepare(const swd_train_params *params, swd_err *err);
/* To a message about memory that is out: which key to lower. SWD_ERR_MEMORY. */
swd_status session_tell_memory(const swd_train_params *params, swd_err *err);
/* SWD_ERR_CANCELLED: the progress callback stopped it; a checkpoint was saved. out may be NULL. */
swd_status session_run(swd_train_result *out, const session_args *args, swd_err *err);
#endif
