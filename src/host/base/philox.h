/* SPDX-License-Identifier: MIT */
/* Philox 4x32-10 and normals from it, for C and for CUDA C++: the same bits everywhere. (Salmon et al., "Parallel random
 * numbers: as easy as 1, 2, 3", SC 2011.)
 *
 *     words w0..w3 = philox(counter, key)
 *     u = (w0 + 1/2) / 2^32        angle = 2 pi w1 / 2^32        radius = sqrt(-2 log u)
 *     normals: radius cos, radius sin; then the same from w2, w3.       |normal| < 6.8
 *
 * log, sin and cos are polynomials of our own. Every product that meets a sum is an explicit fmaf, so that no compiler can
 * contract an expression differently from another; sqrtf is correctly rounded by IEEE 754. */
#ifndef SWD_BASE_PHILOX_H
#define SWD_BASE_PHILOX_H
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define SWD_HD static __host__ __device__ __forceinline__
#else
#define SWD_HD static inline
#endif

SWD_HD void philox_4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0],
             k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c0 = n0;
        c1 = (uint32_t)b;
        c2 = n2;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Natural logarithm of a normal float u > 0, within 2 ulp.
 * u = m 2^e with m in [sqrt(1/2), sqrt(2)), f = m - 1:  log u = e ln 2 + f + f^2 p(f). */
SWD_HD float philox_log(float u)
{
    uint32_t bits;
    memcpy(&bits, &u, sizeof bits);
    uint32_t shifted = bits - 0x3f3504f3u; /* sqrt(1/2) */
    int32_t e = (int32_t)shifted >> 23;
    uint32_t mantissa = (shifted & 0x007fffffu) + 0x3f3504f3u;
    float m;
    memcpy(&m, &mantissa, sizeof m);
    float f = m - 1.0f, k = (float)e;
    float p = 0x1.1c57dap-4f;
    p = fmaf(p, f, -0x1.dd7416p-4f);
    p = fmaf(p, f, 0x1.e2dfa4p-4f);
    p = fmaf(p, f, -0x1.fc0442p-4f);
    p = fmaf(p, f, 0x1.237dfcp-3f);
    p = fmaf(p, f, -0x1.555f6p-3f);
    p = fmaf(p, f, 0x1.99a136p-3f);
    p = fmaf(p, f, -0x1.fffff4p-3f);
    p = fmaf(p, f, 0x1.55554ep-2f);
    p = fmaf(p, f, -0.5f);
    /* 0x1.62e4p-1 has 15 bits: its product with k is exact; the rest of ln 2 goes with the small terms. */
    float small = fmaf(f * f, p, k * 0x1.7f7d1cp-20f);
    return fmaf(k, 0x1.62e4p-1f, f + small);
}

/* cos and sin of 2 pi w / 2^32, absolute error under 1.2e-7. The quadrant is taken off in integers, exactly. */
SWD_HD void philox_cos_sin(float *cosine, float *sine, uint32_t w)
{
    uint32_t quadrant = (w + 0x20000000u) >> 30;
    float a = (float)(int32_t)(w - (quadrant << 30)) * 0x1.921fb6p-30f; /* in [-pi/4, pi/4] */
    float z = a * a;
    float s = fmaf(-0x1.9aca02p-13f, z, 0x1.110c2ap-7f);
    s = fmaf(s, z, -0x1.555552p-3f);
    s = fmaf(a * z, s, a);
    float c = fmaf(0x1.9bd8d2p-16f, z, -0x1.6c12d4p-10f);
    c = fmaf(c, z, 0x1.555554p-5f);
    c = fmaf(c, z, -0.5f);
    c = fmaf(c, z, 1.0f);
    float x = quadrant & 1 ? s : c, y = quadrant & 1 ? c : s;
    *cosine = (quadrant + 1) & 2 ? -x : x;
    *sine = quadrant & 2 ? -y : y;
}

SWD_HD void philox_box_muller(float out[2], uint32_t w0, uint32_t w1)
{
    float u = fmaf((float)w0, 0x1p-32f, 0x1p-33f); /* in [2^-33, 1] */
    float c, s;
    philox_cos_sin(&c, &s, w1);
    float radius = sqrtf(-2.0f * philox_log(u));
    out[0] = radius * c;
    out[1] = radius * s;
}

/* Elements 4 * block ... 4 * block + 3 of the image with this seed at this step. */
SWD_HD void philox_normal4(float out[4], uint64_t seed, uint64_t block, uint32_t step)
{
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), step, 0};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t w[4];
    philox_4x32(w, counter, key);
    philox_box_muller(out, w[0], w[1]);
    philox_box_muller(out + 2, w[2], w[3]);
}
#endif
