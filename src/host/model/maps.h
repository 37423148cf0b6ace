/* SPDX-License-Identifier: MIT */
/* What both autoencoders run in: three regions of the slab that feature maps move between. */
#ifndef SWD_MODEL_MAPS_H
#define SWD_MODEL_MAPS_H
#include "backend/ops.h"

enum { MAP_REGIONS = 3 };

/* Maps live in three regions. maps_run calls fn twice: dry, to learn how large each region gets, then in earnest. */
typedef struct maps {
    swd_exec *ex;
    unsigned char *base[MAP_REGIONS];
    size_t need[MAP_REGIONS];
    int at; /* the region of the current map; the others are free */
} maps;

/* A map in the region `ahead` places after the current one, overwriting what was there. */
swd_tensor maps_place(maps *m, int ahead, swd_dtype dtype, int64_t b, int64_t h, int64_t w,
                      int64_t c);
/* The region `ahead` places after the current one becomes the current one. */
void maps_move(maps *m, int ahead);
swd_status maps_run(swd_status (*fn)(swd_tensor y, swd_tensor x, const void *model, maps *m),
                    swd_tensor y, swd_tensor x, const void *model, swd_exec *ex);

/* Do a picture (U8 or F32 [B, f h, f w, channels], U8 only for 3) and latents (F32 [B, latent_channels, h, w]) belong together, f being
 * 2^(n_blocks - 1)? SWD_ERR_ARGUMENT if not. */
swd_status maps_check(swd_tensor image, int channels, swd_tensor latents, int latent_channels,
                      int n_blocks, swd_exec *ex);
#endif
