// SPDX-License-Identifier: MIT
// o = softmax(scale q k^T + bias) v over the keys of one or two streams, in blocks: no matrix of all queries by all keys.
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

enum { TILES = 4, KEYS = 128, Q_MAX = TILES * SIMD_QUERIES_MAX };

// Scratch of one thread, in floats.
typedef struct work {
    float *q, *o, *k, *v, *s, *m, *l, *factor;
} work;

static size_t work_floats(int64_t d)
{
    return (size_t)(2 * Q_MAX * d + 2 * KEYS * d + SIMD_QUERIES_MAX * KEYS + 2 * Q_MAX +
                    2 * SIMD_QUERIES_MAX + 15) /
           16 * 16;
}

static work work_at(float *p, int64_t d)
{
    work w;
    w.q = p, p += Q_MAX * d;
    w.o = p, p += Q_MAX * d;
    w.k = p, p += KEYS * d;
    w.v = p, p += KEYS * d;
    w.s = p, p += SIMD_QUERIES_MAX * KEYS;
    w.m = p, p += Q_MAX;
    w.l = p, p += Q_MAX;
    w.factor = p;
    return w;
}

static size_t attention_workspace(swd_backend *b, const attention_args *a)
{
    return (size_t)cpu_of(b)->threads * work_floats(a->k[0].shape[3]) * sizeof(float);
}

typedef struct task {
    int stream;
    int64_t b, h, first, n; // queries [first, first + n)
} task;

static int64_t head_offset(swd_tensor t, int64_t b, int64_t row, int64_t h)
{
    return b * t.stride[0] + row * t.stride[1] + h * t.stride[2];
}

static void load_rows(float *to, swd_tensor t, int64_t b, int64_t h, int64_t first, int64_t n)
{
    int64_t d = t.shape[3];
    for (int64_t i = 0; i < n; i++)
        cpu_convert(to + i * d, SWD_F32, 0, t.data, t.dtype, head_offset(t, b, first + i, h), d);
}

// Queries as tiles [d][Q]; the lanes past the last query are zero.
static void load_queries(const work *w, swd_tensor q, const task *t, int64_t width)
{
    int64_t d = q.shape[3], tiles = (t->n + width - 1) / width;
    float row[512];
    for (int64_t i = 0; i < tiles * width; i++) {
        float *to = w->q + i / width * width * d + i % width;
        const float *x = row;
        if (i < t->n)
            x = cpu_row_load(row, q.data, q.dtype, head_offset(q, t->b, t->first + i, t->h), d);
        else
            memset(row, 0, sizeof row);
        for (int64_t c = 0; c < d; c++) to[c * width] = x[c];
        w->m[i] = -FLT_MAX;
        w->l[i] = 0;
    }
    memset(w->o, 0, (size_t)(tiles * width * d) * sizeof(float));
}

static void store_outputs(const work *w, swd_tensor o, const task *t, int64_t width)
{
    int64_t d = o.shape[3];
    float row[512];
    for (int64_t i = 0; i < t->n; i++) {
        const float *from = w->o + i / width * width * d + i % width;
        float k = 1.0f / w->l[i];
        for (int64_t c = 0; c < d; c++) row[c] = from[c * width] * k;
        cpu_row_store(o.data, o.dtype, head_offset(o, t->b, t->first + i, t->h), row, d);
    }
}

// Bias and causal mask of a tile of scores [n keys][width]; its queries start at `first`, its keys at `key`.
static void mask_scores(const attention_args *a, const task *t, float *s, int64_t width,
                        int64_t first, int64_t key, int64_t n)
{
    int64_t last = t->first + t->n - first;
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

static void attend(const simd_table *simd, const attention_args *a, const task *t, const work *w)
{
    int64_t d = a->k[0].shape[3], width = simd->queries;
    load_queries(w, a->q[t->stream], t, width);
    for (int stream = 0; stream < a->n_streams; stream++) {
        int64_t all = a->k[stream].shape[1];
        if (a->causal && all > t->first + t->n) all = t->first + t->n;
        for (int64_t key = 0; key < all; key += KEYS) {
            int64_t n = all - key < KEYS ? all - key : KEYS;
            load_rows(w->k, a->k[stream], t->b, t->h, key, n);
            load_rows(w->v, a->v[stream], t->b, t->h, key, n);
            for (int64_t q = 0; q < t->n; q += width) {
                simd->scores(w->s, w->q + q * d, w->k, n, d, a->scale);
                if (tensor_present(a->bias) || a->causal)
                    mask_scores(a, t, w->s, width, t->first + q, key, n);
                simd->softmax(w->s, n, w->m + q, w->l + q, w->factor);
                simd->accumulate(w->o + q * d, w->s, w->v, n, d, w->factor);
            }
        }
    }
    store_outputs(w, a->o[t->stream], t, width);
}

static swd_status attention(swd_backend *b, const attention_args *a, void *ws, swd_stream *st,
                            swd_err *err)
{
    (void)st, (void)err;
    const simd_table *simd = simd_pick();
    int64_t batch = a->k[0].shape[0], heads = a->k[0].shape[2], d = a->k[0].shape[3],
            blocks[2] = {0, 0};
    int64_t group = (int64_t)TILES * simd->queries;
    for (int i = 0; i < a->n_streams; i++)
        if (tensor_present(a->q[i])) blocks[i] = (a->q[i].shape[1] + group - 1) / group;
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
        t.first = (block - (t.stream ? blocks[0] : 0)) * group;
        int64_t left = a->q[t.stream].shape[1] - t.first;
        t.n = left < group ? left : group;
        work w = work_at((float *)ws + (size_t)thread * work_floats(d), d);
        attend(simd, a, &t, &w);
    }
    return SWD_OK;
}

void cpu_attention_slots(swd_ops *ops)
{
    ops->attention_workspace = attention_workspace;
    ops->attention = attention;
}
