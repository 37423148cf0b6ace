/* SPDX-License-Identifier: MIT */
/* What distill_task.c and distill_result.c share. */
#ifndef SWD_TRAIN_DISTILL_PARTS_H
#define SWD_TRAIN_DISTILL_PARTS_H
#include "train/distill_task.h"

enum { LEARNER_STUDENT, LEARNER_FAKE, LEARNER_HEAD, LEARNERS };
enum { TASK_LEVELS = 28 }; /* of the teacher's table */
enum { NOISE_START, NOISE_MMD, NOISE_DMD, NOISE_GAN, TASK_NOISES };

typedef struct learner {
    params *p; /* the head's belong to it */
    optimizer *o;
    optimizer_config config;
} learner;

struct distill_task {
    task task;
    distill_setup setup;
    const swd_train_params *p;
    int micro, n_micro; /* samples of a micro-batch, micro-batches of a batch ... */
    int first, end;     /* ... and which of them are this process' */
    int n_noises;       /* the first of those below: as many as the mode takes */
    batches order;
    tape *tape;
    learner learner[LEARNERS];
    head *head;
    lora_config lora;
    distill d;
    checkpoint_tensor tensors[LEARNERS * 4];
    double table[TASK_LEVELS + 1]; /* noise levels */
    /* a micro-batch on the host */
    float *target, *low, *context, *pooled, *empty, *empty_pooled;
    float *eps[TASK_NOISES], *sigma[TASK_NOISES];
};

/* Numbers of one sample's latents at scale k. */
static inline int64_t latent_numbers(const distill_task *t, int k)
{
    return (int64_t)t->setup.channels * t->setup.scales[k] * t->setup.scales[k];
}

/* Adapter, or a transformer's folder; with swd.json. */
swd_status distill_result_write(distill_task *t, const char *folder, swd_err *err);
#endif
