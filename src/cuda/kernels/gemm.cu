// SPDX-License-Identifier: MIT
// y = residual + gate * act(x w^T + bias) for linear layers: x [B, n, K] as one matrix of M = B n rows, w [N, K], both rows of K.
//
// Here: tiles on tensor cores (bf16, fp16), the packing of operands, and the choice of a kernel. A block makes BM x BN results
// in steps of 32 of K, each warp WM x 32 of them; cp.async keeps STAGES - 1 steps on their way and there is one barrier a step.
// Rows of 64 bytes lie in shared memory in four chunks of 16 bytes, chunk c of row r at c ^ (r / 2 % 4): two rows fill the 32
// banks, so the eight rows that ldmatrix reads at one chunk, and the two rows that eight lanes of cp.async write, touch each
// bank once. The rows of w are moreover permuted within groups of 32 (w_row) such that a thread's accumulators are 8
// neighbouring columns of y: results leave in 16-byte pieces without another trip through shared memory.
//
// hot: gemm_tiles
#include "gemm.cuh"
#include "device.cuh"

namespace gemm
{
namespace
{
constexpr int BK = 32, CHUNKS = BK / 8, WN = 32;

template <int BM_, int BN_, int WM_, int STAGES_> struct tile {
    static constexpr int BM = BM_, BN = BN_, WM = WM_, STAGES = STAGES_;
    static constexpr int WARPS_N = BN / WN, WARPS = BM / WM * WARPS_N, THREADS = WARPS * WARP;
    static constexpr int STEP = THREADS / CHUNKS; // rows that the threads fetch at a time
    static constexpr int STAGE = (BM + BN) * BK;  // elements: x, then w
    static constexpr size_t SMEM = static_cast<size_t>(STAGES) * STAGE * 2;
    static_assert(STEP % 32 == 0 && BM % STEP == 0 && BN % STEP == 0, "whole groups of rows");
    static_assert(SMEM <= SMEM_FREE, "two blocks fit an SM of 100 KiB");
};

// Where chunk c of row r of a stage's part lies, in elements.
DEV int chunk_at(int row, int chunk)
{
    return row * BK + (chunk ^ (row >> 1 & 3)) * 8;
}

// Column n of y, 8 a + 2 i + b within its group of 32, is row 8 i + 2 a + b of the tile: lane a of a quad holds columns
// 2 a and 2 a + 1 of mma number i.
DEV int w_row(int n)
{
    return (n & ~31) | (n >> 1 & 3) << 3 | (n >> 3 & 3) << 1 | (n & 1);
}

// What a thread fetches of each step: the same chunk of rows STEP apart. Rows past the end become zeros.
template <typename T, int ROWS, int STEP> struct fetcher {
    const T *p[ROWS / STEP];
    bool inside[ROWS / STEP];
    int to, left; // place of the first row; elements of K from the thread's chunk on

    DEV void operator()(T *stage, int step) const
    {
#pragma unroll
        for (int i = 0; i < ROWS / STEP; i++) {
            bool ok = inside[i] && step * BK < left;
            cp_async16(stage + to + i * STEP * BK, ok ? p[i] + step * BK : p[0], ok);
        }
    }
};

// The same of the weight, whose rows lie evenly: one address and the number of rows left.
template <typename T, int ROWS, int STEP> struct weight_fetcher {
    const T *p;
    int rows, to, left;

    DEV void operator()(T *stage, int step, int64_t stride) const
    {
#pragma unroll
        for (int i = 0; i < ROWS / STEP; i++) {
            bool ok = i * STEP < rows && step * BK < left;
            cp_async16(stage + to + i * STEP * BK, ok ? p + i * STEP * stride + step * BK : p, ok);
        }
    }
};

template <typename T, class C>
__global__ void __launch_bounds__(C::THREADS, 65536 / 128 / C::THREADS)
    gemm_tiles(const __grid_constant__ k_gemm_args a, bool wide)
{
    constexpr int MT = C::WM / 16, NT = WN / 8;
    DYN_SMEM(smem);
    T *const stages = reinterpret_cast<T *>(smem);
    const int tid = static_cast<int>(threadIdx.x), lane = tid % WARP, warp = tid / WARP;
    const int64_t m = a.batch * a.rows;

    // Blocks go down a band of 8 tiles before they go on to the next columns: what they share stays in the L2 cache.
    const int tiles_m = static_cast<int>((m + C::BM - 1) / C::BM),
              tiles_n = (a.n + C::BN - 1) / C::BN;
    const int band = static_cast<int>(blockIdx.x) / (8 * tiles_n),
              in_band = static_cast<int>(blockIdx.x) % (8 * tiles_n);
    const int height = min(8, tiles_m - band * 8);
    const int64_t m0 = static_cast<int64_t>(band * 8 + in_band % height) * C::BM;
    const int n0 = in_band / height * C::BN;

    const int row = tid / CHUNKS, chunk = tid % CHUNKS;
    fetcher<T, C::BM, C::STEP> fetch_x;
    weight_fetcher<T, C::BN, C::STEP> fetch_w;
    fetch_x.to = chunk_at(row, chunk);
    fetch_w.to = C::BM * BK + chunk_at(w_row(row), chunk);
    fetch_x.left = fetch_w.left = a.k - chunk * 8;
#pragma unroll
    for (int i = 0; i < C::BM / C::STEP; i++) {
        const int64_t r = m0 + row + i * C::STEP;
        fetch_x.inside[i] = r < m;
        fetch_x.p[i] = static_cast<const T *>(a.x.data) +
                       (r < m ? offset_of(a.x, row_of(a, r)) + chunk * 8 : 0);
    }
    fetch_w.rows = a.n - n0 - row;
    fetch_w.p = static_cast<const T *>(a.w) +
                (fetch_w.rows > 0 ? (n0 + row) * a.w_stride + chunk * 8 : 0);
    auto fetch = [&](int step, int stage) {
        T *to = stages + stage * C::STAGE;
        fetch_x(to, step);
        fetch_w(to, step, a.w_stride);
        cp_async_commit();
    };

    const int warp_m = warp / C::WARPS_N * C::WM, warp_n = warp % C::WARPS_N * WN;
    const int a_at = chunk_at(warp_m + lane % 16, lane / 16),
              b_at = C::BM * BK + chunk_at(warp_n + lane % 8 + lane / 16 * 8, lane / 8 % 2);
    const int steps = (a.k + BK - 1) / BK;
    float acc[MT][NT][4] = {};
#pragma unroll
    for (int i = 0; i < C::STAGES - 1; i++)
        fetch(i, i); // past the end: zeros, a group all the same
    for (int step = 0, stage = 0; step < steps; step++) {
        cp_async_wait<C::STAGES - 2>();
        __syncthreads(); // the step is there for all warps, and all have left the stage that is fetched next
        fetch(step + C::STAGES - 1, stage == 0 ? C::STAGES - 1 : stage - 1);
        const T *from = stages + stage * C::STAGE;
#pragma unroll
        for (int k = 0; k < BK / 16; k++) { // chunks 2 k and 2 k + 1: the swizzle's upper bit flips
            uint32_t af[MT][4], bf[NT / 2][4];
#pragma unroll
            for (int i = 0; i < MT; i++) ldsm_x4(af[i], from + i * 16 * BK + (a_at ^ k << 4));
#pragma unroll
            for (int j = 0; j < NT / 2; j++) ldsm_x4(bf[j], from + j * 16 * BK + (b_at ^ k << 4));
#pragma unroll
            for (int i = 0; i < MT; i++)
#pragma unroll
                for (int j = 0; j < NT; j++)
                    mma_16816<T>(acc[i][j], af[i], bf[j / 2][j % 2 * 2], bf[j / 2][j % 2 * 2 + 1]);
        }
        stage = stage == C::STAGES - 1 ? 0 : stage + 1;
    }
    cp_async_wait<0>();

    const int n = n0 + warp_n + lane % 4 * 8;
#pragma unroll 1 // the end of a product is long: one copy of it, and the registers are chosen
    for (int half = 0; half < 2 * MT; half++) {
        float v[8] = {};
#pragma unroll
        for (int i = 0; i < 2 * MT; i++)
#pragma unroll
            for (int e = 0; e < 8; e++)
                if (i == half) v[e] = acc[i / 2][e / 2][i % 2 * 2 + e % 2];
        const int64_t r = m0 + warp_m + half / 2 * 16 + half % 2 * 8 + lane / 4;
        if (r < m && n < a.n) finish8(a, row_of(a, r), n, v, wide);
    }
}

using large = tile<128, 128, 64, 3>;
using small = tile<64, 64, 32, 4>;

template <class C> int64_t blocks_of(const k_gemm_args &a)
{
    return (a.batch * a.rows + C::BM - 1) / C::BM * ((a.n + C::BN - 1) / C::BN);
}

template <typename T, class C> cudaError_t run(const k_gemm_args &a, cudaStream_t stream)
{
    return launch((gemm_tiles<T, C>), dim3(static_cast<unsigned>(blocks_of<C>(a))),
                  dim3(C::THREADS), C::SMEM, stream, a, wide_columns(a));
}

k_gemm_kernel kernel_of(const k_gemm_args &a)
{
    if (a.kernel != K_GEMM_AUTO) return a.kernel;
    if (a.compute == K_F32) return K_GEMM_PLAIN;
    // By the rows of a sample, whatever its company: its result must not depend on it. The two sizes of tiles add in one order.
    if (a.rows <= FEW_ROWS && a.n <= FEW_COLUMNS) return K_GEMM_FEW;
    return blocks_of<large>(a) >= multiprocessors() ? K_GEMM_LARGE : K_GEMM_SMALL;
}

// Whether x needs no packing for the tiles: rows of whole chunks of the type of the arithmetic.
bool direct(const k_gemm_args &a)
{
    return a.x.dtype == a.compute && a.k % 8 == 0 && aligned(a.x);
}

// Row r of `to` [rows of all samples, pitch] = row r of x, 8 columns a thread; zeros past K.
template <typename T>
__global__ void __launch_bounds__(256)
    pack_rows(T *to, k_view x, int64_t rows, int64_t all_rows, int k, int pitch, bool wide)
{
    const int64_t pieces = pitch / 8, piece = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
    if (piece >= all_rows * pieces) return;
    const int64_t r = piece / pieces, at = r / rows * x.stride[0] + r % rows * x.stride[1];
    const int c = static_cast<int>(piece % pieces) * 8;
    float v[8];
    if (wide && c + 8 <= k) {
        load8_as(v, x.data, x.dtype, at + c);
    } else {
#pragma unroll
        for (int e = 0; e < 8; e++) v[e] = c + e < k ? load_as(x.data, x.dtype, at + c + e) : 0.0f;
    }
    store8(to + r * pitch + c, v);
}

template <typename T>
cudaError_t pack(void *to, k_view x, int64_t batch, int64_t rows, int k, cudaStream_t stream)
{
    const int pitch = static_cast<int>(k_gemm_pitch(k));
    const int64_t pieces = batch * rows * (pitch / 8);
    return launch(pack_rows<T>, dim3(static_cast<unsigned>((pieces + 255) / 256)), dim3(256), 0,
                  stream, static_cast<T *>(to), x, rows, batch * rows, k, pitch, aligned(x));
}
} // namespace
} // namespace gemm

