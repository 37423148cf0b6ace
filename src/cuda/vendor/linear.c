// SPDX-License-Identifier: MIT
#include "vendor/linear.h"
#include "base/memory.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ROWS_MIN = 16, SEVERAL = 4, SEVERAL_ROWS_MAX = 512 };

// What follows the product.
typedef enum finish { NOTHING, ACTIVATION, GATE } finish;

// All that the choice depends on; zeroed first, compared byte by byte.
typedef struct linear_key {
    int64_t rows, ldx, ldy;
    int y_dtype, act, residual, gate; // residual: 0 none, 1 laid out as y, 2 otherwise
    int bias_apart; // it does not fit into the result's type: a kernel of ours adds it
} linear_key;

struct vendor_linear {
    vendor_linear *next;
    linear_key key;
    finish finish;
    lt_product *product; // NULL: our kernel does it
    lt_algorithm algorithm;
    size_t wide_bytes; // float32 rows of one sample, before what follows
};

/* ---- what the library may do ---- */

static bool whole(int64_t stride, k_dtype dtype)
{
    return stride * cuda_size_of(dtype) % 16 == 0;
}

static linear_key key_of(const k_gemm_args *a, const void *narrow_bias)
{
    linear_key k;
    memset(&k, 0, sizeof k);
    k.rows = a->rows;
    k.ldx = a->x.stride[1];
    k.ldy = a->y.stride[1];
    k.y_dtype = (int)a->y.dtype;
    k.act = (int)a->act;
    k.gate = a->gate.data || a->gate.stride[0];
    k.bias_apart = a->bias && a->y.dtype != K_F32 && !narrow_bias;
    // No pointers: while sizes are added up memory has no place yet, and the choice must be the same then.
    if (a->residual.data || a->residual.stride[1])
        k.residual = a->residual.dtype == a->y.dtype && a->residual.stride[1] == k.ldy ? 1 : 2;
    return k;
}

static finish finish_of(const linear_key *k)
{
    if (k->gate) return GATE;
    if (k->bias_apart) return ACTIVATION;
    return k->act == K_ACT_NONE || k->act == K_ACT_GELU_TANH || k->act == K_ACT_RELU ? NOTHING
                                                                                     : ACTIVATION;
}

static bool library_can(const k_gemm_args *a, const linear_key *k)
{
    if (a->rows < ROWS_MIN || a->n % 8 || a->k % 8 || a->x.dtype != a->compute ||
        a->w_dtype != a->compute || (a->y.dtype != a->compute && a->y.dtype != K_F32) ||
        !whole(k->ldx, a->compute) || !whole(k->ldy, a->y.dtype) ||
        !whole(a->w_stride, a->w_dtype) || !whole(a->x.stride[0], a->compute) ||
        !whole(a->y.stride[0], a->y.dtype) || !whole(a->residual.stride[0], a->y.dtype))
        return false;
    if (k->residual == 0) return true;
    return k->residual == 1 && k->act == K_ACT_NONE && (k->gate || !k->bias_apart);
}

bool vendor_linear_takes(const k_gemm_args *a)
{
    const bool in_place = a->residual.data == a->y.data;
    return vendor_aligned(a->x.data) && vendor_aligned(a->y.data) &&
           vendor_aligned(a->residual.data) && (in_place || !a->gate.data);
}

/* ---- the work ---- */

static k_view at(k_view v, int64_t sample)
{
    if (v.data) v.data = (char *)v.data + sample * v.stride[0] * cuda_size_of(v.dtype);
    return v;
}

static cudaError_t finish_rows(const vendor_linear *o, const k_gemm_args *a, k_view y, k_view wide,
                               int64_t sample, cudaStream_t stream)
{
    if (o->finish == GATE)
        return k_gate_residual(y, wide, at(a->gate, sample), 1, a->rows, a->n, stream);
    const int64_t shape[4] = {1, 1, a->rows, a->n};
    k_view to = {y.data, y.dtype, {0, 0, a->y.stride[1]}}, from = {wide.data, K_F32, {0, 0, a->n}},
           bias = {(void *)(uintptr_t)a->bias, K_F32, {0}};
    return k_activation(to, from, bias, a->act, shape, stream);
}

