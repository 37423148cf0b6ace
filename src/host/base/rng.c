// SPDX-License-Identifier: MIT
#include "base/rng.h"
#include "base/philox.h"
#include <math.h>

enum { MT_N = TORCH_RNG_STATE_WORDS, MT_M = 397, FILL_BLOCK = 16 };
static const double two_pi = 6.283185307179586476925286766559;

void torch_rng_seed(torch_rng *r, uint64_t seed)
{
    r->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < MT_N; i++)
        r->state[i] = 1812433253u * (r->state[i - 1] ^ (r->state[i - 1] >> 30)) + i;
    r->next = MT_N;
    r->has_normal = false;
    r->normal = 0;
}

static uint32_t mt_twist(uint32_t high, uint32_t low)
{
    uint32_t y = (high & 0x80000000u) | (low & 0x7fffffffu);
    return (y >> 1) ^ (low & 1 ? 0x9908b0dfu : 0);
}

static void mt_advance(uint32_t s[MT_N])
{
    for (int i = 0; i < MT_N; i++) s[i] = s[(i + MT_M) % MT_N] ^ mt_twist(s[i], s[(i + 1) % MT_N]);
}

uint32_t torch_rng_u32(torch_rng *r)
{
    if (r->next >= MT_N) {
        mt_advance(r->state);
        r->next = 0;
    }
    uint32_t y = r->state[r->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

static double uniform_double(torch_rng *r)
{
    uint64_t high = torch_rng_u32(r);
    uint64_t bits = high << 32 | torch_rng_u32(r);
    return (double)(bits & ((UINT64_C(1) << 53) - 1)) * 0x1p-53;
}

void torch_rng_rand(torch_rng *r, float *dst, int64_t n)
{
    for (int64_t i = 0; i < n; i++) dst[i] = (float)(torch_rng_u32(r) & 0xffffffu) * 0x1p-24f;
}

static double normal_double(torch_rng *r)
{
    if (r->has_normal) {
        r->has_normal = false;
        return r->normal;
    }
    double u1 = uniform_double(r), u2 = uniform_double(r);
    double radius = sqrt(-2 * log1p(-u2)), theta = two_pi * u1;
    r->normal = radius * sin(theta);
    r->has_normal = true;
    return radius * cos(theta);
}

// sin and cos of theta >= 0 as torch's vector code reduces it: pi/4 is a sum of three floats there, which shows in the last bits
// of results near zero (3 pi / 2). What is left after the reduction is within pi/4 of zero and any good function will do.
static void reduced_sin_cos(float *sine, float *cosine, float theta)
{
    const double quarter_pi =
        0.78515625 + 2.4187564849853515625e-4 + (double)3.77489497744594108e-8f;
    int j = ((int)(theta * 1.27323954473516f) + 1) & ~1; // multiples of pi/4, made even
    float rest = (float)((double)theta - j * quarter_pi);
    float s = (float)sin((double)rest), c = (float)cos((double)rest);
    int quadrant = j / 2 & 3;
    *sine = quadrant & 1 ? c : s;
    *cosine = quadrant & 1 ? s : c;
    if (quadrant & 2) *sine = -*sine;
    if ((quadrant + 1) & 2) *cosine = -*cosine;
}

// Box-Muller in place: pairs are (j, j + 8). log, radius, theta, sin and cos are rounded to float, as in torch.
static void normal_fill_16(float *x)
{
    for (int j = 0; j < FILL_BLOCK / 2; j++) {
        float radius = sqrtf(-2.0f * (float)log((double)(1.0f - x[j])));
        float s, c;
        reduced_sin_cos(&s, &c, (float)two_pi * x[j + FILL_BLOCK / 2]);
        x[j] = radius * c;
        x[j + FILL_BLOCK / 2] = radius * s;
    }
}

void torch_rng_randn(torch_rng *r, float *dst, int64_t n)
{
    if (n < FILL_BLOCK) {
        for (int64_t i = 0; i < n; i++) dst[i] = (float)normal_double(r);
        return;
    }
    torch_rng_rand(r, dst, n);
    for (int64_t i = 0; i + FILL_BLOCK <= n; i += FILL_BLOCK) normal_fill_16(dst + i);
    if (n % FILL_BLOCK != 0) {
        torch_rng_rand(r, dst + n - FILL_BLOCK, FILL_BLOCK);
        normal_fill_16(dst + n - FILL_BLOCK);
    }
}

void philox_randn(float *dst, int64_t n, int64_t first, uint64_t seed, uint32_t step)
{
    int64_t i = 0;
    while (i < n) {
        uint64_t e = (uint64_t)(first + i);
        float quad[4];
        philox_normal4(quad, seed, e / 4, step);
        for (uint64_t k = e % 4; k < 4 && i < n; k++) dst[i++] = quad[k];
    }
}
