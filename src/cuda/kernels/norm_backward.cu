// SPDX-License-Identifier: MIT
// Backward of row norms, y_i = xhat (one + factor_i) + shift_i with xhat = (x - mean) r, r = 1 / sqrt(var + eps):
//
//     g = sum over i of dy_i (one + factor_i)      dx (+)= r (g - mean(g) - xhat mean(g xhat)), an RMS norm without mean(g)
//     dfactor_i (+)= sum over rows of dy_i xhat    dshift_i (+)= sum over rows of dy_i
//
// Memory-bound: a row of x and dy is read once, into registers, in accesses of 16 bytes, as norm.cu does it, by 8 to 32 lanes of a warp,
// 128 or 256 threads. Where sums are wanted a block goes down a slab of rows, with the sums of its columns in registers too, and
// leaves them to add_slabs(). Rows off the 16-byte grid and long ones loop over memory, a warp a
// row, and their sums take a second look at x and dy.
//
// hot: norm_backward_rows
#include "sums.cuh"

namespace
{
// Sums are numbered 2 i for dshift_i, 2 i + 1 for dfactor_i; slot[] is the place of each among the wanted ones, or -1.
struct norm_params {
    walk w;
    k_grad dx;
    k_view x, dy[2], factor[2];
    slabs s;             // of all rows that share a sum; where none is wanted, of those of a block
    uint32_t per_factor; // rows that share a row of factors
    int slot[SUMS_MAX], n_sums;
    float *part;   // [groups, slabs, n_sums, dim]
    float2 *stats; // [rows]: mean and r, where sums take a second look
    float one, eps;
    bool rms;
};

// Sum over the LANES neighbouring threads that share a row.
template <int LANES> DEV float team_sum(float v)
{
    if constexpr (LANES >= WARP) {
        v = block_sum<LANES>(v);
    } else {
#pragma unroll
        for (int o = LANES / 2; o > 0; o >>= 1) v += __shfl_xor_sync(FULL_MASK, v, o);
    }
    return v;
}

template <int LANES> DEV void team_sum2(float &a, float &b)
{
    if constexpr (LANES >= WARP) {
        block_sum2<LANES>(a, b);
    } else {
        a = team_sum<LANES>(a);
        b = team_sum<LANES>(b);
    }
}

DEV int64_t factor_at(const k_view &f, const norm_params &p, uint32_t row)
{
    return f.stride[0] ? row / p.per_factor * f.stride[0] : 0;
}

// x - mean in place of x, and r. Distances are taken from the row's first element, so that what is summed is as small as the spread
// and a constant row has none; two exact passes. Elements from dim on stay 0.
template <int LANES, int ITEMS>
DEV float centre(float (&v)[ITEMS][8], const norm_params &p, float pivot, int lane, int dim)
{
    float mean = 0.0f, q = 0.0f;
    if (!p.rms) {
        float s = 0.0f;
#pragma unroll
        for (int k = 0; k < ITEMS; k++)
            if ((k * LANES + lane) * 8 < dim)
#pragma unroll
                for (int j = 0; j < 8; j++) s += v[k][j] - pivot;
        mean = pivot + team_sum<LANES>(s) / (float)p.w.cols;
    }
#pragma unroll
    for (int k = 0; k < ITEMS; k++)
        if ((k * LANES + lane) * 8 < dim)
#pragma unroll
            for (int j = 0; j < 8; j++) {
                v[k][j] -= mean;
                q = fmaf(v[k][j], v[k][j], q);
            }
    return 1.0f / sqrtf(team_sum<LANES>(q) / (float)p.w.cols + p.eps);
}

// Adds up the sums of the TEAMS teams of a block, then stores them: thread (team, lane) has columns (k LANES + lane) 8 ...
template <int LANES, int TEAMS, int ITEMS>
DEV void store_sums(float (&sums)[SUMS_MAX][ITEMS][8], const norm_params &p)
{
    const int lane = (int)threadIdx.x % LANES, dim = (int)p.w.cols;
    float *part = p.part + (int64_t)blockIdx.x * p.n_sums * dim;
    constexpr int WARPS = LANES * TEAMS / WARP, COLUMNS = LANES * ITEMS * 8;
#pragma unroll
    for (int s = 0; s < SUMS_MAX; s++) {
        if (p.slot[s] < 0) continue;
        float *to = part + p.slot[s] * dim;
        if constexpr (TEAMS == 1) {
#pragma unroll
            for (int k = 0; k < ITEMS; k++)
                if ((k * LANES + lane) * 8 < dim) store8(to + (k * LANES + lane) * 8, sums[s][k]);
        } else {
            SMEM_ARRAY(float, of_warp, WARPS *COLUMNS);
#pragma unroll
            for (int k = 0; k < ITEMS; k++) {
#pragma unroll
                for (int o = LANES; o < WARP; o <<= 1)
#pragma unroll
                    for (int j = 0; j < 8; j++)
                        sums[s][k][j] += __shfl_xor_sync(FULL_MASK, sums[s][k][j], o);
                if (threadIdx.x % WARP < LANES)
                    store8(of_warp + threadIdx.x / WARP * COLUMNS + (k * LANES + lane) * 8,
                           sums[s][k]);
            }
            __syncthreads();
            for (int c = (int)threadIdx.x; c < dim; c += LANES * TEAMS) {
                float total = 0.0f;
#pragma unroll
                for (int w = 0; w < WARPS; w++) total += of_warp[w * COLUMNS + c];
                to[c] = total;
            }
            __syncthreads(); // of_warp is written again
        }
    }
}

// A row has LANES threads, of 8 ITEMS elements each; TEAMS rows a block at a time, all of its slab.
template <int LANES, int TEAMS, int ITEMS, bool SUMS>
__global__ void __launch_bounds__(LANES *TEAMS)
    norm_backward_rows(const __grid_constant__ norm_params p)
{
    const int lane = (int)threadIdx.x % LANES, team = (int)threadIdx.x / LANES;
    const row_range rows = rows_of_slab(p.s, blockIdx.x);
    float sums[SUMS_MAX][ITEMS][8] = {};
    for (uint32_t base = rows.first; base < rows.end; base += TEAMS) {
        const bool live = base + (uint32_t)team < rows.end;
        const uint32_t row = live ? base + (uint32_t)team : rows.first;
        const int dim = live ? (int)p.w.cols : 0;
        const spot at = spot_of_row(p.w, row);
        raw8 rx[ITEMS], rd[2][ITEMS];
        const float pivot = load_as(p.x.data, p.x.dtype, at.in(p.x));
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            const int c = (k * LANES + lane) * 8;
            rx[k] = rd[0][k] = rd[1][k] = raw8();
            if (c >= dim) continue;
            rx[k] = fetch8(p.x.data, p.x.dtype, at.in(p.x) + c);
            rd[0][k] = fetch8(p.dy[0].data, p.dy[0].dtype, at.in(p.dy[0]) + c);
            if (p.dy[1].data) rd[1][k] = fetch8(p.dy[1].data, p.dy[1].dtype, at.in(p.dy[1]) + c);
        }
        float v[ITEMS][8], g[ITEMS][8] = {};
#pragma unroll
        for (int k = 0; k < ITEMS; k++) widen8(v[k], rx[k], p.x.dtype);
        const float r = centre<LANES, ITEMS>(v, p, pivot, lane, dim);

        float sum_g = 0.0f, sum_gx = 0.0f;
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            const int c = (k * LANES + lane) * 8;
            if (c >= dim) continue;
#pragma unroll
            for (int j = 0; j < 8; j++) v[k][j] *= r;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (!p.dy[i].data) continue;
                float d[8], f[8];
                widen8(d, rd[i][k], p.dy[i].dtype);
                if constexpr (SUMS) {
#pragma unroll
                    for (int j = 0; j < 8; j++) {
                        sums[2 * i][k][j] += d[j];
                        sums[2 * i + 1][k][j] = fmaf(d[j], v[k][j], sums[2 * i + 1][k][j]);
                    }
                }
                if (p.factor[i].data) {
                    load8_as(f, p.factor[i].data, p.factor[i].dtype,
                             factor_at(p.factor[i], p, row) + c);
#pragma unroll
                    for (int j = 0; j < 8; j++) d[j] *= p.one + f[j];
                }
#pragma unroll
                for (int j = 0; j < 8; j++) g[k][j] += d[j];
            }
#pragma unroll
            for (int j = 0; j < 8; j++) {
                sum_g += g[k][j];
                sum_gx = fmaf(g[k][j], v[k][j], sum_gx);
            }
        }
        if (!p.dx.view.data) continue; // the same for all threads
        team_sum2<LANES>(sum_g, sum_gx);
        const float mean_g = p.rms ? 0.0f : sum_g / (float)p.w.cols,
                    mean_gx = sum_gx / (float)p.w.cols;
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            const int c = (k * LANES + lane) * 8;
            if (c >= dim) continue;
