/* SPDX-License-Identifier: MIT */
/* NVIDIA's libraries beside our own kernels: whether they are there, and which of the two does a piece of work.
 *
 * The choice is made once for a key (shape, types, what is fused) by measurement, kept on disk (tune.h), and made while sizes are added
 * up: never while a graph is recorded. SWD_TUNE, or vendor_set_mode():
 *   measure   a choice that is known is taken, others are measured and kept (default)
 *   thorough  as measure, with kernels that cuDNN compiles for seconds at every start: for long runs
 *   off       a choice that is known is taken, else our kernel; nothing is measured
 *   ours      our kernels only; no library is loaded
 *   vendor    the library wherever it can, its first proposal; nothing is kept
 * A library is called for one sample at a time, always in the same way: a sample's bytes do not depend on its batch. Only the products of
 * training know no samples. */
#ifndef SWD_CUDA_VENDOR_VENDOR_H
#define SWD_CUDA_VENDOR_VENDOR_H
#include "backend_cuda.h"
#include "vendor/cublaslt.h"
#include "vendor/cudnn.h"
#include "vendor/measure.h"
#include "vendor/tune.h"

typedef enum vendor_mode {
    VENDOR_MEASURE,
    VENDOR_THOROUGH,
    VENDOR_OFF,
    VENDOR_OURS,
    VENDOR_VENDOR
} vendor_mode;

typedef struct cuda_vendor {
    vendor_mode mode;
    bool looked;                 /* for the libraries: at the first weight */
    bool capturing;              /* a graph is being recorded: nothing may be measured */
    cublaslt *lt;                /* NULL: not there */
    cudnn *dnn;                  /* NULL: not there */
    struct graph_choice *graphs; /* choices of cuDNN's work, by shape (vendor/graph_choice.h) */
    struct vendor_gemm *gemms;   /* choices of training's products, by shape (vendor/gemm.h) */
    tune_table tune;
    swd_err failed; /* of a measurement, in a call that could not tell */
} cuda_vendor;

/* On failure of either the backend is closed. */
swd_status vendor_open(swd_backend *b, swd_err *err);
void vendor_close(swd_backend *b); /* no weight is left; accepts one that was never opened */
swd_status vendor_set_mode(swd_backend *b, const char *mode, swd_err *err);

/* Whether kernels that a library compiles at every start are wanted: they cost more than they give, unless somebody asks for them. */
bool vendor_compiles(swd_backend *b);

/* Whether 16-byte accesses may begin here. */
static inline bool vendor_aligned(const void *p)
{
    return ((uintptr_t)p & 15) == 0;
}

/* A library's scratch begins on so many bytes, more than the slab's: what is asked of that is as much longer. */
enum { VENDOR_ALIGN = 256 };
static inline size_t vendor_padded(size_t bytes)
{
    return (bytes + VENDOR_ALIGN - 1) / VENDOR_ALIGN * VENDOR_ALIGN;
}
static inline void *vendor_scratch(void *workspace)
{
    return (void *)vendor_padded((uintptr_t)workspace);
}

/* NULL: not there, or not wanted. */
cublaslt *vendor_cublaslt(swd_backend *b);
cudnn *vendor_cudnn(swd_backend *b);

/* Ways of doing one piece of work. Contestant 0 is our kernel. */
typedef struct vendor_contest {
    char key[TUNE_TEXT_MAX];
    int n;
    char choice
        [MEASURE_MAX]
        [TUNE_TEXT_MAX]; /* what the file says of each; the first word is the library's name */
    swd_status (*prepare)(void *arg, swd_err *err); /* operands */
    measure_run *run;
    void (*finish)(void *arg); /* after prepare, its failure too */
    void *arg;
} vendor_contest;

/* winner: by the file, by measurement, or as the mode has it. */
swd_status vendor_choose(int *winner, const vendor_contest *c, swd_backend *b, swd_err *err);

/* Whether something may be measured now; if not our kernel does the work this time. */
bool vendor_may_choose(swd_backend *b);
/* Keeps a failure for vendor_told(). */
void vendor_failed(swd_backend *b, const swd_err *err);
/* What an op asks before it runs: a failure that sizes could not tell is told once. */
swd_status vendor_told(swd_backend *b, swd_err *err);
/* One line for people. */
void vendor_say(swd_backend *b, const char *fmt, ...) SWD_PRINTF(2, 3);
#endif
