// SPDX-License-Identifier: MIT
#include "sample/schedule.h"
#include <math.h>
#include <string.h>

// The teacher's table; sigma_min is a float32 in diffusers, the rest is double until the end.
#define SIGMA_MIN ((double)(3.0f * 0.001f / (1.0f + 2.0f * 0.001f)))
#define TABLE_S(i) (1 - (1 - SIGMA_MIN) * (i) / 27.0)
#define TABLE(i) ((double)(float)(3 * TABLE_S(i) / (1 + 2 * TABLE_S(i))))

static const schedule_preset presets[] = {
    {.name = "sd3.5-medium-6",
     .family = "sd3.5-medium",
     .n_steps = 6,
     .max_tokens = 512,
     .scales = {32, 48, 64, 80, 96, 128},
     .sigmas = {1, TABLE(4), TABLE(7), TABLE(12), TABLE(14), TABLE(18)}},
    {.name = "sd3.5-medium-4",
     .family = "sd3.5-medium",
     .n_steps = 4,
     .max_tokens = 512,
     .scales = {64, 80, 96, 128},
     .sigmas = {1, TABLE(7), TABLE(14), TABLE(18)}},
    {.name = "sd3.5-large-4",
     .family = "sd3.5-large",
     .n_steps = 4,
     .max_tokens = 512,
     .scales = {64, 80, 96, 128},
     .sigmas = {1, TABLE(7), TABLE(14), TABLE(18)}},
    {.name = "flux-4",
     .family = "flux",
     .n_steps = 4,
     .max_tokens = 512,
     .scales = {64, 80, 96, 128},
     .sigmas = {1, TABLE(7), TABLE(14), TABLE(18)}},
    {.name = "flux-4-paper",
     .family = "flux",
     .n_steps = 4,
     .max_tokens = 512,
     .scales = {32, 64, 96, 128},
     .sigmas = {1, .945, .790, .602}},
    {.name = "sdxl-4",
     .family = "sdxl",
     .n_steps = 4,
     .refused = "SDXL models are not supported",
     .scales = {64, 80, 96, 128},
     .sigmas = {1, .8, .6, .4}},
    {.name = "wan-4",
     .family = "wan",
     .n_steps = 4,
     .refused = "Wan video models are not supported",
     .scales = {20, 30, 40, 60},
     .widths = {34, 52, 70, 104},
     .frames = {6, 11, 16, 21},
     .sigmas = {1, TABLE(7), TABLE(14), TABLE(18)}},
};
enum { N_PRESETS = sizeof(presets) / sizeof(presets[0]) };

const schedule_preset *schedule_at(int i)
{
    return i >= 0 && i < N_PRESETS ? &presets[i] : NULL;
}

const schedule_preset *schedule_find(const char *name)
{
    for (int i = 0; name && i < N_PRESETS; i++)
        if (strcmp(presets[i].name, name) == 0) return &presets[i];
    return NULL;
}

static double tokens_of(const schedule_preset *p, int k)
{
    double height = p->scales[k], width = p->widths[k] ? p->widths[k] : height;
    return height * width * (p->frames[k] ? p->frames[k] : 1);
}

schedule_cost schedule_preset_cost(const schedule_preset *p)
{
    schedule_cost c = {0};
    for (int k = 0; k < p->n_steps; k++) {
        double r = tokens_of(p, k) / tokens_of(p, p->n_steps - 1);
        c.linear += r;
        c.quadratic += r * r;
    }
    return c;
}

