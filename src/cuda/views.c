// SPDX-License-Identifier: MIT
// Tensors of any number of dimensions as views of a fixed one.
#include "views.h"
#include <assert.h>

// Whether dimension i of all tensors lies behind the run that begins at stride[] and has `length` elements.
static bool melts(const swd_tensor *t, int n, int i, const int64_t *stride, int64_t length)
{
    for (int k = 0; k < n; k++)
        if (tensor_present(t[k]) && t[k].stride[i] != stride[k] * length) return false;
    return true;
}

cuda_views cuda_views_of(const swd_tensor *t, int n, int dims)
{
    assert(n <= CUDA_VIEWS_MAX && dims >= 2 && dims <= 4);
    // Collapsed dimensions, innermost first. The columns stay columns: what goes with them is as long as they are.
    int64_t size[SWD_MAX_DIMS] = {t[0].shape[t[0].ndim - 1]},
            stride[SWD_MAX_DIMS][CUDA_VIEWS_MAX] = {{1, 1, 1}};
    int last = 0;
    for (int i = t[0].ndim - 2; i >= 0; i--) {
        if (t[0].shape[i] == 1) continue;
        if (last > 0 && melts(t, n, i, stride[last], size[last])) {
            size[last] *= t[0].shape[i];
            continue;
        }
        size[++last] = t[0].shape[i];
        for (int k = 0; k < n; k++) stride[last][k] = tensor_present(t[k]) ? t[k].stride[i] : 0;
    }
    cuda_views v = {.n_launches = 1, .n = n};
    for (int d = 0; d < dims; d++) v.shape[dims - 1 - d] = d <= last ? size[d] : 1;
    for (int k = 0; k < n; k++) {
        if (!tensor_present(t[k])) continue;
        v.first[k] = (k_view){.data = t[k].data, .dtype = cuda_dtype(t[k].dtype)};
        for (int d = 1; d < dims; d++)
            v.first[k].stride[dims - 1 - d] = d <= last ? stride[d][k] : 0;
    }
    for (int d = dims; d <= last; d++) {
        v.n_launches *= size[d];
        v.outer[v.n_outer] = size[d];
        for (int k = 0; k < n; k++) v.step[k][v.n_outer] = stride[d][k];
        v.n_outer++;
    }
    return v;
}

cuda_views cuda_views_by_sample(const swd_tensor *t, int n)
{
    assert(n <= CUDA_VIEWS_MAX && (t[0].ndim == 2 || t[0].ndim == 3));
    const int last = t[0].ndim - 1;
    cuda_views v = {.shape = {t[0].shape[0], 1, last == 2 ? t[0].shape[1] : 1, t[0].shape[last]},
                    .n_launches = 1,
                    .n = n};
    for (int k = 0; k < n; k++) {
        v.first[k] = cuda_view(t[k]);
        v.first[k].stride[2] = last == 2 ? v.first[k].stride[1] : 0;
        v.first[k].stride[1] = 0;
    }
    return v;
}

k_view cuda_views_at(const cuda_views *v, int i, int64_t launch)
{
    assert(i < v->n);
    k_view at = v->first[i];
    int64_t offset = 0;
    for (int d = 0; d < v->n_outer; d++) {
        offset += launch % v->outer[d] * v->step[i][d];
        launch /= v->outer[d];
    }
    if (at.data) at.data = (char *)at.data + offset * cuda_size_of(at.dtype);
    return at;
}
