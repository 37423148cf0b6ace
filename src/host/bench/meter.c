// SPDX-License-Identifier: MIT
#include "bench/meter.h"
#include "backend/async.h"
#include "base/clock.h"
#include <stdio.h>
#include <string.h>

static _Thread_local swd_ops inner; // the slots as they were
static _Thread_local void (*inner_push)(swd_backend *, swd_range, const char *);
static _Thread_local void (*inner_pop)(swd_backend *);
static _Thread_local meter *active;
static _Thread_local swd_event *began, *ended; // of a device
static _Thread_local meter_stage stage;
static _Thread_local int depth, stage_depth;

const char *meter_class_name(meter_class c)
{
    static const char *const names[] = {"linear", "attention", "conv", "norm", "other"};
    return names[c];
}

double meter_flop(const meter *m)
{
    double sum = 0;
    for (int i = 0; i < METER_CLASSES; i++) sum += m->flop[i];
    return sum;
}

void meter_reset(meter *m)
{
    bool timed = m->timed, by_call = m->by_call;
    memset(m, 0, sizeof *m);
    m->timed = timed;
    m->by_call = by_call;
}

char *meter_describe(const meter_call *c, char *buf, size_t n)
{
    int used = snprintf(buf, n, "%s ", c->op), last = METER_DIMS;
    while (last > 1 && c->dims[last - 1] == 0) last--;
    for (int i = 0; i < last && used > 0 && (size_t)used < n; i++)
        used +=
            snprintf(buf + used, n - (size_t)used, "%s%lld", i ? "x" : "", (long long)c->dims[i]);
    return buf;
}

/* ---- one call ---- */

static meter_call *find(const meter_call *like)
{
    for (int i = 0; i < active->n_calls; i++) {
        meter_call *c = &active->calls[i];
        if (c->op == like->op && c->dtype == like->dtype &&
            memcmp(c->dims, like->dims, sizeof c->dims) == 0)
            return c;
    }
    if (active->n_calls == METER_CALLS_MAX) return NULL;
    meter_call *c = &active->calls[active->n_calls++];
    *c = *like;
    c->seconds = c->flop = c->bytes = 0;
    return c;
}

static void add(const meter_call *call, double seconds)
{
    meter_call *c = active->by_call ? find(call) : NULL;
    active->seconds[call->class] += seconds;
    active->flop[call->class] += call->flop;
    active->stage_flop[stage] += call->flop;
    active->bytes += call->bytes;
    if (!c) return;
    c->count++;
    c->seconds += seconds;
    c->flop += call->flop;
    c->bytes += call->bytes;
}

static swd_status begin(double *start, swd_backend *b, swd_stream *s, swd_err *e)
{
    *start = active->timed ? clock_now_s() : 0;
    return active->timed ? event_record(began, s, b, e) : SWD_OK;
}

static swd_status end(double *seconds, double start, swd_backend *b, swd_stream *s, swd_err *e)
{
    double ms;
    *seconds = active->timed ? clock_now_s() - start : 0;
    if (!active->timed || !async_has(b)) return SWD_OK;
    SWD_TRY(event_record(ended, s, b, e), e);
    SWD_TRY(event_wait(ended, b, e), e);
    SWD_TRY(event_elapsed(&ms, began, ended, b, e), e);
    *seconds = ms * 1e-3;
    return SWD_OK;
}

#define METERED(described, call)                                                                   \
    do {                                                                                           \
        meter_call call_ = (described);                                                            \
        double start_, seconds_;                                                                   \
        SWD_TRY(begin(&start_, b, s, e), e);                                                       \
        SWD_TRY((call), e);                                                                        \
        SWD_TRY(end(&seconds_, start_, b, s, e), e);                                               \
        add(&call_, seconds_);                                                                     \
        return SWD_OK;                                                                             \
    } while (0)

static double bytes_of(swd_tensor t)
{
    return tensor_present(t) ? (double)tensor_bytes(t) : 0;
}

