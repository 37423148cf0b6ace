// SPDX-License-Identifier: MIT
// Group norm of NHWC maps [B, H W, C], with SiLU behind it where asked:
//   y = silu?((x - mean) rstd gamma[c] + beta[c]),  mean and rstd = 1 / sqrt(var + eps) over the H W C / G elements of a group.
//
// Large groups take three kernels, small ones one:
//   partial    a block owns some channels of a slab of pixels; every thread goes down one column of V channels in batches of
//              BATCH pixels: moments of the batch in two passes over registers, merged into the thread's by Chan's formula.
//              The threads' moments are merged in order: (mean, M2) of every (image, slab, channel).
//   merge      a block merges slabs x channels of a group: (mean, rstd).
//   apply      a second pass over the map.
// Nothing cancels: a channel's values are taken relative to its first pixel, the pivot, and a group's relative to the pivot of
// its first channel. A pivot is one of the data, so that |pivot - mean| <= sqrt(n) std: even an outlier as the pivot costs no
// more than 2^-24 sqrt(n) of std. The order of additions depends on shapes alone.
// The map is read twice and written once, 16 bytes an access where C and the pointers allow (V = 8), else by elements (V = 1).
// hot: group_norm_partial, group_norm_apply, group_norm_small
#include "act.cuh"
#include "dev.cuh"
#include "kernels.h"
#include "rows.cuh"
#include "storage.cuh"

