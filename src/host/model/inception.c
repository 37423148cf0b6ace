// SPDX-License-Identifier: MIT
// Inception-v3. The network is written once: a dry walk with a loader loads each convolution as it comes to it, later walks run them in the
// same order. Maps are NHWC; a block's branches are computed one after the other and copied to their channels of its result.
#include "model/inception.h"
#include "base/memory.h"
#include "model/load.h"
#include <stdio.h>

enum { CONVS_MAX = 96, DIM = 2048 };

struct inception {
    holdings held;
    config_inception cfg;
    swd_conv *convs[CONVS_MAX];
};

typedef struct walk {
    inception *m;
    loader *l; // NULL: the weights are there
    swd_exec *ex;
    int at;
    char block[32]; // "Mixed_5b."
} walk;

/* ---- pieces ---- */

/* Elements first, first + step, ... of a dimension. */
static swd_tensor every(swd_tensor t, int dim, int64_t first, int64_t step, int64_t count)
{
    if (t.data) t.data = (char *)t.data + (size_t)(first * t.stride[dim]) * dtype_size(t.dtype);
    t.shape[dim] = count;
    t.stride[dim] *= step;
    return t;
}

static swd_tensor map_like(swd_tensor x, int64_t h, int64_t w, int64_t c, swd_exec *ex)
{
    return exec4(ex, ex->act, x.shape[0], h, w, c);
}

/* x with zeros around. */
static swd_status pad(swd_tensor *y, swd_tensor x, int ph, int pw, swd_exec *ex)
{
    int64_t h = x.shape[1], w = x.shape[2];
    *y = map_like(x, h + 2 * ph, w + 2 * pw, x.shape[3], ex);
    RUN(op_fill(*y, 0, ex));
    return op_copy(tensor_slice(tensor_slice(*y, 1, ph, h), 2, pw, w), x, ex);
}

typedef struct window {
    int out, kh, kw, stride;
    bool same; // zeros around, so that the size stays
} window;

