/* SPDX-License-Identifier: MIT */
/* Launchers of the CUDA kernels, in plain C: one section a file of kernels. The formulas stand at the head of each .cu.
 *
 * Outputs first, then inputs, dimensions, stream last; everything is queued on the stream and nothing waits. Arguments are
 * trusted (op_*() has checked them); a launcher returns cudaErrorInvalidValue only for what it has no kernel for.
 * Accumulation is float32 whatever the storage; a store rounds once, to nearest even. Any pointer needs its element's
 * alignment only: kernels take 16-byte accesses where pointers and strides allow them, and scalar ones elsewhere.
 * Where a launcher needs scratch, k_NAME_workspace gives its bytes (256-byte aligned), 0 for none. */
#ifndef SWD_CUDA_KERNELS_KERNELS_H
#define SWD_CUDA_KERNELS_KERNELS_H
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum k_dtype { K_F32, K_BF16, K_F16 } k_dtype; /* storage */

/* As swd_act (backend/ops_types.h), in the same order. */
typedef enum k_act {
    K_ACT_NONE,
    K_ACT_SILU,
    K_ACT_GELU_TANH,
    K_ACT_GELU_ERF,
    K_ACT_QUICK_GELU,
    K_ACT_RELU,
    K_ACT_TANH
} k_act;

/* A view of device memory whose innermost dimension is contiguous; shapes are given beside it. */
typedef struct k_view {
    void *data; /* NULL: absent */
    k_dtype dtype;
    int64_t stride
        [3]; /* in elements, of all dimensions but the innermost, outermost first: of [B, n, D] stride[0] is a sample's,
                          stride[1] a row's; of [B, N, H, d] sample, token, head */
} k_view;

