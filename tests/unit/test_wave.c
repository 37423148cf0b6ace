// SPDX-License-Identifier: MIT
// Batches one behind the other leave the wave with the bits that scalewise_sample() gives each of them alone.
#include "sample/wave.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { CHANNELS = 3, BATCH = 2, BATCHES = 5, STEPS = 3, SIDE = 8 };
static const sample_step steps[STEPS] = {{4, 2, 1.0f}, {4, 2, 0.8f}, {SIDE, 6, 0.45f}};
enum { PICTURE = CHANNELS * SIDE * 6 };

static swd_err error;

// A network that knows its step.
static swd_status velocity_of(swd_tensor v, swd_tensor x, int k, swd_exec *ex)
{
    return op_axpby(v, 0.25f + 0.5f * (float)k, x, 0, tensor_none(), ex);
}

static swd_status denoise(void *user, int k, swd_tensor v, swd_tensor x)
{
    return velocity_of(v, x, k, user);
}

static uint64_t seed_of(int batch, int image)
{
    return 100 + (uint64_t)(batch * BATCH + image);
}

static swd_status alone(float *out, int b, swd_exec *ex)
{
    noise_source *noise;
    uint64_t seeds[BATCH] = {seed_of(b, 0), seed_of(b, 1)};
    RUN(noise_create(&noise, false, BATCH, PICTURE, ex->err));
    noise_begin(noise, seeds, BATCH);
    size_t mark = exec_mark(ex);
    sample_args a = {
        .steps = steps, .n_steps = STEPS, .noise = noise, .user = ex, .denoise = denoise};
    swd_tensor x0 = exec4(ex, SWD_F32, BATCH, CHANNELS, SIDE, 6);
    swd_status s = sample_prepare(&a, BATCH, ex);
    if (s == SWD_OK) s = scalewise_sample(x0, &a, ex);
    if (s == SWD_OK && !ex->dry) memcpy(out, x0.data, BATCH * PICTURE * sizeof *out);
    exec_rewind(ex, mark);
    noise_destroy(&noise);
    return s;
}

static swd_status together(float *out, swd_exec *ex)
{
    size_t mark = exec_mark(ex);
    wave w;
    swd_tensor x0 = exec4(ex, SWD_F32, BATCH, CHANNELS, SIDE, 6);
    RUN(wave_alloc(&w, steps, STEPS, BATCH, CHANNELS, ex));
    for (int tick = 0; tick < BATCHES + STEPS - 1; tick++) {
        int first = tick < BATCHES ? 0 : tick - BATCHES + 1, last = tick < STEPS ? tick : STEPS - 1;
        uint64_t seeds[STEPS * BATCH] = {0};
        for (int k = first; k <= last; k++)
            for (int i = 0; i < BATCH; i++) seeds[k * BATCH + i] = seed_of(tick - k, i);
        RUN(wave_seeds(&w, seeds, ex));
        if (first == 0) RUN(wave_enter(&w, ex));
        for (int k = first; k <= last; k++) RUN(velocity_of(w.v[k], w.x[k], k, ex));
        RUN(wave_advance(x0, &w, first, last, ex));
        if (last == STEPS - 1 && !ex->dry)
            memcpy(out + (tick - last) * BATCH * PICTURE, x0.data, BATCH * PICTURE * sizeof *out);
    }
    exec_rewind(ex, mark);
    return SWD_OK;
}

static swd_exec slab_for(swd_backend *be, size_t bytes)
{
    swd_exec ex = {.backend = be, .err = &error, .act = SWD_F32, .slab_bytes = bytes};
    ex.slab = be->alloc(be, bytes);
    cr_assert_not_null(ex.slab);
    memset(ex.slab, 0xff, bytes); // NaN: what nobody wrote shows
    return ex;
}

Test(wave, as_alone)
{
    static float one[BATCH * PICTURE], all[BATCHES * BATCH * PICTURE];
    swd_backend *be;
    cr_assert_eq(backend_cpu_create(&be, 1, &error), SWD_OK);
    swd_exec dry = {.backend = be, .err = &error, .act = SWD_F32, .dry = true};
    cr_assert_eq(together(all, &dry), SWD_OK, "%s", error.message);
    cr_assert_eq(alone(one, 0, &dry), SWD_OK, "%s", error.message);
    swd_exec ex = slab_for(be, dry.peak);
    cr_assert_eq(together(all, &ex), SWD_OK, "%s", error.message);
    for (int b = 0; b < BATCHES; b++) {
        cr_assert_eq(alone(one, b, &ex), SWD_OK, "%s", error.message);
        cr_assert_eq(memcmp(one, all + b * BATCH * PICTURE, sizeof one), 0, "batch %d", b);
    }
    be->release(be, ex.slab);
    backend_destroy(&be);
}

Test(wave, too_many_steps)
{
    swd_backend *be;
    cr_assert_eq(backend_cpu_create(&be, 1, &error), SWD_OK);
    swd_exec dry = {.backend = be, .err = &error, .dry = true};
    wave w;
    cr_assert_eq(wave_alloc(&w, steps, WAVE_STEPS_MAX + 1, 1, 1, &dry), SWD_ERR_ARGUMENT);
    backend_destroy(&be);
}
