// SPDX-License-Identifier: MIT
// Bugs on purpose in kernels: each case runs right without its bug and must be caught with it (test_planted.sh).
#include "planted.h"
#include "dev.cuh"

namespace
{
constexpr int N = 256; // threads of a block, elements of a case

// y = x backwards, through shared memory.
__global__ void reverse_block(float *y, const float *x, bool bug)
{
    SMEM_ARRAY(float, tile, N);
    int t = threadIdx.x;
    tile[t] = x[t];
    if (!bug) __syncthreads();
    y[t] = tile[N - 1 - t];
}

// Sums tiles; the barrier after reading keeps the next tile from being written too early.
__global__ void sum_tiles(float *y, const float *x, int tiles, bool bug)
{
    SMEM_ARRAY(float, tile, N);
    int t = threadIdx.x;
    float s = 0.0f;
    for (int i = 0; i < tiles; i++) {
        tile[t] = x[i * N + t];
        __syncthreads();
        s += tile[(t + N / 2) % N];
        if (!bug) __syncthreads();
    }
    y[t] = s;
}

// The same with cp.async in two stages. wait: leaves the youngest group out of two. barrier: nobody waits for the others' copies.
// early: the next copy starts before all have read the stage that it fills.
enum { PIPE_WAIT = 1, PIPE_BARRIER, PIPE_EARLY };
__global__ void sum_pipelined(float *y, const float *x, int tiles, int bug)
{
    SMEM_ARRAY(float, tile, 2 * N);
    int t = threadIdx.x;
    float s = 0.0f;
    auto issue = [&](int i) {
        if (i < tiles && t < N / 4) cp_async16(&tile[i % 2 * N + 4 * t], x + i * N + 4 * t, true);
        cp_async_commit();
    };
    issue(0);
    for (int i = 0; i < tiles; i++) {
        if (bug == PIPE_EARLY) issue(i + 1);
        if (bug == PIPE_WAIT || bug == PIPE_EARLY)
            cp_async_wait<1>();
        else
            cp_async_wait<0>();
        if (bug != PIPE_BARRIER) __syncthreads();
        if (bug != PIPE_EARLY) issue(i + 1);
        s += tile[i % 2 * N + (t + N / 2) % N];
    }
    y[t] = s;
}

// Lane l gets lane l + 1's value through shared memory.
__global__ void rotate_warp(float *y, const float *x, bool bug)
{
    SMEM_ARRAY(float, tile, N);
    int t = threadIdx.x;
    tile[t] = x[t];
    if (!bug) __syncwarp();
    y[t] = tile[(t & ~31) | ((t + 1) & 31)];
}

__global__ void static_array(float *y, const float *x, bool bug)
{
    SMEM_ARRAY(float, part, N / 4);
    int t = threadIdx.x;
    if (t < N / 4 + (bug ? 1 : 0)) part[t] = x[t];
    __syncthreads();
    y[t] = part[t % (N / 4)];
}

__global__ void dynamic_array(float *y, const float *x, int n, bool bug)
{
    DYN_SMEM(raw);
    float *tile = reinterpret_cast<float *>(raw);
    int t = threadIdx.x;
    if (t < n) tile[t] = x[t];
    __syncthreads();
    y[t] = tile[bug ? t : t % n];
}

__global__ void copy_from(float *y, const float *x, int64_t offset)
{
    int t = threadIdx.x;
    y[t] = x[t + offset];
}

__global__ void copy_to(float *y, const float *x, int64_t offset)
{
    int t = threadIdx.x;
    y[t + offset] = x[t];
}

__global__ void diverging_shuffles(float *y, const float *x, bool bug)
{
    int t = threadIdx.x;
    float v = x[t];
    if (bug && t % 32 < 16)
        v = __shfl_xor_sync(FULL_MASK, v, 1);
    else
        v = __shfl_xor_sync(FULL_MASK, v, 1);
    y[t] = v;
}

__global__ void shuffle_masks(float *y, const float *x, bool own, bool source)
{
    int t = threadIdx.x;
    float v = x[t];
    if (t % 32 < 16) v = __shfl_sync(own ? 0xffff0000u : 0x0000ffffu, v, source ? 20 : t ^ 1);
    y[t] = v;
}

enum { EXIT_COLLECTIVE = 1, EXIT_BEFORE_BARRIER, EXIT_FIRST_WARP };
__global__ void early_exit(float *y, const float *x, int bug)
{
    int t = threadIdx.x;
    if (bug == EXIT_COLLECTIVE && t % 32 == 7) return;
    if (bug == EXIT_BEFORE_BARRIER && t == N - 1) return;
    if (bug == EXIT_FIRST_WARP && t < 32) return;
    float s = warp_sum(x[t]);
    __syncthreads();
    y[t] = s;
}

__global__ void two_barriers(float *y, const float *x, bool bug)
{
    int t = threadIdx.x;
    if (bug && t < 64)
        __syncthreads();
    else
        __syncthreads();
    y[t] = x[t];
}

__global__ void named_barriers(float *y, const float *x, int id, int count)
{
    SMEM_ARRAY(float, tile, N);
    int t = threadIdx.x;
    if (t < 64) { // two warps exchange, the others go on
        tile[t] = x[t];
        named_barrier_sync(id, count);
        y[t] = tile[63 - t];
    } else {
        y[t] = x[t];
    }
}

__global__ void vector_loads(float *y, const float *x, int offset)
{
    float v[4];
    load4(v, x + 4 * threadIdx.x + offset);
    y[threadIdx.x] = v[0];
}

__global__ void misaligned_copy(float *y, const float *x, int offset)
{
    SMEM_ARRAY(float, tile, 4 * N);
    int t = threadIdx.x;
    cp_async16(&tile[4 * t], x + (t ? 4 * t : offset), true);
    cp_async_commit();
    cp_async_wait<0>();
    y[t] = tile[4 * t];
}

__global__ void misaligned_rows(float *y, int offset)
{
    SMEM_ARRAY(__half, tile, 33 * 8);
    int t = threadIdx.x;
    for (int i = t; i < 33 * 8; i += N) tile[i] = from_f<__half>(1.0f);
    __syncthreads();
    uint32_t r[4];
    ldsm_x4(r, tile + t % 32 * 8 + offset);
    float lo, hi;
    unpack2<__half>(r[0], lo, hi);
    y[t] = lo + hi;
}

__global__ void unset_shared(float *y, const float *x, bool bug)
{
    SMEM_ARRAY(float, tile, N);
    int t = threadIdx.x;
    if (!bug || t) tile[t] = x[t];
    __syncthreads();
    y[t] = tile[t] + 0.0f * tile[0];
}

// y[0] = sum of x. race: without an atomic.
__global__ void sum_atomic(float *y, const float *x, bool race)
{
    float v = x[blockIdx.x * N + threadIdx.x];
    if (race)
        y[0] += v;
    else
        atomicAdd(y, v);
}

// Every block writes the element of the block after it, too.
__global__ void write_blocks(float *y, const float *x, bool race)
{
    int t = threadIdx.x, b = blockIdx.x;
    if (t == 0) y[b] = x[0];
    if (race && t == 1 && b + 1 < static_cast<int>(gridDim.x)) y[b + 1] = x[0];
}

// The last block to arrive adds up what the others left.
__global__ void last_block(float *y, float *part, unsigned *count, bool bug)
{
    SMEM_ARRAY(int, last, 1);
    if (threadIdx.x == 0) {
        part[blockIdx.x] = 1.0f;
        if (!bug) __threadfence();
        last[0] = atomicAdd(count, 1u) == gridDim.x - 1;
        if (!bug) __threadfence();
    }
    __syncthreads();
    if (!last[0] || threadIdx.x) return;
    float s = 0.0f;
    for (unsigned i = 0; i < gridDim.x; i++) s += part[i];
    y[0] = s;
}

__global__ void struct_argument(planted_pair p)
{
    p.y[threadIdx.x] = p.x[threadIdx.x];
}

__device__ int deep(volatile char *above, int n)
{
    volatile char here[4096];
    here[0] = above[0];
    return n ? deep(here, n - 1) + here[0] : here[0];
}

__global__ void deep_stack(float *y, const float *x, int depth)
{
    volatile char c[1] = {0};
    y[threadIdx.x] = x[threadIdx.x] + static_cast<float>(deep(c, depth));
}

__global__ void static_and_dynamic(float *y, const float *x)
{
    SMEM_ARRAY(float, tile, 4096);
    DYN_SMEM(raw);
    int t = threadIdx.x;
    tile[t] = x[t];
    raw[t] = 0;
    y[t] = tile[t];
}
} // namespace