#ifdef __cplusplus
extern "C" {
#endif

/* ---- norm.cu ---- */

/* A norm over the rows of x [B, n, D] in one pass, with what the models do to a row after it:
 *   h = (x - mean) / sqrt(var + eps),  or  x / sqrt(mean(x^2) + eps)  where rms
 *   y = h * scale + shift     y2 = h * scale2 + shift2
 * y may be x, y2 may be neither; y and y2 have one storage, everything else has any of its own.
 * Squares must not overflow: |x| < 1e18. */
typedef struct k_norm_args {
    k_view y, y2; /* [B, n, D]; y2 optional */
    k_view x;     /* [B, n, D] */
    /* optional: [B, D], or a weight of [D] with stride[0] = 0 */
    k_view scale, shift, scale2, shift2;
    bool plus_one; /* scales stand for 1 + scale */
    bool rms;
    float eps;
    int64_t batch, rows; /* B, n; B * n < 2^31 */
    int dim;             /* D */
} k_norm_args;
cudaError_t k_norm(const k_norm_args *a, cudaStream_t stream);

/* In place over q and k [B, N, H, d]: RMS norm over d times weight (where there is one), then pairs (x0, x1) of a row become
 * (x0 cos - x1 sin, x1 cos + x0 sin). One launch for both; views of a packed [B, N, 3, H, d] are meant. */
typedef struct k_qk_norm_args {
    k_view q, k;                      /* of one storage */
    const float *weight_q, *weight_k; /* [d]; NULL: no norm */
    const float *cos, *sin;           /* [N, d / 2], d even; NULL: no rotation */
    float eps;
    int64_t batch, tokens, heads; /* B < 65536; N * H < 2^31 */
    int d;
} k_qk_norm_args;
cudaError_t k_qk_norm_rope(const k_qk_norm_args *a, cudaStream_t stream);

/* ---- elementwise.cu ---- */

/* Over tensors [n0, n1, n2, cols] of any strides, shape gives the four; results may lie over an input of the same strides and
 * storage. Operands have any storage, each its own. */

/* y = act(x + bias), bias [cols] optional */
cudaError_t k_activation(k_view y, k_view x, k_view bias, k_act act, const int64_t shape[4],
                         cudaStream_t stream);
/* Between two of one storage the bits are kept. */
cudaError_t k_copy(k_view y, k_view x, const int64_t shape[4], cudaStream_t stream);
cudaError_t k_fill(k_view y, float value, const int64_t shape[4], cudaStream_t stream);
/* y = a x + b z, z optional */
cudaError_t k_axpby(k_view y, float a, k_view x, float b, k_view z, const int64_t shape[4],
                    cudaStream_t stream);
/* y = uncond + guidance (cond - uncond) */
cudaError_t k_guidance(k_view y, k_view cond, k_view uncond, float guidance, const int64_t shape[4],
                       cudaStream_t stream);
/* y = gelu_tanh(a) b */
cudaError_t k_gated_gelu(k_view y, k_view a, k_view b, const int64_t shape[4], cudaStream_t stream);
/* x += gate * y; x, y [B, n, D], gate [B, D] optional */
cudaError_t k_gate_residual(k_view x, k_view y, k_view gate, int64_t batch, int64_t rows,
                            int64_t dim, cudaStream_t stream);
/* y [B, dim] = cos of t[b] 10000^(-i / half), i < half = dim / 2, then sin */
cudaError_t k_sinusoid(k_view y, const float *t, int64_t batch, int dim, cudaStream_t stream);
/* y [rows, n] = softmax(scale x) along n; rows of up to 1024 are read once */
cudaError_t k_softmax(k_view y, k_view x, float scale, int64_t rows, int n, cudaStream_t stream);

/* ---- text.cu ---- */

/* y [B, N, D] = table[ids], table [V, D] and ids [B, N] contiguous; any storages. An id outside 0..V-1 reads nothing and gives a
 * row of NaN; *bad (on the device, optional) becomes at least 1 + its index in ids. */
cudaError_t k_embed(k_view y, k_view table, const int32_t *ids, int *bad, int64_t batch,
                    int64_t tokens, int64_t vocab, int64_t dim, cudaStream_t stream);
/* bias [H, N, N] from table [buckets, H]: distances below buckets / 4 have a bucket each, bucket buckets / 4 + 1 + j begins at
 * distance first[j] (on the host, rising); positive distances use the upper half of the table. */
enum { K_BIAS_FIRST_MAX = 512 };
cudaError_t k_relative_bias(float *bias, const float *table, int heads, int64_t n, int buckets,
                            const int *first, int n_first, cudaStream_t stream);

/* ---- layout.cu ---- */

/* Latents [B, C, h, w] <-> tokens [B, h/p * w/p, p*p*C] of any storage: (c, p, q) within a token; unpatchify reads (p, q, c). */
cudaError_t k_patchify(k_view y, const float *x, int patch, int64_t batch, int64_t c, int64_t h,
                       int64_t w, cudaStream_t stream);
cudaError_t k_unpatchify(float *x, k_view y, int patch, int64_t batch, int64_t c, int64_t h,
                         int64_t w, cudaStream_t stream);
/* x [B, grid_h * grid_w, D] += the centred window of table [max * max, D] */
cudaError_t k_add_position(k_view x, const float *table, int64_t max, int64_t batch, int64_t grid_h,
                           int64_t grid_w, int64_t dim, cudaStream_t stream);
/* y = x * scale + shift in the other layout; both contiguous, of any storage; B < 65536 */
cudaError_t k_nchw_to_nhwc(k_view y, k_view x, float scale, float shift, int64_t batch, int64_t c,
                           int64_t pixels, cudaStream_t stream);
cudaError_t k_nhwc_to_nchw(k_view y, k_view x, float scale, float shift, int64_t batch, int64_t c,
                           int64_t pixels, cudaStream_t stream);
/* n elements, contiguous: round(clamp(x * scale + shift, 0, 1) * 255), half to even, 0 for NaN; x / 255 * scale + shift */
cudaError_t k_to_rgb8(uint8_t *y, k_view x, float scale, float shift, int64_t n,
                      cudaStream_t stream);
cudaError_t k_from_rgb8(k_view y, const uint8_t *x, float scale, float shift, int64_t n,
                        cudaStream_t stream);

/* ---- resize.cu ---- */

/* One image between two scales, all float32 and contiguous: y = (1 - sigma_next) bicubic(x - sigma v) + sigma_next eps. */
typedef struct k_resize_job {
    float *y;           /* [c, out_h, out_w]; over none of the others */
    float *x0;          /* optional, [c, h, w]: x - sigma v */
    const float *x, *v; /* [c, h, w]; no v: x is x0 already; no x: y = eps */
    const float *eps;   /* as y; NULL: Philox noise of (seed, draw), the bits of philox_randn() */
    int c, h, w, out_h, out_w; /* c * h * w and c * out_h * out_w may exceed 2^31 */
} k_resize_job;
/* As renoise_step (backend/ops_types.h). */
typedef struct k_resize_step {
    uint64_t seed;
    uint32_t draw;
    float sigma, sigma_next; /* sigma_next = 0: no noise */
    uint32_t unused;
} k_resize_step;
/* n jobs, each of its own sizes, from host memory, which is free again at return; steps [n] in device memory, read when the kernel runs: a
 * graph can be replayed over new ones. */
cudaError_t k_resize_renoise(const k_resize_job *jobs, const k_resize_step *steps, int n,
                             cudaStream_t stream);

/* ---- attention.cu, attention_wide.cu, attention_plain.cu ---- */

/* o = softmax(scale q k^T + bias) v over the keys of one or two streams; the queries of each stream see the keys of both,
 * stream 0's first. A stream whose o and q are absent is only looked at. Queries, keys and values have one dtype; outputs
 * have any. A query that sees no key gives 0. */
typedef struct k_attention_args {
    int n_streams;
    k_view o[2], q[2];  /* [B, n_q, H, d] */
    k_view k[2], v[2];  /* [B, n_k, H, d] */
    int n_q[2], n_k[2]; /* rows of a sample; with cu: of the longest one, n_q = n_k */
    /* Device, optional, [B + 1]: samples of different lengths lie one after another, sample b in rows cu[b] .. cu[b + 1] of the
     * stream's q, k, v and o, whose stride[0] is not used. */
    const int32_t *cu[2];
    /* head_dim: up to 512. Fast are multiples of 8 of a 2-byte dtype, where pointers and strides have 16-byte alignment. */
    int batch, heads, head_dim;
    float scale;
    bool causal;       /* one stream: query i sees key j only if j <= i */
    const float *bias; /* device, optional, one stream: F32 [H, n_q, n_k] */
    float *lse[2];     /* device, optional: log of the sum of exponentials, F32 [B, H, n_q] */
    /* Queries of a block, 64 or 128, where there is a choice; 0: by the size of the grid. Results depend on it in the last bits
     * where 64 < head_dim <= 128. */
    int block_rows;
} k_attention_args;
cudaError_t k_attention(const k_attention_args *args, cudaStream_t stream);

/* ---- gemm.cu, gemm_few.cu, gemm_plain.cu ---- */

typedef enum k_gemm_kernel {
    K_GEMM_AUTO,  /* by compute and size */
    K_GEMM_FEW,   /* streams the weight past 16 rows at a time */
    K_GEMM_SMALL, /* tiles of 64 x 64 */
    K_GEMM_LARGE, /* tiles of 128 x 128 */
    K_GEMM_PLAIN  /* float32 arithmetic */
} k_gemm_kernel;

/* y = residual + gate * act(x w^T + bias) */
typedef struct k_gemm_args {
    k_view y, x; /* [B, n, N], [B, n, K], any storages */
    /* [N, K], rows w_stride elements apart. Where compute is a 2-byte type w is of it, as k_gemm_pack leaves it: 16-byte aligned rows with
     * zeros up to the next multiple of 8 columns. */
    const void *w;
    k_dtype w_dtype;
    int64_t w_stride;
    const float *bias; /* optional, [N] */
    k_act act;
    k_view residual; /* optional, [B, n, N]; may be y */
    k_view gate;     /* optional, [B, N] */
    int64_t batch, rows;
    int n, k;
    k_dtype compute; /* of the products: x is rounded to it */
    k_gemm_kernel kernel;
} k_gemm_args;
size_t k_gemm_workspace(const k_gemm_args *args);
cudaError_t k_gemm(const k_gemm_args *args, void *workspace, cudaStream_t stream);

/* to [B n, k_gemm_pitch(k)] = x [B, n, k] in another storage, zeros in the columns behind; to is 16-byte aligned. */
int64_t k_gemm_pitch(int64_t k); /* the next multiple of 8 */
cudaError_t k_gemm_pack(void *to, k_dtype dtype, k_view x, int64_t batch, int64_t rows, int k,
                        cudaStream_t stream);

/* ---- group_norm.cu ---- */

typedef struct k_group_norm_args {
    void *y; /* [batch, pixels, channels], as x; may be x */
    const void *x;
    k_dtype y_dtype, x_dtype;
    const float *gamma, *beta; /* [channels] */
    int64_t batch, pixels;
    int channels, groups; /* channels is a multiple of groups */
    float eps;
    bool silu;
} k_group_norm_args;

/* The same for any pointers. */
size_t k_group_norm_workspace(const k_group_norm_args *a);
cudaError_t k_group_norm(const k_group_norm_args *a, void *workspace, cudaStream_t stream);

/* ---- conv.cu: NHWC convolution; conv_halo.cu, conv_gemm.cu, conv_columns.cu, conv_plain.cu behind it ---- */

typedef struct k_conv_shape {
    int out, in, kh, kw, stride;
    int pad; /* zeros before the map, above and on the left; behind it there are as many as are needed */
    bool upsample2x; /* nearest, before the padding */
    k_dtype
        compute; /* of the products: K_BF16 and K_F16 on tensor cores, K_F32 on the others; sums are float32 */
} k_conv_shape;

/* A kernel and the pixels x outputs of its tile. */
typedef enum k_conv_kernel {
    K_CONV_AUTO,
    K_CONV_HALO_256x128, /* 3x3 of stride 1 */
    K_CONV_HALO_128x128,
    K_CONV_HALO_128x64,
    K_CONV_HALO_128x32,
    K_CONV_GEMM_128x128, /* anything */
    K_CONV_GEMM_64x64,
    K_CONV_GEMM_128x32
} k_conv_kernel;

typedef struct k_conv_args {
    k_conv_shape shape;
    void *y;              /* [batch, ho, wo, out] = act(conv(x) + bias) + residual */
    const void *x;        /* [batch, h, w, in] */
    const void *residual; /* as y, may be y; or NULL */
    const void *packed;   /* by k_conv_pack, aligned to 16 bytes */
    const float *bias;    /* [out] or NULL */
    k_dtype y_dtype, x_dtype, residual_dtype, packed_dtype;
    int batch, h, w, ho, wo;
    k_act act;
    k_conv_kernel kernel; /* cudaErrorInvalidValue where it does not do this shape or x */
} k_conv_args;

/* Storage of a packed weight: the compute type; for K_F32 the weight's own. */
k_dtype k_conv_packed_dtype(const k_conv_shape *s, k_dtype weight_dtype);
size_t k_conv_packed_bytes(const k_conv_shape *s, k_dtype weight_dtype);
/* weight: [out, in, kh, kw]. */
cudaError_t k_conv_pack(void *packed, const void *weight, k_dtype weight_dtype,
                        const k_conv_shape *s, cudaStream_t stream);
cudaError_t k_conv(const k_conv_args *a, cudaStream_t stream);
/* y: U8 [batch, ho, wo, out] = round(clamp((act(conv(x) + bias)) * scale + shift, 0, 1) * 255), half to even; a->y and
 * a->residual are not used. 3x3 of stride 1 and padding 1 to 3 outputs on tensor cores is one launch; else the floats go by way of
 * the workspace, which is as large as they are. */
size_t k_conv_rgb8_workspace(const k_conv_args *a);
cudaError_t k_conv_rgb8(uint8_t *y, const k_conv_args *a, float scale, float shift, void *workspace,
                        cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
