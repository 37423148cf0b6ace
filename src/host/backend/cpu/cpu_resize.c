// SPDX-License-Identifier: MIT
// Between two scales: x0 = x - sigma v, bicubic upscale (Keys, a = -0.75), renoise.
//
//   y = (1 - sigma') * bicubic(x - sigma v) + sigma' * eps
//
// The kernel and its borders are torch.nn.functional.interpolate(mode="bicubic", align_corners=False): 4 x 4 taps, indices
// clamped, weights not renormalised, values not clamped.
#include "backend/cpu/cpu.h"
#include "base/rng.h"
#include <math.h>

typedef struct taps {
    int64_t at[4];
    float w[4];
} taps;

static taps taps_of(int64_t dst, int64_t in, int64_t out)
{
    const float a = -0.75f;
    float src = ((float)dst + 0.5f) * ((float)in / (float)out) - 0.5f, base = floorf(src),
          t = src - base;
    float far0 = t + 1.0f, near1 = 1.0f - t, far1 = 2.0f - t;
    taps k;
    k.w[0] = ((a * far0 - 5.0f * a) * far0 + 8.0f * a) * far0 - 4.0f * a;
    k.w[1] = ((a + 2.0f) * t - (a + 3.0f)) * t * t + 1.0f;
    k.w[2] = ((a + 2.0f) * near1 - (a + 3.0f)) * near1 * near1 + 1.0f;
    k.w[3] = ((a * far1 - 5.0f * a) * far1 + 8.0f * a) * far1 - 4.0f * a;
    for (int i = 0; i < 4; i++) {
        int64_t p = (int64_t)base - 1 + i;
        k.at[i] = p < 0 ? 0 : p >= in ? in - 1 : p;
    }
    return k;
}

static float x0_at(const float *x, const float *v, float sigma, int64_t i)
{
    return v ? x[i] - sigma * v[i] : x[i];
}

// One plane: y = weight * upscale(x0) + noise, noise already in y where sigma_next > 0.
static void resize_plane(float *y, int64_t oh, int64_t ow, const float *x, const float *v,
                         float sigma, int64_t h, int64_t w, float keep, float noise,
                         const float *eps)
{
    for (int64_t r = 0; r < oh; r++) {
        taps ty = taps_of(r, h, oh);
        for (int64_t c = 0; c < ow; c++) {
            float value;
            if (oh == h && ow == w) {
                value = x0_at(x, v, sigma, r * w + c);
            } else {
                taps tx = taps_of(c, w, ow);
                value = 0;
                for (int i = 0; i < 4; i++) {
                    float row = 0;
                    for (int j = 0; j < 4; j++)
                        row += tx.w[j] * x0_at(x, v, sigma, ty.at[i] * w + tx.at[j]);
                    value += ty.w[i] * row;
                }
            }
            y[r * ow + c] = eps ? keep * value + noise * eps[r * ow + c] : value;
        }
    }
}

static swd_status resize_renoise(swd_backend *b, const resize_renoise_args *a, swd_stream *s,
                                 swd_err *err)
{
    (void)b, (void)s, (void)err;
    int64_t c = a->x.shape[1], h = a->x.shape[2], w = a->x.shape[3], oh = a->y.shape[2],
            ow = a->y.shape[3];
    bool own_noise = a->sigma_next > 0 && !tensor_present(a->eps);
    const float *v = a->v.data, *given = a->sigma_next > 0 ? a->eps.data : NULL;
#pragma omp parallel for
    for (int64_t p = 0; p < a->x.shape[0] * c; p++) {
        float *y = (float *)a->y.data + p * oh * ow;
        const float *x = (const float *)a->x.data + p * h * w, *pv = v ? v + p * h * w : NULL;
        if (tensor_present(a->x0))
            for (int64_t i = 0; i < h * w; i++)
                ((float *)a->x0.data)[p * h * w + i] = x0_at(x, pv, a->sigma, i);
        if (own_noise) philox_randn(y, oh * ow, p % c * oh * ow, a->seeds[p / c], a->step);
        const float *eps = own_noise ? y : given ? given + p * oh * ow : NULL;
        resize_plane(y, oh, ow, x, pv, a->sigma, h, w, 1.0f - a->sigma_next, a->sigma_next, eps);
    }
    return SWD_OK;
}

static swd_status noise(swd_backend *b, swd_tensor y, const uint64_t *seeds, uint32_t step,
                        swd_stream *s, swd_err *err)
{
    (void)b, (void)s, (void)err;
    int64_t n = tensor_numel(y) / y.shape[0];
    for (int64_t i = 0; i < y.shape[0]; i++)
        philox_randn((float *)y.data + i * n, n, 0, seeds[i], step);
    return SWD_OK;
}

void cpu_resize_slots(swd_ops *ops)
{
    ops->resize_renoise = resize_renoise;
    ops->noise = noise;
}
