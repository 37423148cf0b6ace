// SPDX-License-Identifier: MIT
// Backward of o = softmax(scale q k^T) v from the saved log-sum-exp of each query, in blocks like the forward pass and with its tiles:
//
//     p_ij = exp(scale q_i.k_j - lse_i)      ds_ij = p_ij (do_i.v_j - delta_i)      delta_i = do_i.o_i
//     dq_i = scale sum_j ds_ij k_j           dk_j = scale sum_i ds_ij q_i           dv_j = sum_i p_ij do_i
//
// Two passes, so that no two tasks add to one gradient: one owns tiles of queries and walks the keys, one owns tiles of keys and walks
// the queries with the roles of the tile's operands swapped. Scores are computed in both: 7 products instead of 5, but no locks, and
// sums that do not depend on the number of threads.
#include "backend/cpu/cpu_backward.h"
#include "backend/cpu/simd.h"
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

enum { BLOCK = 256 }; // rows that a tile walks over at once

typedef struct plan {
    const simd_attention *simd;
    swd_dtype type;                      // of the products
    int64_t d, padded_d, queries;        // of a tile
    size_t tile_a, tile_b, sum_a, sum_b; // two operands of a tile, two results
    size_t rows_a, rows_b, pack_a, pack_b, s, dp, p, ds, stats, bytes;
} plan;

static int64_t round_up(int64_t n, int64_t step)
{
    return (n + step - 1) / step * step;
}

static size_t take(size_t *used, int64_t bytes)
{
    size_t at = *used;
    *used += ((size_t)bytes + 63) / 64 * 64;
    return at;
}

static plan plan_of(const attention_backward_args *a)
{
    plan p = {.simd = a->forward.k[0].dtype == SWD_BF16 ? simd_pick_bf16() : NULL};
    if (!p.simd) p.simd = simd_pick()->attention;
    p.type = p.simd->bf16 ? SWD_BF16 : SWD_F32;
    p.d = a->forward.k[0].shape[3];
    p.padded_d = round_up(p.d, p.simd->d_step);
    p.queries = p.simd->queries;
    int64_t size = (int64_t)dtype_size(p.type), tile = p.queries * p.padded_d,
            block = BLOCK * p.padded_d, scores = BLOCK * p.queries;
    p.tile_a = take(&p.bytes, tile * size);
    p.tile_b = take(&p.bytes, tile * size);
    p.sum_a = take(&p.bytes, tile * 4);
    p.sum_b = take(&p.bytes, tile * 4);
    p.rows_a = take(&p.bytes, block * size);
    p.rows_b = take(&p.bytes, block * size);
    p.pack_a = take(&p.bytes, block * size);
    p.pack_b = take(&p.bytes, block * size);
    p.s = take(&p.bytes, scores * 4);
    p.dp = take(&p.bytes, scores * 4);
    p.p = take(&p.bytes, scores * size);
    p.ds = take(&p.bytes, scores * size);
    p.stats = take(&p.bytes, 3 * SIMD_QUERIES_MAX * 4); // of a tile of queries: lse, delta; ones
    return p;
}

static int64_t delta_floats(const attention_backward_args *a)
{
    int64_t n = 0;
    for (int i = 0; i < a->forward.n_streams; i++)
        if (tensor_present(a->forward.q[i])) n += tensor_numel(a->forward.lse[i]);
    return n;
}

size_t cpu_attention_backward_workspace(swd_backend *b, const attention_backward_args *a)
{
    size_t delta = ((size_t)delta_floats(a) * 4 + 63) / 64 * 64;
    return delta + (size_t)cpu_of(b)->threads * plan_of(a).bytes;
}

static int64_t offset_of(swd_tensor t, int64_t b, int64_t row, int64_t h)
{
    return b * t.stride[0] + row * t.stride[1] + h * t.stride[2];
}

// Rows [first, first + n) of a head in the type of the products, padded with zeros to [padded][padded_d].
static void load_rows(void *to, swd_tensor t, int64_t b, int64_t h, int64_t first, int64_t n,
                      int64_t padded, const plan *p)
{
    size_t size = dtype_size(p->type), row = (size_t)p->padded_d * size;
    for (int64_t i = 0; i < n; i++) {
        cpu_convert(to, p->type, i * p->padded_d, t.data, t.dtype, offset_of(t, b, first + i, h),
                    p->d);
        memset((char *)to + (size_t)i * row + (size_t)p->d * size, 0,
               (size_t)(p->padded_d - p->d) * size);
    }
    memset((char *)to + (size_t)n * row, 0, (size_t)(padded - n) * row);
}

