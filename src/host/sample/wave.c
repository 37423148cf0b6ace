// SPDX-License-Identifier: MIT
#include "sample/wave.h"
#include "base/memory.h"
#include <stdlib.h>

swd_status wave_alloc(wave *w, const sample_step *steps, int n_steps, int64_t batch,
                      int64_t channels, swd_exec *ex)
{
    if (n_steps < 1 || n_steps > WAVE_STEPS_MAX)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "%d steps at once; at most %d", n_steps,
                        WAVE_STEPS_MAX);
    *w = (wave){.steps = steps, .n_steps = n_steps, .batch = batch};
    for (int k = 0; k < n_steps; k++) {
        w->x[k] = exec4(ex, SWD_F32, batch, channels, steps[k].height, steps[k].width);
        w->v[k] = exec4(ex, SWD_F32, batch, channels, steps[k].height, steps[k].width);
    }
    w->draws = exec3(ex, SWD_U8, n_steps + 1, batch, sizeof(renoise_step));
    return SWD_OK;
}

// Row 0 is the start of the batch at step 0, row k + 1 what follows step k.
swd_status wave_seeds(const wave *w, const uint64_t *seeds, swd_exec *ex)
{
    int n = w->n_steps;
    renoise_step *host = NULL;
    if (ex->dry) return SWD_OK;
    RUN(swd_calloc(&host, (size_t)(n + 1) * (size_t)w->batch, sizeof(*host), "steps", ex->err));
    for (int k = 0; k <= n; k++)
        for (int64_t b = 0; b < w->batch; b++)
            host[k * w->batch + b] =
                (renoise_step){.seed = seeds[(k > 0 ? k - 1 : 0) * w->batch + b],
                               .draw = (uint32_t)k,
                               .sigma = k > 0 ? w->steps[k - 1].sigma : 0,
                               .sigma_next = k < n ? w->steps[k].sigma : 0};
    swd_status s = ex->backend->upload(ex->backend, w->draws, host, ex->stream, ex->err);
    free(host);
    return s;
}

static swd_tensor draw(const wave *w, int k)
{
    return tensor_reshape(tensor_slice(w->draws, 0, k, 1), w->draws.shape + 1, 2);
}

swd_status wave_enter(const wave *w, swd_exec *ex)
{
    return op_noise(w->x[0], draw(w, 0), ex);
}

// From behind: what a step's latents become lies where those of the next one were.
swd_status wave_advance(swd_tensor x0, const wave *w, int first, int last, swd_exec *ex)
{
    for (int k = last; k >= first; k--)
        RUN(op_resize_renoise(&(resize_renoise_args){.y = k + 1 < w->n_steps ? w->x[k + 1] : x0,
                                                     .x = w->x[k],
                                                     .v = w->v[k],
                                                     .steps = draw(w, k + 1)},
                              ex));
    return SWD_OK;
}
