// SPDX-License-Identifier: MIT
// y = act(x W^T + b), optionally y = residual + gate * that, over rows in chunks that stay in cache.
// Packed in the compute dtype; a bf16 weight with float32 arithmetic stays plain bf16 and is widened in slices of its rows.
// On AMX tiles the columns of a long weight are packed in pieces, and x as well: y = act(x0 W0^T + x1 W1^T + ... + b), so that the rows
// of a piece stay in the second-level cache (bench/LOG.md).
#include "backend/cpu/cpu.h"
#include "backend/cpu/dnn.h"
#include "backend/cpu/simd.h"
#include <stdlib.h>
#include <string.h>

enum { ROW_CHUNK = 512, WIDEN_ROWS = 2048, FEW_ROWS = 8, PIECE_COLUMNS = 1536, LANES = 64 };

struct swd_linear {
    struct swd_linear_facts facts;
    dnn_weight **pieces; // each of piece_k columns, the last of what is left; NULL: widened
    int64_t n_pieces, piece_k;
    uint16_t *plain;          // [n, k] bf16
    dnn_weight *slice, *rest; // products with WIDEN_ROWS outputs, and with what is left
    float *bias;
    size_t bytes;
};

static void linear_destroy(swd_backend *b, swd_linear **w)
{
    if (!*w) return;
    cpu_of(b)->weight_bytes -= (*w)->bytes;
    for (int64_t i = 0; (*w)->pieces && i < (*w)->n_pieces; i++)
        dnn_weight_destroy(&(*w)->pieces[i]);
    free((*w)->pieces);
    dnn_weight_destroy(&(*w)->slice);
    dnn_weight_destroy(&(*w)->rest);
    free((*w)->plain);
    free((*w)->bias);
    free(*w);
    *w = NULL;
}

static bool by_tiles(swd_dtype compute)
{
    return compute == SWD_BF16 && dnn_isa() == DNN_ISA_AMX_BF16;
}

static int64_t piece_width(const swd_linear *w, int64_t i)
{
    int64_t left = w->facts.k - i * w->piece_k;
    return left < w->piece_k ? left : w->piece_k;
}

static swd_status pack_pieces(swd_linear *w, dnn_engine *e, swd_tensor weight, swd_err *err)
{
    int64_t k = w->facts.k,
            n = by_tiles(w->facts.compute) ? (k + PIECE_COLUMNS - 1) / PIECE_COLUMNS : 1;
    w->piece_k = n == 1 ? k : ((k + n - 1) / n + LANES - 1) / LANES * LANES;
    w->n_pieces = (k + w->piece_k - 1) / w->piece_k;
    w->pieces = calloc((size_t)w->n_pieces, sizeof *w->pieces);
    if (!w->pieces) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a linear layer");
    for (int64_t i = 0; i < w->n_pieces; i++) {
        const char *first =
            (const char *)weight.data + (size_t)(i * w->piece_k) * dtype_size(weight.dtype);
        SWD_TRY(dnn_linear_create(&w->pieces[i], e, w->facts.n, piece_width(w, i), first, k,
                                  weight.dtype, w->facts.compute, err),
                err);
        w->bytes += dnn_weight_bytes(w->pieces[i]);
    }
    return SWD_OK;
}

