// SPDX-License-Identifier: MIT
#include "vendor/gemm.h"
#include "base/memory.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SIDE_MIN = 16 };

// All that the choice depends on; zeroed first, compared byte by byte.
typedef struct gemm_key {
    int64_t m, n, k, lda, ldb, ldc;
    int a_across, b_across, in, out, add, bias;
} gemm_key;

struct vendor_gemm {
    vendor_gemm *next;
    gemm_key key;
    lt_product *product; // NULL: our kernel does it
    lt_algorithm algorithm;
    size_t wide_bytes; // float32 results, before the bias
};

/* ---- what the library may do ---- */

// bias: no pointer says so, while sizes are added up memory has no place yet.
static gemm_key key_of(const k_gemm_strided_args *a, bool bias)
{
    gemm_key k;
    memset(&k, 0, sizeof k);
    k.m = a->m, k.n = a->n, k.k = a->k;
    k.a_across = a->a_stride[1] != 1;
    k.b_across = a->b_stride[0] != 1;
    k.lda = a->a_stride[k.a_across ? 1 : 0];
    k.ldb = a->b_stride[k.b_across ? 0 : 1];
    k.ldc = a->c.stride[0];
    k.in = (int)a->dtype;
    k.out = (int)a->c.dtype;
    k.add = a->add;
    k.bias = bias;
    return k;
}

// Lines of `length` elements, which do not overlap, in whole 16-byte pieces.
static bool lines(int64_t length, int64_t stride, int dtype)
{
    return length % 8 == 0 && stride >= length && stride * cuda_size_of((k_dtype)dtype) % 16 == 0;
}

static bool library_can(const gemm_key *k)
{
    return k->m >= SIDE_MIN && k->n >= SIDE_MIN && k->k >= SIDE_MIN &&
           lines(k->a_across ? k->m : k->k, k->lda, k->in) &&
           lines(k->b_across ? k->n : k->k, k->ldb, k->in) && lines(k->n, k->ldc, k->out);
}

bool vendor_gemm_takes(const k_gemm_strided_args *a)
{
    return vendor_aligned(a->a) && vendor_aligned(a->b) && vendor_aligned(a->c.data);
}

/* ---- the work ---- */

static size_t wide_bytes_of(const gemm_key *k)
{
    return k->bias && k->out != K_F32 ? (size_t)(k->m * k->n) * sizeof(float) : 0;
}

static swd_status run(const vendor_gemm *o, const lt_algorithm *algorithm,
                      const k_gemm_strided_args *a, void *workspace, cudaStream_t stream,
                      swd_err *err)
{
    char *scratch = workspace;
    void *to = o->wide_bytes ? scratch : a->c.data;
    SWD_TRY(lt_product_run(o->product, algorithm, to, to, a->a, a->b,
                           scratch + vendor_padded(o->wide_bytes), stream, err),
            err);
    if (!a->bias) return SWD_OK;
    const int64_t shape[4] = {1, 1, a->m, a->n};
    const k_view y = {a->c.data, a->c.dtype, {0, 0, a->c.stride[0]}},
                 x = {to, K_F32, {0, 0, o->wide_bytes ? a->n : a->c.stride[0]}},
                 bias = {(void *)(uintptr_t)a->bias, K_F32, {0}};
    SWD_CUDA(k_activation(y, x, bias, K_ACT_NONE, shape, stream), err);
    return SWD_OK;
}

size_t vendor_gemm_workspace(const vendor_gemm *o)
{
    size_t bytes = vendor_padded(o->wide_bytes) + o->algorithm.workspace_bytes;
    return bytes ? bytes + VENDOR_ALIGN : 0; // the slab is aligned to less
}

size_t vendor_gemm_planned(const k_gemm_strided_args *a, bool bias, swd_backend *b)
{
    const gemm_key key = key_of(a, bias);
    if (!cuda_planning(b) || !vendor_cublaslt(b) || !library_can(&key)) return 0;
    return wide_bytes_of(&key) + LT_WORKSPACE_MAX + 2 * (size_t)VENDOR_ALIGN;
}

swd_status vendor_gemm_run(const vendor_gemm *o, const k_gemm_strided_args *a, void *workspace,
                           cudaStream_t stream, swd_err *err)
{
    void *from = vendor_scratch(workspace);
    swd_err why = {0};
    swd_status s = run(o, &o->algorithm, a, from, stream, &why);
    if (s == SWD_OK) return SWD_OK;
    // It could when it was chosen: a refusal now is a failure.
    return SWD_FAIL(err, s == SWD_ERR_UNSUPPORTED ? SWD_ERR_DEVICE : s, "%s", why.message);
}

// Our b is the library's weight: [n, k] where it lies along k.
static swd_status make_product(vendor_gemm *o, const cublaslt *lt, swd_err *err)
{
    const gemm_key *k = &o->key;
    o->wide_bytes = wide_bytes_of(k);
    const lt_problem p = {.rows = k->m,
                          .n = k->n,
                          .k = k->k,
                          .ldx = k->lda,
                          .ldw = k->ldb,
                          .ldy = o->wide_bytes ? k->n : k->ldc,
                          .x_across = k->a_across,
                          .w_across = k->b_across,
                          .operand = (k_dtype)k->in,
                          .result = o->wide_bytes ? K_F32 : (k_dtype)k->out,
                          .add = k->add};
    return lt_product_make(&o->product, lt, &p, err);
}

/* ---- the contest ---- */