#pragma unroll
            for (int j = 0; j < 8; j++) g[k][j] = r * (g[k][j] - mean_g - v[k][j] * mean_gx);
            store_grad(p.dx, at.in(p.dx.view) + c, g[k]);
        }
    }
    if constexpr (SUMS) store_sums<LANES, TEAMS, ITEMS>(sums, p);
}

// dy_i (one + factor_i) of all i, at column c.
DEV float product_at(const norm_params &p, const spot &at, uint32_t row, int c)
{
    float g = 0.0f;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (!p.dy[i].data) continue;
        const float d = load_as(p.dy[i].data, p.dy[i].dtype, at.in(p.dy[i]) + c);
        const k_view &f = p.factor[i];
        g += f.data ? d * (p.one + load_as(f.data, f.dtype, factor_at(f, p, row) + c)) : d;
    }
    return g;
}

// Any row: a warp walks it a few times.
template <int THREADS>
__global__ void __launch_bounds__(THREADS) norm_backward_any(const __grid_constant__ norm_params p)
{
    const uint32_t row = blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
    const bool live = row < p.w.rows;
    const int lane = (int)threadIdx.x % WARP, dim = live ? (int)p.w.cols : 0;
    const spot at = spot_of_row(p.w, live ? row : 0);
    const int64_t from = at.in(p.x);
    float mean = 0.0f, q = 0.0f, sum_g = 0.0f, sum_gx = 0.0f;
    if (!p.rms) {
        const float pivot = load_as(p.x.data, p.x.dtype, from);
        float s = 0.0f;
        for (int c = lane; c < dim; c += WARP) s += load_as(p.x.data, p.x.dtype, from + c) - pivot;
        mean = pivot + warp_sum(s) / (float)p.w.cols;
    }
    for (int c = lane; c < dim; c += WARP) {
        const float d = load_as(p.x.data, p.x.dtype, from + c) - mean;
        q = fmaf(d, d, q);
    }
    const float r = 1.0f / sqrtf(warp_sum(q) / (float)p.w.cols + p.eps);
    if (live && lane == 0 && p.stats) p.stats[row] = make_float2(mean, r);
    if (!p.dx.view.data) return; // the same for all threads
    for (int c = lane; c < dim; c += WARP) {
        const float g = product_at(p, at, row, c);
        sum_g += g;
        sum_gx = fmaf(g, (load_as(p.x.data, p.x.dtype, from + c) - mean) * r, sum_gx);
    }
    const float mean_g = p.rms ? 0.0f : warp_sum(sum_g) / (float)p.w.cols,
                mean_gx = warp_sum(sum_gx) / (float)p.w.cols;
    for (int c = lane; c < dim; c += WARP) {
        const float x = (load_as(p.x.data, p.x.dtype, from + c) - mean) * r;
        float v[1] = {r * (product_at(p, at, row, c) - mean_g - x * mean_gx)};
        store_grad(p.dx, at.in(p.dx.view) + c, v);
    }
}