#define RUN(kernel, ...) launch(kernel, dim3(1), dim3(N), 0, s, __VA_ARGS__)
#define CASE(name, ...)                                                                            \
    cudaError_t planted_##name(float *y, const float *x, bool bug, cudaStream_t s)                 \
    {                                                                                              \
        return __VA_ARGS__;                                                                        \
    }
extern "C" {
CASE(missing_barrier, RUN(reverse_block, y, x, bug))
CASE(write_after_read, RUN(sum_tiles, y, x, 4, bug))
CASE(wait_count, RUN(sum_pipelined, y, x, 4, bug ? PIPE_WAIT : 0))
CASE(copies_of_others, RUN(sum_pipelined, y, x, 4, bug ? PIPE_BARRIER : 0))
CASE(early_copy, RUN(sum_pipelined, y, x, 4, bug ? PIPE_EARLY : 0))
CASE(missing_syncwarp, RUN(rotate_warp, y, x, bug))
CASE(static_bounds, RUN(static_array, y, x, bug))
CASE(dynamic_bounds, launch(dynamic_array, dim3(1), dim3(N), 32 * sizeof(float), s, y, x, 32, bug))
CASE(read_past, RUN(copy_from, y, x, bug ? 4 * N : 0))
CASE(read_before, RUN(copy_from, y, x, bug ? -1 : 0))
CASE(write_past, RUN(copy_to, y, x, bug ? N : 0))
CASE(diverging, RUN(diverging_shuffles, y, x, bug))
CASE(lane_not_in_mask, RUN(shuffle_masks, y, x, bug, false))
CASE(source_not_in_mask, RUN(shuffle_masks, y, x, false, bug))
CASE(lane_exited, RUN(early_exit, y, x, bug ? EXIT_COLLECTIVE : 0))
CASE(exit_while_others_wait, RUN(early_exit, y, x, bug ? EXIT_BEFORE_BARRIER : 0))
CASE(barrier_after_exit, RUN(early_exit, y, x, bug ? EXIT_FIRST_WARP : 0))
CASE(different_barriers, RUN(two_barriers, y, x, bug))
CASE(deadlock, RUN(named_barriers, y, x, 1, bug ? 96 : 64))
CASE(barrier_zero, RUN(named_barriers, y, x, bug ? 0 : 1, 64))
CASE(misaligned_load, RUN(vector_loads, y, x, bug ? 2 : 0))
CASE(misaligned_cp_async, RUN(misaligned_copy, y, x, bug ? 2 : 0))
CASE(misaligned_ldmatrix, RUN(misaligned_rows, (void(x), y), bug ? 4 : 0))
CASE(unset_shared, RUN(unset_shared, y, x, bug))
CASE(lost_update, launch(sum_atomic, dim3(4), dim3(N), 0, s, y, x, bug))
CASE(blocks_race, launch(write_blocks, dim3(4), dim3(N), 0, s, y, x, bug))
CASE(stack, RUN(deep_stack, y, x, bug ? 64 : 1))
CASE(static_and_dynamic,
     launch(static_and_dynamic, dim3(1), dim3(N), bug ? 40 << 10 : 1 << 10, s, y, x))
CASE(too_much_shared,
     launch(dynamic_array, dim3(1), dim3(N), bug ? 100 << 10 : 99 << 10, s, y, x, N, false))

// Past launch(), which would set the attribute.
cudaError_t planted_without_attribute(float *y, const float *x, bool bug, cudaStream_t s)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(1);
    config.blockDim = dim3(N);
    config.dynamicSmemBytes = (48 << 10) + (bug ? 128 : 0);
    config.stream = s;
    return cudaLaunchKernelEx(&config, dynamic_array, y, x, int(N), false);
}

cudaError_t planted_last_block(float *y, float *part, unsigned *count, bool bug, cudaStream_t s)
{
    return launch(last_block, dim3(8), dim3(32), 0, s, y, part, count, bug);
}

cudaError_t planted_copy(float *y, const float *x, cudaStream_t s)
{
    return launch(copy_to, dim3(1), dim3(N), 0, s, y, x, 0);
}

cudaError_t planted_struct(planted_pair p, cudaStream_t s)
{
    return launch(struct_argument, dim3(1), dim3(N), 0, s, p);
}
}