/* ---- products ---- */

static double packed_bytes(double elements, swd_dtype compute)
{
    return elements * (double)dtype_size(compute);
}

static meter_call describe_linear(const linear_args *a)
{
    const struct swd_linear_facts *f = linear_facts(a->w);
    int64_t m = tensor_numel(a->x) / f->k;
    double nk = (double)f->n * (double)f->k;
    return (meter_call){.op = "linear",
                        .class = METER_LINEAR,
                        .dims = {m, f->k, f->n},
                        .dtype = f->compute,
                        .flop = 2 * (double)m * nk,
                        .bytes = packed_bytes(nk, f->compute) + bytes_of(a->x) + bytes_of(a->y) +
                                 bytes_of(a->residual) + bytes_of(a->gate)};
}

static meter_call describe_conv(const conv_args *a)
{
    const struct swd_conv_facts *f = conv_facts(a->w);
    double weights = (double)f->out * (double)(f->in * f->kh * f->kw);
    int64_t pixels = tensor_numel(a->y) / a->y.shape[3];
    return (meter_call){.op = "conv",
                        .class = METER_CONV,
                        .dims = {pixels, f->in, f->out, f->kh},
                        .dtype = f->compute,
                        .flop = 2 * (double)pixels * weights,
                        .bytes = packed_bytes(weights, f->compute) + bytes_of(a->x) +
                                 bytes_of(a->y) + bytes_of(a->residual)};
}

// A causal mask leaves half of the products out; they are counted as if it did not (its calls are the small ones).
static meter_call describe_attention(const attention_args *a)
{
    int64_t queries = 0, keys = 0, batch = a->k[0].shape[0], heads = a->k[0].shape[2],
            d = a->k[0].shape[3];
    meter_call c = {.op = "attention", .class = METER_ATTENTION, .dtype = a->k[0].dtype};
    for (int i = 0; i < a->n_streams; i++) {
        keys += a->k[i].shape[1];
        if (tensor_present(a->q[i])) queries += a->q[i].shape[1];
        c.bytes += bytes_of(a->q[i]) + bytes_of(a->k[i]) + bytes_of(a->v[i]) + bytes_of(a->o[i]);
    }
    const int64_t dims[METER_DIMS] = {batch, heads, queries, keys, d};
    memcpy(c.dims, dims, sizeof dims);
    c.flop = 4.0 * (double)(batch * heads * d) * (double)queries * (double)keys;
    c.bytes += bytes_of(a->bias);
    return c;
}

static swd_status linear(swd_backend *b, const linear_args *a, void *ws, swd_stream *s, swd_err *e)
{
    METERED(describe_linear(a), inner.linear(b, a, ws, s, e));
}

static swd_status conv(swd_backend *b, const conv_args *a, void *ws, swd_stream *s, swd_err *e)
{
    METERED(describe_conv(a), inner.conv(b, a, ws, s, e));
}

static swd_status attention(swd_backend *b, const attention_args *a, void *ws, swd_stream *s,
                            swd_err *e)
{
    METERED(describe_attention(a), inner.attention(b, a, ws, s, e));
}

/* ---- the slots that count no arithmetic ---- */

// result: the tensor whose shape names the call; the rest are its other operands.
static meter_call plain(const char *op, meter_class class, const swd_tensor *t, int n)
{
    meter_call c = {.op = op, .class = class, .dtype = t[0].dtype};
    for (int i = 0; i < t[0].ndim && i < METER_DIMS; i++) c.dims[i] = t[0].shape[i];
    for (int i = 0; i < n; i++) c.bytes += bytes_of(t[i]);
    return c;
}

#define TENSORS(...)                                                                               \
    (const swd_tensor[]){__VA_ARGS__},                                                             \
        (int)(sizeof((const swd_tensor[]){__VA_ARGS__}) / sizeof(swd_tensor))

