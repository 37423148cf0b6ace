// SPDX-License-Identifier: MIT
// The regions of the slab that feature maps move between.
#include "model/maps.h"
#include <assert.h>

swd_tensor maps_place(maps *m, int ahead, swd_dtype dtype, int64_t b, int64_t h, int64_t w,
                      int64_t c)
{
    int i = (m->at + ahead) % MAP_REGIONS;
    swd_tensor t = tensor4(m->ex->dry ? NULL : m->base[i], dtype, b, h, w, c);
    size_t bytes = tensor_bytes(t);
    if (m->ex->dry && bytes > m->need[i]) m->need[i] = bytes;
    assert(bytes <= m->need[i] && "the regions were measured with other shapes");
    return t;
}

void maps_move(maps *m, int ahead)
{
    m->at = (m->at + ahead) % MAP_REGIONS;
}

swd_status maps_run(swd_status (*fn)(swd_tensor y, swd_tensor x, const void *model, maps *m),
                    swd_tensor y, swd_tensor x, const void *model, swd_exec *ex)
{
    swd_exec probe = *ex;
    probe.dry = true;
    maps m = {.ex = &probe};
    SWD_TRY(fn(y, x, model, &m), ex->err);
    size_t mark = exec_mark(ex);
    for (int i = 0; i < MAP_REGIONS; i++) m.base[i] = exec1(ex, SWD_U8, (int64_t)m.need[i]).data;
    m.ex = ex;
    m.at = 0;
    swd_status s = fn(y, x, model, &m);
    exec_rewind(ex, mark);
    SWD_TRY(s, ex->err);
    return SWD_OK;
}

swd_status maps_check(swd_tensor image, int channels, swd_tensor latents, int latent_channels,
                      int n_blocks, swd_exec *ex)
{
    int64_t f = (int64_t)1 << (n_blocks - 1);
    char ti[96], tl[96];
    if (latents.ndim == 4 && latents.dtype == SWD_F32 && latents.shape[1] == latent_channels &&
        latents.shape[0] > 0 && latents.shape[2] > 0 && latents.shape[3] > 0 && image.ndim == 4 &&
        (image.dtype == SWD_F32 || (image.dtype == SWD_U8 && channels == 3)) &&
        image.shape[0] == latents.shape[0] && image.shape[1] == f * latents.shape[2] &&
        image.shape[2] == f * latents.shape[3] && image.shape[3] == channels)
        return SWD_OK;
    return SWD_FAIL(
        ex->err, SWD_ERR_ARGUMENT,
        "an autoencoder of %d latent channels and factor %d has no picture %s for latents %s",
        latent_channels, (int)f, tensor_describe(image, ti, sizeof ti),
        tensor_describe(latents, tl, sizeof tl));
}
