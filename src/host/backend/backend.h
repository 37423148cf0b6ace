/* SPDX-License-Identifier: MIT */
/* A backend: memory, streams, events and the table of slots behind op_*(). The CPU fills every slot; CUDA overwrites.
 * Slots trust their arguments: op_*() in ops.c checks them once. Nothing here is thread-safe except where said. */
#ifndef SWD_BACKEND_BACKEND_H
#define SWD_BACKEND_BACKEND_H
#include "backend/ops_types.h"
#include "base/log.h"
#include "base/status.h"
#include "tensor/tensor.h"

typedef struct swd_backend swd_backend;
typedef struct swd_stream swd_stream; /* order of execution; NULL is the only one of the CPU */
typedef struct swd_linear
    swd_linear; /* packed weight [N, K] and bias [N] of a linear layer, backend-owned memory */
typedef struct swd_conv swd_conv; /* packed weight [O, I, kh, kw] and bias [O] of a convolution */

/* One slot per op: same name, same order of arguments, documented in ops.h. ws: scratch of the size that workspace asked for. */
typedef struct swd_ops {
    size_t (*linear_workspace)(swd_backend *, const linear_args *);
    swd_status (*linear)(swd_backend *, const linear_args *, void *ws, swd_stream *, swd_err *);
    size_t (*conv_workspace)(swd_backend *, const conv_args *);
    swd_status (*conv)(swd_backend *, const conv_args *, void *ws, swd_stream *, swd_err *);
    size_t (*attention_workspace)(swd_backend *, const attention_args *);
    swd_status (*attention)(swd_backend *, const attention_args *, void *ws, swd_stream *,
                            swd_err *);
    size_t (*group_norm_workspace)(swd_backend *, const group_norm_args *);
    swd_status (*group_norm)(swd_backend *, const group_norm_args *, void *ws, swd_stream *,
                             swd_err *);
    swd_status (*layernorm)(swd_backend *, const norm_args *, swd_stream *, swd_err *);
    swd_status (*layernorm_modulate)(swd_backend *, const modulate_args *, swd_stream *, swd_err *);
    swd_status (*rms_norm)(swd_backend *, const norm_args *, swd_stream *, swd_err *);
    swd_status (*qk_norm_rope)(swd_backend *, const qk_norm_args *, swd_stream *, swd_err *);
    swd_status (*gate_residual)(swd_backend *, swd_tensor x, swd_tensor y, swd_tensor gate,
                                swd_stream *, swd_err *);
    swd_status (*activation)(swd_backend *, swd_tensor y, swd_tensor x, swd_act, swd_stream *,
                             swd_err *);
    swd_status (*gated_gelu)(swd_backend *, swd_tensor y, swd_tensor a, swd_tensor b, swd_stream *,
                             swd_err *);
    swd_status (*axpby)(swd_backend *, swd_tensor y, float a, swd_tensor x, float b, swd_tensor z,
                        swd_stream *, swd_err *);
    swd_status (*copy)(swd_backend *, swd_tensor y, swd_tensor x, swd_stream *, swd_err *);
    swd_status (*fill)(swd_backend *, swd_tensor y, float value, swd_stream *, swd_err *);
    swd_status (*embed)(swd_backend *, swd_tensor y, swd_tensor table, swd_tensor ids, swd_stream *,
                        swd_err *);
    swd_status (*relative_bias)(swd_backend *, swd_tensor bias, swd_tensor table, int max_distance,
                                swd_stream *, swd_err *);
    swd_status (*timestep_sinusoid)(swd_backend *, swd_tensor y, swd_tensor t, swd_stream *,
                                    swd_err *);
    swd_status (*patchify)(swd_backend *, swd_tensor y, swd_tensor x, int patch, swd_stream *,
                           swd_err *);
    swd_status (*unpatchify)(swd_backend *, swd_tensor x, swd_tensor y, int patch, swd_stream *,
                             swd_err *);
    swd_status (*add_position)(swd_backend *, swd_tensor x, swd_tensor table, int grid_h,
                               int grid_w, swd_stream *, swd_err *);
    swd_status (*guidance_combine)(swd_backend *, swd_tensor v, swd_tensor cond, swd_tensor uncond,
                                   float guidance, swd_stream *, swd_err *);
    swd_status (*resize_renoise)(swd_backend *, const resize_renoise_args *, swd_stream *,
                                 swd_err *);
    swd_status (*noise)(swd_backend *, swd_tensor y, swd_tensor steps, swd_stream *, swd_err *);
    swd_status (*nchw_to_nhwc)(swd_backend *, swd_tensor y, swd_tensor x, float scale, float shift,
                               swd_stream *, swd_err *);
    swd_status (*nhwc_to_nchw)(swd_backend *, swd_tensor y, swd_tensor x, float scale, float shift,
                               swd_stream *, swd_err *);
    swd_status (*to_rgb8)(swd_backend *, swd_tensor y, swd_tensor x, float scale, float shift,
                          swd_stream *, swd_err *);
    swd_status (*from_rgb8)(swd_backend *, swd_tensor y, swd_tensor x, float scale, float shift,
                            swd_stream *, swd_err *);
} swd_ops;

