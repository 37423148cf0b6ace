/* SPDX-License-Identifier: MIT */
/* Launchers of the kernels of training, for plain C; views and dtypes as in kernels.h. A gradient is written, or added to where `add`. */
#ifndef SWD_CUDA_KERNELS_TRAINING_H
#define SWD_CUDA_KERNELS_TRAINING_H
#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct k_grad {
    k_view view; /* absent: not wanted */
    bool add;
} k_grad;

/* ---- Products ---- */

/* ---- Attention ---- */

/* ---- Norms ---- */

/* ---- Rows and elements ---- */

/* ---- The optimizer ---- */

#ifdef __cplusplus
}
#endif
#endif
