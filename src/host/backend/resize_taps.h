/* SPDX-License-Identifier: MIT */
/* One sample of the step between two scales, for C and for CUDA C++: the same bits everywhere.
 *
 *     x0 = x - sigma v        up = bicubic(x0)        y = (1 - sigma') up + sigma' eps
 *
 * The kernel and its borders are torch.nn.functional.interpolate(mode="bicubic", align_corners=False): Keys' cubic with
 * a = -0.75, 4 x 4 taps, indices clamped, weights not renormalised, values not clamped. Every product and every sum is rounded
 * by itself: the functions below keep nvcc from contracting them, the project's flags the host's compilers. */
#ifndef SWD_BACKEND_RESIZE_TAPS_H
#define SWD_BACKEND_RESIZE_TAPS_H
#include "base/philox.h"

#if defined(__CUDA_ARCH__)
#define RESIZE_MUL(a, b) __fmul_rn(a, b)
#define RESIZE_ADD(a, b) __fadd_rn(a, b)
#define RESIZE_DIV(a, b) __fdiv_rn(a, b)
#else
#define RESIZE_MUL(a, b) ((a) * (b))
#define RESIZE_ADD(a, b) ((a) + (b))
#define RESIZE_DIV(a, b) ((a) / (b))
#endif

typedef struct resize_taps {
    int at[4]; /* clamped to the source */
    float w[4];
} resize_taps;

/* ((p t + q) t + r) t + s */
SWD_HD float resize_cubic(float p, float q, float r, float s, float t)
{
    float v = RESIZE_ADD(RESIZE_MUL(p, t), q);
    v = RESIZE_ADD(RESIZE_MUL(v, t), r);
    return RESIZE_ADD(RESIZE_MUL(v, t), s);
}

/* Element dst of `out` ones sees four of `in`. */
SWD_HD resize_taps resize_taps_of(int dst, int in, int out)
{
    const float a = -0.75f;
    float scale = RESIZE_DIV((float)in, (float)out);
    float src = RESIZE_ADD(RESIZE_MUL(RESIZE_ADD((float)dst, 0.5f), scale), -0.5f);
    float base = floorf(src), t = RESIZE_ADD(src, -base);
    resize_taps k;
    k.w[0] = resize_cubic(a, -5.0f * a, 8.0f * a, -4.0f * a, RESIZE_ADD(t, 1.0f));
    k.w[1] = resize_cubic(a + 2.0f, -(a + 3.0f), 0.0f, 1.0f, t);
    k.w[2] = resize_cubic(a + 2.0f, -(a + 3.0f), 0.0f, 1.0f, RESIZE_ADD(1.0f, -t));
    k.w[3] = resize_cubic(a, -5.0f * a, 8.0f * a, -4.0f * a, RESIZE_ADD(2.0f, -t));
    for (int i = 0; i < 4; i++) {
        int p = (int)base - 1 + i;
        k.at[i] = p < 0 ? 0 : p >= in ? in - 1 : p;
    }
    return k;
}

/* value + weight * term */
SWD_HD float resize_tap(float value, float weight, float term)
{
    return RESIZE_ADD(value, RESIZE_MUL(weight, term));
}

SWD_HD float resize_x0(float x, float v, float sigma)
{
    return RESIZE_ADD(x, -RESIZE_MUL(sigma, v));
}

SWD_HD float resize_renoised(float value, float eps, float sigma_next)
{
    return RESIZE_ADD(RESIZE_MUL(RESIZE_ADD(1.0f, -sigma_next), value),
                      RESIZE_MUL(sigma_next, eps));
}
#endif
