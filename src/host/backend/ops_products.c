// SPDX-License-Identifier: MIT
// The ops that multiply matrices: linear layers, convolutions, attention.
#include "backend/ops_check.h"

// Equal but for the last dimension.
static bool same_rows(swd_tensor a, swd_tensor b)
{
    if (a.ndim != b.ndim) return false;
    for (int i = 0; i + 1 < a.ndim; i++)
        if (a.shape[i] != b.shape[i]) return false;
    return true;
}

static swd_status linear(const linear_args *a, swd_exec *ex)
{
    char ty[96], tx[96];
    REQUIRE(a->w && is_act(a->y) && is_act(a->x) && same_rows(a->y, a->x) && a->x.ndim <= 3,
            "op_linear: %s from %s", tensor_describe(a->y, ty, sizeof ty),
            tensor_describe(a->x, tx, sizeof tx));
    const struct swd_linear_facts *f = linear_facts(a->w);
    REQUIRE(last(a->x) == f->k && last(a->y) == f->n,
            "op_linear: %s from %s by a weight [%lld, %lld]", tensor_describe(a->y, ty, sizeof ty),
            tensor_describe(a->x, tx, sizeof tx), (long long)f->n, (long long)f->k);
    REQUIRE(!tensor_present(a->residual) ||
                (is_act(a->residual) && tensor_same_shape(a->residual, a->y)),
            "op_linear: the residual is not shaped as the result");
    REQUIRE(!tensor_present(a->gate) ||
                (tensor_present(a->residual) && is_per_sample(a->gate, a->y)),
            "op_linear: a gate is [B, N] beside a result [B, n, N]");
    APART("op_linear", a->y, a->x);
    APART_OR_SAME("op_linear", a->y, a->residual);
    APART("op_linear", a->y, a->gate);
    RECORDED(.op = OP_LINEAR, .linear = *a);
    size_t mark = exec_mark(ex);
    void *ws = scratch(ex, ex->backend->ops.linear_workspace(ex->backend, a));
    swd_status s = SLOT(linear, a, ws);
    exec_rewind(ex, mark);
    return s;
}

swd_status op_linear(swd_tensor y, swd_tensor x, const swd_linear *w, swd_act act, swd_exec *ex)
{
    return linear(&(linear_args){.y = y, .x = x, .w = w, .act = act}, ex);
}

swd_status op_linear_residual(swd_tensor y, swd_tensor residual, swd_tensor gate, swd_tensor x,
                              const swd_linear *w, swd_exec *ex)
{
    REQUIRE(tensor_present(residual), "op_linear_residual: no residual");
    return linear(&(linear_args){.y = y, .x = x, .w = w, .residual = residual, .gate = gate}, ex);
}

// y is an activation, or RGB8.
static swd_status conv(const conv_args *a, swd_exec *ex)
{
    swd_tensor y = a->y, x = a->x;
    REQUIRE(a->w && is_act(x) && y.ndim == 4 && x.ndim == 4 && tensor_contiguous(y) &&
                tensor_contiguous(x),
            "op_conv: NHWC maps are contiguous [B, H, W, C]");
    const struct swd_conv_facts *f = conv_facts(a->w);
    int up = f->upsample2x ? 2 : 1, pad = f->pad_before + f->pad_after;
    int64_t h = (x.shape[1] * up + pad - f->kh) / f->stride + 1,
            width = (x.shape[2] * up + pad - f->kw) / f->stride + 1;
    char ty[96], tx[96];
    REQUIRE(x.shape[3] == f->in && y.shape[3] == f->out && y.shape[0] == x.shape[0] && h >= 1 &&
                width >= 1 && y.shape[1] == h && y.shape[2] == width,
            "op_conv: %s from %s by a weight [%lld, %lld, %lld, %lld]",
            tensor_describe(y, ty, sizeof ty), tensor_describe(x, tx, sizeof tx), (long long)f->out,
            (long long)f->in, (long long)f->kh, (long long)f->kw);
    REQUIRE(!tensor_present(a->residual) ||
                (is_act(a->residual) && tensor_same_shape(a->residual, y) &&
                 tensor_contiguous(a->residual)),
            "op_conv: the residual is not shaped as the result");
    APART("op_conv", a->y, a->x);
    APART("op_conv", a->y, a->residual);
    size_t mark = exec_mark(ex);
    void *ws = scratch(ex, ex->backend->ops.conv_workspace(ex->backend, a));
    swd_status s = SLOT(conv, a, ws);
    exec_rewind(ex, mark);
    return s;
}

swd_status op_conv(swd_tensor y, swd_tensor x, const swd_conv *w, swd_act act, swd_tensor residual,
                   swd_exec *ex)
{
    REQUIRE(is_act(y), "op_conv: the result is F32, BF16 or F16");
    return conv(&(conv_args){.y = y, .x = x, .w = w, .act = act, .residual = residual}, ex);
}

swd_status op_conv_rgb8(swd_tensor y, swd_tensor x, const swd_conv *w, float scale, float shift,
                        swd_exec *ex)
{
    REQUIRE(y.dtype == SWD_U8 && y.ndim == 4 && y.shape[3] == 3,
            "op_conv_rgb8: the result is U8 [B, H, W, 3]");
    return conv(&(conv_args){.y = y, .x = x, .w = w, .scale = scale, .shift = shift}, ex);
}