// blockIdx: columns, slab. The sums of any rows, once their stats are known.
__global__ void __launch_bounds__(SUM_COLUMNS *SUM_LANES)
    norm_backward_sums(const __grid_constant__ norm_params p)
{
    SMEM_ARRAY(float, lanes, SUM_LANES *SUM_COLUMNS *SUMS_MAX);
    const int column = (int)threadIdx.x % SUM_COLUMNS, lane = (int)threadIdx.x / SUM_COLUMNS;
    const int64_t c = (int64_t)blockIdx.x * SUM_COLUMNS + column;
    const row_range rows = rows_of_slab(p.s, blockIdx.y);
    float sums[SUMS_MAX] = {};
    if (c < p.w.cols)
        for (uint32_t row = rows.first + (uint32_t)lane; row < rows.end; row += SUM_LANES) {
            const spot at = spot_of_row(p.w, row);
            const float2 stats = p.stats[row];
            const float x = (load_as(p.x.data, p.x.dtype, at.in(p.x) + c) - stats.x) * stats.y;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (!p.dy[i].data) continue;
                const float d = load_as(p.dy[i].data, p.dy[i].dtype, at.in(p.dy[i]) + c);
                sums[2 * i] += d;
                sums[2 * i + 1] = fmaf(d, x, sums[2 * i + 1]);
            }
        }
