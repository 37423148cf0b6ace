/* SPDX-License-Identifier: MIT */
/* Two sources of normal numbers.
 *
 * torch_rng: torch.Generator("cpu") with torch.randn(n) of float32, so that a seed gives diffusers' noise. Words and uniforms
 *     are exact, normals within 4 ulp of torch 2.9 (whose log, sin and cos differ between processors by that much).
 * philox_*:  normals as a pure function of (seed, step, element), the same bits on every processor (base/philox.h). */
#ifndef SWD_BASE_RNG_H
#define SWD_BASE_RNG_H
#include <stdbool.h>
#include <stdint.h>

enum { TORCH_RNG_STATE_WORDS = 624 };

/* Mersenne twister 19937 and the second half of the last scalar Box-Muller pair. A plain value: copy it to save the state. */
typedef struct torch_rng {
    uint32_t state[TORCH_RNG_STATE_WORDS];
    int next; /* index of the next word; TORCH_RNG_STATE_WORDS: the state must be advanced first */
    bool has_normal;
    double normal;
} torch_rng;

/* manual_seed(seed): the twister takes the low 32 bits only, as in torch. Forgets the cached normal. */
void torch_rng_seed(torch_rng *r, uint64_t seed);
uint32_t torch_rng_u32(torch_rng *r);
/* dst[n] = torch.rand(n): 24 random bits each, in [0, 1). */
void torch_rng_rand(torch_rng *r, float *dst, int64_t n);
/* dst[n] = torch.randn(n). Below 16 numbers torch draws them one by one in double and keeps the spare one of a pair for the
 * next small call; from 16 on it works in blocks of 16, and n that is no multiple draws the last 16 anew: two calls for n/2
 * numbers are not one call for n. */
void torch_rng_randn(torch_rng *r, float *dst, int64_t n);

/* dst[i] = element first + i of the image with this seed at this step, first >= 0. Any sub-range gives the same values. */
void philox_randn(float *dst, int64_t n, int64_t first, uint64_t seed, uint32_t step);
#endif
