/* SPDX-License-Identifier: MIT */
/* Inputs and iterations of tests/goldens/train, as tools/reference/make_distill_goldens.py has them, for tests on any backend. */
#ifndef SWD_TESTS_DISTILL_GOLDENS_H
#define SWD_TESTS_DISTILL_GOLDENS_H
#include "files.h"
#include "io/safetensors.h"
#include "train/distill.h"
#include "train/optimizer.h"

enum { RANK = 2, ALPHA = 3, BLOCK = 1 };                /* of the adapters; what features are of */
enum { ITERATIONS = 3, STUDENT = 0, FAKE, HEAD, SETS }; /* of the loop; what learns */

/* The whole method. */
static const distill_config golden_method = {.kernel = MMD_HUBER,
                                             .features_of_fake = true,
                                             .block = BLOCK,
                                             .mmd = 1,
                                             .dmd = 0.7,
                                             .gan = 0.3,
                                             .discriminator = 0.2,
                                             .guidance = 3};

static inline swd_tensor golden_tensor(const safetensors *io, const char *prefix, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const st_tensor *t = safetensors_find(io, full);
    files_need(t != NULL, full);
    return tensor_make((void *)(uintptr_t)t->data, SWD_F32, t->shape, t->ndim);
}

static inline noise_input golden_noise(const safetensors *io, const char *prefix, const char *kind)
{
    char sigma[32], eps[32];
    snprintf(sigma, sizeof sigma, "sigma_%s", kind);
    snprintf(eps, sizeof eps, "eps_%s", kind);
    return (noise_input){golden_tensor(io, prefix, sigma).data, golden_tensor(io, prefix, eps)};
}

/* Latents and text of io, draws of another set of tensors. */
static inline distill_batch golden_batch(const safetensors *io, const safetensors *draws,
                                         const char *prefix)
{
    return (distill_batch){
        .low = golden_tensor(io, "", "low"),
        .target = golden_tensor(io, "", "target"),
        .text = {golden_tensor(io, "", "context"), golden_tensor(io, "", "pooled")},
        .empty = {golden_tensor(io, "", "context0"), golden_tensor(io, "", "pooled0")},
        .start = golden_noise(draws, prefix, "start"),
        .mmd = golden_noise(draws, prefix, "mmd"),
        .dmd = golden_noise(draws, prefix, "dmd"),
        .gan = golden_noise(draws, prefix, "gan")};
}

/* Of one of the sets in the loop: torch's defaults but for the decay, SwD's. */
static inline optimizer_config golden_optimizer(int set)
{
    return (optimizer_config){.rate = 1e-3,
                              .beta1 = 0.9,
                              .beta2 = 0.999,
                              .eps = 1e-8,
                              .weight_decay = 1e-2,
                              .clip = set == STUDENT ? 0.05 : 1.5};
}

/* Iteration i of the loop: two updates of fake model and head, one of the student. */
static inline swd_status golden_iteration(distill *d, optimizer *const o[SETS],
                                          const safetensors *io, const safetensors *loop, int i,
                                          swd_err *err)
{
    for (int k = 0; k < 3; k++) {
        distill_losses out;
        char prefix[16];
        snprintf(prefix, sizeof prefix, "%d/%d/", i, k);
        distill_batch b = golden_batch(io, loop, prefix);
        if (k < 2) {
            SWD_TRY(distill_fake(&out, d, &b, err), err);
            SWD_TRY(optimizer_step_together(o + FAKE, 2, 1, NULL, err), err);
        } else {
            SWD_TRY(distill_generator(&out, NULL, d, &b, err), err);
            SWD_TRY(optimizer_step(o[STUDENT], 1, NULL, err), err);
        }
    }
    return SWD_OK;
}
#endif