static swd_status linear_create(swd_backend *b, swd_linear **out, swd_tensor weight,
                                swd_tensor bias, swd_dtype compute, swd_err *err)
{
    *out = NULL;
    if (weight.ndim != 2 || !tensor_contiguous(weight) ||
        (weight.dtype != SWD_F32 && weight.dtype != SWD_BF16) || weight.shape[0] < 1 ||
        weight.shape[1] < 1)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a linear weight is F32 or BF16 [N, K]");
    int64_t n = weight.shape[0], k = weight.shape[1];
    if (tensor_present(bias) && (bias.dtype != SWD_F32 || bias.ndim != 1 || bias.shape[0] != n))
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "the bias of a linear layer [%lld, %lld] is F32 [N]",
                        (long long)n, (long long)k);
    if (compute == SWD_BF16 && dnn_isa() < DNN_ISA_AVX512) compute = SWD_F32;
    dnn_engine *e = cpu_of(b)->dnn;
    swd_status s = SWD_OK;
    swd_linear *w = calloc(1, sizeof *w);
    if (!w) return SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a linear layer");
    w->facts = (struct swd_linear_facts){n, k, tensor_present(bias), compute};
    if (compute == SWD_F32 && weight.dtype == SWD_BF16) {
        int64_t whole = n < WIDEN_ROWS ? n : WIDEN_ROWS;
        w->bytes = (size_t)(n * k) * 2;
        w->plain = malloc(w->bytes);
        if (!w->plain) {
            w->bytes = 0;
            s = SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a weight [%lld, %lld]", (long long)n,
                         (long long)k);
            goto fail;
        }
        memcpy(w->plain, weight.data, w->bytes);
        SWD_TRY_GOTO(s, dnn_linear_create(&w->slice, e, whole, k, NULL, k, SWD_F32, SWD_F32, err),
                     err, unaccounted);
        if (n % whole)
            SWD_TRY_GOTO(
                s, dnn_linear_create(&w->rest, e, n % whole, k, NULL, k, SWD_F32, SWD_F32, err),
                err, unaccounted);
    } else {
        SWD_TRY_GOTO(s, pack_pieces(w, e, weight, err), err, unaccounted);
    }
    if (w->facts.has_bias) {
        w->bias = malloc((size_t)n * 4);
        if (!w->bias) {
            s = SWD_FAIL(err, SWD_ERR_MEMORY, "no memory for a bias of %lld", (long long)n);
            goto unaccounted;
        }
        memcpy(w->bias, bias.data, (size_t)n * 4);
        w->bytes += (size_t)n * 4;
    }
    cpu_of(b)->weight_bytes += w->bytes;
    *out = w;
    return SWD_OK;
unaccounted:
    w->bytes = 0;
fail:
    linear_destroy(b, &w);
    return s;
}

// What a call needs: which of its operands go through scratch.
typedef struct linear_plan {
    bool convert_x, stage_y;
    int64_t rows;
    size_t x_bytes, y_bytes, w_bytes;
} linear_plan;

static int64_t row_stride(swd_tensor t)
{
    return t.ndim < 2 || (cpu_rows(t) == 1) ? t.shape[t.ndim - 1]
           : t.ndim == 3 && t.shape[1] == 1 ? t.stride[0]
                                            : t.stride[t.ndim - 2];
}

static size_t round64(int64_t n)
{
    return ((size_t)n + 63) / 64 * 64;
}

static linear_plan plan_of(const linear_args *a)
{
    const struct swd_linear *w = a->w;
    linear_plan p = {.rows = cpu_rows(a->x)};
    swd_dtype compute = w->facts.compute;
    // oneDNN has only reference loops for packed weights and rows that do not follow each other
    p.convert_x =
        a->x.dtype != compute || w->n_pieces > 1 || (w->pieces && row_stride(a->x) != w->facts.k);
    p.stage_y = tensor_present(a->residual) || (w->pieces && row_stride(a->y) != w->facts.n) ||
                (a->y.dtype != SWD_F32 && (a->y.dtype != compute || w->n_pieces > 1));
    int64_t chunk = p.rows < ROW_CHUNK ? p.rows : ROW_CHUNK;
    if (p.convert_x) p.x_bytes = round64(chunk * w->facts.k * (int64_t)dtype_size(compute));
    if (p.stage_y) p.y_bytes = round64(chunk * w->facts.n * 4);
    if (!w->pieces)
        p.w_bytes = round64((w->facts.n < WIDEN_ROWS ? w->facts.n : WIDEN_ROWS) * w->facts.k * 4);
    return p;
}

static size_t linear_workspace(swd_backend *b, const linear_args *a)
{
    (void)b;
    linear_plan p = plan_of(a);
    return p.x_bytes + p.y_bytes + p.w_bytes;
}