typedef struct swd_memory {
    size_t held, peak;  /* bytes that this backend has, and had at most */
    size_t free, total; /* of the device, other programs counted */
} swd_memory;

/* Ranges that a profiler shows, nested; through backend/trace.h. */
typedef enum swd_range { RANGE_REQUEST, RANGE_STAGE, RANGE_STEP, RANGE_OP, RANGE_KINDS } swd_range;

/* Several orders of execution, points in them, and recorded pieces of one; through backend/async.h. */
typedef struct swd_event swd_event;
typedef struct swd_graph swd_graph;
typedef struct swd_async {
    swd_status (*stream_create)(swd_backend *, swd_stream **out, swd_err *);
    void (*stream_destroy)(swd_backend *, swd_stream **);
    swd_status (*event_create)(swd_backend *, swd_event **out, swd_err *);
    void (*event_destroy)(swd_backend *, swd_event **);
    swd_status (*record)(swd_backend *, swd_event *, swd_stream *, swd_err *);
    swd_status (*stream_wait)(swd_backend *, swd_stream *, swd_event *, swd_err *);
    swd_status (*host_wait)(swd_backend *, swd_event *, swd_err *);
    swd_status (*elapsed)(swd_backend *, double *ms, swd_event *from, swd_event *to, swd_err *);
    swd_status (*capture)(swd_backend *, swd_stream *, swd_err *);
    swd_status (*capture_end)(swd_backend *, swd_graph **out, swd_stream *, swd_err *);
    swd_status (*launch)(swd_backend *, swd_graph *, swd_stream *, swd_err *);
    void (*graph_destroy)(swd_backend *, swd_graph **);
    void *(*host_alloc)(swd_backend *, size_t bytes);
    void (*host_release)(swd_backend *, void *);
} swd_async;

/* Blocks for many pieces, and planning; through backend/slab.h. */
typedef struct swd_slab swd_slab;
typedef struct swd_slabs {
    swd_status (*create)(swd_backend *, swd_slab **out, size_t bytes, swd_err *);
    void (*destroy)(swd_backend *, swd_slab **);
    void (*use)(swd_backend *, swd_slab *);
    void (*plan)(swd_backend *, bool on);
} swd_slabs;

/* Sums over the devices of several processes, by a library of the device's; through parallel/group.h. In order of the NULL stream. */
enum { COLLECTIVE_ID_BYTES = 128 };
typedef struct swd_collective {
    const char *name;               /* of the library */
    bool (*present)(swd_backend *); /* the library is */
    int (*device)(swd_backend *);   /* its number on this machine */
    /* One process makes an id, all join with it at the same time. */
    swd_status (*make_id)(swd_backend *, void *id, swd_err *);
    swd_status (*join)(swd_backend *, const void *id, int rank, int size, swd_err *);
    void (*leave)(swd_backend *);
    /* Contiguous; sum: F32. broadcast: rank 0's. */
    swd_status (*sum)(swd_backend *, swd_tensor, swd_err *);
    swd_status (*broadcast)(swd_backend *, swd_tensor, swd_err *);
} swd_collective;

