/* SPDX-License-Identifier: MIT */
/* The only way to compute. Each op_*() checks its arguments once (dtypes, shapes, aliasing), then calls one slot of the backend.
 *
 * dtypes: activations F32, BF16 or F16 in any mix (each operand is widened to float32, computed, rounded once on store);
 * norm weights, position tables, latents, noise F32. Innermost stride is 1 everywhere, outer strides are free (views of
 * packed QKV). Latents are NCHW F32; feature maps of autoencoders NHWC; tokens [B, N, D].
 *
 * A result shares no memory with another operand, but where it is the very same view as an input: of row-wise and element-wise ops
 * (the norms, gate_residual, activation, gated_gelu, axpby, copy, guidance_combine) and, of op_linear_residual, the residual.
 *
 * A swd_exec in measuring mode (dry) checks shapes and adds up the arena but computes nothing: the same forward code first
 * sizes the activation slab, then runs in it. Outputs first, inputs next, exec last. On failure the message is in ex->err. */
#ifndef SWD_BACKEND_OPS_H
#define SWD_BACKEND_OPS_H
#include "backend/backend.h"

typedef struct swd_exec swd_exec;

/* Somebody who stands between op_*() and the slots: the tape of train/. It gets every checked call instead of the slot, and runs it by
 * calling op_*() again on an exec without a hook. Ops that it cannot be given fail with SWD_ERR_UNSUPPORTED. */
typedef struct swd_hook swd_hook;
typedef swd_status (*swd_segment)(const void *args, swd_exec *ex);
struct swd_hook {
    swd_status (*call)(swd_hook *, const op_call *, swd_exec *);
    void (*allocated)(swd_hook *, swd_tensor);
    /* What lies from `to` on is given back. False: it stays, somebody still needs it. */
    bool (*rewind)(swd_hook *, unsigned char *to);
    swd_status (*segment)(swd_hook *, swd_segment, const void *args, size_t bytes,
                          const swd_tensor *inout, int n, swd_exec *);
};

struct swd_exec {
    swd_backend *backend;
    swd_stream *stream;
    swd_err *err;
    unsigned char *slab; /* activation memory; NULL while measuring */
    size_t slab_bytes, used, peak;
    bool dry;
    swd_dtype
        act; /* storage of activations between ops: F32 or BF16; transformers keep their residual stream F32, autoencoders store maps in it */
    swd_hook *
        hook; /* NULL: ops go to the slots. A dry exec with a hook has addresses, of memory that is never touched. */
};

/* return on failure, adding a frame */
#define RUN(call) SWD_TRY(call, ex->err)

/* A contiguous tensor in the slab, 64-byte aligned. Overflow of the slab is an assert (the plan was measured); in dry mode data = NULL. */
swd_tensor exec_alloc(swd_exec *ex, swd_dtype dtype, const int64_t *shape, int ndim);
swd_tensor exec1(swd_exec *ex, swd_dtype dtype, int64_t a);
swd_tensor exec2(swd_exec *ex, swd_dtype dtype, int64_t a, int64_t b);
swd_tensor exec3(swd_exec *ex, swd_dtype dtype, int64_t a, int64_t b, int64_t c);
swd_tensor exec4(swd_exec *ex, swd_dtype dtype, int64_t a, int64_t b, int64_t c, int64_t d);
size_t exec_mark(const swd_exec *ex);
void exec_rewind(swd_exec *ex, size_t mark);
/* fn(args, ex), which gives back all that it takes from the slab, changes nothing but the n tensors inout and does the same when it is
 * called again with the same args (bytes of them are copied): under a hook, what it computed may be computed again instead of kept. */
swd_status exec_segment(swd_exec *ex, swd_segment fn, const void *args, size_t bytes,
                        const swd_tensor *inout, int n);

/* y = act(x W^T + b); with residual (and gate): y = residual + gate * that. */
swd_status op_linear(swd_tensor y, swd_tensor x, const swd_linear *w, swd_act act, swd_exec *ex);
swd_status op_linear_residual(swd_tensor y, swd_tensor residual, swd_tensor gate, swd_tensor x,
                              const swd_linear *w, swd_exec *ex);
/* NHWC convolution by a packed weight (stride, padding and nearest 2x upsampling before it are the weight's). */
swd_status op_conv(swd_tensor y, swd_tensor x, const swd_conv *w, swd_act act, swd_tensor residual,
                   swd_exec *ex);
/* y U8 [B, H, W, 3]: the bytes that op_to_rgb8() makes of the convolution in float32 */
swd_status op_conv_rgb8(swd_tensor y, swd_tensor x, const swd_conv *w, float scale, float shift,
                        swd_exec *ex);
swd_status op_upsample_conv(swd_tensor y, swd_tensor x, const swd_conv *w,
                            swd_exec *ex); /* w->upsample2x must be set */
swd_status op_attention(const attention_args *a,
                        swd_exec *ex); /* any head_dim that is a multiple of 8 up to 512 */
