// SPDX-License-Identifier: MIT
#include "eval/features.h"
#include "base/memory.h"
#include "eval/clip_model.h"
#include "eval/inception_model.h"
#include "io/config_vision.h"
#include <string.h>

struct features {
    clip_model *clip; // one of the two
    inception_model *inception;
};

swd_status features_open(features **out, const char *dir, swd_backend *be, swd_dtype compute,
                         swd_err *err)
{
    features *f;
    char *config = NULL, type[64];
    *out = NULL;
    SWD_TRY(swd_calloc(&f, 1, sizeof(*f), "features", err), err);
    swd_status s = path_join(&config, dir, "config.json", err);
    if (s == SWD_OK) s = config_model_type(type, sizeof(type), config, err);
    if (s == SWD_OK)
        s = strcmp(type, CONFIG_INCEPTION_TYPE) == 0
                ? inception_model_open(&f->inception, dir, be, compute, err)
                : clip_model_open(&f->clip, dir, be, compute, err);
    free(config);
    if (s != SWD_OK) features_close(&f);
    *out = f;
    return s;
}

void features_close(features **f)
{
    if (!*f) return;
    clip_model_close(&(*f)->clip);
    inception_model_close(&(*f)->inception);
    free(*f);
    *f = NULL;
}

int features_dim(const features *f)
{
    return f->clip ? clip_model_dim(f->clip) : inception_model_dim(f->inception);
}

int features_pixels(const features *f)
{
    int side = f->clip ? clip_model_side(f->clip) : inception_model_side(f->inception);
    return 3 * side * side;
}

swd_status features_prepare(float *pixels, const image_rgb8 *image, const features *f, swd_err *err)
{
    if (f->clip) return clip_pixels(pixels, image, clip_model_processor(f->clip), err);
    inception_pixels(pixels, image, inception_model_side(f->inception));
    return SWD_OK;
}

swd_status features_of_pictures(float *rows, const float *pixels, int n, features *f, swd_err *err)
{
    return f->clip ? clip_model_pictures(rows, pixels, n, f->clip, err)
                   : inception_model_pictures(rows, pixels, n, f->inception, err);
}

bool features_have_text(const features *f)
{
    return f->clip && clip_model_has_text(f->clip);
}

swd_status features_of_prompts(float *rows, const char *const *prompts, int n, features *f,
                               swd_err *err)
{
    if (!f->clip) return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "Inception has no features of prompts");
    return clip_model_prompts(rows, prompts, n, f->clip, err);
}
