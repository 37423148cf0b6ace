/* SPDX-License-Identifier: MIT */
/* What a session repeats: a step that learns, the tensors that it changes, and what comes out. The session knows nothing else of it, so
 * that it is tested with a problem of ten numbers. */
#ifndef SWD_TRAIN_TASK_H
#define SWD_TRAIN_TASK_H
#include "train/checkpoint.h"

enum { TASK_VALUES_MAX = 12 };

/* What a step tells: value 0 is the loss that curves and progress show. Values that are not numbers are left out of the log. */
typedef struct task_report {
    int scale; /* 0 ..: which of the task's scales */
    double rate;
    double value[TASK_VALUES_MAX];
} task_report;

typedef struct task {
    void *user;
    int n_values;
    const char *value_name[TASK_VALUES_MAX];
    int n_scales;
    const int *scale_side; /* [n_scales], for people */
    /* Step `step`, from 0: a pure function of the tensors, of step, of the config and of what identity stands for. */
    swd_status (*step)(void *user, int64_t step, task_report *out, swd_err *err);
    /* Of all that a step takes and neither the tensors nor the config hold: data, frozen weights. */
    uint64_t identity;
    /* All that a step changes. */
    const checkpoint_tensor *tensors;
    int n_tensors;
    swd_backend *be; /* of the tensors; NULL: the host's memory */
    /* The tensors were loaded, step steps are done. */
    swd_status (*loaded)(void *user, int64_t step, swd_err *err);
    /* Writes what was learnt into a folder that exists. */
    swd_status (*result)(void *user, const char *folder, swd_err *err);
    /* Pictures by what was learnt so far, as a file. NULL: none. */
    swd_status (*samples)(void *user, const char *path, swd_err *err);
} task;
#endif