static swd_status group_norm(swd_backend *b, const group_norm_args *a, void *ws, swd_stream *s,
                             swd_err *e)
{
    METERED(plain("group_norm", METER_NORM, TENSORS(a->y, a->x)), inner.group_norm(b, a, ws, s, e));
}

#define ENDS swd_stream *s, swd_err *e
// Parameters, operands, and the arguments in between backend and stream.
#define PLAIN(slot, class, params, operands, ...)                                                  \
    static swd_status slot params                                                                  \
    {                                                                                              \
        METERED(plain(#slot, class, operands), inner.slot(b, __VA_ARGS__, s, e));                  \
    }

PLAIN(layernorm, METER_NORM, (swd_backend * b, const norm_args *a, ENDS), TENSORS(a->y, a->x), a)
PLAIN(layernorm_modulate, METER_NORM, (swd_backend * b, const modulate_args *a, ENDS),
      TENSORS(a->y[0], a->y[1], a->x), a)
PLAIN(rms_norm, METER_NORM, (swd_backend * b, const norm_args *a, ENDS), TENSORS(a->y, a->x), a)
PLAIN(qk_norm_rope, METER_NORM, (swd_backend * b, const qk_norm_args *a, ENDS),
      TENSORS(a->q, a->q, a->k, a->k), a)
PLAIN(gate_residual, METER_OTHER,
      (swd_backend * b, swd_tensor x, swd_tensor y, swd_tensor gate, ENDS), TENSORS(x, x, y, gate),
      x, y, gate)
PLAIN(activation, METER_OTHER, (swd_backend * b, swd_tensor y, swd_tensor x, swd_act act, ENDS),
      TENSORS(y, x), y, x, act)
PLAIN(gated_gelu, METER_OTHER, (swd_backend * b, swd_tensor y, swd_tensor p, swd_tensor q, ENDS),
      TENSORS(y, p, q), y, p, q)
PLAIN(axpby, METER_OTHER,
      (swd_backend * b, swd_tensor y, float p, swd_tensor x, float q, swd_tensor z, ENDS),
      TENSORS(y, x, z), y, p, x, q, z)
PLAIN(copy, METER_OTHER, (swd_backend * b, swd_tensor y, swd_tensor x, ENDS), TENSORS(y, x), y, x)
PLAIN(fill, METER_OTHER, (swd_backend * b, swd_tensor y, float value, ENDS), TENSORS(y), y, value)
PLAIN(embed, METER_OTHER, (swd_backend * b, swd_tensor y, swd_tensor table, swd_tensor ids, ENDS),
      TENSORS(y, y, ids), y, table, ids)
PLAIN(relative_bias, METER_OTHER,
      (swd_backend * b, swd_tensor bias, swd_tensor table, int max_distance, ENDS), TENSORS(bias),
      bias, table, max_distance)
PLAIN(timestep_sinusoid, METER_OTHER, (swd_backend * b, swd_tensor y, swd_tensor t, ENDS),
      TENSORS(y, t), y, t)
PLAIN(patchify, METER_OTHER, (swd_backend * b, swd_tensor y, swd_tensor x, int patch, ENDS),
      TENSORS(y, x), y, x, patch)
PLAIN(unpatchify, METER_OTHER, (swd_backend * b, swd_tensor x, swd_tensor y, int patch, ENDS),
      TENSORS(x, y), x, y, patch)
PLAIN(add_position, METER_OTHER,
      (swd_backend * b, swd_tensor x, swd_tensor table, int grid_h, int grid_w, ENDS),
      TENSORS(x, x), x, table, grid_h, grid_w)
PLAIN(guidance_combine, METER_OTHER,
      (swd_backend * b, swd_tensor v, swd_tensor cond, swd_tensor uncond, float guidance, ENDS),
      TENSORS(v, cond, uncond), v, cond, uncond, guidance)
PLAIN(resize_renoise, METER_OTHER, (swd_backend * b, const resize_renoise_args *a, ENDS),
      TENSORS(a->y, a->x, a->v, a->x0, a->eps), a)
PLAIN(noise, METER_OTHER, (swd_backend * b, swd_tensor y, swd_tensor steps, ENDS), TENSORS(y), y,
      steps)
PLAIN(nchw_to_nhwc, METER_OTHER,
      (swd_backend * b, swd_tensor y, swd_tensor x, float scale, float shift, ENDS), TENSORS(y, x),
      y, x, scale, shift)
PLAIN(nhwc_to_nchw, METER_OTHER,
      (swd_backend * b, swd_tensor y, swd_tensor x, float scale, float shift, ENDS), TENSORS(y, x),
      y, x, scale, shift)
PLAIN(to_rgb8, METER_OTHER,
      (swd_backend * b, swd_tensor y, swd_tensor x, float scale, float shift, ENDS), TENSORS(y, x),
      y, x, scale, shift)
PLAIN(from_rgb8, METER_OTHER,
      (swd_backend * b, swd_tensor y, swd_tensor x, float scale, float shift, ENDS), TENSORS(y, x),
      y, x, scale, shift)

/* ---- ranges tell the stage ---- */

static void push(swd_backend *b, swd_range kind, const char *name)
{
    static const char *const names[METER_STAGES] = {"", "text", "denoise", "decode"};
    depth++;
    if (kind == RANGE_STAGE)
        for (int i = 1; i < METER_STAGES; i++)
            if (strcmp(name, names[i]) == 0) stage = (meter_stage)i, stage_depth = depth;
    if (inner_push) inner_push(b, kind, name);
}

static void pop(swd_backend *b)
{
    if (depth == stage_depth) stage = METER_NO_STAGE, stage_depth = 0;
    depth--;
    if (inner_pop) inner_pop(b);
}

swd_status meter_attach(meter *m, swd_backend *b, swd_err *err)
{
    SWD_TRY(event_create(&began, b, err), err);
    swd_status status = event_create(&ended, b, err);
    if (status != SWD_OK) {
        event_destroy(&began, b);
        return swd_err_frame(err, status, __FILE__, __LINE__, __func__);
    }
    active = m;
    stage = METER_NO_STAGE;
    depth = stage_depth = 0;
    inner = b->ops;
    inner_push = b->range_push;
    inner_pop = b->range_pop;
    b->range_push = push;
    b->range_pop = pop;
    b->ops.linear = linear;
    b->ops.conv = conv;
    b->ops.attention = attention;
    b->ops.group_norm = group_norm;
    b->ops.layernorm = layernorm;
    b->ops.layernorm_modulate = layernorm_modulate;
    b->ops.rms_norm = rms_norm;
    b->ops.qk_norm_rope = qk_norm_rope;
    b->ops.gate_residual = gate_residual;
    b->ops.activation = activation;
    b->ops.gated_gelu = gated_gelu;
    b->ops.axpby = axpby;
    b->ops.copy = copy;
    b->ops.fill = fill;
    b->ops.embed = embed;
    b->ops.relative_bias = relative_bias;
    b->ops.timestep_sinusoid = timestep_sinusoid;
    b->ops.patchify = patchify;
    b->ops.unpatchify = unpatchify;
    b->ops.add_position = add_position;
    b->ops.guidance_combine = guidance_combine;
    b->ops.resize_renoise = resize_renoise;
    b->ops.noise = noise;
    b->ops.nchw_to_nhwc = nchw_to_nhwc;
    b->ops.nhwc_to_nchw = nhwc_to_nchw;
    b->ops.to_rgb8 = to_rgb8;
    b->ops.from_rgb8 = from_rgb8;
    return SWD_OK;
}

void meter_detach(swd_backend *b)
{
    b->ops = inner;
    b->range_push = inner_push;
    b->range_pop = inner_pop;
    event_destroy(&began, b);
    event_destroy(&ended, b);
    active = NULL;
}