/* y = relu(conv(x) + bias), a fresh map */
static swd_status unit(swd_tensor *y, swd_tensor x, walk *k, const char *name, window v)
{
    swd_exec *ex = k->ex;
    inception *m = k->m;
    int ph = v.same ? v.kh / 2 : 0, pw = v.same ? v.kw / 2 : 0;
    bool inside = ph == pw; // the convolution's own padding is the same on every side
    swd_conv **conv = &m->convs[k->at++];
    if (k->l) {
        char full[96];
        snprintf(full, sizeof full, "%s%s", k->block, name);
        load_conv(k->l, conv,
                  (conv_shape){.in = (int)x.shape[3],
                               .out = v.out / m->cfg.width_divisor,
                               .kernel = v.kh,
                               .kernel_w = v.kw,
                               .stride = v.stride,
                               .pad_before = inside ? ph : 0,
                               .pad_after = inside ? ph : 0,
                               .bias = WITH_BIAS},
                  full);
        if (k->l->status != SWD_OK) return k->l->status;
    }
    *y = map_like(x, (x.shape[1] + 2 * ph - v.kh) / v.stride + 1,
                  (x.shape[2] + 2 * pw - v.kw) / v.stride + 1, v.out / m->cfg.width_divisor, ex);
    size_t mark = exec_mark(ex);
    if (!inside) RUN(pad(&x, x, ph, pw, ex));
    RUN(op_conv(*y, x, *conv, SWD_ACT_RELU, tensor_none(), ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

/* y = max(a, b) = a + relu(b - a), within one rounding; y is none of them */
static swd_status maximum(swd_tensor y, swd_tensor a, swd_tensor b, swd_exec *ex)
{
    RUN(op_axpby(y, 1, b, -1, a, ex));
    RUN(op_activation(y, y, SWD_ACT_RELU, ex));
    return op_axpby(y, 1, y, 1, a, ex);
}

/* The largest of each three along dim, step apart; a fresh map. */
static swd_status max_of_three(swd_tensor *y, swd_tensor x, int dim, int step, swd_exec *ex)
{
    int64_t n = (x.shape[dim] - 3) / step + 1, shape[4];
    for (int i = 0; i < 4; i++) shape[i] = i == dim ? n : x.shape[i];
    *y = exec_alloc(ex, ex->act, shape, 4);
    size_t mark = exec_mark(ex);
    swd_tensor t = exec_alloc(ex, ex->act, shape, 4);
    RUN(maximum(t, every(x, dim, 0, step, n), every(x, dim, 1, step, n), ex));
    RUN(maximum(*y, t, every(x, dim, 2, step, n), ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

/* y = the maxima of 3x3 windows. same: the size stays; the zeros around lose, since maps are not negative here. */
static swd_status max_pool(swd_tensor y, swd_tensor x, int stride, bool same, swd_exec *ex)
{
    swd_tensor rows, all;
    size_t mark = exec_mark(ex);
    if (same) RUN(pad(&x, x, 1, 1, ex));
    RUN(max_of_three(&rows, x, 2, stride, ex));
    RUN(max_of_three(&all, rows, 1, stride, ex));
    RUN(op_copy(y, all, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

/* y = means of each three neighbours along dim, of two at the ends */
static swd_status mean_of_three(swd_tensor y, swd_tensor x, int dim, swd_exec *ex)
{
    int64_t n = x.shape[dim], inner = n - 2;
    if (n == 1) return op_copy(y, x, ex);
    for (int64_t end = 0; end < n; end += n - 1) {
        int64_t first = end ? n - 2 : 0;
        RUN(op_axpby(tensor_slice(y, dim, end, 1), 0.5f, tensor_slice(x, dim, first, 1), 0.5f,
                     tensor_slice(x, dim, first + 1, 1), ex));
    }
    if (inner < 1) return SWD_OK;
    swd_tensor middle = tensor_slice(y, dim, 1, inner);
    RUN(op_axpby(middle, 1.0f / 3, tensor_slice(x, dim, 0, inner), 1.0f / 3,
                 tensor_slice(x, dim, 1, inner), ex));
    return op_axpby(middle, 1, middle, 1.0f / 3, tensor_slice(x, dim, 2, inner), ex);
}

/* Means of 3x3 windows that count only what lies inside: means of means, since counts are products. */
static swd_status mean_pool(swd_tensor *y, swd_tensor x, swd_exec *ex)
{
    *y = map_like(x, x.shape[1], x.shape[2], x.shape[3], ex);
    size_t mark = exec_mark(ex);
    swd_tensor rows = map_like(x, x.shape[1], x.shape[2], x.shape[3], ex);
    RUN(mean_of_three(rows, x, 2, ex));
    RUN(mean_of_three(*y, rows, 1, ex));
    exec_rewind(ex, mark);
    return SWD_OK;
}

/* ---- blocks ---- */

/* The result of a block, filled branch by branch. */
typedef struct joined {
    swd_tensor y;
    int64_t used;
    size_t mark; // what a branch allocates goes when it has been put
} joined;

static joined join_begin(swd_tensor x, int stride, int channels, walk *k)
{
    int64_t h = stride == 1 ? x.shape[1] : (x.shape[1] - 3) / 2 + 1,
            w = stride == 1 ? x.shape[2] : (x.shape[2] - 3) / 2 + 1;
    joined j = {.y = map_like(x, h, w, channels / k->m->cfg.width_divisor, k->ex)};
    j.mark = exec_mark(k->ex);
    return j;
}

static swd_status put(joined *j, swd_tensor branch, swd_exec *ex)
{
    int64_t c = branch.shape[3];
    RUN(op_copy(tensor_slice(j->y, 3, j->used, c), branch, ex));
    j->used += c;
    exec_rewind(ex, j->mark);
    return SWD_OK;
}

/* A chain of units, joined. */
typedef struct link {
    const char *name;
    window v;
} link;

static swd_status chain(joined *j, swd_tensor x, walk *k, const link *links, int n)
{
    swd_exec *ex = k->ex;
    for (int i = 0; i < n; i++) RUN(unit(&x, x, k, links[i].name, links[i].v));
    return put(j, x, ex);
}

#define CHAIN(j, x, k, ...)                                                                        \
    chain(j, x, k, (const link[]){__VA_ARGS__},                                                    \
          (int)(sizeof((const link[]){__VA_ARGS__}) / sizeof(link)))

static window point(int out)
{
    return (window){.out = out, .kh = 1, .kw = 1, .stride = 1};
}
static window same(int out, int kh, int kw)
{
    return (window){.out = out, .kh = kh, .kw = kw, .stride = 1, .same = true};
}
static window halved(int out)
{
    return (window){.out = out, .kh = 3, .kw = 3, .stride = 2};
}

static swd_status pooled_branch(joined *j, swd_tensor x, walk *k, int out, bool maxima)
{
    swd_exec *ex = k->ex;
    swd_tensor p;
    if (maxima) {
        p = map_like(x, x.shape[1], x.shape[2], x.shape[3], ex);
        RUN(max_pool(p, x, 1, true, ex));
    } else {
        RUN(mean_pool(&p, x, ex));
    }
    return CHAIN(j, p, k, {"branch_pool", point(out)});
}

/* The branch of a block that halves the map: its maxima, in their channels. */
static swd_status pooled_input(joined *j, swd_tensor x, swd_exec *ex)
{
    RUN(max_pool(tensor_slice(j->y, 3, j->used, x.shape[3]), x, 2, false, ex));
    j->used += x.shape[3];
    return SWD_OK;
}

static swd_status block_35(swd_tensor *x, walk *k, int pool)
{
    swd_exec *ex = k->ex;
    joined j = join_begin(*x, 1, 64 + 64 + 96 + pool, k);
    RUN(CHAIN(&j, *x, k, {"branch1x1", point(64)}));
    RUN(CHAIN(&j, *x, k, {"branch5x5_1", point(48)}, {"branch5x5_2", same(64, 5, 5)}));
    RUN(CHAIN(&j, *x, k, {"branch3x3dbl_1", point(64)}, {"branch3x3dbl_2", same(96, 3, 3)},
              {"branch3x3dbl_3", same(96, 3, 3)}));
    RUN(pooled_branch(&j, *x, k, pool, false));
    *x = j.y;
    return SWD_OK;
}

static swd_status block_to_17(swd_tensor *x, walk *k)
{
    swd_exec *ex = k->ex;
    joined j = join_begin(*x, 2, 384 + 96 + 288, k);
    RUN(CHAIN(&j, *x, k, {"branch3x3", halved(384)}));
    RUN(CHAIN(&j, *x, k, {"branch3x3dbl_1", point(64)}, {"branch3x3dbl_2", same(96, 3, 3)},
              {"branch3x3dbl_3", halved(96)}));
    RUN(pooled_input(&j, *x, ex));
    *x = j.y;
    return SWD_OK;
}

static swd_status block_17(swd_tensor *x, walk *k, int c)
{
    swd_exec *ex = k->ex;
    joined j = join_begin(*x, 1, 4 * 192, k);
    RUN(CHAIN(&j, *x, k, {"branch1x1", point(192)}));
    RUN(CHAIN(&j, *x, k, {"branch7x7_1", point(c)}, {"branch7x7_2", same(c, 1, 7)},
              {"branch7x7_3", same(192, 7, 1)}));
    RUN(CHAIN(&j, *x, k, {"branch7x7dbl_1", point(c)}, {"branch7x7dbl_2", same(c, 7, 1)},
              {"branch7x7dbl_3", same(c, 1, 7)}, {"branch7x7dbl_4", same(c, 7, 1)},
              {"branch7x7dbl_5", same(192, 1, 7)}));
    RUN(pooled_branch(&j, *x, k, 192, false));
    *x = j.y;
    return SWD_OK;
}

static swd_status block_to_8(swd_tensor *x, walk *k)
{
    swd_exec *ex = k->ex;
    joined j = join_begin(*x, 2, 320 + 192 + 768, k);
    RUN(CHAIN(&j, *x, k, {"branch3x3_1", point(192)}, {"branch3x3_2", halved(320)}));
    RUN(CHAIN(&j, *x, k, {"branch7x7x3_1", point(192)}, {"branch7x7x3_2", same(192, 1, 7)},
              {"branch7x7x3_3", same(192, 7, 1)}, {"branch7x7x3_4", halved(192)}));
    RUN(pooled_input(&j, *x, ex));
    *x = j.y;
    return SWD_OK;
}

/* A map seen by a 1x3 and a 3x1 window, side by side. */
static swd_status both_ways(joined *j, swd_tensor x, walk *k, const char *a, const char *b)
{
    swd_exec *ex = k->ex;
    swd_tensor y;
    const char *const names[] = {a, b};
    for (int i = 0; i < 2; i++) {
        RUN(unit(&y, x, k, names[i], i ? same(384, 3, 1) : same(384, 1, 3)));
        RUN(op_copy(tensor_slice(j->y, 3, j->used, y.shape[3]), y, ex));
        j->used += y.shape[3];
    }
    exec_rewind(ex, j->mark);
    return SWD_OK;
}

static swd_status block_8(swd_tensor *x, walk *k, bool maxima)
{
    swd_exec *ex = k->ex;
    swd_tensor y;
    joined j = join_begin(*x, 1, 320 + 4 * 384 + 192, k);
    RUN(CHAIN(&j, *x, k, {"branch1x1", point(320)}));
    RUN(unit(&y, *x, k, "branch3x3_1", point(384)));
    RUN(both_ways(&j, y, k, "branch3x3_2a", "branch3x3_2b"));
    RUN(unit(&y, *x, k, "branch3x3dbl_1", point(448)));
    RUN(unit(&y, y, k, "branch3x3dbl_2", same(384, 3, 3)));
    RUN(both_ways(&j, y, k, "branch3x3dbl_3a", "branch3x3dbl_3b"));
    RUN(pooled_branch(&j, *x, k, 192, maxima));
    *x = j.y;
    return SWD_OK;
}

/* ---- the network ---- */

static swd_status stem(swd_tensor *x, walk *k)
{
    swd_exec *ex = k->ex;
    swd_tensor y;
    RUN(unit(x, *x, k, "Conv2d_1a_3x3", halved(32)));
    RUN(unit(x, *x, k, "Conv2d_2a_3x3", (window){32, 3, 3, 1, false}));
    RUN(unit(x, *x, k, "Conv2d_2b_3x3", same(64, 3, 3)));
    y = map_like(*x, (x->shape[1] - 3) / 2 + 1, (x->shape[2] - 3) / 2 + 1, x->shape[3], ex);
    RUN(max_pool(y, *x, 2, false, ex));
    RUN(unit(x, y, k, "Conv2d_3b_1x1", point(80)));
    RUN(unit(x, *x, k, "Conv2d_4a_3x3", (window){192, 3, 3, 1, false}));
    y = map_like(*x, (x->shape[1] - 3) / 2 + 1, (x->shape[2] - 3) / 2 + 1, x->shape[3], ex);
    RUN(max_pool(y, *x, 2, false, ex));
    *x = y;
    return SWD_OK;
}

static swd_status blocks(swd_tensor *x, walk *k)
{
    static const int pools[] = {32, 64, 64}, widths[] = {128, 160, 160, 192};
    swd_exec *ex = k->ex;
    for (int i = 0; i < 3; i++) {
        snprintf(k->block, sizeof k->block, "Mixed_5%c.", "bcd"[i]);
        RUN(block_35(x, k, pools[i]));
    }
    snprintf(k->block, sizeof k->block, "Mixed_6a.");
    RUN(block_to_17(x, k));
    for (int i = 0; i < 4; i++) {
        snprintf(k->block, sizeof k->block, "Mixed_6%c.", "bcde"[i]);
        RUN(block_17(x, k, widths[i]));
    }
    snprintf(k->block, sizeof k->block, "Mixed_7a.");
    RUN(block_to_8(x, k));
    for (int i = 0; i < 2; i++) {
        snprintf(k->block, sizeof k->block, "Mixed_7%c.", "bc"[i]);
        RUN(block_8(x, k, i == 1));
    }
    return SWD_OK;
}

static swd_status run(swd_tensor features, swd_tensor pixels, walk *k)
{
    swd_exec *ex = k->ex;
    size_t start = exec_mark(ex);
    swd_tensor x = map_like(pixels, pixels.shape[1], pixels.shape[2], 3, ex);
    RUN(op_copy(x, pixels, ex));
    RUN(stem(&x, k));
    RUN(blocks(&x, k));
    int64_t b = x.shape[0], n = x.shape[1] * x.shape[2], c = x.shape[3];
    swd_tensor rows = tensor_reshape(x, (int64_t[]){b, n, c}, 3),
               mean = tensor_reshape(features, (int64_t[]){b, 1, c}, 3);
    RUN(op_fill(features, 0, ex));
    for (int64_t i = 0; i < n; i++)
        RUN(op_axpby(mean, 1, mean, 1.0f / (float)n, tensor_slice(rows, 1, i, 1), ex));
    exec_rewind(ex, start);
    return SWD_OK;
}

swd_status inception_create(inception **out, const config_inception *cfg, weights *w,
                            swd_backend *be, swd_dtype compute, swd_err *err)
{
    inception *m;
    *out = NULL;
    SWD_TRY(swd_calloc(&m, 1, sizeof *m, "Inception", err), err);
    m->cfg = *cfg;
    loader l = loader_begin(&m->held, w, be, compute, err);
    swd_exec ex = {.backend = be, .err = err, .act = compute, .dry = true};
    walk k = {.m = m, .l = &l, .ex = &ex};
    swd_status s = run(tensor2(NULL, SWD_F32, 1, inception_dim(m)),
                       tensor4(NULL, SWD_F32, 1, cfg->image_size, cfg->image_size, 3), &k);
    if (l.status == SWD_OK) l.status = s;
    s = loader_end(&l, NULL);
    if (s != SWD_OK) inception_destroy(&m);
    *out = m;
    return s;
}

void inception_destroy(inception **m)
{
    if (!*m) return;
    holdings_release(&(*m)->held);
    free(*m);
    *m = NULL;
}

int inception_dim(const inception *m)
{
    return DIM / m->cfg.width_divisor;
}

swd_status inception_forward(swd_tensor features, swd_tensor pixels, inception *m, swd_exec *ex)
{
    int64_t side = m->cfg.image_size;
    if (pixels.ndim != 4 || pixels.shape[1] != side || pixels.shape[2] != side ||
        pixels.shape[3] != 3)
        return SWD_FAIL(ex->err, SWD_ERR_ARGUMENT, "Inception of %dx%d pixels", m->cfg.image_size,
                        m->cfg.image_size);
    walk k = {.m = m, .ex = ex};
    return run(features, pixels, &k);
}
