// SPDX-License-Identifier: MIT
// cuBLASLt sees the transposes of our rows: D [n, rows] = W^T [k, n]^T x X [k, rows], columns ld elements apart. What lies across k it sees
// the other way round.
#include "vendor/cublaslt.h"
#include "base/memory.h"
#include "vendor/library.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct cublaslt {
    void *library, *handle;
    size_t version;
#define X(name, arguments) int(*name) arguments;
    LT_FUNCTIONS(X)
#undef X
};

struct lt_product {
    const cublaslt *lt;
    void *desc, *w, *x, *y; // y: of c, too
    bool add;
};

/* ---- the library ---- */

static const char *take_all(cublaslt *lt)
{
#define X(name, arguments)                                                                         \
    if (!library_take(&lt->name, lt->library, "cublasLt" #name)) return "cublasLt" #name;
    LT_FUNCTIONS(X)
#undef X
    return NULL;
}

swd_status cublaslt_open(cublaslt **out, char *found, size_t found_bytes, const char *where,
                         swd_err *err)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so",
                                        NULL};
    char path[1024];
    size_t (*version)(void);
    cublaslt *lt;
    *out = NULL;
    SWD_TRY(swd_calloc(&lt, 1, sizeof *lt, "cuBLASLt", err), err);
    lt->library = library_open(path, sizeof path, names, where);
    const char *missing = lt->library ? take_all(lt) : NULL;
    if (lt->library && library_take(&version, lt->library, "cublasLtGetVersion"))
        lt->version = version();
    int status = lt->library && !missing ? lt->Create(&lt->handle) : 0;
    if (status) lt->handle = NULL;
    library_tell(found, found_bytes,
                 &(library_outcome){lt->library, path, missing, status, lt->version});
    *out = lt;
    if (!lt->handle) cublaslt_close(out);
    return SWD_OK;
}

void cublaslt_close(cublaslt **lt)
{
    if (!*lt) return;
    if ((*lt)->handle) (*lt)->Destroy((*lt)->handle);
    library_close(&(*lt)->library);
    free(*lt);
    *lt = NULL;
}

size_t cublaslt_version(const cublaslt *lt)
{
    return lt->version;
}

/* ---- a problem ---- */

static int type_of(k_dtype dtype)
{
    return dtype == K_F32 ? CUDA_R_32F : dtype == K_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

static int describe(lt_product *o, const lt_problem *p)
{
    const cublaslt *lt = o->lt;
    const int w_op = p->w_across ? LT_OP_N : LT_OP_T, x_op = p->x_across ? LT_OP_T : LT_OP_N,
              operand = type_of(p->operand), result = type_of(p->result);
    int epilogue = p->bias ? LT_EPILOGUE_BIAS : 0;
    if (p->act == K_ACT_GELU_TANH) epilogue |= LT_EPILOGUE_GELU;
    if (p->act == K_ACT_RELU) epilogue |= LT_EPILOGUE_RELU;
    if (!epilogue) epilogue = LT_EPILOGUE_DEFAULT;
    int s = lt->MatmulDescCreate(&o->desc, LT_COMPUTE_32F, CUDA_R_32F);
    if (!s) s = lt->MatmulDescSetAttribute(o->desc, LT_DESC_TRANSA, &w_op, sizeof(int));
    if (!s) s = lt->MatmulDescSetAttribute(o->desc, LT_DESC_TRANSB, &x_op, sizeof(int));
    if (!s) s = lt->MatmulDescSetAttribute(o->desc, LT_DESC_EPILOGUE, &epilogue, sizeof(int));
    if (!s && p->bias)
        s = lt->MatmulDescSetAttribute(o->desc, LT_DESC_BIAS_DATA_TYPE, &result, sizeof(int));
    if (!s && p->bias)
        s = lt->MatmulDescSetAttribute(o->desc, LT_DESC_BIAS_POINTER, &p->bias, sizeof p->bias);
    uint64_t rows = (uint64_t)p->rows, n = (uint64_t)p->n, k = (uint64_t)p->k;
    if (!s)
        s = lt->MatrixLayoutCreate(&o->w, operand, p->w_across ? n : k, p->w_across ? k : n,
                                   p->ldw);
    if (!s)
        s = lt->MatrixLayoutCreate(&o->x, operand, p->x_across ? rows : k, p->x_across ? k : rows,
                                   p->ldx);
    if (!s) s = lt->MatrixLayoutCreate(&o->y, result, n, rows, p->ldy);
    return s;
}

swd_status lt_product_make(lt_product **out, const cublaslt *lt, const lt_problem *p, swd_err *err)
{
    assert(!p->add || p->act == K_ACT_NONE);
    lt_product *o;
    *out = NULL;
    SWD_TRY(swd_calloc(&o, 1, sizeof *o, "a product of cuBLASLt", err), err);
    o->lt = lt;
    o->add = p->add;
    int status = describe(o, p);
    if (status) {
        lt_product_destroy(&o);
        return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "cuBLASLt: a product is refused (status %d)",
                        status);
    }
    *out = o;
    return SWD_OK;
}

