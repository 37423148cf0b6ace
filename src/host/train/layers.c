// SPDX-License-Identifier: MIT
#include "train/layers.h"

const trained_layer *layer_set_find(const layer_set *s, const swd_linear *w)
{
    int lo = 0, hi = s->n_layers;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        if (s->layer[mid].w == w) return &s->layer[mid];
        if ((uintptr_t)s->layer[mid].w < (uintptr_t)w)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}
