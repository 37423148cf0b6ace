/* SPDX-License-Identifier: MIT */
/* The gradients of one step of training: flow matching from images; scale-wise distillation (SwD) of a student, and of the fake model and
 * discriminator that its full loss needs. Who calls owns data, order and optimizers: see docs/training.md.
 *
 *     student      x = (1 - sigma) bicubic(low) + sigma eps      x0 = x - sigma v(x)
 *     L = mmd L_MMD + dmd L_DMD + gan softplus(-logit(x0 noised))
 *     L_fake = |x_n - sigma_n v_fake(x_n) - x0|^2 + discriminator (softplus(logit(x0 noised)) + softplus(-logit(target noised)))
 *
 * All tensors of a batch are on the host and read during the call; gradients are added to the parameter sets' buffers. */
#ifndef SWD_TRAIN_DISTILL_H
#define SWD_TRAIN_DISTILL_H
#include "model/denoiser.h"
#include "train/head.h"
#include "train/losses.h"

/* A network with what it learns: NULL parameters are the frozen network (the teacher). Several may share one denoiser. */
typedef struct model {
    const denoiser *net;
    params *learnt;
} model;

typedef struct text_input {
    swd_tensor context, pooled; /* F32 [B, L, D], [B, P] */
} text_input;

/* A noise level for each sample, and the noise. */
typedef struct noise_input {
    const float *sigma; /* [B], 0 to 1 */
    swd_tensor eps;     /* F32, as the latents that are noised */
} noise_input;

typedef struct distill_config {
    mmd_kernel kernel;
    bool
        features_of_fake; /* the code's; else the teacher's, the paper's. The same while the fake model is at its start */
    int block; /* features are taken after it, from 0 */
    double mmd, dmd,
        gan; /* weights of the generator's terms; 0: left out. The last two need fake model (and head) */
    double discriminator;
    double guidance;        /* of the teacher in DMD */
    float network_guidance; /* an input of FLUX */
} distill_config;

typedef struct distill_batch {
    swd_tensor
        low; /* clean latents of the scale below (of the lowest scale: of its own), F32 [B, C, h', w'] */
    swd_tensor target; /* clean latents of this scale, F32 [B, C, h, w] */
    text_input text;
    text_input
        empty; /* the empty prompt, for the teacher's guidance; B of them; absent without DMD */
    noise_input start; /* of the student's input: one sigma for all */
    noise_input mmd, dmd, gan;
} distill_batch;

typedef struct distill {
    swd_backend *be;
    tape *t;
    swd_dtype act; /* storage of activations */
    distill_config c;
    model student, teacher, fake;
    head *head; /* NULL without GAN */
} distill;

typedef struct distill_losses { /* weighted; 0 where left out */
    double total, mmd, dmd, gan;
} distill_losses;

/* Adds the gradients of L to the student's parameters. x0 (may be NULL): F32 [B, C, h, w] on the host, the student's x0. */
swd_status distill_generator(distill_losses *out, float *x0, const distill *d,
                             const distill_batch *b, swd_err *err);
/* Adds those of L_fake to the fake model's and the head's (weight 0 or no head: without the discriminator). Of the batch: low, target,
 * text, start; gan is the noise of both terms. out->mmd: the fake model's error. */
swd_status distill_fake(distill_losses *out, const distill *d, const distill_batch *b,
                        swd_err *err);
/* mean of |v(x) - (eps - z)|^2, x = (1 - sigma) z + sigma eps: adds its gradients to the student's. */
swd_status distill_flow(double *loss, const distill *d, swd_tensor latents,
                        const noise_input *noise, const text_input *text, swd_err *err);
/* The memory that the largest of these would take. b: shapes are read, no data. */
swd_status distill_measure(tape_memory *out, const distill *d, const distill_batch *b,
                           swd_err *err);
#endif
