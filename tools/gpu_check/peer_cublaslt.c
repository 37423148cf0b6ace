// SPDX-License-Identifier: MIT
// cuBLASLt sees the transposes of our rows: D [N, M] = W^T [K, N]^T x X [K, M], columns of K.
#include "peer_cublaslt.h"
#include "backend_cuda.h"
#include "base/memory.h"
#include "libraries.h"
#include "vendor_abi.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

enum { ALGORITHMS = 8, TRIALS = 3 };
static const size_t workspace_max = (size_t)64 << 20;

struct cublaslt {
    void *library, *handle;
    cudaStream_t stream;
#define X(name, arguments) int(*name) arguments;
    LT_FUNCTIONS(X)
#undef X
};

typedef struct product {
    peer peer; // first
    const cublaslt *lt;
    const void *x;
    void *desc, *a, *b, *d; // layouts of w, x, y
    void *w, *bias, *workspace;
    lt_algo algo;
    size_t workspace_bytes;
} product;

/* ---- the library ---- */

static const char *take_all(cublaslt *lt)
{
#define X(name, arguments)                                                                         \
    if (!library_take(&lt->name, lt->library, "cublasLt" #name)) return "cublasLt" #name;
    LT_FUNCTIONS(X)
#undef X
    return NULL;
}

swd_status cublaslt_open(cublaslt **out, report *r, const char *where, cudaStream_t stream,
                         swd_err *err)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so",
                                        NULL};
    char path[1024], text[1200];
    size_t (*version)(void);
    cublaslt *lt;
    *out = NULL;
    SWD_TRY(swd_calloc(&lt, 1, sizeof *lt, "cuBLASLt", err), err);
    lt->stream = stream;
    lt->library = library_open(path, sizeof path, names, where);
    const char *missing = lt->library ? take_all(lt) : NULL;
    int status = lt->library && !missing ? lt->Create(&lt->handle) : 0;
    if (!lt->library)
        snprintf(text, sizeof text, "not found");
    else if (missing)
        snprintf(text, sizeof text, "%s has no %s", path, missing);
    else if (status)
        snprintf(text, sizeof text, "%s gives no handle (status %d)", path, status);
    else
        snprintf(text, sizeof text, "%s, version %zu", path,
                 library_take(&version, lt->library, "cublasLtGetVersion") ? version() : 0);
    report_fact(r, "cublaslt", text);
    if (lt->handle)
        *out = lt;
    else
        cublaslt_close(&lt);
    return SWD_OK;
}

void cublaslt_close(cublaslt **lt)
{
    if (!*lt) return;
    if ((*lt)->handle) (*lt)->Destroy((*lt)->handle);
    if ((*lt)->library) dlclose((*lt)->library);
    free(*lt);
    *lt = NULL;
}

/* ---- a product ---- */

static swd_status run(void *arg, swd_err *err)
{
    const product *p = arg;
    const float one = 1, zero = 0;
    int s =
        p->lt->Matmul(p->lt->handle, p->desc, &one, p->w, p->a, p->x, p->b, &zero, p->peer.y, p->d,
                      p->peer.y, p->d, &p->algo, p->workspace, p->workspace_bytes, p->lt->stream);
    return s == 0 ? SWD_OK : SWD_FAIL(err, SWD_ERR_DEVICE, "cublasLtMatmul: status %d", s);
}

static void close_product(peer *base)
{
    product *p = (product *)base;
    const cublaslt *lt = p->lt;
    if (p->desc) lt->MatmulDescDestroy(p->desc);
    void *const layouts[] = {p->a, p->b, p->d};
    for (int i = 0; i < 3; i++)
        if (layouts[i]) lt->MatrixLayoutDestroy(layouts[i]);
    void *const memory[] = {p->w, p->bias, p->workspace, p->peer.y};
    for (int i = 0; i < 4; i++) (void)cudaFree(memory[i]);
    free(p);
}

// A weight or a bias on the device, as bf16.
static swd_status upload(void **out, const job *j, int i, swd_err *err)
{
    const part *o = &j->plan.part[i];
    int64_t n = tensor_numel(tensor_make(NULL, o->dtype, o->shape, o->ndim));
    void *host;
    SWD_TRY(job_weight(&host, &j->plan, i, err), err);
    for (int64_t k = 0; o->dtype == SWD_F32 && k < n; k++)
        ((uint16_t *)host)[k] = f32_to_bf16(((float *)host)[k]); // in place: narrower, in order
    cudaStream_t stream = cuda_stream(j->ex.backend, NULL);
    swd_status st = peer_upload(out, host, (size_t)n * sizeof(uint16_t), stream, err);
    free(host);
    return st;
}