struct swd_backend {
    const char *name; /* "cpu", "cuda" */
    char device[192]; /* for people: "AMD EPYC, 2 threads, avx512_bf16" */
    bool has_bf16;    /* products in bf16 are there at all */
    bool native_bf16; /* and run faster than float32 ones */
    bool
        packs_f16; /* linear_create also takes F16, where compute is not F32, and rounds it as the host would */
    swd_ops ops;
    /* Memory: 64-byte aligned, NULL when there is none left. */
    void *(*alloc)(swd_backend *, size_t bytes);
    void (*release)(swd_backend *, void *);
    /* Host <-> backend memory, in stream order; the CPU copies at once. What is uploaded may change when the call returns. */
    swd_status (*upload)(swd_backend *, swd_tensor dst, const void *src, swd_stream *, swd_err *);
    swd_status (*download)(swd_backend *, void *dst, swd_tensor src, swd_stream *, swd_err *);
    swd_status (*synchronize)(swd_backend *, swd_stream *, swd_err *);
    /* Packs a weight. weight: host, contiguous, F32 or BF16, [N, K] (linear), [O, I, kh, kw] (conv); bias: host F32 or absent.
     * compute: the arithmetic of the products, SWD_F32 or SWD_BF16 (bf16 inputs, float32 accumulation). Where the compute type is float32
     * and the weight comes as BF16 it stays BF16 in memory and is widened layer by layer. The host memory is not needed afterwards. */
    swd_status (*linear_create)(swd_backend *, swd_linear **out, swd_tensor weight, swd_tensor bias,
                                swd_dtype compute, swd_err *);
    void (*linear_destroy)(swd_backend *, swd_linear **);
    swd_status (*conv_create)(swd_backend *, swd_conv **out, swd_tensor weight, swd_tensor bias,
                              int stride, int pad_before, int pad_after, bool upsample2x,
                              swd_dtype compute, swd_err *);
    void (*conv_destroy)(swd_backend *, swd_conv **);
    size_t (*weight_bytes)(swd_backend *); /* held by all packed weights */
    const swd_slabs *slabs;                /* NULL: there are none (the CPU) */
    /* A frozen weight as it is multiplied: W [N, K] of the compute type, for its backward pass. NULL: no training on this backend. A copy
     * into `out`, which is contiguous, and where what is packed is such rows already a look at them, at any stride: false where it is
     * not; linear_view NULL: never. */
    swd_status (*linear_plain)(swd_backend *, swd_tensor out, const swd_linear *, swd_err *);
    bool (*linear_view)(swd_backend *, swd_tensor *out, const swd_linear *);
    const struct swd_backward *backward; /* slots of backend/backward.h; NULL: none */
    const swd_collective *collective;    /* NULL: there is none */
    const swd_async *async; /* NULL: what is called is done when the call returns (the CPU) */
    void (*range_push)(swd_backend *, swd_range, const char *name); /* NULL: no profiler listens */
    void (*range_pop)(swd_backend *);
    /* Makes the calling thread ready for the other calls; needed where it is not the one that made the backend, or has used another. */
    swd_status (*bind)(swd_backend *, swd_err *);
    /* How the choice between NVIDIA's libraries and our kernels is made (src/cuda/vendor/vendor.h); NULL: there is none to be made. */
    swd_status (*set_tune)(swd_backend *, const char *mode, swd_err *);
    const swd_log *log; /* who hears of such choices; NULL: nobody */
    /* Memory of a device; NULL: it is the host's, and nobody counts it. */
    swd_status (*memory)(swd_backend *, swd_memory *, swd_err *);
    size_t (*held)(swd_backend *); /* swd_memory.held, without asking the device; NULL likewise */
    void (*destroy)(swd_backend *);
    void *state; /* the backend's own */
};

/* Facts of a packed weight, the same for every backend; the first members of their structs. */
struct swd_linear_facts {
    int64_t n, k;
    bool has_bias;
    swd_dtype compute;
};
struct swd_conv_facts {
    int64_t out, in, kh, kw;
    int stride, pad_before, pad_after;
    bool upsample2x, has_bias;
    swd_dtype compute;
};
static inline const struct swd_linear_facts *linear_facts(const swd_linear *w)
{
    return (const struct swd_linear_facts *)w;
}
static inline const struct swd_conv_facts *conv_facts(const swd_conv *w)
{
    return (const struct swd_conv_facts *)w;
}

/* threads <= 0: as many as the process may use. */
swd_status backend_cpu_create(swd_backend **out, int threads, swd_err *err);
void backend_destroy(swd_backend **b);
/* Bytes of memory that are given out, planned ones too: a device counts everything, the host what is packed. */
size_t backend_held(swd_backend *b);
#endif
