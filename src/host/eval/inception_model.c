// SPDX-License-Identifier: MIT
#include "eval/inception_model.h"
#include "base/memory.h"
#include "model/inception.h"

struct inception_model {
    swd_backend *be;
    swd_dtype act;
    config_inception cfg;
    inception *net;
    void *slab;
    size_t slab_bytes;
};

swd_status inception_model_open(inception_model **out, const char *dir, swd_backend *be,
                                swd_dtype compute, swd_err *err)
{
    inception_model *m;
    char *config = NULL;
    weights *w = NULL;
    *out = NULL;
    SWD_TRY(swd_calloc(&m, 1, sizeof(*m), "Inception", err), err);
    m->be = be;
    m->act = compute;
    swd_status s = path_join(&config, dir, "config.json", err);
    if (s == SWD_OK) s = config_inception_read(&m->cfg, config, err);
    if (s == SWD_OK) s = weights_open(&w, dir, "model", err);
    if (s == SWD_OK) s = inception_create(&m->net, &m->cfg, w, be, compute, err);
    weights_close(&w);
    free(config);
    if (s != SWD_OK) inception_model_close(&m);
    *out = m;
    return s;
}

void inception_model_close(inception_model **out)
{
    inception_model *m = *out;
    if (!m) return;
    inception_destroy(&m->net);
    if (m->slab) m->be->release(m->be, m->slab);
    free(m);
    *out = NULL;
}

int inception_model_dim(const inception_model *m)
{
    return inception_dim(m->net);
}

int inception_model_side(const inception_model *m)
{
    return m->cfg.image_size;
}

/* Where output o lies among n inputs: between `first` and the next one (or itself at the end), by `part` of the way. */
static void locate(int *first, int *next, float *part, int o, int n, int side)
{
    float scale = (float)n / (float)side, at = ((float)o + 0.5f) * scale - 0.5f;
    if (at < 0) at = 0;
    *first = (int)at;
    *next = *first + 1 < n ? *first + 1 : *first;
    *part = at - (float)*first;
}

void inception_pixels(float *pixels, const image_rgb8 *image, int side)
{
    size_t row = (size_t)image->width * 3;
    for (int y = 0; y < side; y++) {
        int top, bottom, left, right;
        float down, across;
        locate(&top, &bottom, &down, y, image->height, side);
        const uint8_t *a = image->rgb + (size_t)top * row, *b = image->rgb + (size_t)bottom * row;
        for (int x = 0; x < side; x++) {
            locate(&left, &right, &across, x, image->width, side);
            for (int c = 0; c < 3; c++) {
                int l = 3 * left + c, r = 3 * right + c;
                float above = (1 - across) * (float)a[l] + across * (float)a[r],
                      below = (1 - across) * (float)b[l] + across * (float)b[r];
                *pixels++ = ((1 - down) * above + down * below) / 127.5f - 1;
            }
        }
    }
}

static swd_status run(float *rows, const float *pixels, int n, bool dry, size_t *peak,
                      inception_model *m, swd_err *err)
{
    swd_exec exec = {.backend = m->be,
                     .err = err,
                     .act = m->act,
                     .dry = dry,
                     .slab = dry ? NULL : m->slab,
                     .slab_bytes = dry ? 0 : m->slab_bytes},
             *ex = &exec;
    int side = m->cfg.image_size;
    swd_tensor in = exec4(ex, SWD_F32, n, side, side, 3),
               out = exec2(ex, SWD_F32, n, inception_dim(m->net));
    if (!dry) RUN(m->be->upload(m->be, in, pixels, NULL, err));
    RUN(inception_forward(out, in, m->net, ex));
    *peak = ex->peak;
    if (dry) return SWD_OK;
    RUN(m->be->download(m->be, rows, out, NULL, err));
    return m->be->synchronize(m->be, NULL, err);
}

swd_status inception_model_pictures(float *rows, const float *pixels, int n, inception_model *m,
                                    swd_err *err)
{
    size_t peak = 0;
    SWD_TRY(run(rows, pixels, n, true, &peak, m, err), err);
    if (peak > m->slab_bytes) {
        if (m->slab) m->be->release(m->be, m->slab);
        m->slab_bytes = 0;
        m->slab = m->be->alloc(m->be, peak);
        if (!m->slab)
            return SWD_FAIL(err, SWD_ERR_MEMORY, "%zu bytes for Inception's activations", peak);
        m->slab_bytes = peak;
    }
    return run(rows, pixels, n, false, &peak, m, err);
}