static int describe(product *p, swd_act act, int64_t m, int64_t n, int64_t k)
{
    const cublaslt *lt = p->lt;
    const int transposed = LT_OP_T, plain = LT_OP_N,
              epilogue = act == SWD_ACT_GELU_TANH ? LT_EPILOGUE_GELU_BIAS : LT_EPILOGUE_BIAS;
    int s = lt->MatmulDescCreate(&p->desc, LT_COMPUTE_32F, CUDA_R_32F);
    if (!s) s = lt->MatmulDescSetAttribute(p->desc, LT_DESC_TRANSA, &transposed, sizeof(int));
    if (!s) s = lt->MatmulDescSetAttribute(p->desc, LT_DESC_TRANSB, &plain, sizeof(int));
    if (!s) s = lt->MatmulDescSetAttribute(p->desc, LT_DESC_EPILOGUE, &epilogue, sizeof(int));
    if (!s) s = lt->MatmulDescSetAttribute(p->desc, LT_DESC_BIAS_POINTER, &p->bias, sizeof p->bias);
    if (!s) s = lt->MatrixLayoutCreate(&p->a, CUDA_R_16BF, (uint64_t)k, (uint64_t)n, k);
    if (!s) s = lt->MatrixLayoutCreate(&p->b, CUDA_R_16BF, (uint64_t)k, (uint64_t)m, k);
    if (!s) s = lt->MatrixLayoutCreate(&p->d, CUDA_R_16BF, (uint64_t)n, (uint64_t)m, n);
    return s;
}

static int propose(lt_heuristic *found, int *n, const product *p)
{
    const cublaslt *lt = p->lt;
    void *preference = NULL;
    int s = lt->MatmulPreferenceCreate(&preference);
    if (!s)
        s = lt->MatmulPreferenceSetAttribute(preference, LT_PREF_MAX_WORKSPACE_BYTES,
                                             &workspace_max, sizeof workspace_max);
    if (!s)
        s = lt->MatmulAlgoGetHeuristic(lt->handle, p->desc, p->a, p->b, p->d, p->d, preference,
                                       ALGORITHMS, found, n);
    if (preference) lt->MatmulPreferenceDestroy(preference);
    return s;
}

// Keeps the fastest of what is proposed; false where none of that runs.
static bool choose(product *p, timer *t)
{
    lt_heuristic found[ALGORITHMS];
    product best = {0};
    double fastest = 0;
    int n = 0;
    if (propose(found, &n, p) != 0) return false;
    for (int i = 0; i < n; i++) {
        bench_stats s, ratio;
        const contestant c = {run, p};
        swd_err refused = {0};
        p->algo = found[i].algo;
        p->workspace_bytes = found[i].workspace_bytes;
        if (found[i].state != 0 ||
            timer_rounds(&s, &ratio, t, &c, 1, (timer_limits){1, TRIALS, 0}, &refused) != SWD_OK)
            continue;
        if (best.lt && s.median >= fastest) continue;
        fastest = s.median;
        best = *p;
    }
    if (best.lt) *p = best;
    return best.lt != NULL;
}

swd_status cublaslt_make(peer **out, const cublaslt *lt, const job *j, timer *t, swd_err *err)
{
    const int64_t m = j->shape->d[0], k = j->shape->d[1], n = j->shape->d[2];
    product *p;
    bool any = false;
    *out = NULL;
    SWD_TRY(swd_calloc(&p, 1, sizeof *p, "a product of cuBLASLt", err), err);
    p->lt = lt;
    p->x = j->t[1].data;
    p->peer =
        (peer){.name = "cublaslt",
               .run = run,
               .close = close_product,
               .same = j->plan.part[0].role == PART_WRITTEN}; // else the job adds to a residual
    swd_status st = upload(&p->w, j, 2, err);
    if (st == SWD_OK) st = upload(&p->bias, j, 3, err);
    if (st == SWD_OK) st = cuda_status(cudaMalloc(&p->workspace, workspace_max), "cudaMalloc", err);
    if (st == SWD_OK)
        st = cuda_status(cudaMalloc(&p->peer.y, (size_t)(m * n) * 2), "cudaMalloc", err);
    if (st == SWD_OK) any = describe(p, (swd_act)j->shape->d[3], m, n, k) == 0 && choose(p, t);
    if (st != SWD_OK || !any) {
        close_product(&p->peer);
        return st;
    }
    *out = &p->peer;
    return SWD_OK;
}