// delta[b][h][i] = do_i . o_i
static void make_delta(float *delta, const attention_backward_args *a, int stream)
{
    swd_tensor o = a->forward.o[stream], g = a->d_o[stream];
    int64_t n = o.shape[1], heads = o.shape[2], d = o.shape[3];
#pragma omp parallel for if (cpu_worth(tensor_numel(o)))
    for (int64_t r = 0; r < o.shape[0] * heads * n; r++) {
        float to[512], tg[512];
        int64_t b = r / n / heads, h = r / n % heads, i = r % n;
        const float *po = cpu_row_load(to, o.data, o.dtype, offset_of(o, b, i, h), d),
                    *pg = cpu_row_load(tg, g.data, g.dtype, offset_of(g, b, i, h), d);
        double sum = 0;
        for (int64_t c = 0; c < d; c++) sum += (double)po[c] * (double)pg[c];
        delta[r] = (float)sum;
    }
}

// A result [d][Q] of a tile -> rows of a gradient.
static void store_tile(swd_grad g, const float *sum, float k, int64_t b, int64_t h, int64_t first,
                       int64_t n, const plan *p)
{
    float row[512];
    for (int64_t i = 0; i < n && tensor_present(g.t); i++) {
        for (int64_t c = 0; c < p->d; c++) row[c] = sum[c * p->queries + i] * k;
        cpu_grad_store(g, offset_of(g.t, b, first + i, h), row, p->d);
    }
}

// One tile: n rows of x and y become its operands, and its sums zero.
static void begin_tile(char *w, swd_tensor x, swd_tensor y, int64_t b, int64_t h, int64_t first,
                       int64_t n, const plan *p)
{
    const swd_tensor from[] = {x, y};
    const size_t to[] = {p->tile_a, p->tile_b};
    for (int i = 0; i < 2; i++) {
        load_rows(w + p->rows_a, from[i], b, h, first, n, n, p);
        p->simd->pack_q(w + to[i], w + p->rows_a, n, p->padded_d);
    }
    memset(w + p->sum_a, 0, (size_t)(p->queries * p->padded_d) * 4);
    memset(w + p->sum_b, 0, (size_t)(p->queries * p->padded_d) * 4);
    float *ones = (float *)(void *)(w + p->stats) + 2 * SIMD_QUERIES_MAX;
    for (int64_t i = 0; i < p->queries; i++) ones[i] = 1.0f;
}

static const void *packed(char *w, size_t to, size_t rows, int64_t padded, const plan *p)
{
    if (!p->simd->pack_v) return w + rows;
    p->simd->pack_v(w + to, w + rows, padded, p->padded_d);
    return w + to;
}

// What a tile of queries gets from a block of keys: sum_a += k^T ds.
static void walk_keys(const attention_backward_args *a, char *w, int stream, int64_t b, int64_t h,
                      const plan *p)
{
    const simd_attention *simd = p->simd;
    const attention_args *f = &a->forward;
    float *s = (float *)(void *)(w + p->s), *dp = (float *)(void *)(w + p->dp),
          *lse = (float *)(void *)(w + p->stats), *delta = lse + SIMD_QUERIES_MAX,
          *ones = delta + SIMD_QUERIES_MAX;
    for (int64_t key = 0, n; key < f->k[stream].shape[1]; key += n) {
        n = f->k[stream].shape[1] - key < BLOCK ? f->k[stream].shape[1] - key : BLOCK;
        int64_t padded = round_up(n, simd->key_step);
        load_rows(w + p->rows_a, f->k[stream], b, h, key, n, padded, p);
        load_rows(w + p->rows_b, f->v[stream], b, h, key, n, padded, p);
        simd->scores(s, w + p->tile_a, w + p->rows_a, padded, p->padded_d);
        simd->scores(dp, w + p->tile_b, w + p->rows_b, padded, p->padded_d);
        simd->weigh(NULL, w + p->ds, s, dp, n, f->scale, lse, delta, false);
        simd->accumulate((float *)(void *)(w + p->sum_a), w + p->ds,
                         packed(w, p->pack_a, p->rows_a, padded, p), padded, p->padded_d, ones);
    }
}