typedef struct trial {
    const vendor_gemm *o;
    k_gemm_strided_args a; // on operands of its own
    swd_backend *b;
    lt_algorithm proposed[LT_PROPOSALS_MAX];
    void *memory[5]; // c, a, b, bias, workspace
    size_t workspace_bytes;
} trial;

static swd_status prepare(void *arg, swd_err *err)
{
    trial *t = arg;
    const gemm_key *k = &t->o->key;
    const k_dtype in = (k_dtype)k->in, out = (k_dtype)k->out;
    SWD_TRY(measure_operand(&t->memory[0], out, k->m * k->ldc, t->b, err), err);
    SWD_TRY(measure_operand(&t->memory[1], in, (k->a_across ? k->k : k->m) * k->lda, t->b, err),
            err);
    SWD_TRY(measure_operand(&t->memory[2], in, (k->b_across ? k->k : k->n) * k->ldb, t->b, err),
            err);
    if (k->bias) SWD_TRY(measure_operand(&t->memory[3], K_F32, k->n, t->b, err), err);
    t->memory[4] = t->b->alloc(t->b, t->workspace_bytes + VENDOR_ALIGN);
    if (!t->memory[4]) return measure_no_memory(err);
    t->a.c.data = t->memory[0];
    t->a.a = t->memory[1];
    t->a.b = t->memory[2];
    t->a.bias = t->memory[3];
    return SWD_OK;
}

static void clear(void *arg)
{
    trial *t = arg;
    for (int i = 0; i < 5; i++) t->b->release(t->b, t->memory[i]);
}

static swd_status compete(void *arg, int contestant, cudaStream_t stream, swd_err *err)
{
    trial *t = arg;
    if (contestant > 0)
        return run(t->o, &t->proposed[contestant - 1], &t->a, t->memory[4], stream, err);
    SWD_CUDA(k_gemm_strided(&t->a, t->memory[4], stream), err);
    return SWD_OK;
}

static void name_key(char text[TUNE_TEXT_MAX], const gemm_key *k)
{
    snprintf(text, TUNE_TEXT_MAX,
             "product %" PRId64 " x %" PRId64 " x %" PRId64 ", %s to %s, %s%s, ld %" PRId64
             " %" PRId64 " %" PRId64 "%s%s",
             k->m, k->n, k->k, k->in == K_F32 ? "f32" : "bf16", k->out == K_F32 ? "f32" : "bf16",
             k->a_across ? "t" : "n", k->b_across ? "n" : "t", k->lda, k->ldb, k->ldc,
             k->add ? ", added" : "", k->bias ? ", bias" : "");
}

static swd_status choose(vendor_gemm *o, const k_gemm_strided_args *a, swd_backend *b, swd_err *err)
{
    trial t = {.o = o, .a = *a, .b = b};
    vendor_contest c = {.prepare = prepare, .run = compete, .finish = clear, .arg = &t};
    int winner, n = lt_product_propose(t.proposed, o->product, LT_WORKSPACE_MAX);
    c.n = n + 1;
    name_key(c.key, &o->key);
    snprintf(c.choice[0], TUNE_TEXT_MAX, "ours");
    t.workspace_bytes = k_gemm_strided_workspace(a);
    for (int i = 0; i < n; i++) {
        lt_algorithm_name(c.choice[i + 1], TUNE_TEXT_MAX, &t.proposed[i]);
        size_t need = vendor_padded(o->wide_bytes) + t.proposed[i].workspace_bytes;
        if (need > t.workspace_bytes) t.workspace_bytes = need;
    }
    SWD_TRY(vendor_choose(&winner, &c, b, err), err);
    if (winner)
        o->algorithm = t.proposed[winner - 1];
    else
        lt_product_destroy(&o->product);
    return SWD_OK;
}

/* ---- choices ---- */

static swd_status make_choice(vendor_gemm **out, const k_gemm_strided_args *a, const gemm_key *key,
                              swd_backend *b, swd_err *err)
{
    vendor_gemm *o;
    *out = NULL;
    SWD_TRY(swd_calloc(&o, 1, sizeof *o, "a choice", err), err);
    o->key = *key;
    swd_err refused = {0};
    swd_status s = make_product(o, vendor_cublaslt(b), &refused);
    if (s == SWD_OK) s = choose(o, a, b, &refused);
    if (s == SWD_OK || s == SWD_ERR_UNSUPPORTED) {
        if (s != SWD_OK) lt_product_destroy(&o->product);
        *out = o;
        return SWD_OK;
    }
    vendor_gemms_free(&o);
    return SWD_FAIL(err, s, "%s", refused.message);
}

const vendor_gemm *vendor_gemm_choice(const k_gemm_strided_args *a, bool bias, swd_backend *b)
{
    const gemm_key key = key_of(a, bias);
    if (!vendor_cublaslt(b) || !library_can(&key)) return NULL;
    vendor_gemm **list = &cuda_of(b)->vendor->gemms, *o = *list;
    while (o && memcmp(&o->key, &key, sizeof key) != 0) o = o->next;
    if (!o && vendor_may_choose(b)) {
        swd_err err = {0};
        if (make_choice(&o, a, &key, b, &err) == SWD_OK) {
            o->next = *list;
            *list = o;
        } else {
            vendor_failed(b, &err);
        }
    }
    return o && o->product ? o : NULL;
}

void vendor_gemms_free(vendor_gemm **list)
{
    while (*list) {
        vendor_gemm *o = *list;
        *list = o->next;
        lt_product_destroy(&o->product);
        free(o);
    }
}