#pragma unroll
    for (int s = 0; s < SUMS_MAX; s++)
        lanes[(s * SUM_LANES + lane) * SUM_COLUMNS + column] = sums[s];
    __syncthreads();
    if (lane >= SUMS_MAX || p.slot[lane] < 0 || c >= p.w.cols) return;
    float total = 0.0f;
    for (int i = 0; i < SUM_LANES; i++)
        total += lanes[(lane * SUM_LANES + i) * SUM_COLUMNS + column];
    p.part[((int64_t)blockIdx.y * p.n_sums + p.slot[lane]) * p.w.cols + c] = total;
}

// ---- host ----

// Rows that a block of norm_backward_rows has at a time where sums are wanted; the slabs follow from it, whatever kernel runs.
int teams_of(int64_t dim)
{
    return dim <= 64 ? 16 : dim <= 128 ? 8 : dim <= 512 ? 4 : 1;
}

template <int LANES, int TEAMS, int ITEMS, bool SUMS>
cudaError_t run_rows(norm_params &p, int64_t groups, cudaStream_t stream)
{
    if (!SUMS) p.s = {(uint32_t)p.w.rows, (uint32_t)div_up(p.w.rows, TEAMS), TEAMS};
    return launch((norm_backward_rows<LANES, TEAMS, ITEMS, SUMS>), dim3((unsigned)(groups * p.s.n)),
                  dim3(LANES * TEAMS), 0, stream, p);
}

template <bool SUMS> cudaError_t run_short(norm_params &p, int64_t groups, cudaStream_t stream)
{
    if (p.w.cols <= 64) return run_rows<8, 16, 1, SUMS>(p, groups, stream);
    if (p.w.cols <= 128) return run_rows<16, 8, 1, SUMS>(p, groups, stream);
    return run_rows<32, 4, 1, SUMS>(p, groups, stream);
}

cudaError_t run_registers(norm_params &p, int64_t groups, cudaStream_t stream)
{
    const int64_t dim = p.w.cols;
    if (p.n_sums) {
        if (dim <= 256) return run_short<true>(p, groups, stream);
        if (dim <= 512) return run_rows<32, 4, 2, true>(p, groups, stream);
        if (dim <= 2048) return run_rows<128, 1, 2, true>(p, groups, stream);
        return run_rows<256, 1, 2, true>(p, groups, stream);
    }
    if (dim <= 256) return run_short<false>(p, 1, stream);
    if (dim <= 1536) return run_rows<32, 2, 6, false>(p, 1, stream);
    return run_rows<256, 1, 2, false>(p, 1, stream);
}

// Not more than this many in registers.
constexpr int64_t DIM_MAX = 4096;

cudaError_t run_any(const norm_params &p, int64_t groups, cudaStream_t stream)
{
    constexpr int THREADS = 128;
    cudaError_t e =
        launch(norm_backward_any<THREADS>, dim3((unsigned)div_up(p.w.rows, THREADS / WARP)),
               dim3(THREADS), 0, stream, p);
    if (e != cudaSuccess || !p.n_sums) return e;
    return launch(norm_backward_sums,
                  dim3((unsigned)div_up(p.w.cols, SUM_COLUMNS), (unsigned)(groups * p.s.n)),
                  dim3(SUM_COLUMNS * SUM_LANES), 0, stream, p);
}

