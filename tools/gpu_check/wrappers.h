/* SPDX-License-Identifier: MIT */
/* Conformance of dev.cuh: every wrapper runs on inputs made from the thread's index and leaves words in one array, which are
 * compared with wrappers_expected.h, what the emulator left. The tests hold the emulator to the same table. */
#ifndef SWD_TOOLS_GPU_CHECK_WRAPPERS_H
#define SWD_TOOLS_GPU_CHECK_WRAPPERS_H
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

enum wrapper_kind {
    WRAPPER_BITS,  /* the very words */
    WRAPPER_FLOAT, /* floats within tolerance * max(1, |expected|) */
    WRAPPER_E4M3   /* the very words, where the device has e4m3 (sm_89) */
};

/* name, words, kind, tolerance */
#define WRAPPERS(X)                                                                                \
    X(cp_async, 512, WRAPPER_BITS, 0) /* two groups, then zero fill */                             \
    X(ldsm_x4, 128, WRAPPER_BITS, 0)                                                               \
    X(ldsm_x4_t, 128, WRAPPER_BITS, 0)                                                             \
    X(ldsm_x2, 64, WRAPPER_BITS, 0)                                                                \
    X(ldsm_x2_t, 64, WRAPPER_BITS, 0)                                                              \
    X(mma_bf16, 128, WRAPPER_BITS, 0) /* small integers: exact */                                  \
    X(mma_f16, 128, WRAPPER_BITS, 0)                                                               \
    X(mma_s8, 128, WRAPPER_BITS, 0)                                                                \
    X(mma_e4m3, 128, WRAPPER_E4M3, 0)                                                              \
    X(mma_rounding, 128, WRAPPER_FLOAT, 4e-6) /* 16 products of random bf16 in [-1, 1] */          \
    X(exp2_fast, 256, WRAPPER_FLOAT, 3e-7)                                                         \
    X(rcp_fast, 256, WRAPPER_FLOAT, 1.5e-7)                                                        \
    X(tanh_fast, 256, WRAPPER_FLOAT, 4e-7)                                                         \
    X(expf_fast, 256, WRAPPER_FLOAT, 2e-6)                                                         \
    X(rsqrtf, 256, WRAPPER_FLOAT, 3e-7)                                                            \
    X(limits, 8, WRAPPER_BITS, 0) /* infinities and zeros of the fast functions */                 \
    X(named_barrier, 256, WRAPPER_BITS, 0)                                                         \
    X(warp_sum, 256, WRAPPER_BITS, 0) /* the order of additions, too */                            \
    X(warp_max, 256, WRAPPER_BITS, 0)                                                              \
    X(block_sum, 256, WRAPPER_BITS, 0)                                                             \
    X(block_sum2, 512, WRAPPER_BITS, 0)                                                            \
    X(block_max, 256, WRAPPER_BITS, 0)                                                             \
    X(round_bf16, 256, WRAPPER_BITS, 0) /* ties, subnormals, overflow, NaN */                      \
    X(round_f16, 256, WRAPPER_BITS, 0)                                                             \
    X(pack, 512, WRAPPER_BITS, 0)                                                                  \
    X(vectors_f32, 512, WRAPPER_BITS, 0) /* load8, store8, load4, store4 */                        \
    X(vectors_bf16, 512, WRAPPER_BITS, 0)                                                          \
    X(vectors_f16, 512, WRAPPER_BITS, 0)                                                           \
    X(shuffles, 256, WRAPPER_BITS, 0)                                                              \
    X(votes, 256, WRAPPER_BITS, 0)                                                                 \
    X(counts, 256, WRAPPER_BITS, 0) /* __syncthreads_count, _and, _or */                           \
    X(atomics, 16, WRAPPER_BITS, 0)                                                                \
    X(philox, 1024, WRAPPER_BITS, 0)                                                               \
    X(integers, 256, WRAPPER_BITS, 0)     /* __popc, __clz, __umulhi, conversions */               \
    X(dynamic_smem, 256, WRAPPER_BITS, 0) /* 64 KiB */

enum {
#define X(name, words, kind, tolerance) W_##name, W_##name##_last = W_##name + (words)-1,
    WRAPPERS(X)
#undef X
        WRAPPER_WORDS
};

#ifdef __cplusplus
extern "C" {
#endif
/* Queues everything; out: device memory, WRAPPER_WORDS words. e4m3: run that one, too. */
cudaError_t wrappers_run(uint32_t *out, bool e4m3, cudaStream_t s);
/* Compares (words in host memory) and tells of each wrapper: message says where it is off, or is NULL. */
typedef void wrappers_tell(void *ctx, const char *name, const char *message);
void wrappers_compare(const uint32_t *words, bool e4m3, wrappers_tell *tell, void *ctx);
#ifdef __cplusplus
}
#endif
#endif
