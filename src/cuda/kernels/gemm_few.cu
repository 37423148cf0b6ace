// SPDX-License-Identifier: MIT
// Linear layers of at most 16 rows a sample (modulation, time embedding): reading w [N, K] once is all the work. More samples are more
// groups of 16 rows, neighbours in the grid that meet their columns of w in a cache: a sample's sums are the same in every batch.
//
// A block makes 8 columns of y for a group; its warps share K in blocks of 32. Of each block a lane takes 8 neighbouring elements of one
// row of w in a single 16-byte load and feeds them to the tensor cores as they lie: which of a product's 16 positions of k an
// element takes does not matter, so long as x takes the same. With g = lane / 4, t = lane % 4, lanes hold
//   w[n0 + g][k0 + 8 t ..+8] and x[g][..], x[g + 8][..] of the same k,
// pairs 0 and 1 of which go to the first of two mma, pairs 2 and 3 to the second. No shared memory but for the warps' sums, which are
// added in their order. LOADS blocks of a warp are under way at a time.
#include "gemm.cuh"

namespace gemm
{
namespace
{
constexpr int WARPS = 4, BK = 32, LOADS = 4, COLUMNS = 8;

// How rows of x are read: in 16-byte pieces of the arithmetic's type, in such pieces of another, or element by element.
enum class reading { raw, wide, single };

// A row of x, which may be past the last one.
struct x_row {
    int64_t at;
    bool inside;
};

// In 32 bits: a division of 64 is a call, around which registers would be spilled.
DEV row_place place_of(const k_gemm_args &a, uint32_t r)
{
    const uint32_t rows = static_cast<uint32_t>(a.rows);
    return {r / rows, r % rows};
}

DEV x_row x_row_of(const k_gemm_args &a, uint32_t r)
{
    const bool inside = r < a.batch * a.rows;
    return {inside ? offset_of(a.x, place_of(a, r)) : 0, inside};
}

// 8 elements of a row, from k on, in the arithmetic's type; zeros past the ends.
template <typename T> DEV uint4 load_x(const k_gemm_args &a, const x_row &row, int k, reading how)
{
    uint4 u = make_uint4(0, 0, 0, 0);
    if (!row.inside || k >= a.k) return u;
    if (how == reading::raw && k + 8 <= a.k)
        return *reinterpret_cast<const uint4 *>(static_cast<const T *>(a.x.data) + row.at + k);
    float v[8];
    if (how == reading::wide && k + 8 <= a.k) {
        load8_as(v, a.x.data, a.x.dtype, row.at + k);
    } else {
#pragma unroll
        for (int e = 0; e < 8; e++)
            v[e] = k + e < a.k ? load_as(a.x.data, a.x.dtype, row.at + k + e) : 0.0f;
    }
    return make_uint4(pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]), pack2<T>(v[4], v[5]),
                      pack2<T>(v[6], v[7]));
}

template <typename T>
__global__ void __launch_bounds__(WARPS *WARP)
    gemm_few(const __grid_constant__ k_gemm_args a, reading how)
{
    SMEM_ARRAY(float, sums, WARPS *FEW_ROWS *COLUMNS);
    const int warp = static_cast<int>(threadIdx.x) / WARP,
              lane = static_cast<int>(threadIdx.x) % WARP;
    const int g = lane / 4, t = lane % 4, n0 = static_cast<int>(blockIdx.y) * COLUMNS;
    const uint32_t r0 = blockIdx.x * FEW_ROWS;
    const x_row upper = x_row_of(a, r0 + g), lower = x_row_of(a, r0 + g + 8);
    const T *w = static_cast<const T *>(a.w) + (n0 + g < a.n ? n0 + g : 0) * a.w_stride + t * 8;
    float acc[4] = {};
    for (int first = warp * BK; first < a.k; first += WARPS * BK * LOADS) {
        uint4 b[LOADS];
#pragma unroll
        for (int i = 0; i < LOADS; i++) {
            const int k = first + i * WARPS * BK;
            b[i] =
                k + t * 8 < a.k ? *reinterpret_cast<const uint4 *>(w + k) : make_uint4(0, 0, 0, 0);
        }
#pragma unroll
        for (int i = 0; i < LOADS; i++) {
            const int k = first + i * WARPS * BK + t * 8;
            const uint4 x = load_x<T>(a, upper, k, how), y = load_x<T>(a, lower, k, how);
            const uint32_t a0[4] = {x.x, y.x, x.y, y.y}, a1[4] = {x.z, y.z, x.w, y.w};
            mma_16816<T>(acc, a0, b[i].x, b[i].y);
            mma_16816<T>(acc, a1, b[i].z, b[i].w);
        }
    }
    float *mine = sums + (warp * FEW_ROWS + g) * COLUMNS + t * 2;
    mine[0] = acc[0], mine[1] = acc[1];
    mine[8 * COLUMNS] = acc[2], mine[8 * COLUMNS + 1] = acc[3];
    __syncthreads();
    static_assert(WARPS * WARP == FEW_ROWS * COLUMNS, "a thread for each result");
    const uint32_t r = r0 + threadIdx.x / COLUMNS;
    const int n = n0 + static_cast<int>(threadIdx.x) % COLUMNS;
    float v = 0.0f;
#pragma unroll
    for (int i = 0; i < WARPS; i++) v += sums[i * FEW_ROWS * COLUMNS + threadIdx.x];
    if (r < a.batch * a.rows && n < a.n) finish(a, place_of(a, r), n, v);
}

template <typename T> cudaError_t run(const k_gemm_args &a, cudaStream_t stream)
{
    const reading how = !aligned(a.x)            ? reading::single
                        : a.x.dtype == a.compute ? reading::raw
                                                 : reading::wide;
    const int64_t groups = (a.batch * a.rows + FEW_ROWS - 1) / FEW_ROWS;
    return launch(
        gemm_few<T>,
        dim3(static_cast<unsigned>(groups), static_cast<unsigned>((a.n + COLUMNS - 1) / COLUMNS)),
        dim3(WARPS * WARP), 0, stream, a, how);
}
} // namespace

cudaError_t launch_few(const k_gemm_args &a, cudaStream_t stream)
{
    if (a.batch * a.rows > INT32_MAX) return cudaErrorInvalidValue;
    return a.compute == K_BF16 ? run<__nv_bfloat16>(a, stream) : run<__half>(a, stream);
}
} // namespace gemm