static swd_status check_steps(const int *scales, const double *sigmas, int n, swd_err *err)
{
    if (n < 1 || n > SCHEDULE_STEPS_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a schedule of %d steps; give 1 to %d", n,
                        SCHEDULE_STEPS_MAX);
    for (int k = 0; k < n; k++) {
        if (scales[k] < 2 || scales[k] > SCHEDULE_SIDE_MAX || scales[k] % 2)
            return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                            "scale %d of the schedule is %d; latent sides are even, 2 to %d", k + 1,
                            scales[k], SCHEDULE_SIDE_MAX);
        if (k && scales[k] < scales[k - 1])
            return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                            "scale %d of the schedule is %d after %d; scales must not decrease",
                            k + 1, scales[k], scales[k - 1]);
        if (!(sigmas[k] > 0 && sigmas[k] <= 1))
            return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                            "sigma %d of the schedule is %g; it must lie in (0, 1]", k + 1,
                            sigmas[k]);
        if (k && !((float)sigmas[k] < (float)sigmas[k - 1]))
            return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                            "sigma %d of the schedule is %g after %g; sigmas must decrease", k + 1,
                            sigmas[k], sigmas[k - 1]);
    }
    if (sigmas[0] != 1)
        return SWD_FAIL(
            err, SWD_ERR_ARGUMENT,
            "the first sigma of the schedule is %g; it must be 1, for sampling starts from noise",
            sigmas[0]);
    return SWD_OK;
}

swd_status schedule_check(const int *scales, int n_scales, const double *sigmas, int n_sigmas,
                          swd_err *err)
{
    if (n_scales > 0 && n_sigmas - 1 == n_scales && sigmas[n_scales] == 0) n_sigmas--;
    if (n_scales != n_sigmas)
        return SWD_FAIL(
            err, SWD_ERR_ARGUMENT,
            "%d scales but %d sigmas; a schedule needs one sigma a scale (a trailing 0 aside)",
            n_scales, n_sigmas);
    return check_steps(scales, sigmas, n_scales, err);
}

int schedule_side(int side, int s_k, int s_last)
{
    if (s_k == s_last) return side;
    int64_t half = ((int64_t)side * s_k + s_last) / (2 * (int64_t)s_last);
    return half < 1 ? 2 : (int)(2 * half);
}

static swd_status check_euler(int steps, double shift, swd_err *err)
{
    if (steps < 1 || steps > SCHEDULE_EULER_STEPS_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "%d steps; give 1 to %d", steps,
                        SCHEDULE_EULER_STEPS_MAX);
    if (!(shift >= 1e-6 && shift <= 1e6))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT,
                        "a shift of %g; give a number from 0.000001 to 1000000", shift);
    return SWD_OK;
}

double schedule_dynamic_shift(int64_t tokens, const schedule_dynamic *d)
{
    double m = (d->max_shift - d->base_shift) / (d->max_tokens - d->base_tokens),
           b = d->base_shift - m * d->base_tokens, mu = (double)tokens * m + b;
    return d->linear ? mu : exp(mu);
}

// numpy computes in float32 throughout, its scalars rounded to that; dynamic shifting writes the same curve in another way.
swd_status schedule_linear(double *sigmas, int steps, double shift, bool dynamic, swd_err *err)
{
    SWD_TRY(check_euler(steps, shift, err), err);
    double last = 1.0 / steps, step = steps > 1 ? (last - 1.0) / (steps - 1) : 0;
    float k = (float)shift, k1 = (float)(shift - 1);
    for (int i = 0; i < steps; i++) {
        float s = (float)(i && i == steps - 1 ? last : i * step + 1.0);
        float shifted = dynamic ? k / (k + (1.0f / s - 1.0f)) : k * s / (1.0f + k1 * s);
        sigmas[i] = (double)shifted;
    }
    sigmas[steps] = 0;
    return SWD_OK;
}

// The constructor's shift, in float32 as torch does it.
static double shift_float(float s, double shift)
{
    float top = (float)shift * s, bottom = 1.0f + (float)(shift - 1) * s;
    return (double)(top / bottom);
}

swd_status schedule_euler(double *sigmas, int steps, double shift, swd_err *err)
{
    SWD_TRY(check_euler(steps, shift, err), err);
    double first = shift_float(1.0f, shift) * 1000,
           last = shift_float(1.0f / 1000.0f, shift) * 1000;
    double step = steps > 1 ? (last - first) / (steps - 1) : 0;
    for (int i = 0; i < steps; i++) {
        double t = i && i == steps - 1
                       ? last
                       : i * step + first; // numpy.linspace: the end point is put in exactly
        double s = t / 1000;
        sigmas[i] = (double)(float)(shift * s / (1 + (shift - 1) * s));
    }
    sigmas[steps] = 0;
    return SWD_OK;
}