// Rows of x in the compute dtype, piece after piece: [piece][rows][columns of it]
static void convert_rows(void *to, const swd_linear *w, swd_tensor x, int64_t first, int64_t rows)
{
    int64_t width = w->pieces ? w->piece_k : w->facts.k;
#pragma omp parallel for
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i * width < w->facts.k; i++) {
            int64_t n = w->pieces ? piece_width(w, i) : width;
            cpu_convert(to, w->facts.compute, rows * i * width + r * n, x.data, x.dtype,
                        cpu_row_offset(x, first + r) + i * width, n);
        }
}

// y = residual + gate * t, or y = t rounded
static void finish_rows(const linear_args *a, const float *t, int64_t first, int64_t rows)
{
    int64_t n = a->w->facts.n, per = a->y.ndim == 3 ? a->y.shape[1] : 1;
#pragma omp parallel for
    for (int64_t r = 0; r < rows; r++) {
        float tr[CPU_SPAN], tg[CPU_SPAN], ty[CPU_SPAN];
        int64_t yo = cpu_row_offset(a->y, first + r), sample = (first + r) / per;
        int64_t ro = tensor_present(a->residual) ? cpu_row_offset(a->residual, first + r) : 0;
        for (int64_t i = 0; i < n; i += CPU_SPAN) {
            int64_t m = n - i < CPU_SPAN ? n - i : CPU_SPAN;
            const float *v = t + r * n + i;
            if (tensor_present(a->residual)) {
                const float *res = cpu_row_load(tr, a->residual.data, a->residual.dtype, ro + i, m),
                            *g = NULL;
                if (tensor_present(a->gate))
                    g = cpu_row_load(tg, a->gate.data, a->gate.dtype,
                                     sample * a->gate.stride[0] + i, m);
                for (int64_t j = 0; j < m; j++) ty[j] = res[j] + (g ? g[j] * v[j] : v[j]);
                v = ty;
            }
            cpu_row_store(a->y.data, a->y.dtype, yo + i, v, m);
        }
    }
}

// Few rows (modulation, time embedding): reading the weight is all the work, so it is read once, as it lies.
static void few_rows(const swd_linear *w, int64_t m, float *y, int64_t y_stride, const float *x,
                     int64_t x_stride, swd_act act)
{
    const simd_table *simd = simd_pick();
    int64_t k = w->facts.k, n = w->facts.n;
#pragma omp parallel for
    for (int64_t o = 0; o < n; o++)
        for (int64_t r = 0; r < m; r++)
            y[r * y_stride + o] = simd->dot_bf16(x + r * x_stride, w->plain + o * k, k) +
                                  (w->bias ? w->bias[o] : 0.0f);
    for (int64_t r = 0; r < m; r++) cpu_activate(y + r * y_stride, n, act);
}

static swd_status product(const swd_linear *w, int64_t m, void *y, int64_t y_stride,
                          swd_dtype y_dtype, const void *x, int64_t x_stride, swd_act act,
                          float *wide, swd_err *err)
{
    int64_t k = w->facts.k, n = w->facts.n;
    for (int64_t i = 0; i < w->n_pieces; i++) {
        bool last = i == w->n_pieces - 1;
        const char *xi =
            (const char *)x + (size_t)(m * i * w->piece_k) * dtype_size(w->facts.compute);
        SWD_TRY(dnn_matmul(w->pieces[i], NULL, m, y, y_stride, y_dtype, xi,
                           w->n_pieces == 1 ? x_stride : piece_width(w, i), last ? w->bias : NULL,
                           i > 0, last ? act : SWD_ACT_NONE, err),
                err);
    }
    if (w->n_pieces) return SWD_OK;
    if (m <= FEW_ROWS) {
        few_rows(w, m, y, y_stride, x, x_stride, act);
        return SWD_OK;
    }
    for (int64_t i = 0; i < n; i += WIDEN_ROWS) {
        int64_t part = n - i < WIDEN_ROWS ? n - i : WIDEN_ROWS;
#pragma omp parallel for
        for (int64_t r = 0; r < part; r++)
            cpu_row_load(wide + r * k, w->plain, SWD_BF16, (i + r) * k, k);
        SWD_TRY(dnn_matmul(part == WIDEN_ROWS || n < WIDEN_ROWS ? w->slice : w->rest, wide, m,
                           (float *)y + i, y_stride, y_dtype, x, x_stride,
                           w->bias ? w->bias + i : NULL, false, act, err),
                err);
    }
    return SWD_OK;
}

