/* SPDX-License-Identifier: MIT */
/* Losses of small float32 arrays on the host: the value, and the gradient by x added to dx, both times weight. Sums are kept in double. */
#ifndef SWD_TRAIN_LOSSES_H
#define SWD_TRAIN_LOSSES_H
#include <stdint.h>

/* mean of (x - y)^2 */
double loss_mse(float *dx, const float *x, const float *y, int64_t n, double weight);

/* Maximum mean discrepancy of features x against y. */
typedef enum mmd_kernel {
    MMD_LINEAR, /* the paper's: sum over images of |x - y|^2, of the means over tokens */
    MMD_HUBER, /* the code's: mean over images and channels of max(sqrt(d^2 + c^2), 1e-5) - c, d = y - x, of the means over tokens */
    MMD_RBF /* of the tokens of each image: k(a, b) = exp(-|a - b|^2 / (2 width^2)), mean over images of the unbiased estimate */
} mmd_kernel;
/* [n, d] each */
double loss_mmd_linear(float *dx, const float *x, const float *y, int64_t n, int64_t d,
                       double weight);
double loss_mmd_huber(float *dx, const float *x, const float *y, int64_t n, int64_t d, double c,
                      double weight);
/* [images, tokens, d] each, at least two tokens */
double loss_mmd_rbf(float *dx, const float *x, const float *y, int64_t images, int64_t tokens,
                    int64_t d, double width, double weight);

/* mean of log(1 + exp(sign x)) */
double loss_softplus(float *dx, const float *x, int64_t n, double sign, double weight);

/* Distribution matching: with p = x0 - prediction of the real and of the fake model (x0 clean samples of n numbers each),
 *     g = (p_real - p_fake) / mean of |p_real| over a sample, NaN -> 0      loss = mean of g^2 / 2      dx0 = g / (images n) */
double loss_dmd(float *dx0, const float *x0, const float *real, const float *fake, int64_t images,
                int64_t n, double weight);
#endif