using namespace gemm;

extern "C" int64_t k_gemm_pitch(int64_t k)
{
    return (k + 7) / 8 * 8;
}

extern "C" cudaError_t k_gemm_pack(void *to, k_dtype dtype, k_view x, int64_t batch, int64_t rows,
                                   int k, cudaStream_t stream)
{
    if (dtype == K_BF16) return pack<__nv_bfloat16>(to, x, batch, rows, k, stream);
    if (dtype == K_F16) return pack<__half>(to, x, batch, rows, k, stream);
    return pack<float>(to, x, batch, rows, k, stream);
}

extern "C" size_t k_gemm_workspace(const k_gemm_args *a)
{
    const k_gemm_kernel kernel = kernel_of(*a);
    if (kernel == K_GEMM_PLAIN || kernel == K_GEMM_FEW || direct(*a)) return 0;
    return static_cast<size_t>(a->batch * a->rows * k_gemm_pitch(a->k)) * 2;
}

extern "C" cudaError_t k_gemm(const k_gemm_args *args, void *workspace, cudaStream_t stream)
{
    k_gemm_args a = *args;
    if (a.batch * a.rows == 0 || a.n == 0) return cudaSuccess;
    const k_gemm_kernel kernel = kernel_of(a);
    if (kernel == K_GEMM_PLAIN) return launch_plain(a, stream);
    if (kernel == K_GEMM_FEW) return launch_few(a, stream);
    if (!direct(a)) {
        cudaError_t e = k_gemm_pack(workspace, a.compute, a.x, a.batch, a.rows, a.k, stream);
        if (e != cudaSuccess) return e;
        const int64_t pitch = k_gemm_pitch(a.k);
        a.x = {workspace, a.compute, {a.rows * pitch, pitch, 0}};
        a.k = static_cast<int>(pitch); // the weight has zeros there, too
    }
    if (a.compute == K_BF16)
        return kernel == K_GEMM_LARGE ? run<__nv_bfloat16, large>(a, stream)
                                      : run<__nv_bfloat16, small>(a, stream);
    return kernel == K_GEMM_LARGE ? run<__half, large>(a, stream) : run<__half, small>(a, stream);
}