// How many of the rows that are left go into one product. oneDNN's blocks of AMX tiles fit some numbers badly: 333 rows at once take
// 1.6 to 2 times as long as 256 and then 77 (bench/LOG.md).
static int64_t good_rows(int64_t left, swd_dtype compute)
{
    if (!by_tiles(compute)) return left;
    if (left >= ROW_CHUNK) return left / ROW_CHUNK * ROW_CHUNK;
    if (left == 384 || left <= 192 || (left <= 256 && left % 32 == 0)) return left;
    return left > 256 ? 256 : 192;
}

// Rows from `first` that lie at one stride in t.
static int64_t even_rows(swd_tensor t, int64_t first, int64_t left)
{
    if (t.ndim < 3 || t.stride[0] == t.shape[1] * t.stride[1] || t.shape[0] == 1) return left;
    int64_t in_sample = t.shape[1] - first % t.shape[1];
    return in_sample < left ? in_sample : left;
}

static swd_status linear(swd_backend *b, const linear_args *a, void *ws, swd_stream *stream,
                         swd_err *err)
{
    (void)b, (void)stream;
    const swd_linear *w = a->w;
    linear_plan p = plan_of(a);
    swd_dtype compute = w->facts.compute;
    int64_t n = w->facts.n, k = w->facts.k, limit = p.convert_x || p.stage_y ? ROW_CHUNK : p.rows;
    unsigned char *xs = ws, *ys = xs ? xs + p.x_bytes : NULL;
    float *wide = ys ? (float *)(void *)(ys + p.y_bytes) : NULL;
    for (int64_t r = 0, m; r < p.rows; r += m) {
        m = good_rows(p.rows - r < limit ? p.rows - r : limit, compute);
        if (!p.convert_x) m = even_rows(a->x, r, m);
        if (!p.stage_y) m = even_rows(a->y, r, m);
        const void *x = xs;
        int64_t x_stride = k, y_stride = n;
        if (p.convert_x) {
            convert_rows(xs, w, a->x, r, m);
        } else {
            x = (const char *)a->x.data + (size_t)cpu_row_offset(a->x, r) * dtype_size(compute);
            x_stride = row_stride(a->x);
        }
        void *y = ys;
        swd_dtype y_dtype = SWD_F32;
        if (!p.stage_y) {
            y_dtype = a->y.dtype;
            y = (char *)a->y.data + (size_t)cpu_row_offset(a->y, r) * dtype_size(y_dtype);
            y_stride = row_stride(a->y);
        }
        SWD_TRY(product(w, m, y, y_stride, y_dtype, x, x_stride, a->act, wide, err), err);
        if (p.stage_y) finish_rows(a, (const float *)(void *)ys, r, m);
    }
    return SWD_OK;
}

static swd_status linear_plain(swd_backend *b, swd_tensor out, const swd_linear *w, swd_err *err)
{
    (void)b;
    int64_t n = w->facts.n, k = w->facts.k;
    if (out.ndim != 2 || !tensor_contiguous(out) || out.dtype != w->facts.compute ||
        out.shape[0] != n || out.shape[1] != k)
        return SWD_FAIL(err, SWD_ERR_ARGUMENT, "a plain weight is [%lld, %lld] in %s", (long long)n,
                        (long long)k, dtype_name(w->facts.compute));
    for (int64_t i = 0; i < w->n_pieces; i++)
        SWD_TRY(dnn_weight_plain(
                    w->pieces[i],
                    (char *)out.data + (size_t)(i * w->piece_k) * dtype_size(out.dtype), k, err),
                err);
    if (!w->n_pieces) cpu_row_load(out.data, w->plain, SWD_BF16, 0, n * k);
    return SWD_OK;
}

void cpu_linear_slots(swd_backend *b)
{
    b->linear_plain = linear_plain;
    b->linear_create = linear_create;
    b->linear_destroy = linear_destroy;
    b->ops.linear_workspace = linear_workspace;
    b->ops.linear = linear;
}
