/* SPDX-License-Identifier: MIT */
/* Schedules: which latent side and which noise level each step has.
 *
 * The sigmas of the SwD students are entries of the teacher's table of 28 steps: FlowMatchEulerDiscreteScheduler(shift = 3) of
 * diffusers, whose shift acts twice at the low end:
 *     sigma_min = 3 * 0.001 / (1 + 2 * 0.001)     s_i = 1 - (1 - sigma_min) i / 27     sigma_i = 3 s_i / (1 + 2 s_i) */
#ifndef SWD_SAMPLE_SCHEDULE_H
#define SWD_SAMPLE_SCHEDULE_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    SCHEDULE_PRESET_STEPS_MAX = 8,
    SCHEDULE_STEPS_MAX = 256,
    SCHEDULE_EULER_STEPS_MAX = 1000, /* as many as there are training timesteps */
    SCHEDULE_SIDE_MAX = 4096         /* latent */
};

/* Constant data of the library. */
typedef struct schedule_preset {
    const char *name;
    const char *family;  /* "sd3.5-medium", "sd3.5-large", "flux", "sdxl", "wan" */
    const char *refused; /* why no model here can run it; NULL if one can */
    int n_steps;
    int scales[SCHEDULE_PRESET_STEPS_MAX]; /* latent sides (wan: heights), non-decreasing */
    int widths[SCHEDULE_PRESET_STEPS_MAX]; /* where they differ from the heights, else 0 */
    int frames[SCHEDULE_PRESET_STEPS_MAX]; /* of video, else 0 */
    double sigmas
        [SCHEDULE_PRESET_STEPS_MAX]; /* float32 values where they come from the table; the final 0 is not listed */
    int max_tokens; /* length of the T5 prompt the student was trained with; 0: it says nothing */
} schedule_preset;

/* In units of one evaluation at the last size: the sum of the token counts (linear layers), and of their squares (attention). */
typedef struct schedule_cost {
    double linear, quadratic;
} schedule_cost;

const schedule_preset *schedule_find(const char *name); /* NULL if there is none */
const schedule_preset *schedule_at(int i); /* in the order of listing; NULL beyond the last */
schedule_cost schedule_preset_cost(const schedule_preset *p);

/* A schedule of the user's or of a file: 1 to SCHEDULE_STEPS_MAX steps; scales even, positive, non-decreasing, at most SCHEDULE_SIDE_MAX;
 * sigmas as many, a trailing 0 aside, strictly decreasing (as floats) in (0, 1], the first 1 (sampling starts from pure noise; a start
 * from a picture skips steps instead). SWD_ERR_ARGUMENT names the entry. */
swd_status schedule_check(const int *scales, int n_scales, const double *sigmas, int n_sigmas,
                          swd_err *err);

/* The side of scale s_k of a schedule that ends at s_last, when the last side is `side`: 2 * floor(side * s_k / s_last / 2 + 1/2), at
 * least 2; `side` itself at s_k = s_last. All positive, s_k <= s_last. */
int schedule_side(int side, int s_k, int s_last);

/* sigmas[steps + 1]: the float32 table of FlowMatchEulerDiscreteScheduler(shift).set_timesteps(steps), bit for bit, with its final 0.
 * 1 <= steps <= SCHEDULE_EULER_STEPS_MAX, shift positive and finite as a float; else SWD_ERR_ARGUMENT. */
swd_status schedule_euler(double *sigmas, int steps, double shift, swd_err *err);

/* The shift that FLUX's pipeline makes of the number of image tokens: exp(mu), or mu with time_shift_type linear; mu is base_shift at
 * base_tokens, max_shift at max_tokens and on the line through both elsewhere. */
typedef struct schedule_dynamic {
    double base_shift, max_shift;
    int base_tokens, max_tokens;
    bool linear;
} schedule_dynamic;
double schedule_dynamic_shift(int64_t tokens, const schedule_dynamic *d);
/* sigmas[steps + 1]: FLUX's, s = 1 down to 1 / steps in equal steps, bit for bit; then 0. Shifted as the scheduler does it: shift s / (1 + (shift -
 * 1) s), or where it is dynamic shift / (shift + 1 / s - 1), which differs in rounding alone. Limits as above. */
swd_status schedule_linear(double *sigmas, int steps, double shift, bool dynamic, swd_err *err);
#endif
