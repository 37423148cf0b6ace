/* SPDX-License-Identifier: MIT */
/* log.jsonl, and the curves made of it. A line: {"step": 20, "loss": ..., ..., "scales": {"4": ..., "8": ...}, "rate": ..., "seconds": ...};
 * values are means over the steps since the line before. */
#ifndef SWD_TRAIN_SESSION_LOG_H
#define SWD_TRAIN_SESSION_LOG_H
#include "train/task.h"

typedef struct session_log session_log;

/* Lines behind step `after` are of steps that will be done again: they are dropped. path.svg... curves: the picture's path. */
swd_status session_log_open(session_log **out, const char *path, const char *curves,
                            const task *work, int64_t after, swd_err *err);
void session_log_close(session_log **l);
/* One step; seconds is how long it took. */
void session_log_add(session_log *l, const task_report *r, double seconds);
/* Writes the line of what was added, if anything was. step: how many are done. */
swd_status session_log_line(session_log *l, int64_t step, swd_err *err);
swd_status session_log_plot(const session_log *l, swd_err *err);
#endif
