// SPDX-License-Identifier: MIT
/* P(ring) = mean over the ring of |FFT2(z)|^2 / (h w). FFTW computes half of the plane, since that of a real input is symmetric: a
 * coefficient off the edges of that half counts twice. */
#include "eval/spectrum.h"
#include "base/memory.h"
#include <fftw3.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

struct spectrum {
    int height, width, bins;
    int64_t planes;
    double *in, *sum; // sum[bins]
    fftw_complex *out;
    fftw_plan plan;
    int *ring;      // [height * (width / 2 + 1)]: -1 is beyond the last, or the mean
    double *weight; // of a ring: 1 / (its coefficients * h w)
};

// FFTW's planner, unlike its plans, is for one thread at a time.
static pthread_mutex_t planner = PTHREAD_MUTEX_INITIALIZER;

static void place_rings(spectrum *s)
{
    int side = s->height < s->width ? s->height : s->width, half = s->width / 2 + 1;
    for (int y = 0; y < s->height; y++) {
        double fy = (double)(y <= s->height / 2 ? y : s->height - y) * side / s->height;
        for (int x = 0; x < half; x++) {
            double fx = (double)x * side / s->width;
            int ring = (int)floor(hypot(fx, fy) + 0.5);
            bool counts = ring >= 1 && ring <= s->bins;
            s->ring[y * half + x] = counts ? ring - 1 : -1;
            bool twice = x > 0 && 2 * x != s->width;
            if (counts) s->weight[ring - 1] += twice ? 2 : 1;
        }
    }
    for (int i = 0; i < s->bins; i++)
        s->weight[i] = 1 / (s->weight[i] * (double)s->height * (double)s->width);
}

static swd_status prepare(spectrum *s, swd_err *err)
{
    size_t half = (size_t)s->height * (size_t)(s->width / 2 + 1), bins = (size_t)s->bins;
    SWD_TRY(swd_calloc(&s->ring, half, sizeof(*s->ring), "a spectrum", err), err);
    SWD_TRY(swd_calloc(&s->sum, bins, sizeof(*s->sum), "a spectrum", err), err);
    SWD_TRY(swd_calloc(&s->weight, bins, sizeof(*s->weight), "a spectrum", err), err);
    place_rings(s);
    s->in = fftw_alloc_real((size_t)s->height * (size_t)s->width);
    s->out = fftw_alloc_complex(half);
    if (!s->in || !s->out) return SWD_FAIL(err, SWD_ERR_MEMORY, "out of memory for a spectrum");
    pthread_mutex_lock(&planner);
    s->plan = fftw_plan_dft_r2c_2d(s->height, s->width, s->in, s->out, FFTW_ESTIMATE);
    pthread_mutex_unlock(&planner);
    if (!s->plan) return SWD_FAIL(err, SWD_ERR_MEMORY, "FFTW has no plan for a spectrum");
    return SWD_OK;
}

swd_status spectrum_create(spectrum **out, int height, int width, swd_err *err)
{
    *out = NULL;
    if (height < SPECTRUM_SIDE_MIN || width < SPECTRUM_SIDE_MIN || height > SPECTRUM_SIDE_MAX ||
        width > SPECTRUM_SIDE_MAX)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a spectrum of %dx%d latents; sides are %d to %d",
                        width, height, SPECTRUM_SIDE_MIN, SPECTRUM_SIDE_MAX);
    spectrum *s;
    SWD_TRY(swd_calloc(&s, 1, sizeof(*s), "a spectrum", err), err);
    s->height = height;
    s->width = width;
    s->bins = (height < width ? height : width) / 2;
    swd_status status = prepare(s, err);
    if (status != SWD_OK)
        spectrum_destroy(&s);
    else
        *out = s;
    return status;
}

void spectrum_destroy(spectrum **s)
{
    if (!*s) return;
    pthread_mutex_lock(&planner);
    if ((*s)->plan) fftw_destroy_plan((*s)->plan);
    pthread_mutex_unlock(&planner);
    fftw_free((*s)->in);
    fftw_free((*s)->out);
    free((*s)->ring);
    free((*s)->sum);
    free((*s)->weight);
    free(*s);
    *s = NULL;
}

void spectrum_add(spectrum *s, const float *plane)
{
    size_t n = (size_t)s->height * (size_t)s->width;
    int half = s->width / 2 + 1;
    for (size_t i = 0; i < n; i++) s->in[i] = (double)plane[i];
    fftw_execute(s->plan);
    for (int y = 0; y < s->height; y++)
        for (int x = 0; x < half; x++) {
            int i = y * half + x, ring = s->ring[i];
            if (ring < 0) continue;
            double power = s->out[i][0] * s->out[i][0] + s->out[i][1] * s->out[i][1];
            s->sum[ring] += (x > 0 && 2 * x != s->width ? 2 : 1) * power * s->weight[ring];
        }
    s->planes++;
}

int spectrum_bins(const spectrum *s)
{
    return s->bins;
}

void spectrum_mean(double *power, const spectrum *s)
{
    for (int i = 0; i < s->bins; i++) power[i] = s->planes ? s->sum[i] / (double)s->planes : 0;
}

double spectrum_masking_sigma(double power)
{
    double a = sqrt(power);
    return a / (1 + a);
}

void spectrum_envelope(double *level, const double *power, int bins)
{
    for (int i = bins - 1; i >= 0; i--)
        level[i] = i + 1 < bins && level[i + 1] > power[i] ? level[i + 1] : power[i];
}

double spectrum_masked_from(const double *level, int bins, int side, double sigma)
{
    double ratio = sigma / (1 - sigma), threshold = ratio * ratio; // infinite at sigma = 1
    int last = bins - 1;
    while (last >= 0 && level[last] < threshold) last--;
    if (last < 0) return 0;
    if (last == bins - 1) return 0.5;
    double f = (last + 1.0) / side, p = level[last], next = level[last + 1];
    if (next <= 0 || threshold >= p) return f;
    return f * pow((last + 2.0) / (last + 1.0), log(p / threshold) / log(p / next));
}

double spectrum_scale_sigma(const double *level, int bins, int side, int of)
{
    int ring = of / 2; // 0.5 of / side cycles
    if (of >= side || ring > bins) return spectrum_masking_sigma(level[bins - 1]);
    return spectrum_masking_sigma(level[ring - 1]);
}
