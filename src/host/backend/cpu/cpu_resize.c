// SPDX-License-Identifier: MIT
// Between two scales: x0 = x - sigma v, bicubic upscale (Keys, a = -0.75), renoise.
//
//   y = (1 - sigma') * bicubic(x - sigma v) + sigma' * eps
//
// The arithmetic of a sample stands in backend/resize_taps.h, which the CUDA kernel shares.
#include "backend/cpu/cpu.h"
#include "backend/resize_taps.h"
#include "base/rng.h"

static float x0_at(const float *x, const float *v, float sigma, int64_t i)
{
    return v ? resize_x0(x[i], v[i], sigma) : x[i];
}

// x0 between the pixels of a plane of width w.
static float bicubic_at(const float *x, const float *v, float sigma, int64_t w, resize_taps ty,
                        resize_taps tx)
{
    float value = 0;
    for (int i = 0; i < 4; i++) {
        float row = 0;
        for (int j = 0; j < 4; j++)
            row = resize_tap(row, tx.w[j], x0_at(x, v, sigma, ty.at[i] * w + tx.at[j]));
        value = resize_tap(value, ty.w[i], row);
    }
    return value;
}

// One plane; eps may lie in y.
static void resize_plane(float *y, int64_t oh, int64_t ow, const float *x, const float *v,
                         float sigma, int64_t h, int64_t w, float sigma_next, const float *eps)
{
    for (int64_t r = 0; r < oh; r++) {
        resize_taps ty = resize_taps_of((int)r, (int)h, (int)oh);
        for (int64_t c = 0; c < ow; c++) {
            int64_t at = r * ow + c;
            float value = oh == h && ow == w ? x0_at(x, v, sigma, at)
                                             : bicubic_at(x, v, sigma, w, ty,
                                                          resize_taps_of((int)c, (int)w, (int)ow));
            y[at] = eps ? resize_renoised(value, eps[at], sigma_next) : value;
        }
    }
}

static swd_status resize_renoise(swd_backend *b, const resize_renoise_args *a, swd_stream *s,
                                 swd_err *err)
{
    (void)b, (void)s, (void)err;
    int64_t c = a->x.shape[1], h = a->x.shape[2], w = a->x.shape[3], oh = a->y.shape[2],
            ow = a->y.shape[3];
    const renoise_step *steps = a->steps.data;
    const float *v = a->v.data, *given = a->eps.data;
#pragma omp parallel for
    for (int64_t p = 0; p < a->x.shape[0] * c; p++) {
        renoise_step step = steps[p / c];
        float *y = (float *)a->y.data + p * oh * ow;
        const float *x = (const float *)a->x.data + p * h * w, *pv = v ? v + p * h * w : NULL,
                    *eps = NULL;
        if (tensor_present(a->x0))
            for (int64_t i = 0; i < h * w; i++)
                ((float *)a->x0.data)[p * h * w + i] = x0_at(x, pv, step.sigma, i);
        if (step.sigma_next > 0) {
            eps = given ? given + p * oh * ow : y;
            if (!given) philox_randn(y, oh * ow, p % c * oh * ow, step.seed, step.draw);
        }
        resize_plane(y, oh, ow, x, pv, step.sigma, h, w, step.sigma_next, eps);
    }
    return SWD_OK;
}

static swd_status noise(swd_backend *b, swd_tensor y, swd_tensor steps, swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    int64_t n = tensor_numel(y) / y.shape[0];
    const renoise_step *step = steps.data;
    for (int64_t i = 0; i < y.shape[0]; i++)
        philox_randn((float *)y.data + i * n, n, 0, step[i].seed, step[i].draw);
    return SWD_OK;
}

void cpu_resize_slots(swd_ops *ops)
{
    ops->resize_renoise = resize_renoise;
    ops->noise = noise;
}
