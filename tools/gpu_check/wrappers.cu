// SPDX-License-Identifier: MIT
// One small kernel for each group of dev.cuh's wrappers (wrappers.h). Every thread's words stand at out[W_NAME + ...].
#include "wrappers.h"
#include "dev.cuh"
#include "base/philox.h"

namespace
{
constexpr int N = 256;

DEV uint32_t bits(float f)
{
    return __float_as_uint(f);
}

DEV uint32_t hash(uint32_t x) // well mixed words for inputs
{
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

DEV float small_int(uint32_t x) // -4 .. 4
{
    return static_cast<float>(static_cast<int>(hash(x) % 9) - 4);
}

DEV float unit(uint32_t x) // in [-1, 1)
{
    return static_cast<float>(static_cast<int>(hash(x))) * 0x1p-31f;
}

__global__ void copies(uint32_t *out, const uint32_t *source)
{
    SMEM_ARRAY(uint32_t, tile, 512);
    int t = threadIdx.x;
    if (t < 32) cp_async16(&tile[4 * t], source + 4 * t, true);
    cp_async_commit();
    if (t < 32) cp_async16(&tile[128 + 4 * t], source + 128 + 4 * t, t % 3 != 0);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    uint32_t first = tile[t % 128];
    cp_async_wait<0>();
    __syncthreads();
    out[W_cp_async + t] = first;
    out[W_cp_async + N + t] = tile[128 + t % 128];
}

__global__ void matrices(uint32_t *out)
{
    SMEM_ARRAY(uint4, rows, 32); // of 8 numbers
    uint16_t *tile = reinterpret_cast<uint16_t *>(rows);
    int l = threadIdx.x;
    for (int i = l; i < 32 * 8; i += WARP) tile[i] = static_cast<uint16_t>(i / 8 << 8 | i % 8);
    __syncwarp();
    uint32_t r[4], q[2];
    const uint16_t *row = tile + (l ^ 5) * 8;
    ldsm_x4(r, row);
    for (int i = 0; i < 4; i++) out[W_ldsm_x4 + 4 * l + i] = r[i];
    ldsm_x4_t(r, row);
    for (int i = 0; i < 4; i++) out[W_ldsm_x4_t + 4 * l + i] = r[i];
    ldsm_x2(q, row);
    for (int i = 0; i < 2; i++) out[W_ldsm_x2 + 2 * l + i] = q[i];
    ldsm_x2_t(q, row);
    for (int i = 0; i < 2; i++) out[W_ldsm_x2_t + 2 * l + i] = q[i];
}

template <typename T> DEV void products(uint32_t *out, float (*value)(uint32_t))
{
    uint32_t l = threadIdx.x, a[4], b[2];
    float d[4];
    for (uint32_t i = 0; i < 4; i++) {
        a[i] = pack2<T>(value(16 * l + 2 * i), value(16 * l + 2 * i + 1));
        d[i] = value(16 * l + 12 + i);
    }
    for (uint32_t i = 0; i < 2; i++)
        b[i] = pack2<T>(value(16 * l + 8 + 2 * i), value(16 * l + 9 + 2 * i));
    mma_16816<T>(d, a, b[0], b[1]);
    for (int i = 0; i < 4; i++) out[4 * l + i] = bits(d[i]);
}

__global__ void tensor_cores(uint32_t *out)
{
    products<__nv_bfloat16>(out + W_mma_bf16, small_int);
    products<__half>(out + W_mma_f16, small_int);
    products<__nv_bfloat16>(out + W_mma_rounding, unit);
    uint32_t l = threadIdx.x, a[4];
    int d[4];
    for (uint32_t i = 0; i < 4; i++) {
        a[i] = hash(8 * l + i);
        d[i] = static_cast<int>(hash(8 * l + 4 + i)) >> 8;
    }
    mma_16832_s8(d, a, hash(1000 + l), hash(2000 + l));
    for (int i = 0; i < 4; i++) out[W_mma_s8 + 4 * l + i] = static_cast<uint32_t>(d[i]);
}

// -4 .. 4 in e4m3.
DEV uint32_t e4m3_bytes(uint32_t x)
{
    uint32_t word = 0;
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t codes[5] = {0x00, 0x38, 0x40, 0x44, 0x48}; // 0 1 2 3 4
        uint32_t h = hash(4 * x + i);
        word |= (codes[h % 5] | (h >> 8 & 1) << 7) << 8 * i;
    }
    return word;
}

__global__ void tensor_cores_e4m3(uint32_t *out)
{
    uint32_t l = threadIdx.x, a[4];
    float d[4];
    for (uint32_t i = 0; i < 4; i++) {
        a[i] = e4m3_bytes(6 * l + i);
        d[i] = small_int(4 * l + i);
    }
    mma_16832_e4m3(d, a, e4m3_bytes(6 * l + 4), e4m3_bytes(6 * l + 5));
    for (int i = 0; i < 4; i++) out[W_mma_e4m3 + 4 * l + i] = bits(d[i]);
}

__global__ void functions(uint32_t *out)
{
    int t = threadIdx.x;
    float u = unit(static_cast<uint32_t>(t));
    out[W_exp2_fast + t] = bits(exp2_fast(8.0f * u));
    out[W_rcp_fast + t] = bits(rcp_fast(u * 100.0f));
    out[W_tanh_fast + t] = bits(tanh_fast(6.0f * u));
    out[W_expf_fast + t] = bits(__expf(4.0f * u));
    out[W_rsqrtf + t] = bits(rsqrtf(fabsf(u) * 10.0f + 0.1f));
    if (t == 0) {
        const float values[8] = {exp2_fast(-INFINITY), exp2_fast(-200.0f), exp2_fast(200.0f),
                                 exp2_fast(0.0f),      tanh_fast(100.0f),  tanh_fast(-100.0f),
                                 rcp_fast(INFINITY),   tanh_fast(0.0f)};
        for (int i = 0; i < 8; i++) out[W_limits + i] = bits(values[i]);
    }
}

__global__ void barriers(uint32_t *out)
{
    SMEM_ARRAY(uint32_t, tile, N);
    int t = threadIdx.x, group = t / 64;
    tile[t] = hash(static_cast<uint32_t>(t));
    named_barrier_sync(1 + group, 64);
    out[W_named_barrier + t] = tile[group * 64 + 63 - t % 64];
    int odd = t & 1;
    uint32_t count = static_cast<uint32_t>(__syncthreads_count(odd && t < 100));
    uint32_t all = __syncthreads_and(t < N) ? 1 : 0, any = __syncthreads_or(t == 17) ? 1 : 0;
    uint32_t none = __syncthreads_or(t > N) ? 1 : 0;
    out[W_counts + t] = count | all << 16 | any << 17 | none << 18;
}

__global__ void reductions(uint32_t *out)
{
    int t = threadIdx.x;
    float u = unit(static_cast<uint32_t>(t)), v = unit(static_cast<uint32_t>(t + 1000));
    out[W_warp_sum + t] = bits(warp_sum(u));
    out[W_warp_max + t] = bits(warp_max(u));
    out[W_block_sum + t] = bits(block_sum<N>(u));
    out[W_block_max + t] = bits(block_max<N>(u));
    block_sum2<N>(u, v);
    out[W_block_sum2 + 2 * t] = bits(u);
    out[W_block_sum2 + 2 * t + 1] = bits(v);
}

// A float whose rounding is interesting: near ties of bf16 and fp16, subnormals, overflow, infinities, NaN.
DEV float awkward(int t)
{
    const uint32_t special[8] = {0x7f800000u, 0xff800000u, 0x7fc00000u, 0x00000000u,
                                 0x80000000u, 0x7f7fffffu, 0x33000000u, 0x33000001u};
    if (t < 8) return __uint_as_float(special[t]);
    uint32_t h = hash(static_cast<uint32_t>(t));
    if (t < 100) return __uint_as_float((h & 0xffff0000u) | 0x8000u);     // ties of bf16
    if (t < 180) return __uint_as_float((h & 0x8fffe000u) | 0x30001000u); // ties of fp16
    return __uint_as_float((h & 0x807fffffu) | (102u + h % 24u) << 23); // fp16: subnormal and less
}

template <typename T> DEV uint32_t stored(float f)
{
    T v = from_f<T>(f);
    uint16_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

__global__ void roundings(uint32_t *out)
{
    int t = threadIdx.x;
    float f = awkward(t);
    out[W_round_bf16 + t] = stored<__nv_bfloat16>(f);
    out[W_round_f16 + t] = stored<__half>(f);
    float lo, hi;
    unpack2<__nv_bfloat16>(pack2<__nv_bfloat16>(unit(static_cast<uint32_t>(t)), f), lo, hi);
    out[W_pack + 2 * t] = bits(lo);
    unpack2<__half>(pack2<__half>(f, unit(static_cast<uint32_t>(t))), lo, hi);
    out[W_pack + 2 * t + 1] = bits(hi);
}

template <typename T> DEV void vectors(uint32_t *out)
{
    SMEM_ARRAY(T, tile, 512);
    SMEM_ARRAY(T, copy, 512);
    int t = threadIdx.x;
    for (int i = t; i < 512; i += N) tile[i] = from_f<T>(unit(static_cast<uint32_t>(i)));
    __syncthreads();
    if (t < 32) {
        float v[8];
        load8(v, tile + 8 * t);
        for (int i = 0; i < 8; i++) v[i] = v[i] * 0.5f;
        store8(copy + 8 * t, v);
    } else if (t < 96) {
        float v[4];
        load4(v, tile + 256 + 4 * (t - 32));
        for (int i = 0; i < 4; i++) v[i] = v[i] * 0.25f;
        store4(copy + 256 + 4 * (t - 32), v);
    }
    __syncthreads();
    for (int i = t; i < 512; i += N) out[i] = bits(to_f(copy[i]));
}

__global__ void vectors_of_all(uint32_t *out)
{
    vectors<float>(out + W_vectors_f32);
    vectors<__nv_bfloat16>(out + W_vectors_bf16);
    vectors<__half>(out + W_vectors_f16);
}

__global__ void lanes(uint32_t *out)
{
    uint32_t t = threadIdx.x, v = hash(t), l = t % WARP;
    uint32_t x = __shfl_sync(FULL_MASK, v, static_cast<int>(l * 7 + 3));
    x = x * 31 + __shfl_sync(FULL_MASK, v, 3, 8);
    x = x * 31 + __shfl_xor_sync(FULL_MASK, v, 5);
    x = x * 31 + __shfl_xor_sync(FULL_MASK, v, 9, 8);
    x = x * 31 + __shfl_up_sync(FULL_MASK, v, 3);
    x = x * 31 + __shfl_up_sync(FULL_MASK, v, 3, 16);
    x = x * 31 + __shfl_down_sync(FULL_MASK, v, 3);
    x = x * 31 + __shfl_down_sync(FULL_MASK, v, 3, 16);
    uint64_t wide = static_cast<uint64_t>(v) << 32 | l;
    wide = __shfl_xor_sync(FULL_MASK, wide, 1);
    out[W_shuffles + t] = x ^ static_cast<uint32_t>(wide >> 32) ^ static_cast<uint32_t>(wide);
    uint32_t y = __ballot_sync(FULL_MASK, v & 1);
    y = y * 31 + (__any_sync(FULL_MASK, l == t) ? 1u : 0u);
    y = y * 31 + (__all_sync(FULL_MASK, v != 0) ? 1u : 0u);
    y = y * 31 + __match_any_sync(FULL_MASK, v % 5);
    int pred;
    y = y * 31 + __match_all_sync(FULL_MASK, t / WARP, &pred);
    y = y * 31 + static_cast<uint32_t>(pred);
    if (l < 16) y = y * 31 + __ballot_sync(0x0000ffffu, v & 2);
    __syncwarp();
    out[W_votes + t] = y;
}

// The words after all threads: sums and extremes, which no order changes.
__global__ void atomics(uint32_t *out)
{
    int t = static_cast<int>(threadIdx.x + blockIdx.x * blockDim.x);
    uint32_t *w = out + W_atomics, h = hash(static_cast<uint32_t>(t));
    atomicAdd(w, h);
    atomicAdd(reinterpret_cast<int *>(w + 1), static_cast<int>(h));
    atomicAdd(reinterpret_cast<float *>(w + 2), static_cast<float>(t % 7));
    atomicMax(w + 3, h);
    atomicMin(reinterpret_cast<int *>(w + 4), static_cast<int>(h));
    atomicMax(reinterpret_cast<int *>(w + 5), static_cast<int>(h));
    atomicXor(w + 6, h);
    atomicOr(w + 7, 1u << t % 29);
    atomicInc(w + 8, 99u);
    atomicDec(w + 9, 77u);
    atomicSub(w + 10, h);
    atomicCAS(w + 11, 0u, 12345u);
    if (t == 5) atomicExch(w + 12, 67u);
    atomicAnd(w + 13, ~(1u << t % 3));
    atomicAdd(reinterpret_cast<unsigned long long *>(w + 14), static_cast<unsigned long long>(h));
}

__global__ void noise(uint32_t *out)
{
    uint32_t t = threadIdx.x;
    float n[4];
    philox_normal4(n, 0x0123456789abcdefu, t + (static_cast<uint64_t>(t) << 33), 7);
    for (int i = 0; i < 4; i++) out[W_philox + 4 * t + i] = bits(n[i]);
}

__global__ void integers(uint32_t *out)
{
    uint32_t t = threadIdx.x, h = hash(t);
    float f = unit(t) * 1000.0f;
    uint32_t x = static_cast<uint32_t>(__popc(h));
    x = x * 31 + static_cast<uint32_t>(__clz(static_cast<int>(h >> t % 32)));
    x = x * 31 + static_cast<uint32_t>(__ffs(static_cast<int>(h << t % 32)));
    x = x * 31 + __umulhi(h, h * 3);
    x = x * 31 + static_cast<uint32_t>(__float2int_rn(f));
    x = x * 31 + static_cast<uint32_t>(__float2int_rd(f));
    x = x * 31 + bits(__frcp_rn(f));
    x = x * 31 + bits(__fsqrt_rn(fabsf(f)));
    x = x * 31 + bits(__fdiv_rn(f, 3.0f));
    x = x * 31 + bits(__fmaf_rn(f, f, 1.0f / 3.0f));
    x = x * 31 + bits(fmaf(f, 0.1f, -f));
    x = x * 31 + bits(rintf(f * 0.5f));
    x = x * 31 + bits(__saturatef(fmaf(f, 1e-3f, 0.5f)));
    out[W_integers + t] = x;
}

__global__ void dynamic(uint32_t *out)
{
    DYN_SMEM(raw);
    uint32_t *tile = reinterpret_cast<uint32_t *>(raw), t = threadIdx.x;
    for (uint32_t i = t; i < (64u << 10) / 4; i += N) tile[i] = hash(i);
    __syncthreads();
    uint32_t x = 0;
    for (uint32_t i = 0; i < (64u << 10) / 4; i += N) x ^= tile[i + (t * 5 + i / N) % N];
    out[W_dynamic_smem + t] = x;
}

__global__ void source(uint32_t *out)
{
    out[threadIdx.x] = hash(threadIdx.x);
}
} // namespace

#define TRY(call)                                                                                  \
    do {                                                                                           \
        cudaError_t e_ = (call);                                                                   \
        if (e_ != cudaSuccess) return e_;                                                          \
    } while (0)

extern "C" cudaError_t wrappers_run(uint32_t *out, bool e4m3, cudaStream_t s)
{
    const dim3 one(1), block(N), warp(WARP);
    TRY(cudaMemsetAsync(out, 0, WRAPPER_WORDS * sizeof *out, s));
    uint32_t *words = out + W_philox; // borrowed until noise() writes there; 16-byte aligned
    TRY(launch(source, one, block, 0, s, words));
    TRY(launch(copies, one, block, 0, s, out, static_cast<const uint32_t *>(words)));
    TRY(launch(matrices, one, warp, 0, s, out));
    TRY(launch(tensor_cores, one, warp, 0, s, out));
    if (e4m3) TRY(launch(tensor_cores_e4m3, one, warp, 0, s, out));
    TRY(launch(functions, one, block, 0, s, out));
    TRY(launch(barriers, one, block, 0, s, out));
    TRY(launch(reductions, one, block, 0, s, out));
    TRY(launch(roundings, one, block, 0, s, out));
    TRY(launch(vectors_of_all, one, block, 0, s, out));
    TRY(launch(lanes, one, block, 0, s, out));
    TRY(cudaMemsetAsync(out + W_atomics + 13, 0xff, sizeof *out, s));
    TRY(launch(atomics, dim3(4), block, 0, s, out));
    TRY(launch(noise, one, block, 0, s, out));
    TRY(launch(integers, one, block, 0, s, out));
    return launch(dynamic, one, block, 64 << 10, s, out);
}
