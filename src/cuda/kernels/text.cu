// SPDX-License-Identifier: MIT
// Token embeddings and T5's relative position bias.
//
//     embed           y[b, n] = table[ids[b, n]]
//     relative_bias   bias[h, q, k] = table[bucket(k - q), h]
//
// A bucket is exact for small distances, logarithmic beyond. Where each logarithmic one begins is computed on the host, with the
// CPU's own code, so that no other logarithm can move a boundary. The bias of a head depends on k - q only: a block looks its
// diagonal up once, in shared memory, and writes rows from it.
#include "walk.cuh"

namespace
{
constexpr int THREADS = 256;

struct embed_params {
    k_view y, table;
    const int32_t *ids;
    int *bad;
    int64_t items, per_row, tokens, vocab, dim; // of y [B, tokens, dim]
};

// V elements a thread. An id outside the table reads nothing and gives NaN.
template <int V>
__global__ void __launch_bounds__(THREADS) embed(const __grid_constant__ embed_params p)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= p.items) return;
    int64_t row, col, b, n;
    split(i, p.per_row, row, col);
    split(row, p.tokens, b, n);
    col *= V;
    const int32_t id = p.ids[row];
    const bool known = id >= 0 && id < p.vocab;
    if (!known && p.bad && col == 0) atomicMax(p.bad, (int)row + 1);
    const int64_t to = b * p.y.stride[0] + n * p.y.stride[1] + col, from = id * p.dim + col;
    float v[V];
#pragma unroll
    for (int j = 0; j < V; j++) v[j] = NAN;
    if constexpr (V == 8) {
        if (known) load8_as(v, p.table.data, p.table.dtype, from);
        store8_as(p.y.data, p.y.dtype, to, v);
    } else {
        if (known) v[0] = load_as(p.table.data, p.table.dtype, from);
        store_as(p.y.data, p.y.dtype, to, v[0]);
    }
}

struct bias_params {
    float *bias;
    const float *table; // [2 * half, heads]
    int64_t n;
    int heads, half, exact, n_first;
    int first[K_BIAS_FIRST_MAX];
};

DEV int bucket(int64_t distance, const bias_params &p)
{
    const int64_t a = distance < 0 ? -distance : distance;
    int at = p.exact;
    if (a < p.exact)
        at = (int)a;
    else
        for (int j = 0; j < p.n_first; j++) at += a >= p.first[j];
    return distance > 0 ? at + p.half : at;
}

// TQ rows by TK columns of one head.
template <int TQ, int TK>
__global__ void __launch_bounds__(THREADS) relative_bias(const __grid_constant__ bias_params p)
{
    SMEM_ARRAY(float, diagonal, TQ + TK - 1); // of distance k0 - (q0 + TQ - 1) + i
    const int64_t k0 = (int64_t)blockIdx.x * TK, q0 = (int64_t)blockIdx.y * TQ;
    const int head = (int)blockIdx.z;
    for (int i = (int)threadIdx.x; i < TQ + TK - 1; i += THREADS)
        diagonal[i] = p.table[bucket(k0 - (q0 + TQ - 1) + i, p) * p.heads + head];
    __syncthreads();
    for (int r = 0; r < TQ; r++)
        for (int c = (int)threadIdx.x; c < TK; c += THREADS)
            if (q0 + r < p.n && k0 + c < p.n)
                p.bias[(head * p.n + q0 + r) * p.n + k0 + c] = diagonal[TQ - 1 - r + c];
}
} // namespace

extern "C" cudaError_t k_embed(k_view y, k_view table, const int32_t *ids, int *bad, int64_t batch,
                               int64_t tokens, int64_t vocab, int64_t dim, cudaStream_t stream)
{
    embed_params p = {y, table, ids, bad, 0, dim, tokens, vocab, dim};
    table.stride[0] = dim;
    if (batch == 1) y.stride[0] = 0;
    const bool vec = dim % 8 == 0 && vectors(y, 2) && vectors(table, 1);
    if (vec) p.per_row = dim / 8;
    p.items = batch * tokens * p.per_row;
    const dim3 grid((unsigned)div_up(p.items, THREADS));
    if (vec) return launch(embed<8>, grid, dim3(THREADS), 0, stream, p);
    return launch(embed<1>, grid, dim3(THREADS), 0, stream, p);
}

extern "C" cudaError_t k_relative_bias(float *bias, const float *table, int heads, int64_t n,
                                       int buckets, const int *first, int n_first,
                                       cudaStream_t stream)
{
    constexpr int TQ = 8, TK = 512;
    if (n_first < 0 || n_first > K_BIAS_FIRST_MAX || heads > 65535 || div_up(n, TQ) > 65535)
        return cudaErrorInvalidValue;
    bias_params p = {bias, table, n, heads, buckets / 2, buckets / 4, n_first, {}};
    memcpy(p.first, first, (size_t)n_first * sizeof *first);
    return launch((relative_bias<TQ, TK>),
                  dim3((unsigned)div_up(n, TK), (unsigned)div_up(n, TQ), (unsigned)heads),
                  dim3(THREADS), 0, stream, p);
}
