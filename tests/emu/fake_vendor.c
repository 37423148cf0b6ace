// SPDX-License-Identifier: MIT
// What both stand-ins share, and cuBLASLt: products as NVIDIA's documentation has them (column-major, op(A) op(B), epilogue).
#include "fake_vendor.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define X(name, arguments) FAKE_EXPORT int cublasLt##name arguments;
LT_FUNCTIONS(X)
#undef X
FAKE_EXPORT size_t cublasLtGetVersion(void);

/* ---- shared ---- */

static int calls, fail_at, live, work[FAKE_KINDS];

int fake_vendor_calls(void)
{
    return calls;
}

void fake_vendor_fail(int n)
{
    fail_at = n ? calls + n : 0;
}

int fake_vendor_live(void)
{
    return live;
}

int fake_vendor_work(int kind)
{
    return work[kind];
}

void fake_count(int kind)
{
    work[kind]++;
}

// When the module goes: what it did, as a line of that file.
static __attribute__((destructor)) void tell_counts(void)
{
    const char *path = getenv("FAKE_VENDOR_COUNTS");
    FILE *f = path ? fopen(path, "a") : NULL;
    if (!f) return;
    fprintf(f, "%d %d %d\n", work[FAKE_PRODUCT], work[FAKE_CONVOLUTION], work[FAKE_ATTENTION]);
    fclose(f);
}

bool fake_mode(const char *name)
{
    const char *m = getenv("FAKE_VENDOR");
    return m && strcmp(m, name) == 0;
}

bool fake_fails(void)
{
    return ++calls == fail_at;
}

// In front of everything that is made.
typedef struct label {
    _Alignas(16) fake_class c;
} label;

int fake_make(void **out, fake_class c, size_t bytes)
{
    if (fake_fails()) return FAKE_FAILED;
    label *l = calloc(1, sizeof *l + bytes);
    if (!l) return FAKE_FAILED;
    l->c = c;
    live++;
    *out = l + 1;
    return 0;
}

void *fake_known(void *p, fake_class c)
{
    if (!p || ((label *)p)[-1].c != c)
        fake_complain("a descriptor or handle is not what it should be");
    return p;
}

int fake_drop(void *p, fake_class c)
{
    label *l = (label *)fake_known(p, c) - 1;
    *(volatile fake_class *)&l->c = 0; // also for the compiler, which knows that free comes
    free(l);
    live--;
    return 0;
}

int fake_complain(const char *what)
{
    fprintf(stderr, "fake vendor: %s\n", what);
    abort();
}

bool fake_aligned(const void *p, size_t bytes)
{
    return (uintptr_t)p % bytes == 0;
}

/* ---- cuBLASLt ---- */

enum { WORKSPACE = 1000, PROPOSALS = 4 };

typedef struct layout {
    int type;
    int64_t rows, columns, stride;
} layout;

typedef struct operation {
    int transpose[2], epilogue, bias_type;
    const void *bias;
} operation;

typedef struct preference {
    size_t workspace;
    uint32_t reductions, alignment[4];
} preference;

size_t cublasLtGetVersion(void)
{
    return 1;
}

int cublasLtCreate(void **handle)
{
    return fake_make(handle, FAKE_LT_HANDLE, 0);
}

int cublasLtDestroy(void *handle)
{
    return fake_drop(handle, FAKE_LT_HANDLE);
}

int cublasLtMatmulDescCreate(void **desc, int compute, int scale_type)
{
    if (compute != LT_COMPUTE_32F || scale_type != CUDA_R_32F)
        return fake_complain("sums are not float32");
    int s = fake_make(desc, FAKE_LT_OPERATION, sizeof(operation));
    if (!s) *(operation *)*desc = (operation){.epilogue = LT_EPILOGUE_DEFAULT, .bias_type = -1};
    return s;
}

int cublasLtMatmulDescDestroy(void *desc)
{
    return fake_drop(desc, FAKE_LT_OPERATION);
}

