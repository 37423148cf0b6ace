/* SPDX-License-Identifier: MIT */
/* What a class of denoising networks brings: its file fills one table, whose slots do what model/denoiser.h says of the functions of those
 * names, and its networks begin with a denoiser, which holds what all of them have. */
#ifndef SWD_MODEL_DENOISER_CLASS_H
#define SWD_MODEL_DENOISER_CLASS_H
#include "model/denoiser.h"

typedef struct denoiser_class {
    const char *name; /* of diffusers */
    size_t bytes;     /* of a network */
    swd_status (*read)(config_denoiser *out, const char *path, swd_err *err);
    denoiser_facts (*facts)(const config_denoiser *c);
    void (*describe)(const config_denoiser *c, char *buf, size_t n);
    /* Into d, whose bytes are zero but for what denoiser.c knows; streamed: as load_modulations() has it. */
    void (*load)(loader *l, denoiser *d, const config_denoiser *c, bool streamed);
    float (*timestep)(float sigma);
    swd_status (*forward)(swd_tensor velocity, swd_tensor latents, const conditions *c,
                          int64_t first_row, const denoiser *d, swd_exec *ex);
    double (*flops)(const denoiser *d, int64_t batch, int64_t h, int64_t w, int64_t text_tokens);
    /* NULL: images at different steps do not share a pass */
    swd_status (*forward_mixed)(const mixed_batch *mix, const conditions *c, const denoiser *d,
                                swd_exec *ex);
    /* NULL: is not trained */
    swd_status (*forward_features)(swd_tensor velocity, swd_tensor features, int after,
                                   swd_tensor latents, const conditions *c, int64_t first_row,
                                   const denoiser *d, swd_exec *ex);
} denoiser_class;

struct denoiser {
    const denoiser_class *class;
    holdings held;
    int64_t width; /* of tokens inside; load sets it, and what follows */
    int patch;
    swd_linear *context; /* embeds it */
    embedder embedder;
    modulations modulations;
};
#endif