swd_status op_upsample_conv(swd_tensor y, swd_tensor x, const swd_conv *w, swd_exec *ex)
{
    REQUIRE(w && conv_facts(w)->upsample2x,
            "op_upsample_conv: the weight was packed without upsampling");
    return op_conv(y, x, w, SWD_ACT_NONE, tensor_none(), ex);
}

static bool starts_rise(const int32_t *starts, int n, int64_t rows)
{
    bool rise = starts[0] == 0 && starts[n] == rows;
    for (int b = 0; b < n; b++) rise = rise && starts[b] < starts[b + 1];
    return rise;
}

// Samples of different lengths: their rows are told apart on the host and in the backend's memory alike.
static swd_status check_samples(const attention_args *a, swd_exec *ex)
{
    const attention_samples *s = a->samples;
    REQUIRE(!a->causal && !tensor_present(a->bias) && s->n > 0 && a->k[0].shape[0] == 1,
            "op_attention: samples of different lengths lie in one row, without mask or bias");
    for (int i = 0; i < a->n_streams; i++) {
        swd_tensor q = a->q[i], on = s->on_device[i];
        REQUIRE(starts_rise(s->starts[i], s->n, a->k[i].shape[1]) &&
                    (!tensor_present(q) || q.shape[1] == a->k[i].shape[1]),
                "op_attention: the samples of stream %d do not fill its rows", i);
        REQUIRE(on.dtype == SWD_I32 && on.ndim == 1 && on.shape[0] == s->n + 1 &&
                    tensor_contiguous(on),
                "op_attention: the starts of %d samples are I32 [%d]", s->n, s->n + 1);
        APART("op_attention", a->o[i], on);
    }
    return SWD_OK;
}

// Shapes and types of a call of op_attention, given to it or to op_attention_backward.
swd_status attention_check(const attention_args *a, swd_exec *ex)
{
    REQUIRE(a->n_streams == 1 || a->n_streams == 2, "op_attention: %d streams", a->n_streams);
    swd_tensor k0 = a->k[0];
    REQUIRE(k0.ndim == 4, "op_attention: keys are [B, N, H, d]");
    int64_t d = k0.shape[3];
    REQUIRE(d % 8 == 0 && d <= 512, "op_attention: head_dim %lld is no multiple of 8 up to 512",
            (long long)d);
    REQUIRE(!a->causal || a->n_streams == 1, "op_attention: a causal mask is for one stream");
    for (int i = 0; i < a->n_streams; i++) {
        swd_tensor q = a->q[i], k = a->k[i], v = a->v[i], o = a->o[i];
        REQUIRE(is_act(k) && is_act(v) && k.ndim == 4 && tensor_same_shape(k, v) &&
                    k.shape[0] == k0.shape[0] && k.shape[2] == k0.shape[2] && k.shape[3] == d &&
                    k.dtype == k0.dtype && v.dtype == k0.dtype,
                "op_attention: keys and values of stream %d differ in shape or dtype", i);
        REQUIRE(tensor_present(q) == tensor_present(o),
                "op_attention: stream %d has only one of q and o", i);
        if (!tensor_present(q)) continue;
        REQUIRE(
            is_act(q) && is_act(o) && tensor_same_shape(q, o) && q.dtype == k0.dtype &&
                q.ndim == 4 && q.shape[0] == k0.shape[0] && q.shape[2] == k0.shape[2] &&
                q.shape[3] == d,
            "op_attention: queries and outputs of stream %d differ from its keys in shape or dtype",
            i);
        REQUIRE(!tensor_present(a->bias) ||
                    (a->n_streams == 1 && is_f32(a->bias, 3) && a->bias.shape[0] == q.shape[2] &&
                     a->bias.shape[1] == q.shape[1] && a->bias.shape[2] == k.shape[1]),
                "op_attention: the bias is F32 [H, Nq, Nk] of one stream");
        REQUIRE(!tensor_present(a->lse[i]) ||
                    (is_f32(a->lse[i], 3) && a->lse[i].shape[0] == q.shape[0] &&
                     a->lse[i].shape[1] == q.shape[2] && a->lse[i].shape[2] == q.shape[1] &&
                     ex->backend->backward && !a->samples),
                "op_attention: the sums of stream %d are F32 [B, H, N] on a backend that trains",
                i);
    }
    return SWD_OK;
}

swd_status op_attention(const attention_args *a, swd_exec *ex)
{
    RUN(attention_check(a, ex));
    for (int i = 0; i < 2 * a->n_streams; i++) {
        swd_tensor o = a->o[i / 2]; // beside the inputs of each stream, its own and the other one's
        APART("op_attention", o, a->q[i % 2]);
        APART("op_attention", o, a->k[i % 2]);
        APART("op_attention", o, a->v[i % 2]);
        APART("op_attention", o, a->bias);
    }
    if (a->n_streams == 2) APART("op_attention", a->o[0], a->o[1]);
    if (a->samples) RUN(check_samples(a, ex));
    RECORDED(.op = OP_ATTENTION, .attention = *a);
    size_t mark = exec_mark(ex);
    void *ws = scratch(ex, ex->backend->ops.attention_workspace(ex->backend, a));
    swd_status s = SLOT(attention, a, ws);
    exec_rewind(ex, mark);
    return s;
}
