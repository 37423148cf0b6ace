// SPDX-License-Identifier: MIT
// o = softmax(scale q k^T + bias) v over the keys of one or two streams, in blocks: no matrix of all queries by all keys.
//
// Operands of bf16 are multiplied as bf16 where the processor has that (sums, maxima and exponentials stay float32, weights of keys
// are rounded to bf16, as fused kernels on a GPU do it); else everything is float32.
//
// One task = one image, head and group of query tiles. It walks the blocks of keys with an online softmax: m is the running
// maximum, l the running sum; what is already in o is rescaled by exp(m_old - m_new). A task's result does not depend on threads.
#include "backend/cpu/cpu.h"
#include "backend/cpu/simd.h"
#include <float.h>
#include <math.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

enum { GROUP_MAX = 256, KEYS = 256 }; // queries of a task at most; keys of a block

// What a call does, and the scratch of one thread: packed operands of a group of queries and a block of keys.
typedef struct plan {
    const simd_attention *simd;
    swd_dtype type; // of the operands
    int64_t d, padded_d, group;
    size_t q_tile, o_tile; // bytes of one tile
    size_t q, o, rows, k, v, s, p, state, bytes;
} plan;

typedef struct task {
    int stream;
    int64_t b, h, first, n; // queries [first, first + n)
} task;

static size_t take(size_t *used, int64_t bytes)
{
    size_t at = *used;
    *used += ((size_t)bytes + 63) / 64 * 64;
    return at;
}

static int64_t round_up(int64_t n, int64_t step)
{
    return (n + step - 1) / step * step;
}

// A group is as long as the queries are: small pictures don't pay for the scratch of large ones.
static plan plan_of(const attention_args *a)
{
    plan p = {.simd = a->k[0].dtype == SWD_BF16 ? simd_pick_bf16() : NULL};
    if (!p.simd) p.simd = simd_pick()->attention;
    p.type = p.simd->bf16 ? SWD_BF16 : SWD_F32;
    int64_t size = (int64_t)dtype_size(p.type), width = p.simd->queries, longest = 0;
    for (int i = 0; i < a->n_streams; i++)
        if (tensor_present(a->q[i]) && a->q[i].shape[1] > longest) longest = a->q[i].shape[1];
    p.d = a->k[0].shape[3];
    p.padded_d = round_up(p.d, p.simd->d_step);
    p.group = round_up(longest < GROUP_MAX ? longest : GROUP_MAX - width + 1, width);
    p.q_tile = (size_t)(width * p.padded_d * size);
    p.o_tile = (size_t)(width * p.padded_d * 4);
    p.q = take(&p.bytes, p.group * p.padded_d * size);
    p.o = take(&p.bytes, p.group * p.padded_d * 4);
    p.rows = take(&p.bytes, KEYS * p.padded_d * size);
    p.k = take(&p.bytes, KEYS * p.padded_d * size);
    p.v = take(&p.bytes, KEYS * p.padded_d * size);
    p.s = take(&p.bytes, KEYS * width * 4);
    p.p = take(&p.bytes, KEYS * width * size);
    p.state = take(&p.bytes, (2 * p.group + width) * 4);
    return p;
}

static size_t attention_workspace(swd_backend *b, const attention_args *a)
{
    return (size_t)cpu_of(b)->threads * plan_of(a).bytes;
}

// Rows [first, first + n) of a head, in the type of the products, padded with zeros to rows [padded][padded_d].
static void load_rows(void *to, swd_tensor t, const task *at, int64_t first, int64_t n,
                      int64_t padded, const plan *p)
{
    size_t size = dtype_size(p->type);
    for (int64_t i = 0; i < n; i++) {
        int64_t from = at->b * t.stride[0] + (first + i) * t.stride[1] + at->h * t.stride[2];
        cpu_convert(to, p->type, i * p->padded_d, t.data, t.dtype, from, p->d);
        memset((char *)to + (size_t)(i * p->padded_d + p->d) * size, 0,
               (size_t)(p->padded_d - p->d) * size);
    }
    memset((char *)to + (size_t)(n * p->padded_d) * size, 0,
           (size_t)((padded - n) * p->padded_d) * size);
}

static void load_queries(char *w, swd_tensor q, const task *t, const plan *p)
{
    int64_t width = p->simd->queries;
    float *m = (float *)(void *)(w + p->state), *l = m + p->group;
    for (int64_t i = 0; i < t->n; i += width) {
        int64_t n = t->n - i < width ? t->n - i : width;
        load_rows(w + p->rows, q, t, t->first + i, n, n, p);
        p->simd->pack_q(w + p->q + (size_t)(i / width) * p->q_tile, w + p->rows, n, p->padded_d);
    }
    for (int64_t i = 0; i < p->group; i++) m[i] = -FLT_MAX, l[i] = 0;
    memset(w + p->o, 0, (size_t)(p->group * p->padded_d) * 4);
}

// The maxima of a bf16 engine are in units of log2.
static void store_sums(const char *w, swd_tensor lse, const task *t, const plan *p)
{
    const float *m = (const float *)(const void *)(w + p->state), *l = m + p->group;
    float *to = (float *)lse.data + (t->b * lse.shape[1] + t->h) * lse.shape[2] + t->first;
    float unit = p->simd->bf16 ? 0.693147181f : 1.0f;
    for (int64_t i = 0; i < t->n; i++) to[i] = m[i] * unit + logf(l[i]);
}

