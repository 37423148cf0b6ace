/* SPDX-License-Identifier: MIT */
/* Radially averaged power spectra, and what they say about noise levels and sides. See swd/eval.h for the definitions. */
#ifndef SWD_EVAL_SPECTRUM_H
#define SWD_EVAL_SPECTRUM_H
#include "base/status.h"
#include <stdint.h>

enum { SPECTRUM_SIDE_MIN = 4, SPECTRUM_SIDE_MAX = 4096 };

/* Sums the spectra of planes of one size. */
typedef struct spectrum spectrum;

swd_status spectrum_create(spectrum **out, int height, int width, swd_err *err);
void spectrum_destroy(spectrum **s);                /* writes NULL; accepts it */
void spectrum_add(spectrum *s, const float *plane); /* [height, width], finite */
int spectrum_bins(const spectrum *s);               /* half the shorter side, rounded down */
/* power[bins]: the mean over what was added; bin i is ring i + 1. */
void spectrum_mean(double *power, const spectrum *s);

/* sqrt(p) / (1 + sqrt(p)) */
double spectrum_masking_sigma(double power);
/* What the questions below are asked of: level[i] = the largest power of ring i or one beyond it, so that it falls with the frequency. */
void spectrum_envelope(double *level, const double *power, int bins);
/* Up to which frequency (cycles per sample, rings lie at (i + 1) / side) noise of this level leaves something; interpolated between
 * rings on logarithmic axes; 0: nothing, 0.5: all. */
double spectrum_masked_from(const double *level, int bins, int side, double sigma);
/* The level from which on all beyond the boundary of an even side `of` is masked. */
double spectrum_scale_sigma(const double *level, int bins, int side, int of);
#endif