void lt_product_destroy(lt_product **p)
{
    lt_product *o = *p;
    if (!o) return;
    void *const layouts[] = {o->w, o->x, o->y};
    for (int i = 0; i < 3; i++)
        if (layouts[i]) o->lt->MatrixLayoutDestroy(layouts[i]);
    if (o->desc) o->lt->MatmulDescDestroy(o->desc);
    free(o);
    *p = NULL;
}

void lt_algorithm_name(char *text, size_t bytes, const lt_algorithm *a)
{
    int n = snprintf(text, bytes, "cuBLASLt %zu ", a->workspace_bytes);
    for (int i = 0; i < 8; i++)
        n += snprintf(text + n, bytes - (size_t)n, "%016" PRIx64, a->algo.data[i]);
}

static int prefer(void *preference, const cublaslt *lt, size_t workspace_max)
{
    static const int aligned[] = {LT_PREF_MIN_ALIGNMENT_A_BYTES, LT_PREF_MIN_ALIGNMENT_B_BYTES,
                                  LT_PREF_MIN_ALIGNMENT_C_BYTES, LT_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint32_t reductions = LT_REDUCTION_COMPUTE_TYPE, alignment = 16;
    int s = lt->MatmulPreferenceSetAttribute(preference, LT_PREF_MAX_WORKSPACE_BYTES,
                                             &workspace_max, sizeof workspace_max);
    if (!s)
        s = lt->MatmulPreferenceSetAttribute(preference, LT_PREF_REDUCTION_SCHEME_MASK, &reductions,
                                             sizeof reductions);
    for (int i = 0; i < 4 && !s; i++)
        s = lt->MatmulPreferenceSetAttribute(preference, aligned[i], &alignment, sizeof alignment);
    return s;
}

int lt_product_propose(lt_algorithm out[LT_PROPOSALS_MAX], const lt_product *p,
                       size_t workspace_max)
{
    const cublaslt *lt = p->lt;
    lt_heuristic found[LT_PROPOSALS_MAX];
    void *preference = NULL;
    int n = 0, found_n = 0;
    if (lt->MatmulPreferenceCreate(&preference) != 0) return 0;
    int s = prefer(preference, lt, workspace_max);
    // A status says that it knows no way: that is an answer.
    if (!s)
        s = lt->MatmulAlgoGetHeuristic(lt->handle, p->desc, p->w, p->x, p->y, p->y, preference,
                                       LT_PROPOSALS_MAX, found, &found_n);
    lt->MatmulPreferenceDestroy(preference);
    for (int i = 0; !s && i < found_n; i++)
        if (found[i].state == 0 && found[i].workspace_bytes <= workspace_max)
            out[n++] = (lt_algorithm){found[i].algo, found[i].workspace_bytes};
    return n;
}

swd_status lt_product_run(const lt_product *p, const lt_algorithm *algorithm, void *y,
                          const void *c, const void *x, const void *w, void *workspace,
                          cudaStream_t stream, swd_err *err)
{
    const float one = 1, beta = p->add ? 1 : 0;
    int s =
        p->lt->Matmul(p->lt->handle, p->desc, &one, w, p->w, x, p->x, &beta, p->add ? c : y, p->y,
                      y, p->y, &algorithm->algo, workspace, algorithm->workspace_bytes, stream);
    if (s == 0) return SWD_OK;
    (void)cudaGetLastError(); // what the library leaves must not meet the next call
    return SWD_FAIL(err, SWD_ERR_UNSUPPORTED, "cublasLtMatmul: status %d", s);
}
