/* SPDX-License-Identifier: MIT */
/* What both autoencoders share: weights of convolutions, and three regions of the slab that feature maps move between. */
#ifndef SWD_MODEL_MAPS_H
#define SWD_MODEL_MAPS_H
#include "backend/ops.h"
#include "weights/weights.h"

typedef struct map_source { /* where a model's weights come from and go to */
    weights *w;
    swd_backend *be;
    swd_dtype compute;
    swd_err *err;
} map_source;

typedef struct
    map_conv { /* of one convolution; file_out > out: only the first rows of the file's weight are kept (0: all) */
    int in, out, file_out, kernel, stride, pad_before, pad_after;
    bool upsample2x, no_bias;
} map_conv;

/* name.weight [out, in, k, k] and name.bias, packed. */
swd_status map_conv_load(swd_conv **out, const map_conv *c, const char *name, const map_source *s);
/* name.weight [n, k] and name.bias, packed. */
swd_status map_linear_load(swd_linear **out, int n, int k, const char *name, const map_source *s);
/* The vector called name, F32 [n], in memory of the backend: released with be->release(be, out->data). */
swd_status map_vector_load(swd_tensor *out, int n, const char *name, const map_source *s);
/* name + suffix into buf of n bytes. */
swd_status map_name(char *buf, size_t n, swd_err *err, const char *fmt, ...) SWD_PRINTF(4, 5);

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
#endif
