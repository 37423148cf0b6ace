// SPDX-License-Identifier: MIT
// What the convolution kernels share: packed weights, slabs of channels in shared memory, the store of results.
//
// The tensor-core kernels walk the channels in slabs of 32 (64 bytes) and keep tiles in shared memory as rows of four chunks of
// 16 bytes, chunk c of row r at c ^ (r / 2 % 4). Two rows share a line of 128 bytes, so that any eight consecutive rows have
// eight different places for one chunk: ldmatrix (eight rows, one chunk) and cp.async (two rows, four chunks) meet no bank
// conflict, whichever row they start at.
#ifndef SWD_CUDA_KERNELS_CONV_CUH
#define SWD_CUDA_KERNELS_CONV_CUH
#include "act.cuh"
#include "dev.cuh"
#include "kernels.h"
#include "storage.cuh"

namespace conv
{
constexpr int SLAB = 32, ROW_BYTES = 64, CHUNKS = 4; // of a row of a tile
constexpr int OUT_STEP = 32; // outputs of a packed weight are padded to this
constexpr int COLUMNS = 32;  // of conv_columns.cu: taps x outputs

// How a weight is packed; the shape alone decides.
enum class packing {
    plain,   // K_F32: [kh kw in][out] as they come
    slabs,   // [slabs][kh kw][out to OUT_STEP][SLAB], zeros where there is padding
    columns, // 3x3 to at most 3 outputs: [slabs][COLUMNS][SLAB], row tap * out + o
};

inline int slabs_of(int channels)
{
    return (channels + SLAB - 1) / SLAB;
}

inline int padded_out(int out)
{
    return (out + OUT_STEP - 1) / OUT_STEP * OUT_STEP;
}

inline packing packing_of(const k_conv_shape &s)
{
    if (s.compute == K_F32) return packing::plain;
    const bool same3 = s.kh == 3 && s.kw == 3 && s.stride == 1 && s.pad == 1 && !s.upsample2x;
    return same3 && 9 * s.out <= COLUMNS ? packing::columns : packing::slabs;
}

// Whether cp.async can fetch chunks of x as they lie in memory; else they are gathered element by element and converted.
inline bool direct(const k_conv_args &a)
{
    return a.x_dtype == a.shape.compute && a.shape.in % 8 == 0 && aligned16(a.x);
}

// RGB8 results: round(clamp(v * scale + shift, 0, 1) * 255); y NULL: none.
struct rgb8 {
    uint8_t *y;
    float scale, shift;
};

// Of files of their own. The kernel is one of theirs, or K_CONV_AUTO.
cudaError_t launch_halo(const k_conv_args &a, cudaStream_t stream); // 3x3, stride 1
cudaError_t launch_gemm(const k_conv_args &a, cudaStream_t stream); // any of packing::slabs
cudaError_t launch_columns(const k_conv_args &a, const rgb8 &rgb, cudaStream_t stream);
cudaError_t launch_plain(const k_conv_args &a, cudaStream_t stream); // packing::plain

// Where chunk `chunk` of row `row` of a tile lies, in bytes.
DEV int tile_at(int row, int chunk)
{
    return row * ROW_BYTES + ((chunk ^ (row >> 1 & 3)) << 4);
}

// 8 channels from c on of one pixel to a chunk of a tile, zeros where !inside and past the last channel. at: of channel 0.
template <typename T, bool DIRECT>
DEV void fetch_chunk(unsigned char *to, const k_conv_args &a, int64_t at, int c, bool inside)
{
    if constexpr (DIRECT) {
        inside = inside && c < a.shape.in;
        cp_async16(to, static_cast<const T *>(a.x) + (inside ? at + c : 0), inside);
    } else {
        float v[8];
#pragma unroll
        for (int i = 0; i < 8; i++)
            v[i] = inside && c + i < a.shape.in ? load_as(a.x, a.x_dtype, at + c + i) : 0.0f;
        store8(reinterpret_cast<T *>(to), v);
    }
}

// Step `step` of a packed weight (packing::slabs), outputs first .. first + BN, to a tile.
template <typename T, int BN, int THREADS>
DEV void fetch_weight(unsigned char *to, const k_conv_args &a, int step, int padded, int first)
{
    static_assert(BN * CHUNKS % THREADS == 0, "whole rounds");
    const T *w =
        static_cast<const T *>(a.packed) + (static_cast<int64_t>(step) * padded + first) * SLAB;
#pragma unroll
    for (int i = 0; i < BN * CHUNKS / THREADS; i++) {
        int id = i * THREADS + static_cast<int>(threadIdx.x), row = id / CHUNKS;
        bool inside = first + row < padded;
        cp_async16(to + tile_at(row, id % CHUNKS), w + (inside ? id * 8 : 0), inside);
    }
}

// acc += A B over one tile: A MT x 16 rows, B NT x 8 rows of SLAB channels. a_at, b_at: this lane's rows (ldmatrix) of the
// first 16 and their first chunk; a_row(i): where the i-th 16 rows of A begin behind a.
template <typename T, int MT, int NT, typename Row>
DEV void multiply(float (&acc)[MT][NT][4], const unsigned char *a, int a_at, Row a_row,
                  const unsigned char *b, int b_at)
{
    static_assert(NT % 2 == 0, "two at a time");
#pragma unroll
    for (int k = 0; k < 2;
         k++) { // channels 16 k ..+16: chunks 2 k and 2 k + 1, the swizzle's bit 5
        uint32_t af[MT][4], bf[NT / 2][4];
#pragma unroll
        for (int i = 0; i < MT; i++) ldsm_x4(af[i], a + a_row(i) + (a_at ^ k << 5));
#pragma unroll
        for (int j = 0; j < NT / 2; j++) ldsm_x4(bf[j], b + j * 16 * ROW_BYTES + (b_at ^ k << 5));
#pragma unroll
        for (int j = 0; j < NT / 2; j++)
#pragma unroll
            for (int i = 0; i < MT; i++) {
                mma_16816<T>(acc[i][2 * j], af[i], bf[j][0], bf[j][1]);
                mma_16816<T>(acc[i][2 * j + 1], af[i], bf[j][2], bf[j][3]);
            }
    }
}

// The rows that lane l names to ldmatrix: of A the 16 rows of both k-halves, of B two times 8 rows of both.
DEV int a_lane(int row, int lane)
{
    return tile_at(row + lane % 16, lane / 16);
}

DEV int b_lane(int row, int lane)
{
    return tile_at(row + lane % 8 + lane / 16 * 8, lane / 8 % 2);
}

// Sixteen results a row of them: `valid` consecutive pixels from `first` on exist.
struct pixels {
    int64_t first;
    int valid;
};

// Results of one warp: MT times 16 pixels, where(i) tells which, by NT * 8 outputs from n0 on. Fragments go through shared
// memory (the warp's own, STAGE_FLOATS of them) so that a row leaves in 16-byte pieces; its pitch of 8 over a multiple of 16
// spreads the fragments' 8-byte stores over all banks. The loop over i stays one: its body is long.
template <int NT> constexpr int STAGE_FLOATS = 16 * (NT * 8 + 8);

template <int MT, int NT, typename Where>
DEV void store_results(const k_conv_args &a, bool wide, float *stage, const float (&acc)[MT][NT][4],
                       Where where, int n0)
{
    constexpr int PITCH = NT * 8 + 8;
    const int lane = static_cast<int>(threadIdx.x) % WARP, out = a.shape.out;
    float *const mine = stage + lane / 4 * PITCH + lane % 4 * 2;
#pragma unroll 1
    for (int i = 0; i < MT; i++) {
#pragma unroll
        for (int m = 0; m < MT; m++) { // acc is registers: no index but a constant
            if (m != i) continue;
#pragma unroll
            for (int j = 0; j < NT; j++)
#pragma unroll
                for (int h = 0; h < 2; h++)
                    *reinterpret_cast<float2 *>(mine + 8 * h * PITCH + j * 8) =
                        make_float2(acc[m][j][2 * h], acc[m][j][2 * h + 1]);
        }
        __syncwarp();
        const pixels p = where(i);
#pragma unroll 1
        for (int id = lane; id < 16 * NT; id += WARP) {
            const int row = id / NT, n = n0 + id % NT * 8;
            if (row >= p.valid || n >= out) continue;
            const int64_t at = (p.first + row) * out + n;
            float v[8], r[8];
            load8(v, stage + row * PITCH + id % NT * 8);
#pragma unroll
            for (int e = 0; e < 8; e++)
                if (a.bias && n + e < out) v[e] += a.bias[n + e];
            activate(v, a.act);
            if (wide) {
                if (a.residual) {
                    load8_as(r, a.residual, a.residual_dtype, at);
#pragma unroll
                    for (int e = 0; e < 8; e++) v[e] += r[e];
                }
                store8_as(a.y, a.y_dtype, at, v);
                continue;
            }
#pragma unroll
            for (int e = 0; e < 8; e++) {
                if (n + e >= out) continue;
                if (a.residual) v[e] += load_as(a.residual, a.residual_dtype, at + e);
                store_as(a.y, a.y_dtype, at + e, v[e]);
            }
        }
        __syncwarp();
    }
}

// Whether rows of results can be stored 16 bytes at a time.
inline bool wide_rows(const k_conv_args &a)
{
    return a.shape.out % 8 == 0 && aligned16(a.y) && aligned16(a.residual);
}
} // namespace conv
#endif