static void store_outputs(const char *w, swd_tensor o, const task *t, const plan *p)
{
    int64_t width = p->simd->queries;
    const float *l = (const float *)(const void *)(w + p->state) + p->group;
    float row[512];
    for (int64_t i = 0; i < t->n; i++) {
        const float *from =
            (const float *)(const void *)(w + p->o) + i / width * width * p->padded_d + i % width;
        float k = 1.0f / l[i];
        for (int64_t c = 0; c < p->d; c++) row[c] = from[c * width] * k;
        cpu_row_store(o.data, o.dtype,
                      t->b * o.stride[0] + (t->first + i) * o.stride[1] + t->h * o.stride[2], row,
                      p->d);
    }
}

// Scales, then bias and causal mask of a tile of scores [n keys][width]; its queries start at `first`, its keys at `key`.
static void mask_scores(const attention_args *a, const task *t, float *s, int64_t width,
                        int64_t first, int64_t key, int64_t n)
{
    int64_t last = t->first + t->n - first;
    for (int64_t i = 0; i < n * width; i++) s[i] *= a->scale;
    for (int64_t i = 0; i < (last < width ? last : width); i++) {
        if (tensor_present(a->bias)) {
            const float *bias = (const float *)a->bias.data +
                                (t->h * a->bias.shape[1] + first + i) * a->bias.shape[2] + key;
            for (int64_t j = 0; j < n; j++) s[j * width + i] += bias[j];
        }
        if (a->causal)
            for (int64_t j = first + i + 1 > key ? first + i + 1 - key : 0; j < n; j++)
                s[j * width + i] = -INFINITY;
    }
}

static void attend_block(const attention_args *a, const task *t, char *w, const plan *p,
                         int64_t key, int64_t n)
{
    const simd_attention *simd = p->simd;
    int64_t width = simd->queries, padded = round_up(n, simd->key_step);
    float *m = (float *)(void *)(w + p->state), *l = m + p->group, *factor = l + p->group,
          *s = (float *)(void *)(w + p->s);
    bool masked = tensor_present(a->bias) || a->causal;
    for (int64_t q = 0; q < t->n; q += width) {
        int64_t tile = q / width;
        simd->scores(s, w + p->q + (size_t)tile * p->q_tile, w + p->k, padded, p->padded_d);
        if (masked) mask_scores(a, t, s, width, t->first + q, key, n);
        simd->softmax(w + p->p, s, n, masked ? 1.0f : a->scale, m + q, l + q, factor);
        simd->accumulate((float *)(void *)(w + p->o + (size_t)tile * p->o_tile), w + p->p, w + p->v,
                         padded, p->padded_d, factor);
    }
}

static void attend(const attention_args *a, const task *t, char *w, const plan *p)
{
    const simd_attention *simd = p->simd;
    if (simd->begin) simd->begin();
    load_queries(w, a->q[t->stream], t, p);
    for (int stream = 0; stream < a->n_streams; stream++) {
        int64_t all = a->k[stream].shape[1];
        if (a->causal && all > t->first + t->n) all = t->first + t->n;
        for (int64_t key = 0; key < all; key += KEYS) {
            int64_t n = all - key < KEYS ? all - key : KEYS, padded = round_up(n, simd->key_step);
            load_rows(w + p->k, a->k[stream], t, key, n, padded, p);
            load_rows(w + (simd->pack_v ? p->rows : p->v), a->v[stream], t, key, n, padded, p);
            if (simd->pack_v) simd->pack_v(w + p->v, w + p->rows, padded, p->padded_d);
            attend_block(a, t, w, p, key, n);
        }
    }
    store_outputs(w, a->o[t->stream], t, p);
    if (tensor_present(a->lse[t->stream])) store_sums(w, a->lse[t->stream], t, p);
    if (simd->end) simd->end();
}

static void attend_all(swd_backend *b, const attention_args *a, void *ws)
{
    plan p = plan_of(a);
    int64_t batch = a->k[0].shape[0], heads = a->k[0].shape[2], blocks[2] = {0, 0};
    for (int i = 0; i < a->n_streams; i++)
        if (tensor_present(a->q[i])) blocks[i] = (a->q[i].shape[1] + p.group - 1) / p.group;
    int64_t per = blocks[0] + blocks[1];
    int threads = cpu_of(b)->threads;
    (void)threads;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t i = 0; i < batch * heads * per; i++) {
        int thread = 0;
#ifdef _OPENMP
        thread = omp_get_thread_num();
#endif
        int64_t block = i % per;
        task t = {.stream = block >= blocks[0], .h = i / per % heads, .b = i / per / heads};
        t.first = (block - (t.stream ? blocks[0] : 0)) * p.group;
        int64_t left = a->q[t.stream].shape[1] - t.first;
        t.n = left < p.group ? left : p.group;
        attend(a, &t, (char *)ws + (size_t)thread * p.bytes, &p);
    }
}

// Sample s alone.
static attention_args sample_of(const attention_args *a, int s)
{
    attention_args one = *a;
    one.samples = NULL;
    for (int i = 0; i < a->n_streams; i++) {
        int32_t first = a->samples->starts[i][s], n = a->samples->starts[i][s + 1] - first;
        swd_tensor *parts[] = {&one.q[i], &one.k[i], &one.v[i], &one.o[i]};
        for (int p = 0; p < 4; p++)
            if (tensor_present(*parts[p])) *parts[p] = tensor_slice(*parts[p], 1, first, n);
    }
    return one;
}

static swd_status attention(swd_backend *b, const attention_args *a, void *ws, swd_stream *st,
                            swd_err *err)
{
    (void)st, (void)err;
    if (!a->samples) attend_all(b, a, ws);
    for (int s = 0; a->samples && s < a->samples->n; s++) {
        attention_args one = sample_of(a, s);
        attend_all(b, &one, ws);
    }
    return SWD_OK;
}

void cpu_attention_slots(swd_ops *ops)
{
    ops->attention_workspace = attention_workspace;
    ops->attention = attention;
}
