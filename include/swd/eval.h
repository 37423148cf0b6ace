/* SPDX-License-Identifier: MIT */
/* What latents and pictures are like, in numbers: spectra, and the schedules that they suggest.
 *
 *     swd_spectrum_params params;
 *     swd_spectrum *s = NULL;
 *     swd_spectrum_params_default(&params);
 *     params.images = files, params.n_images = n;
 *     if (swd_spectrum_measure(&s, &params, swd) == SWD_OK) swd_spectrum_write("spectrum.svg", s, swd);
 *     swd_spectrum_free(&s);
 */
#ifndef SWD_EVAL_H
#define SWD_EVAL_H
#include <swd/swd.h>
#ifdef __cplusplus
extern "C" {
#endif

/* ---- spectra ----
 *
 * P(f) = |FFT2(z)|^2 / (h w), averaged over rings of equal distance from the centre, over channels and over pictures: white noise of
 * variance 1 has P = 1 at every f. f is in cycles per latent; ring k of a side R (the shorter one) is f = k / R, k = 1 ... R / 2.
 * At a noise level sigma the latents are (1 - sigma) z + sigma noise, with the spectrum (1 - sigma)^2 P + sigma^2, so noise masks f where
 * sigma >= sigma*(f) = sqrt(P) / (1 + sqrt(P)). A side s of R holds the frequencies up to its Nyquist boundary 0.5 s / R.
 *
 * Proposed for a noise level: the smallest side whose boundary covers every frequency that is not masked. For sides: the step on a side
 * starts at the noise level that masks all that the side before it does not hold (the first one at 1). A first guess, no more. */

typedef struct swd_spectrum_params {
    size_t size;
    const char *const *
        images; /* picture files, JPEG or PNG; the middle square, resized, encoded by the context's autoencoder */
    int n_images;
    const char *const *
        latents; /* safetensors files with "latents" F32 [B, C, h, w], as swd_encode_file writes them; all of one h and w */
    int n_latents;
    int side; /* pixels that pictures are resized to; 0 (default): the model's */
    const double *
        sigmas; /* noise levels from 1 down (a trailing 0 may be given): sides are proposed. NULL and no scales: those of
                             SD3.5-medium's six steps */
    int n_sigmas;
    const int *
        scales; /* increasing latent sides, the last one the latents' own: noise levels are proposed */
    int n_scales;
    int scale_multiple; /* proposed sides are multiples of it, even; 0 (default): an eighth of the side */
    int scale_min; /* and not smaller than this; 0 (default): a quarter of the side */
} swd_spectrum_params;

typedef struct swd_spectrum_scale {
    int side;
    double nyquist; /* 0.5 side / R */
    double
        sigma; /* noise masks all beyond nyquist from this level on: the lowest level at which the side suffices */
} swd_spectrum_scale;

typedef struct swd_spectrum_step {
    int side;
    double sigma;
    double masked_from; /* cycles per latent: noise of this level masks the frequencies beyond */
} swd_spectrum_step;

typedef struct swd_spectrum {
    size_t size;
    int n_pictures, channels, height, width; /* of latents */
    int side;                                /* R */
    int n_bins;
    const double *frequency; /* [n_bins] */
    const double *power;     /* [n_bins] of clean latents */
    const double *sigma;     /* [n_bins] sigma*(f) */
    int n_scales;
    const swd_spectrum_scale *scales; /* every multiple up to R */
    int n_steps;
    const swd_spectrum_step *steps; /* the proposed schedule */
} swd_spectrum;

SWD_API void swd_spectrum_params_default(swd_spectrum_params *params);
/* *out is the caller's: swd_spectrum_free; NULL on failure. Pictures are read one after the other, so their number is not limited by
 * memory; progress is reported as SWD_STAGE_MEASURE. The same input gives the same bits. */
SWD_API swd_status swd_spectrum_measure(swd_spectrum **out, const swd_spectrum_params *params,
                                        swd_context *ctx);
/* The suffix selects: .csv (a line per frequency: power, sigma*, power at the noise level of each step) or .svg (a plot of them, with
 * the boundaries of the proposed sides). */
SWD_API swd_status swd_spectrum_write(const char *path, const swd_spectrum *spectrum,
                                      swd_context *ctx);
SWD_API void swd_spectrum_free(swd_spectrum **spectrum); /* writes NULL; accepts it */

#ifdef __cplusplus
}
#endif
#endif
