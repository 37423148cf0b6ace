// SPDX-License-Identifier: MIT
// Walks over tensors [n0, n1, n2, cols] of any strides, collapsed on the host to as few dimensions as possible: contiguous tensors
// become one long row, whose elements are found without a division.
#ifndef SWD_CUDA_KERNELS_WALK_CUH
#define SWD_CUDA_KERNELS_WALK_CUH
#include "rows.cuh"
#include <initializer_list>

struct walk {
    int64_t n0, n1, n2, cols;
    int64_t items, per_row, rows; // items: what threads take one of each, elements or vectors
};

struct spot {
    int64_t n0, n1, n2, col;
    DEV int64_t in(const k_view &v) const
    {
        return n0 * v.stride[0] + n1 * v.stride[1] + n2 * v.stride[2] + col;
    }
};

// Where item i of V elements lies.
template <int V> DEV spot spot_of(const walk &w, int64_t i)
{
    spot at = {0, 0, 0, i * V};
    if (w.rows == 1) return at;
    int64_t row;
    split(i, w.per_row, row, at.col);
    at.col *= V;
    at.n2 = row;
    if (w.rows == w.n2) return at;
    split(row, w.n2, at.n0, at.n2);
    if (w.n1 != 1) split(at.n0, w.n1, at.n0, at.n1);
    return at;
}

// ---- host ----

static inline walk plain(const int64_t shape[4])
{
    return walk{shape[0], shape[1], shape[2], shape[3], 0, 0, 0};
}

// Fills in the counts, for items of this many columns.
static inline walk counted(walk w, int per_item)
{
    w.per_row = w.cols / per_item;
    w.rows = w.n0 * w.n1 * w.n2;
    w.items = w.rows * w.per_row;
    return w;
}

// The shape with as few dimensions as the strides of all views allow, at the inner end, and the strides to go with it; a dimension
// of one element has stride 0. keep_columns: the innermost dimension stays as it is.
static inline walk collapse(const int64_t shape[4], std::initializer_list<k_view *> views,
                            bool keep_columns = false)
{
    int64_t n[4] = {1, 1, 1, shape[3]};
    int at = 3; // the dimension that the next one may melt into
    for (int i = 2; i >= 0; i--) {
        if (shape[i] == 1) continue;
        bool melts = at < 3 || !keep_columns;
        for (const k_view *v : views)
            melts &= !v->data || v->stride[i] == n[at] * (at == 3 ? 1 : v->stride[at]);
        if (melts) {
            n[at] *= shape[i];
            continue;
        }
        n[--at] = shape[i];
        for (k_view *v : views) v->stride[at] = v->stride[i];
    }
    for (k_view *v : views)
        for (int i = 0; i < at; i++) v->stride[i] = 0;
    return walk{n[0], n[1], n[2], n[3], 0, 0, 0};
}
#endif