swd_status op_group_norm(swd_tensor y, swd_tensor x, swd_tensor gamma, swd_tensor beta, int groups,
                         float eps, swd_exec *ex);
swd_status op_group_norm_silu(swd_tensor y, swd_tensor x, swd_tensor gamma, swd_tensor beta,
                              int groups, float eps, swd_exec *ex);
swd_status op_layernorm(swd_tensor y, swd_tensor x, swd_tensor weight, swd_tensor bias, float eps,
                        swd_exec *ex);
/* y = norm(x) * (1 + scale) + shift; x [B, n, D], scale and shift [B, D] */
swd_status op_layernorm_modulate(swd_tensor y, swd_tensor x, swd_tensor shift, swd_tensor scale,
                                 float eps, swd_exec *ex);
/* y[i] = norm(x) * (1 + scale[i]) + shift[i]: two results of one norm; y[0] may be x */
swd_status op_layernorm_modulate2(const swd_tensor y[2], swd_tensor x, const swd_tensor shift[2],
                                  const swd_tensor scale[2], float eps, swd_exec *ex);
swd_status op_rms_norm(swd_tensor y, swd_tensor x, swd_tensor weight, float eps, swd_exec *ex);
/* q and k in place: views of one projection, or not */
swd_status op_qk_norm(swd_tensor q, swd_tensor k, swd_tensor weight_q, swd_tensor weight_k,
                      float eps, swd_exec *ex);
swd_status op_qk_norm_rope(swd_tensor q, swd_tensor k, swd_tensor weight_q, swd_tensor weight_k,
                           float eps, swd_tensor cos, swd_tensor sin, swd_exec *ex);
/* x += gate * y; x, y [B, n, D], gate [B, D] or absent */
swd_status op_gate_residual(swd_tensor x, swd_tensor y, swd_tensor gate, swd_exec *ex);
swd_status op_activation(swd_tensor y, swd_tensor x, swd_act act, swd_exec *ex); /* y may be x */
swd_status op_gated_gelu(swd_tensor y, swd_tensor a, swd_tensor b,
                         swd_exec *ex); /* gelu_tanh(a) * b */
swd_status op_axpby(swd_tensor y, float a, swd_tensor x, float b, swd_tensor z,
                    swd_exec *ex); /* a x + b z, z may be absent */
swd_status op_copy(swd_tensor y, swd_tensor x,
                   swd_exec *ex); /* any strides, any two of F32, BF16, F16; the shapes agree */
swd_status op_fill(swd_tensor y, float value, swd_exec *ex);
/* [B, N, D], [V, D] F32, BF16 or F16, I32 [B, N]; an id outside the table is an error: of this call, or on a device of the next
 * synchronize(), and no memory is read for it */
swd_status op_embed(swd_tensor y, swd_tensor table, swd_tensor ids, swd_exec *ex);
/* T5, bidirectional: bias F32 [H, N, N] from table F32 [buckets, H] */
swd_status op_relative_bias(swd_tensor bias, swd_tensor table, int max_distance, swd_exec *ex);
swd_status op_timestep_sinusoid(swd_tensor y, swd_tensor t,
                                swd_exec *ex); /* [B, dim], F32 [B]; cos first, max period 10000 */
/* x [B, C, h, w] <-> y [B, h/p * w/p, p*p*C]. patchify: order within a token (c, p, q), as a p x p convolution's weight has it;
 * unpatchify reads (p, q, c), as SD3's output layer writes it. */
swd_status op_patchify(swd_tensor y, swd_tensor x, int patch, swd_exec *ex);
swd_status op_unpatchify(swd_tensor x, swd_tensor y, int patch, swd_exec *ex);
/* x [B, gh * gw, D] += the centred gh x gw window of table F32 [max * max, D] */
swd_status op_add_position(swd_tensor x, swd_tensor table, int grid_h, int grid_w, swd_exec *ex);
swd_status op_guidance_combine(swd_tensor v, swd_tensor cond, swd_tensor uncond, float guidance,
                               swd_exec *ex); /* u + g (c - u) */
swd_status op_resize_renoise(const resize_renoise_args *a, swd_exec *ex);
/* Philox normals: image b of y F32 [B, ...] is draw steps[b].draw of the stream of steps[b].seed; no more is read of steps */
swd_status op_noise(swd_tensor y, swd_tensor steps, swd_exec *ex);
/* y = x * scale + shift in the other layout */
swd_status op_nchw_to_nhwc(swd_tensor y, swd_tensor x, float scale, float shift, swd_exec *ex);
swd_status op_nhwc_to_nchw(swd_tensor y, swd_tensor x, float scale, float shift, swd_exec *ex);
/* NHWC float <-> U8 [B, H, W, 3]; to: round(clamp(x * scale + shift, 0, 1) * 255), half to even as torch's round;
 * from: (x / 255) * scale + shift */
swd_status op_to_rgb8(swd_tensor y, swd_tensor x, float scale, float shift, swd_exec *ex);
swd_status op_from_rgb8(swd_tensor y, swd_tensor x, float scale, float shift, swd_exec *ex);
#endif