namespace
{
constexpr int THREADS = 256;
constexpr int BATCH = 8;        // pixels in flight in a thread of partial
constexpr int APPLY_ROUNDS = 4; // batches of a thread of apply
constexpr int SLABS_MAX = 512;  // blocks of partial for an image
constexpr int SMALL_MAX = 8192; // elements of a group that one block keeps in shared memory

// Columns of V channels by lanes of pixels: thread t is column t % columns, lane t / columns; the last few may be idle.
struct layout {
    int vec, columns, lanes, column_blocks;
    int slabs, slab_pixels;
};

struct moments {
    float mean, m2;
};

// Chan: merges the moments of n_b values into those of n_a; share = n_b / (n_a + n_b).
DEV void merge_moments(moments &a, float n_a, float mean_b, float m2_b, float share)
{
    float d = mean_b - a.mean;
    a.mean = fmaf(d, share, a.mean);
    a.m2 += fmaf(d * d, n_a * share, m2_b);
}

// Pixels in flight in a thread of apply: 64 bytes, or 4 elements.
template <typename T, int V> constexpr int APPLY_BATCH = V == 8 ? 8 / sizeof(T) : 4;

// V elements as they lie in memory, so that loads are under way in few registers.
template <typename T, int V> using raw_vec = typename std::conditional<V == 8, raw8, T>::type;

template <typename T, int V> DEV raw_vec<T, V> fetch_vec(const T *p)
{
    if constexpr (V == 8)
        return fetch8(p, dtype_of<T>::value, 0);
    else
        return *p;
}

template <typename T, int V> DEV void widen_vec(float (&v)[V], const raw_vec<T, V> &raw)
{
    if constexpr (V == 8)
        widen8(v, raw, dtype_of<T>::value);
    else
        v[0] = to_f(raw);
}

template <typename T, int V> DEV void load_vec(float (&v)[V], const T *p)
{
    widen_vec<T, V>(v, fetch_vec<T, V>(p));
}

// N pixels, step elements apart, of V channels.
template <typename T, int V, int N>
DEV void take_batch(moments (&m)[V], float seen, const T *p, int64_t step, const float (&pivot)[V])
{
    float v[N][V];
#pragma unroll
    for (int i = 0; i < N; i++) load_vec<T, V>(v[i], p + i * step);
    float share = N / (seen + N);
#pragma unroll
    for (int c = 0; c < V; c++) {
        float sum = 0.0f, m2 = 0.0f;
#pragma unroll
        for (int i = 0; i < N; i++) {
            v[i][c] -= pivot[c];
            sum += v[i][c];
        }
        float mean = sum * (1.0f / N);
#pragma unroll
        for (int i = 0; i < N; i++) m2 = fmaf(v[i][c] - mean, v[i][c] - mean, m2);
        merge_moments(m[c], seen, mean, m2, share);
    }
}

// blockIdx: (image, slab), block of columns. part: [B][slabs][C] moments relative to the channel's pivot.
template <typename T, int V>
__global__ void __launch_bounds__(THREADS)
    group_norm_partial(moments *part, const T *x, int64_t pixels, int channels, layout l)
{
    SMEM_ARRAY(moments, lane_moments, THREADS * V);
    const int tid = static_cast<int>(threadIdx.x), lane = tid / l.columns;
    const int first = (static_cast<int>(blockIdx.y) * l.columns + tid % l.columns) * V;
    const int block = static_cast<int>(blockIdx.x);
    const int64_t image = block / l.slabs, slab = block % l.slabs, begin = slab * l.slab_pixels;
    const int count = static_cast<int>(min(static_cast<int64_t>(l.slab_pixels), pixels - begin));
    const bool active = lane < l.lanes && first < channels;
    moments m[V] = {};
    if (active) {
        float pivot[V];
        const T *map = x + image * pixels * channels + first;
        load_vec<T, V>(pivot, map);
        const int64_t step = static_cast<int64_t>(l.lanes) * channels;
        const T *p = map + (begin + lane) * channels;
        int left = lane < count ? (count - lane - 1) / l.lanes + 1 : 0;
        float seen = 0.0f;
        for (; left >= BATCH; left -= BATCH, seen += BATCH, p += BATCH * step)
            take_batch<T, V, BATCH>(m, seen, p, step, pivot);
        for (; left > 0; left--, seen += 1.0f, p += step)
            take_batch<T, V, 1>(m, seen, p, step, pivot);
#pragma unroll
        for (int c = 0; c < V; c++)
            lane_moments[lane * l.columns * V + tid % l.columns * V + c] = m[c];
    }
    __syncthreads();
    // Thread c now is channel c of the block: columns * V <= THREADS.
    const int width = l.columns * V, channel = static_cast<int>(blockIdx.y) * width + tid;
    if (tid < width && channel < channels) {
        moments all = {0.0f, 0.0f};
        float seen = 0.0f;
        for (int i = 0; i < min(l.lanes, count); i++) {
            float n = static_cast<float>((count - i - 1) / l.lanes + 1);
            moments b = lane_moments[i * width + tid];
            merge_moments(all, seen, b.mean, b.m2, n / (seen + n));
            seen += n;
        }
        part[(image * l.slabs + slab) * channels + channel] = all;
    }
}

// blockIdx: group, image. stats: [B][G] of (mean, rstd).
template <typename T>
__global__ void __launch_bounds__(THREADS)
    group_norm_merge(float2 *stats, const moments *part, const T *x, int64_t pixels, int channels,
                     float eps, layout l)
{
    const int groups = static_cast<int>(gridDim.x), per = channels / groups;
    const int first = static_cast<int>(blockIdx.x) * per;
    const int64_t image = blockIdx.y;
    const T *map = x + image * pixels * channels + first;
    const moments *p = part + image * l.slabs * channels + first;
    const float pivot = to_f(map[0]), whole = static_cast<float>(l.slab_pixels),
                last = static_cast<float>(pixels - static_cast<int64_t>(l.slabs - 1) * l.slab_pixels);
    const float total = static_cast<float>(pixels) * static_cast<float>(per);
    const int entries = l.slabs * per; // 512 slabs, 4096 channels a group
    float sum = 0.0f;
    for (int e = static_cast<int>(threadIdx.x); e < entries; e += THREADS) {
        const int slab = e / per, c = e % per;
        sum = fmaf(p[static_cast<int64_t>(slab) * channels + c].mean + (to_f(map[c]) - pivot),
                   slab == l.slabs - 1 ? last : whole, sum);
    }
    const float mean = block_sum<THREADS>(sum) / total;
    float m2 = 0.0f;
    for (int e = static_cast<int>(threadIdx.x); e < entries; e += THREADS) {
        const int slab = e / per, c = e % per;
        moments m = p[static_cast<int64_t>(slab) * channels + c];
        float d = m.mean + (to_f(map[c]) - pivot) - mean;
        m2 += fmaf(d * d, slab == l.slabs - 1 ? last : whole, m.m2);
    }
    m2 = block_sum<THREADS>(m2);
    if (threadIdx.x == 0)
        stats[image * groups + blockIdx.x] = make_float2(pivot + mean, rsqrtf(m2 / total + eps));
}

template <int V> DEV void store_vec(const k_group_norm_args &a, int64_t at, float (&v)[V])
{
    if (a.silu) {
#pragma unroll
        for (int c = 0; c < V; c++) v[c] = silu(v[c]);
    }
    if constexpr (V == 8)
        store8_as(a.y, a.y_dtype, at, v);
    else
        store_as(a.y, a.y_dtype, at, v[0]);
}

// blockIdx: (image, block of pixels), block of columns.
template <typename T, int V>
__global__ void __launch_bounds__(THREADS, 3)
    group_norm_apply(k_group_norm_args a, const float2 *stats, layout l, int64_t pixel_blocks)
{
    const int tid = static_cast<int>(threadIdx.x), lane = tid / l.columns;
    const int first = (static_cast<int>(blockIdx.y) * l.columns + tid % l.columns) * V;
    if (lane >= l.lanes || first >= a.channels) return;
    const int64_t image = blockIdx.x / pixel_blocks, block = blockIdx.x % pixel_blocks;
    const int per = a.channels / a.groups;
    float mean[V], scale[V], shift[V];
#pragma unroll
    for (int c = 0; c < V; c++) {
        float2 s = stats[image * a.groups + (first + c) / per];
        mean[c] = s.x;
        scale[c] = s.y * a.gamma[first + c];
        shift[c] = a.beta[first + c];
    }
    constexpr int N = APPLY_BATCH<T, V>;
    const T *x = static_cast<const T *>(a.x);
    const int64_t block_pixels = static_cast<int64_t>(l.lanes) * N * APPLY_ROUNDS;
    const int64_t end = min((block + 1) * block_pixels, a.pixels);
    for (int64_t at = block * block_pixels + lane; at < end; at += l.lanes * N) {
        raw_vec<T, V> raw[N];
        const int64_t offset = (image * a.pixels + at) * a.channels + first,
                      step = static_cast<int64_t>(l.lanes) * a.channels;
#pragma unroll
        for (int i = 0; i < N; i++)
            if (at + i * l.lanes < end) raw[i] = fetch_vec<T, V>(x + offset + i * step);
#pragma unroll
        for (int i = 0; i < N; i++) {
            if (at + i * l.lanes >= end) continue;
            float v[V];
            widen_vec<T, V>(v, raw[i]);
#pragma unroll
            for (int c = 0; c < V; c++) v[c] = fmaf(v[c] - mean[c], scale[c], shift[c]);
            store_vec<V>(a, offset + i * step, v);
        }
    }
}

// blockIdx: group, image. The group's elements stay in shared memory between the passes.
template <typename T>
__global__ void __launch_bounds__(THREADS) group_norm_small(k_group_norm_args a)
{
    SMEM_ARRAY(float, v, SMALL_MAX);
    const int per = a.channels / a.groups, n = static_cast<int>(a.pixels) * per;
    const int first = static_cast<int>(blockIdx.x) * per;
    const int64_t map = static_cast<int64_t>(blockIdx.y) * a.pixels * a.channels + first;
    const T *x = static_cast<const T *>(a.x) + map;
    const float pivot = to_f(x[0]), count = static_cast<float>(n);
    float sum = 0.0f;
    for (int e = static_cast<int>(threadIdx.x); e < n; e += THREADS) {
        float d = to_f(x[static_cast<int64_t>(e / per) * a.channels + e % per]) - pivot;
        v[e] = d;
        sum += d;
    }
    const float mean = block_sum<THREADS>(sum) / count;
    float m2 = 0.0f;
    for (int e = static_cast<int>(threadIdx.x); e < n; e += THREADS)
        m2 = fmaf(v[e] - mean, v[e] - mean, m2);
    const float rstd = rsqrtf(block_sum<THREADS>(m2) / count + a.eps);
    for (int e = static_cast<int>(threadIdx.x); e < n; e += THREADS) {
        int c = e % per;
        float r[1] = {fmaf(v[e] - mean, rstd * a.gamma[first + c], a.beta[first + c])};
        store_vec<1>(a, map + static_cast<int64_t>(e / per) * a.channels + c, r);
    }
}

bool is_small(const k_group_norm_args &a)
{
    return a.pixels <= SMALL_MAX && a.pixels * (a.channels / a.groups) <= SMALL_MAX;
}

layout layout_of(const k_group_norm_args &a)
{
    layout l;
    l.vec = a.channels % 8 == 0 && aligned16(a.x) && aligned16(a.y) ? 8 : 1;
    const int all = a.channels / l.vec, most = l.vec == 8 ? THREADS / 8 : 64;
    l.column_blocks = (all + most - 1) / most;
    l.columns = (all + l.column_blocks - 1) / l.column_blocks;
    l.lanes = THREADS / l.columns;
    // A slab is worth two batches of every thread, and more where there would be too many.
    const int64_t least = static_cast<int64_t>(l.lanes) * BATCH * 2,
                  most_slabs = max(1, SLABS_MAX / l.column_blocks);
    l.slab_pixels = static_cast<int>(max(least, (a.pixels + most_slabs - 1) / most_slabs));
    l.slabs = static_cast<int>((a.pixels + l.slab_pixels - 1) / l.slab_pixels);
    return l;
}

// The layout by pointers of any alignment, for sizes alone.
int64_t slabs_at_most(k_group_norm_args a)
{
    a.x = a.y = nullptr;
    const int wide = layout_of(a).slabs;
    a.x = reinterpret_cast<const void *>(uintptr_t{4});
    return max(wide, layout_of(a).slabs);
}

template <typename T, int V>
cudaError_t run(const k_group_norm_args &a, const layout &l, void *ws, cudaStream_t stream)
{
    const dim3 threads(THREADS);
    const unsigned columns = static_cast<unsigned>(l.column_blocks),
                   batch = static_cast<unsigned>(a.batch);
    moments *part = static_cast<moments *>(ws);
    float2 *stats = reinterpret_cast<float2 *>(part + a.batch * l.slabs * a.channels);
    const T *x = static_cast<const T *>(a.x);
    cudaError_t e =
        launch((group_norm_partial<T, V>), dim3(static_cast<unsigned>(a.batch * l.slabs), columns),
               threads, 0, stream, part, x, a.pixels, a.channels, l);
    if (e != cudaSuccess) return e;
    e = launch((group_norm_merge<T>), dim3(static_cast<unsigned>(a.groups), batch), threads, 0,
               stream, stats, part, x, a.pixels, a.channels, a.eps, l);
    if (e != cudaSuccess) return e;
    const int64_t block = static_cast<int64_t>(l.lanes) * APPLY_BATCH<T, V> * APPLY_ROUNDS,
                  blocks = (a.pixels + block - 1) / block;
    return launch((group_norm_apply<T, V>), dim3(static_cast<unsigned>(a.batch * blocks), columns),
                  threads, 0, stream, a, stats, l, blocks);
}

template <typename T> cudaError_t run(const k_group_norm_args &a, void *ws, cudaStream_t stream)
{
    if (is_small(a))
        return launch((group_norm_small<T>),
                      dim3(static_cast<unsigned>(a.groups), static_cast<unsigned>(a.batch)),
                      dim3(THREADS), 0, stream, a);
    const layout l = layout_of(a);
    return l.vec == 8 ? run<T, 8>(a, l, ws, stream) : run<T, 1>(a, l, ws, stream);
}
} // namespace

extern "C" size_t k_group_norm_workspace(const k_group_norm_args *a)
{
    if (is_small(*a)) return 0;
    return static_cast<size_t>(a->batch) *
           (static_cast<size_t>(slabs_at_most(*a) * a->channels) * sizeof(moments) +
            static_cast<size_t>(a->groups) * sizeof(float2));
}

extern "C" cudaError_t k_group_norm(const k_group_norm_args *a, void *workspace,
                                    cudaStream_t stream)
{
    if (a->batch == 0 || a->pixels == 0) return cudaSuccess;
    if (a->x_dtype == K_BF16) return run<__nv_bfloat16>(*a, workspace, stream);
    if (a->x_dtype == K_F16) return run<__half>(*a, workspace, stream);
    return run<float>(*a, workspace, stream);
}