int64_t groups_of(const int64_t shape[4], bool per_sample)
{
    return per_sample ? shape[0] : 1;
}

int64_t rows_in(const int64_t shape[4])
{
    return shape[0] * shape[1] * shape[2];
}

slabs norm_slabs(const int64_t shape[4], bool per_sample)
{
    const int64_t groups = groups_of(shape, per_sample);
    return slabs_of(groups, rows_in(shape) / groups, 384, 4 * teams_of(shape[3]));
}

const k_grad &sum_of(const k_norm_backward_args *a, int sum)
{
    return sum % 2 ? a->dfactor[sum / 2] : a->dshift[sum / 2];
}

// Bytes of the stats, which lie before the partial sums.
int64_t stats_bytes(const int64_t shape[4])
{
    return div_up(rows_in(shape) * (int64_t)sizeof(float2), 256) * 256;
}
} // namespace

extern "C" size_t k_norm_backward_workspace(const int64_t shape[4], bool per_sample, int n_sums)
{
    const int64_t parts = groups_of(shape, per_sample) * norm_slabs(shape, per_sample).n * n_sums;
    return n_sums ? (size_t)(stats_bytes(shape) + parts * shape[3] * (int64_t)sizeof(float)) : 0;
}

extern "C" cudaError_t k_norm_backward(const k_norm_backward_args *a, void *workspace,
                                       cudaStream_t stream)
{
    const int64_t rows = rows_in(a->shape), groups = groups_of(a->shape, a->per_sample);
    if (rows > INT32_MAX || a->shape[3] > INT32_MAX || groups > 65535) return cudaErrorInvalidValue;
    norm_params p = {};
    sum_params sums = {};
    p.dx = a->dx, p.x = a->x;
    bool vec = a->shape[3] % 8 == 0 && a->shape[3] <= DIM_MAX;
    for (int i = 0; i < 2; i++) {
        p.dy[i] = a->dy[i], p.factor[i] = a->factor[i];
        if (!a->per_sample) p.factor[i].stride[0] = 0;
        vec = vec && vectors(p.factor[i], 1);
    }
    p.w = rows_of(a->shape, a->per_sample, {&p.dx.view, &p.x, &p.dy[0], &p.dy[1]});
    vec = vec && vectors(p.dx.view, 3) && vectors(p.x, 3) && vectors(p.dy[0], 3) &&
          vectors(p.dy[1], 3);
    p.s = norm_slabs(a->shape, a->per_sample), p.per_factor = (uint32_t)(rows / groups);
    p.one = a->per_sample ? 1.0f : 0.0f, p.eps = a->eps, p.rms = a->rms;
    for (int s = 0; s < SUMS_MAX; s++) {
        const bool wanted = a->dy[s / 2].data && sum_of(a, s).view.data;
        p.slot[s] = wanted ? p.n_sums : -1;
        if (wanted) sums.sums[p.n_sums++] = sum_of(a, s);
    }
    if (p.n_sums) {
        p.part = reinterpret_cast<float *>(static_cast<char *>(workspace) + stats_bytes(a->shape));
        if (!vec) p.stats = static_cast<float2 *>(workspace);
        if (groups * p.s.n > 65535) return cudaErrorInvalidValue;
    } else if (!a->dx.view.data) {
        return cudaSuccess;
    }
    const cudaError_t e = vec ? run_registers(p, groups, stream) : run_any(p, groups, stream);
    if (e != cudaSuccess || !p.n_sums) return e;
    sums.part = p.part, sums.slabs = p.s.n, sums.dim = p.w.cols, sums.n_sums = p.n_sums;
    sums.scale = 1.0f;
    for (k_grad &g : sums.sums)
        if (!a->per_sample) g.view.stride[0] = 0;
    return launch_add_slabs(sums, groups, stream);
}