// What a tile of keys gets from a block of queries: sum_a += q^T ds, sum_b += do^T p.
static void walk_queries(const attention_backward_args *a, char *w, int stream, const float *delta,
                         int64_t b, int64_t h, const plan *p)
{
    const simd_attention *simd = p->simd;
    const attention_args *f = &a->forward;
    swd_tensor q = f->q[stream];
    float *s = (float *)(void *)(w + p->s), *dp = (float *)(void *)(w + p->dp),
          *ones = (float *)(void *)(w + p->stats) + 2 * SIMD_QUERIES_MAX;
    int64_t row = (b * q.shape[2] + h) * q.shape[1];
    for (int64_t i = 0, n; i < q.shape[1]; i += n) {
        n = q.shape[1] - i < BLOCK ? q.shape[1] - i : BLOCK;
        int64_t padded = round_up(n, simd->key_step);
        load_rows(w + p->rows_a, q, b, h, i, n, padded, p);
        load_rows(w + p->rows_b, a->d_o[stream], b, h, i, n, padded, p);
        simd->scores(s, w + p->tile_a, w + p->rows_a, padded, p->padded_d);
        simd->scores(dp, w + p->tile_b, w + p->rows_b, padded, p->padded_d);
        simd->weigh(w + p->p, w + p->ds, s, dp, n, f->scale,
                    (const float *)f->lse[stream].data + row + i, delta + row + i, true);
        simd->accumulate((float *)(void *)(w + p->sum_a), w + p->ds,
                         packed(w, p->pack_a, p->rows_a, padded, p), padded, p->padded_d, ones);
        simd->accumulate((float *)(void *)(w + p->sum_b), w + p->p,
                         packed(w, p->pack_b, p->rows_b, padded, p), padded, p->padded_d, ones);
    }
}

// One head of one image: of[2] delta of each stream. Streams 0 and 1 own queries, 2 and 3 keys.
static void head_backward(const attention_backward_args *a, char *w, const float *const of[2],
                          int part, int64_t b, int64_t h, const plan *p)
{
    const attention_args *f = &a->forward;
    int stream = part % 2;
    bool keys = part >= 2;
    int64_t all = keys ? f->k[stream].shape[1] : f->q[stream].shape[1];
    float *lse = (float *)(void *)(w + p->stats), *sums = (float *)(void *)(w + p->sum_a);
    for (int64_t first = 0; first < all; first += p->queries) {
        int64_t n = all - first < p->queries ? all - first : p->queries;
        if (keys) {
            begin_tile(w, f->k[stream], f->v[stream], b, h, first, n, p);
            for (int i = 0; i < f->n_streams; i++)
                if (tensor_present(f->q[i])) walk_queries(a, w, i, of[i], b, h, p);
            store_tile(a->dk[stream], sums, f->scale, b, h, first, n, p);
            store_tile(a->dv[stream], (float *)(void *)(w + p->sum_b), 1.0f, b, h, first, n, p);
            continue;
        }
        begin_tile(w, f->q[stream], a->d_o[stream], b, h, first, n, p);
        int64_t row = (b * f->q[stream].shape[2] + h) * f->q[stream].shape[1] + first;
        memset(lse, 0, 2 * SIMD_QUERIES_MAX * sizeof *lse);
        memcpy(lse, (const float *)f->lse[stream].data + row, (size_t)n * sizeof *lse);
        memcpy(lse + SIMD_QUERIES_MAX, of[stream] + row, (size_t)n * sizeof *lse);
        for (int i = 0; i < f->n_streams; i++) walk_keys(a, w, i, b, h, p);
        store_tile(a->dq[stream], sums, f->scale, b, h, first, n, p);
    }
}

// Whether somebody wants what a part gives.
static bool wanted(const attention_backward_args *a, int part)
{
    int stream = part % 2;
    if (stream >= a->forward.n_streams) return false;
    if (part >= 2) return tensor_present(a->dk[stream].t) || tensor_present(a->dv[stream].t);
    return tensor_present(a->forward.q[stream]) && tensor_present(a->dq[stream].t);
}

swd_status cpu_attention_backward(swd_backend *b, const attention_backward_args *a, void *ws,
                                  swd_stream *s, swd_err *err)
{
    (void)s, (void)err;
    plan p = plan_of(a);
    const float *of[2] = {NULL, NULL};
    float *delta = ws;
    for (int i = 0; i < a->forward.n_streams; i++) {
        if (!tensor_present(a->forward.q[i])) continue;
        make_delta(delta, a, i);
        of[i] = delta;
        delta += tensor_numel(a->forward.lse[i]);
    }
    char *scratch = (char *)ws + ((size_t)delta_floats(a) * 4 + 63) / 64 * 64;
    int64_t batch = a->forward.k[0].shape[0], heads = a->forward.k[0].shape[2];
    int threads = cpu_of(b)->threads;
    (void)threads;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t i = 0; i < batch * heads * 4; i++) {
        int thread = 0, part = (int)(i % 4);
#ifdef _OPENMP
        thread = omp_get_thread_num();
#endif
        if (!wanted(a, part)) continue;
        if (p.simd->begin) p.simd->begin();
        head_backward(a, scratch + (size_t)thread * p.bytes, of, part, i / 4 / heads, i / 4 % heads,
                      &p);
        if (p.simd->end) p.simd->end();
    }
    return SWD_OK;
}
