// SPDX-License-Identifier: MIT
// Sums over rows in two stages, in an order that shapes alone decide: blocks leave the sums of slabs of rows, float32, and one more
// launch adds those up, in double. And the stores of gradients, which are written or added to.
#ifndef SWD_CUDA_KERNELS_SUMS_CUH
#define SWD_CUDA_KERNELS_SUMS_CUH
#include "training.h"
#include "walk.cuh"

// There are fewer than 2^31 rows: 64-bit divisions are calls.

// Rows in groups of one sum each, groups in slabs of one partial sum each.
struct slabs {
    uint32_t in_group, n,
        rows; // rows of a group; slabs of a group; rows of a slab, the last has fewer
};

struct row_range {
    uint32_t first, end, group;
};

// The rows of slab number i of all groups'.
DEV row_range rows_of_slab(const slabs &s, uint32_t i)
{
    const uint32_t group = i / s.n, first = group * s.in_group + i % s.n * s.rows,
                   end = (group + 1) * s.in_group;
    return {first, first + s.rows < end ? first + s.rows : end, group};
}

// Where a row begins.
DEV spot spot_of_row(const walk &w, uint32_t row)
{
    if (w.rows == w.n2) return {0, 0, row, 0};
    const uint32_t n2 = (uint32_t)w.n2, n1 = (uint32_t)w.n1, outer = row / n2;
    return {outer / n1, outer % n1, row % n2, 0};
}

// V elements a thread, of a storage that the launch names; V > 1 in accesses of 16 bytes.
DEV void load_vec(float (&v)[8], const void *p, k_dtype type, int64_t at)
{
    load8_as(v, p, type, at);
}

DEV void load_vec(float (&v)[1], const void *p, k_dtype type, int64_t at)
{
    v[0] = load_as(p, type, at);
}

DEV void store_vec(void *p, k_dtype type, int64_t at, const float (&v)[8])
{
    store8_as(p, type, at, v);
}

DEV void store_vec(void *p, k_dtype type, int64_t at, const float (&v)[1])
{
    store_as(p, type, at, v[0]);
}

// g at `at` becomes v, or grows by it.
template <int V> DEV void store_grad(const k_grad &g, int64_t at, float (&v)[V])
{
    if (g.add) {
        float old[V];
        load_vec(old, g.view.data, g.view.dtype, at);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] += old[j];
    }
    store_vec(g.view.data, g.view.dtype, at, v);
}

namespace
{
enum { SUMS_MAX = 4, SUM_COLUMNS = 32, SUM_LANES = 8 };

// sums[k] [groups, dim] (+)= scale times the sum over slabs of part [groups, slabs, n_sums, dim].
struct sum_params {
    k_grad sums[SUMS_MAX];
    const float *part;
    int64_t slabs, dim;
    int n_sums;
    float scale;
};

// blockIdx: columns, group, sum. A thread adds up every eighth slab of a column, the first of them the eight.
__global__ void __launch_bounds__(SUM_COLUMNS *SUM_LANES)
    add_slabs(const __grid_constant__ sum_params p)
{
    SMEM_ARRAY(double, sum, SUM_LANES *SUM_COLUMNS);
    const int column = (int)threadIdx.x % SUM_COLUMNS, lane = (int)threadIdx.x / SUM_COLUMNS;
    const int64_t c = (int64_t)blockIdx.x * SUM_COLUMNS + column, group = blockIdx.y,
                  step = p.n_sums * p.dim;
    double total = 0;
    if (c < p.dim)
        for (int64_t s = lane; s < p.slabs; s += SUM_LANES)
            total += (double)p.part[(group * p.slabs + s) * step + blockIdx.z * p.dim + c];
    sum[lane * SUM_COLUMNS + column] = total;
    __syncthreads();
    if (lane > 0 || c >= p.dim) return;
    for (int i = 1; i < SUM_LANES; i++) total += sum[i * SUM_COLUMNS + column];
    const k_grad &g = p.sums[blockIdx.z];
    float v[1] = {(float)(total * (double)p.scale)};
    store_grad(g, group * g.view.stride[0] + c, v);
}

// ---- host ----

static inline cudaError_t launch_add_slabs(const sum_params &p, int64_t groups, cudaStream_t stream)
{
    const dim3 grid((unsigned)div_up(p.dim, SUM_COLUMNS), (unsigned)groups, (unsigned)p.n_sums);
    return launch(add_slabs, grid, dim3(SUM_COLUMNS * SUM_LANES), 0, stream, p);
}

// Slabs of at least least_rows rows, about `wanted` of them over all groups.
static inline slabs slabs_of(int64_t groups, int64_t in_group, int64_t wanted, int64_t least_rows)
{
    int64_t most = div_up(in_group, least_rows), n = wanted / groups;
    n = n < 1 ? 1 : n > most ? most : n;
    const int64_t rows = div_up(in_group, n);
    return {(uint32_t)in_group, (uint32_t)div_up(in_group, rows), (uint32_t)rows};
}

// [n0, n1, n2, cols] whose rows are walked, dimensions melted where all views allow it but for the first where it is kept.
static inline walk rows_of(const int64_t shape[4], bool keep_first,
                           std::initializer_list<k_view *> views)
{
    walk w = plain(shape);
    if (!keep_first) {
        w = collapse(shape, views, true);
    } else {
        for (k_view *v : views)
            for (int i = 0; i < 3; i++)
                if (shape[i] == 1) v->stride[i] = 0;
    }
    return counted(w, 1);
}
} // namespace
#endif
