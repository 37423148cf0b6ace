/* SPDX-License-Identifier: MIT */
/* Stand-ins for cuBLASLt and cuDNN on the emulated device: plain loops in kernels of their own, in the order of the stream, so that graphs
 * can be made of them. Every descriptor, pointer, alignment and workspace that they are given is checked, and a mistake ends the
 * program: told by a status it would be a refusal, for which the backend has its own kernels, and nobody would notice.
 *
 * FAKE_VENDOR (environment): "wrong" products, "none" proposed; FAKE_VENDOR_COUNTS: a file that says how much work was done. What a test
 * asks of the module it finds by these names in it. */
#ifndef SWD_TESTS_EMU_FAKE_VENDOR_H
#define SWD_TESTS_EMU_FAKE_VENDOR_H
#include "vendor/vendor_abi.h"
#include <stdbool.h>
#ifdef __cplusplus
extern "C" {
#endif

#define FAKE_EXPORT __attribute__((visibility("default")))

/* Calls of the libraries so far that could fail; the n-th from now on fails once (0: none); descriptors and handles that are there. */
FAKE_EXPORT int fake_vendor_calls(void);
FAKE_EXPORT void fake_vendor_fail(int n);
FAKE_EXPORT int fake_vendor_live(void);
/* Work done so far: products, convolutions, attentions. */
FAKE_EXPORT int fake_vendor_work(int kind);
enum { FAKE_PRODUCT, FAKE_CONVOLUTION, FAKE_ATTENTION, FAKE_KINDS };

/* ---- within the module ---- */

enum { FAKE_FAILED = 13 };
typedef enum fake_class {
    FAKE_LT_HANDLE = 0x11d00d,
    FAKE_LT_OPERATION,
    FAKE_LT_LAYOUT,
    FAKE_LT_PREFERENCE,
    FAKE_DNN_HANDLE,
    FAKE_DNN_DESCRIPTOR
} fake_class;

bool fake_mode(const char *name);
bool fake_fails(void);                                 /* counts a call: this one fails */
int fake_make(void **out, fake_class c, size_t bytes); /* zeros */
int fake_drop(void *p, fake_class c);
void *fake_known(void *p, fake_class c); /* p; a mistake unless it is one of these, and there */
void fake_count(int kind);
/* A mistake of the caller's: told on stderr, and the end. */
int fake_complain(const char *what) __attribute__((noreturn));
bool fake_aligned(const void *p, size_t bytes);

/* [4] with strides; dtype as cuDNN numbers them. */
typedef struct fake_map {
    void *data;
    int dtype;
    int64_t dim[4], stride[4];
} fake_map;

typedef struct fake_gemm {
    const void *a, *b, *c, *bias; /* d [m, n] columns: op(a) op(b) + beta c + bias */
    void *d;
    int transpose[2];    /* of a, b */
    int operand, result; /* cudaDataType */
    int64_t m, n, k, lda, ldb, ldd;
    float beta;
    int epilogue;
    float wrong; /* is added to row 3 */
} fake_gemm;

cudaError_t fake_gemm_launch(const fake_gemm *g, cudaStream_t stream);
cudaError_t fake_scribble_launch(void *workspace, size_t bytes, cudaStream_t stream);
cudaError_t fake_attention_launch(const fake_map *o, const fake_map *q, const fake_map *k,
                                  const fake_map *v, float scale, cudaStream_t stream);
/* b NULL: of one operand */
cudaError_t fake_pointwise_launch(int mode, const fake_map *y, const fake_map *x, const fake_map *b,
                                  cudaStream_t stream);
cudaError_t fake_conv_launch(const fake_map *y, const fake_map *x, const fake_map *w,
                             int64_t stride, const int64_t pad[2], cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
