/* SPDX-License-Identifier: MIT */
/* Tensors of any number of dimensions for launchers that take a fixed one: dimensions that lie behind each other in all tensors
 * become one, and what is left over is walked, a launch each (which no model needs). */
#ifndef SWD_CUDA_VIEWS_H
#define SWD_CUDA_VIEWS_H
#include "backend_cuda.h"

enum { CUDA_VIEWS_MAX = 4 };

typedef struct cuda_views {
    int64_t
        shape[4]; /* of one launch, outermost first; the leading ones of fewer dimensions are 1 */
    int64_t n_launches;
    /* private */
    int n, n_outer;
    k_view first[CUDA_VIEWS_MAX];
    int64_t outer[SWD_MAX_DIMS], step[CUDA_VIEWS_MAX][SWD_MAX_DIMS];
} cuda_views;

/* n tensors of one shape (absent ones are skipped) as views of dims dimensions, 2 to 4. */
cuda_views cuda_views_of(const swd_tensor *t, int n, int dims);
/* n tensors [B, .., cols] of 2 or 3 dimensions and of one shape as views of [B, 1, rows, cols]: the samples stay apart. */
cuda_views cuda_views_by_sample(const swd_tensor *t, int n);
/* View i of launch number `launch`; absent tensors give data = NULL. */
k_view cuda_views_at(const cuda_views *v, int i, int64_t launch);
#endif
