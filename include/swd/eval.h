/* SPDX-License-Identifier: MIT */
/* What latents and pictures are like, in numbers: spectra and the schedules that they suggest; distances and scores of pictures.
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

/* ---- pictures ----
 *
 * Features are the picture embeddings of a CLIP folder (transformers' CLIPModel or CLIPVisionModelWithProjection with its
 * preprocessor_config.json; a CLIPModel with vocab.json and merges.txt), scaled to the length sqrt(d); or those of an Inception folder as
 * FID takes them (docs/evaluation.md). Metrics, where what they need is there:
 *
 *     frechet       |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of features, against the reference
 *     mmd           the unbiased squared MMD of the kernel (x.y / d + 1)^3, as KID's, against the reference
 *     clip_score    mean cosine of picture and prompt
 *     retrieval@1   share of pictures whose own prompt is the closest of all distinct prompts; retrieval@5: among the five closest
 *     diversity     mean 1 - cosine over pairs of pictures; reference_diversity: of the reference's
 *     psnr, ssim    of pictures and those that they should be: dB (100: equal), Gaussian window of 11x11
 *
 * Intervals are 95 %, value -+ 1.96 deviations of bootstrap samples (docs/evaluation.md). */

typedef struct swd_eval_params {
    size_t size;
    const char
        *features; /* a CLIP folder; NULL (default): the bundled one (swd_default_features) */
    const char *const *images; /* [n_images] picture files */
    int n_images;
    const char *const *
        prompts; /* [n_images], of each picture; NULL (default): those that swd wrote into the files, where it did */
    const char *const *reference; /* [n_reference] picture files to compare with; NULL: none */
    int n_reference;
    const char *const *
        pairs; /* [n_images] the picture that each should be; NULL, or an entry NULL: none. One of another size is none */
    int resamples; /* of the bootstrap; default 1000; 0: no intervals */
    uint64_t seed; /* of the bootstrap; default 0 */
} swd_eval_params;

typedef struct swd_metric {
    const char *name; /* as above */
    int n;            /* pictures it is of */
    int better;       /* 1: more is better, -1: less is, 0: neither */
    double value, low, high;
} swd_metric;

typedef struct swd_eval_image {
    const char *file, *prompt; /* prompt NULL: not known */
    const char *
        settings; /* what swd wrote into the file beside the prompt: seed, schedule, ...; NULL: nothing */
    double score;      /* cosine with its prompt; NaN: none */
    int rank;          /* prompts that are closer than its own; -1: none */
    double psnr, ssim; /* NaN: no pair */
} swd_eval_image;

typedef struct swd_eval {
    size_t size;
    const char *features; /* folder */
    int dim;
    int n_images, n_prompts, n_reference; /* prompts: distinct ones */
    const swd_eval_image *images;
    int n_metrics;
    const swd_metric *metrics;
    const char *device, *precision;
} swd_eval;

typedef struct swd_gallery_params {
    size_t size;
    const char *title; /* NULL (default): "swd eval" */
    const char *
        scales; /* the folder of save_scales of the call that made the pictures, in their order: the guesses of every step; NULL: none */
    int side;   /* longest side of a picture in the page; default 192 */
    int pictures_max; /* the first so many are shown; default 500 */
} swd_gallery_params;

/* The folder of the bundled CLIP into buf, as swd_default_model does for the model. */
SWD_API swd_status swd_default_features(char *buf, size_t n);
SWD_API void swd_eval_params_default(swd_eval_params *params);
/* *out is the caller's: swd_eval_free; NULL on failure. Pictures are read one after the other and only their features kept; progress is
 * reported as SWD_STAGE_MEASURE. Computed on the context's device, in float32 unless it was opened with SWD_PRECISION_BF16. */
SWD_API swd_status swd_eval_measure(swd_eval **out, const swd_eval_params *params,
                                    swd_context *ctx);
SWD_API void swd_eval_free(swd_eval **eval); /* writes NULL; accepts it */
SWD_API void swd_gallery_params_default(swd_gallery_params *params);
/* A page with the metrics, the pictures, prompts and scores: one file without scripts that refers to no other. params NULL: the defaults. */
SWD_API swd_status swd_eval_write_html(const char *path, const swd_eval *eval,
                                       const swd_gallery_params *params, swd_context *ctx);

#ifdef __cplusplus
}
#endif
#endif