int cublasLtMatmulDescSetAttribute(void *desc, int attribute, const void *value, size_t bytes)
{
    operation *o = fake_known(desc, FAKE_LT_OPERATION);
    void *to = attribute == LT_DESC_TRANSA           ? (void *)&o->transpose[0]
               : attribute == LT_DESC_TRANSB         ? (void *)&o->transpose[1]
               : attribute == LT_DESC_EPILOGUE       ? (void *)&o->epilogue
               : attribute == LT_DESC_BIAS_DATA_TYPE ? (void *)&o->bias_type
               : attribute == LT_DESC_BIAS_POINTER   ? (void *)&o->bias
                                                     : NULL;
    if (fake_fails()) return FAKE_FAILED;
    if (!to || bytes != (attribute == LT_DESC_BIAS_POINTER ? sizeof o->bias : sizeof(int)))
        return fake_complain("an attribute of an operation is not known, or has another size");
    memcpy(to, value, bytes);
    return 0;
}

int cublasLtMatrixLayoutCreate(void **out, int type, uint64_t rows, uint64_t columns,
                               int64_t stride)
{
    if ((type != CUDA_R_16BF && type != CUDA_R_16F && type != CUDA_R_32F) ||
        stride < (int64_t)rows || !rows || !columns)
        return fake_complain("a layout makes no sense");
    int s = fake_make(out, FAKE_LT_LAYOUT, sizeof(layout));
    if (!s) *(layout *)*out = (layout){type, (int64_t)rows, (int64_t)columns, stride};
    return s;
}

int cublasLtMatrixLayoutDestroy(void *l)
{
    return fake_drop(l, FAKE_LT_LAYOUT);
}

int cublasLtMatmulPreferenceCreate(void **p)
{
    return fake_make(p, FAKE_LT_PREFERENCE, sizeof(preference));
}

int cublasLtMatmulPreferenceDestroy(void *p)
{
    return fake_drop(p, FAKE_LT_PREFERENCE);
}

int cublasLtMatmulPreferenceSetAttribute(void *of, int attribute, const void *value, size_t bytes)
{
    preference *p = fake_known(of, FAKE_LT_PREFERENCE);
    int which = attribute - LT_PREF_MIN_ALIGNMENT_A_BYTES;
    void *to = attribute == LT_PREF_MAX_WORKSPACE_BYTES     ? (void *)&p->workspace
               : attribute == LT_PREF_REDUCTION_SCHEME_MASK ? (void *)&p->reductions
               : which >= 0 && which < 4                    ? (void *)&p->alignment[which]
                                                            : NULL;
    if (fake_fails()) return FAKE_FAILED;
    if (!to || bytes != (attribute == LT_PREF_MAX_WORKSPACE_BYTES ? 8 : 4))
        return fake_complain("a preference is not known, or has another size");
    memcpy(to, value, bytes);
    return 0;
}

static int64_t size_of(int type)
{
    return type == CUDA_R_32F ? 4 : 2;
}

// k, by B.
static int64_t inner(const operation *o, const layout *b)
{
    return o->transpose[1] ? b->columns : b->rows;
}

// Strides, and the types that cuBLASLt's table has.
static void check(const operation *o, const layout *a, const layout *b, const layout *d)
{
    if ((o->transpose[0] ? a->rows : a->columns) != inner(o, b) ||
        d->rows != (o->transpose[0] ? a->columns : a->rows) ||
        d->columns != (o->transpose[1] ? b->rows : b->columns))
        fake_complain("the sides of the matrices don't fit");
    if (a->type != b->type || (d->type != a->type && d->type != CUDA_R_32F))
        fake_complain("the types of the matrices don't fit");
    if (o->epilogue & LT_EPILOGUE_BIAS ? !o->bias || o->bias_type != d->type : o->bias != NULL)
        fake_complain("the bias is not of the result's type, or not used");
    const layout *all[] = {a, b, d};
    for (int i = 0; i < 3; i++)
        if (all[i]->stride * size_of(all[i]->type) % 16) fake_complain("columns not aligned");
}