// Sample by sample, each as if it were alone.
static swd_status run_samples(const vendor_linear *o, const lt_algorithm *algorithm,
                              const k_gemm_args *a, int64_t samples, void *workspace,
                              cudaStream_t stream, swd_err *err)
{
    char *scratch = workspace;
    const size_t wide_bytes = vendor_padded(o->wide_bytes);
    const k_view wide = {scratch, K_F32, {a->rows * a->n, a->n, 0}};
    for (int64_t i = 0; i < samples; i++) {
        const k_view x = at(a->x, i), y = at(a->y, i), c = at(a->residual, i);
        SWD_TRY(lt_product_run(o->product, algorithm, o->finish == NOTHING ? y.data : wide.data,
                               c.data, x.data, a->w, scratch + wide_bytes, stream, err),
                err);
        if (o->finish != NOTHING) SWD_CUDA(finish_rows(o, a, y, wide, i, stream), err);
    }
    return SWD_OK;
}

size_t vendor_linear_workspace(const vendor_linear *o)
{
    size_t bytes = vendor_padded(o->wide_bytes) + o->algorithm.workspace_bytes;
    return bytes ? bytes + VENDOR_ALIGN : 0; // the slab is aligned to less
}

size_t vendor_linear_planned(const k_gemm_args *a, swd_backend *b)
{
    const linear_key key = key_of(a, NULL);
    if (!vendor_cublaslt(b) || !library_can(a, &key)) return 0;
    return (size_t)(a->rows * a->n) * sizeof(float) + LT_WORKSPACE_MAX + 2 * (size_t)VENDOR_ALIGN;
}

swd_status vendor_linear_run(const vendor_linear *o, const k_gemm_args *a, void *workspace,
                             cudaStream_t stream, swd_err *err)
{
    void *from = vendor_scratch(workspace);
    swd_err why = {0};
    swd_status s = run_samples(o, &o->algorithm, a, a->batch, from, stream, &why);
    if (s == SWD_OK) return SWD_OK;
    // It could when it was chosen: a refusal now is a failure.
    return SWD_FAIL(err, s == SWD_ERR_UNSUPPORTED ? SWD_ERR_DEVICE : s, "%s", why.message);
}

static swd_status make_product(vendor_linear *o, const cublaslt *lt, const k_gemm_args *a,
                               const void *narrow_bias, swd_err *err)
{
    const bool wide = o->finish != NOTHING;
    const k_dtype result = wide ? K_F32 : a->y.dtype;
    lt_problem p = {.rows = a->rows,
                    .n = a->n,
                    .k = a->k,
                    .ldx = a->x.stride[1],
                    .ldw = a->w_stride,
                    .ldy = wide ? a->n : a->y.stride[1],
                    .operand = a->compute,
                    .result = result,
                    .bias = result == K_F32 ? a->bias : narrow_bias,
                    .add = o->finish == NOTHING && o->key.residual};
    if (o->finish == ACTIVATION) p.bias = NULL; // the kernel that follows adds it
    if (o->finish == NOTHING) p.act = a->act;
    o->wide_bytes = wide ? (size_t)(a->rows * a->n) * sizeof(float) : 0;
    return lt_product_make(&o->product, lt, &p, err);
}

/* ---- the contest ---- */

typedef struct trial {
    const vendor_linear *o;
    k_gemm_args a; // on operands of its own
    swd_backend *b;
    lt_algorithm proposed[LT_PROPOSALS_MAX];
    int64_t samples; // of the largest batch tried
    void *memory[4]; // y, x, gate, workspace
    size_t workspace_bytes;
} trial;

static swd_status prepare(void *arg, swd_err *err)
{
    trial *t = arg;
    k_gemm_args *a = &t->a;
    const int64_t n = t->samples, y = a->rows * a->y.stride[1], x = a->rows * a->x.stride[1];
    SWD_TRY(measure_operand(&t->memory[0], a->y.dtype, n * y, t->b, err), err);
    SWD_TRY(measure_operand(&t->memory[1], a->x.dtype, n * x, t->b, err), err);
    a->y = (k_view){t->memory[0], a->y.dtype, {y, a->y.stride[1], 0}};
    a->x = (k_view){t->memory[1], a->x.dtype, {x, a->x.stride[1], 0}};
    if (t->o->key.residual) a->residual = a->y;
    if (t->o->key.gate) {
        SWD_TRY(measure_operand(&t->memory[2], a->gate.dtype, n * a->n, t->b, err), err);
        a->gate = (k_view){t->memory[2], a->gate.dtype, {a->n, 0, 0}};
    }
    t->memory[3] = t->b->alloc(t->b, t->workspace_bytes + VENDOR_ALIGN);
    return t->memory[3] ? SWD_OK : measure_no_memory(err);
}

static void clear(void *arg)
{
    trial *t = arg;
    for (int i = 0; i < 4; i++) t->b->release(t->b, t->memory[i]);
}

