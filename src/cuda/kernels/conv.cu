// SPDX-License-Identifier: MIT
// NHWC convolution: packing of weights, and which kernel does what.
//   conv_columns.cu   3x3 to at most 3 outputs (an autoencoder's last layer), with RGB8 results
//   conv_halo.cu      the other 3x3 of stride 1, with 2x upsampling: nearly all the work of an autoencoder
//   conv_gemm.cu      the rest: 1x1, stride 2, anything
//   conv_plain.cu     float32
// A 3x3 after 2x upsampling could also be four 2x2 convolutions of the small map, one a parity of the result, with weights
// added up beforehand: 16 products instead of 36, a sixth of a decoder's work less. The sums of two and four bf16 weights
// would then be rounded to bf16 once more, an error of the size of a bf16 result's own rounding in every product; the plain
// form, whose products are those of the model's weights, is what runs.
#include "conv.cuh"

namespace conv
{
namespace
{
constexpr int THREADS = 256;

// One element of a packed weight a thread; total of them.
template <typename T>
__global__ void __launch_bounds__(THREADS) conv_pack(T *packed, const void *weight, k_dtype dtype,
                                                     k_conv_shape s, packing kind, int64_t total)
{
    const int64_t id = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (id >= total) return;
    const int taps = s.kh * s.kw;
    int tap, o, c;
    if (kind == packing::plain) {
        o = static_cast<int>(id % s.out);
        c = static_cast<int>(id / s.out % s.in);
        tap = static_cast<int>(id / s.out / s.in);
    } else {
        const int rows =
            kind == packing::slabs ? (s.out + OUT_STEP - 1) / OUT_STEP * OUT_STEP : COLUMNS;
        const int row = static_cast<int>(id / SLAB % rows);
        int64_t step = id / SLAB / rows;
        if (kind == packing::slabs) {
            o = row;
            tap = static_cast<int>(step % taps);
            step /= taps;
        } else {
            o = row % s.out;
            tap = row / s.out;
        }
        c = static_cast<int>(step) * SLAB + static_cast<int>(id % SLAB);
    }
    float v = 0.0f;
    if (o < s.out && c < s.in && tap < taps)
        v = load_as(weight, dtype, (static_cast<int64_t>(o) * s.in + c) * taps + tap);
    packed[id] = from_f<T>(v);
}

int64_t packed_elements(const k_conv_shape &s)
{
    const int64_t taps = static_cast<int64_t>(s.kh) * s.kw;
    switch (packing_of(s)) {
    case packing::plain:
        return taps * s.in * s.out;
    case packing::columns:
        return static_cast<int64_t>(slabs_of(s.in)) * COLUMNS * SLAB;
    default:
        return taps * slabs_of(s.in) * padded_out(s.out) * SLAB;
    }
}

template <typename T>
cudaError_t pack(void *packed, const void *weight, k_dtype dtype, const k_conv_shape &s,
                 cudaStream_t stream)
{
    const int64_t n = packed_elements(s);
    return launch((conv_pack<T>), dim3(static_cast<unsigned>((n + THREADS - 1) / THREADS)),
                  dim3(THREADS), 0, stream, static_cast<T *>(packed), weight, dtype, s,
                  packing_of(s), n);
}

bool is_halo(k_conv_kernel k)
{
    return k >= K_CONV_HALO_256x128 && k <= K_CONV_HALO_128x32;
}

bool halo_can(const k_conv_args &a)
{
    const k_conv_shape &s = a.shape;
    if (s.kh != 3 || s.kw != 3 || s.stride != 1) return false;
    return s.upsample2x ? s.pad == 1 && direct(a) : true;
}
} // namespace
} // namespace conv

using namespace conv;

extern "C" k_dtype k_conv_packed_dtype(const k_conv_shape *s, k_dtype weight_dtype)
{
    return s->compute == K_F32 ? weight_dtype : s->compute;
}

extern "C" size_t k_conv_packed_bytes(const k_conv_shape *s, k_dtype weight_dtype)
{
    return static_cast<size_t>(packed_elements(*s) *
                               bytes_of(k_conv_packed_dtype(s, weight_dtype)));
}

extern "C" cudaError_t k_conv_pack(void *packed, const void *weight, k_dtype weight_dtype,
                                   const k_conv_shape *s, cudaStream_t stream)
{
    switch (k_conv_packed_dtype(s, weight_dtype)) {
    case K_F32:
        return pack<float>(packed, weight, weight_dtype, *s, stream);
    case K_BF16:
        return pack<__nv_bfloat16>(packed, weight, weight_dtype, *s, stream);
    default:
        return pack<__half>(packed, weight, weight_dtype, *s, stream);
    }
}

extern "C" cudaError_t k_conv(const k_conv_args *a, cudaStream_t stream)
{
    if (a->batch == 0 || a->ho == 0 || a->wo == 0) return cudaSuccess;
    const packing kind = packing_of(a->shape);
    if (a->kernel != K_CONV_AUTO) {
        if (kind != packing::slabs || !direct(*a)) return cudaErrorInvalidValue;
        if (!is_halo(a->kernel)) return launch_gemm(*a, stream);
        return halo_can(*a) ? launch_halo(*a, stream) : cudaErrorInvalidValue;
    }
    if (kind == packing::plain) return launch_plain(*a, stream);
    if (kind == packing::columns) return launch_columns(*a, {nullptr, 0.0f, 0.0f}, stream);
    return halo_can(*a) ? launch_halo(*a, stream) : launch_gemm(*a, stream);
}

static int64_t results(const k_conv_args &a)
{
    return static_cast<int64_t>(a.batch) * a.ho * a.wo * a.shape.out;
}

extern "C" size_t k_conv_rgb8_workspace(const k_conv_args *a)
{
    return packing_of(a->shape) == packing::columns ? 0 : static_cast<size_t>(results(*a)) * 4;
}

extern "C" cudaError_t k_conv_rgb8(uint8_t *y, const k_conv_args *a, float scale, float shift,
                                   void *workspace, cudaStream_t stream)
{
    if (results(*a) == 0) return cudaSuccess;
    if (packing_of(a->shape) == packing::columns)
        return launch_columns(*a, {y, scale, shift}, stream);
    k_conv_args floats = *a;
    floats.y = workspace, floats.y_dtype = K_F32, floats.residual = nullptr;
    const cudaError_t e = k_conv(&floats, stream);
    if (e != cudaSuccess) return e;
    const k_view v = {workspace, K_F32, {}};
    return k_to_rgb8(y, v, scale, shift, results(*a), stream);
}