// One that the hardware lacks, one that fails when it runs, two that are good. They know the problem that they are for.
int cublasLtMatmulAlgoGetHeuristic(void *handle, void *desc, void *a, void *b, void *c, void *d,
                                   void *of, int wanted, lt_heuristic *results, int *found)
{
    const preference *p = fake_known(of, FAKE_LT_PREFERENCE);
    const layout *ld = fake_known(d, FAKE_LT_LAYOUT);
    (void)fake_known(handle, FAKE_LT_HANDLE);
    if (fake_fails()) return FAKE_FAILED;
    if (c != d) return fake_complain("C does not lie as D");
    check(fake_known(desc, FAKE_LT_OPERATION), fake_known(a, FAKE_LT_LAYOUT),
          fake_known(b, FAKE_LT_LAYOUT), ld);
    if (p->reductions != LT_REDUCTION_COMPUTE_TYPE) return fake_complain("sums may be narrow");
    for (int i = 0; i < 4; i++)
        if (p->alignment[i] != 16) return fake_complain("16 bytes are not asked for");
    *found = fake_mode("none") ? 0 : wanted < PROPOSALS ? wanted : PROPOSALS;
    for (int i = 0; i < *found; i++)
        results[i] = (lt_heuristic){
            .algo = {{(uint64_t)i, (uint64_t)ld->rows, (uint64_t)ld->columns, 0xfa4e}},
            .state = i == 0 ? FAKE_FAILED : 0,
            .workspace_bytes = i == 2 ? WORKSPACE : 0};
    return 0;
}

int cublasLtMatmul(void *handle, void *desc, const void *alpha, const void *a, void *a_layout,
                   const void *b, void *b_layout, const void *beta, const void *c, void *c_layout,
                   void *d, void *d_layout, const lt_algo *algo, void *workspace,
                   size_t workspace_bytes, cudaStream_t stream)
{
    const operation *o = fake_known(desc, FAKE_LT_OPERATION);
    const layout *la = fake_known(a_layout, FAKE_LT_LAYOUT),
                 *lb = fake_known(b_layout, FAKE_LT_LAYOUT),
                 *ld = fake_known(d_layout, FAKE_LT_LAYOUT);
    (void)fake_known(handle, FAKE_LT_HANDLE);
    if (fake_fails() || algo->data[0] == 1) return FAKE_FAILED;
    if (!stream || c_layout != d_layout)
        return fake_complain("a product on the default stream, or whose C does not lie as D");
    check(o, la, lb, ld);
    if (algo->data[0] > 3 || algo->data[1] != (uint64_t)ld->rows ||
        algo->data[2] != (uint64_t)ld->columns || algo->data[3] != 0xfa4e)
        return fake_complain("an algorithm of another problem");
    if (!fake_aligned(a, 16) || !fake_aligned(b, 16) || !fake_aligned(c, 16) ||
        !fake_aligned(d, 16) || (o->bias && !fake_aligned(o->bias, 16)))
        return fake_complain("an operand of a product is not aligned");
    if (algo->data[0] == 2 &&
        (workspace_bytes < WORKSPACE || !workspace || !fake_aligned(workspace, 256)))
        return fake_complain("the workspace of a product is small or not aligned");
    if (*(const float *)alpha != 1) return fake_complain("alpha is not 1");
    fake_gemm g = {.a = a,
                   .b = b,
                   .c = c,
                   .d = d,
                   .bias = o->bias,
                   .operand = la->type,
                   .result = ld->type,
                   .m = ld->rows,
                   .n = ld->columns,
                   .k = inner(o, lb),
                   .transpose = {o->transpose[0], o->transpose[1]},
                   .lda = la->stride,
                   .ldb = lb->stride,
                   .ldd = ld->stride,
                   .beta = *(const float *)beta,
                   .epilogue = o->epilogue,
                   .wrong = fake_mode("wrong") ? 1 : 0};
    fake_count(FAKE_PRODUCT);
    if (algo->data[0] == 2 && fake_scribble_launch(workspace, WORKSPACE, stream))
        return FAKE_FAILED;
    return fake_gemm_launch(&g, stream) ? FAKE_FAILED : 0;
}