// One sample, and where rows are few a batch: what is fast for one alone may be slow for several.
static swd_status compete(void *arg, int contestant, cudaStream_t stream, swd_err *err)
{
    trial *t = arg;
    for (int64_t samples = 1;; samples = t->samples) {
        k_gemm_args a = t->a;
        a.batch = samples;
        if (contestant == 0)
            SWD_CUDA(k_gemm(&a, t->memory[3], stream), err);
        else
            SWD_TRY(run_samples(t->o, &t->proposed[contestant - 1], &a, samples, t->memory[3],
                                stream, err),
                    err);
        if (samples == t->samples) return SWD_OK;
    }
}

static const char *dtype_word(int dtype)
{
    return dtype == K_F32 ? "f32" : dtype == K_BF16 ? "bf16" : "f16";
}

static void name_key(char key[TUNE_TEXT_MAX], const vendor_linear *o, const k_gemm_args *a)
{
    static const char *const acts[] = {
        "", ", silu", ", gelu_tanh", ", gelu_erf", ", quick_gelu", ", relu", ", tanh"};
    static const char *const residuals[] = {"", ", residual", ", residual of its own"};
    const linear_key *k = &o->key;
    snprintf(key, TUNE_TEXT_MAX,
             "linear %" PRId64 " x %d x %d, %s to %s, ld %" PRId64 " %" PRId64 "%s%s%s%s%s",
             k->rows, a->n, a->k, dtype_word((int)a->compute), dtype_word(k->y_dtype), k->ldx,
             k->ldy, a->bias ? ", bias" : "", k->bias_apart ? " apart" : "", acts[k->act],
             residuals[k->residual], k->gate ? ", gate" : "");
}

static void name_choices(vendor_contest *c, const trial *t)
{
    snprintf(c->choice[0], TUNE_TEXT_MAX, "ours");
    for (int i = 1; i < c->n; i++)
        lt_algorithm_name(c->choice[i], TUNE_TEXT_MAX, &t->proposed[i - 1]);
}

static swd_status choose(vendor_linear *o, const k_gemm_args *a, swd_backend *b, swd_err *err)
{
    trial t = {.o = o, .a = *a, .b = b};
    vendor_contest c = {.prepare = prepare, .run = compete, .finish = clear, .arg = &t};
    int winner, n = lt_product_propose(t.proposed, o->product, LT_WORKSPACE_MAX);
    t.samples = a->rows <= SEVERAL_ROWS_MAX ? SEVERAL : 1;
    c.n = n + 1;
    name_key(c.key, o, a);
    name_choices(&c, &t);
    k_gemm_args several = *a;
    several.batch = t.samples;
    t.workspace_bytes = k_gemm_workspace(&several);
    for (int i = 0; i < n; i++) {
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

/* ---- choices of a weight ---- */

static swd_status make_choice(vendor_linear **out, const k_gemm_args *a, const linear_key *key,
                              const void *narrow_bias, swd_backend *b, swd_err *err)
{
    vendor_linear *o;
    *out = NULL;
    SWD_TRY(swd_calloc(&o, 1, sizeof *o, "a choice", err), err);
    o->key = *key;
    o->finish = finish_of(key);
    swd_err refused = {0};
    swd_status s = make_product(o, vendor_cublaslt(b), a, narrow_bias, &refused);
    if (s == SWD_OK) s = choose(o, a, b, &refused);
    if (s == SWD_OK || s == SWD_ERR_UNSUPPORTED) {
        if (s != SWD_OK) lt_product_destroy(&o->product);
        *out = o;
        return SWD_OK;
    }
    vendor_linear_free(&o);
    return SWD_FAIL(err, s, "%s", refused.message);
}

const vendor_linear *vendor_linear_choice(vendor_linear **list, const k_gemm_args *a,
                                          const void *narrow_bias, swd_backend *b)
{
    const linear_key key = key_of(a, narrow_bias);
    if (!vendor_cublaslt(b) || !library_can(a, &key)) return NULL;
    vendor_linear *o = *list;
    while (o && memcmp(&o->key, &key, sizeof key) != 0) o = o->next;
    if (!o && vendor_may_choose(b)) {
        swd_err err = {0};
        if (make_choice(&o, a, &key, narrow_bias, b, &err) == SWD_OK) {
            o->next = *list;
            *list = o;
        } else {
            vendor_failed(b, &err);
        }
    }
    return o && o->product ? o : NULL;
}

void vendor_linear_free(vendor_linear **list)
{
    while (*list) {
        vendor_linear *o = *list;
        *list = o->next;
        lt_product_destroy(&o->product);
        free(o);
    }
}
