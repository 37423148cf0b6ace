// SPDX-License-Identifier: MIT
#include "meter.h"
#include "base/clock.h"

static swd_ops inner; // the slots as they were
static meter *active;

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

static void count_product(const linear_args *a)
{
    const struct swd_linear_facts *f = linear_facts(a->w);
    int64_t m = tensor_numel(a->x) / f->k;
    for (int i = 0; i < active->n_products; i++) {
        meter_product *p = &active->products[i];
        if (p->m != m || p->k != f->k || p->n != f->n || p->compute != f->compute) continue;
        p->count++;
        return;
    }
    if (active->n_products < METER_PRODUCTS_MAX)
        active->products[active->n_products++] = (meter_product){m, f->k, f->n, f->compute, 1};
}

static double linear_flop(const linear_args *a)
{
    const struct swd_linear_facts *f = linear_facts(a->w);
    return 2.0 * (double)tensor_numel(a->x) * (double)f->n;
}

static double conv_flop(const conv_args *a)
{
    const struct swd_conv_facts *f = conv_facts(a->w);
    return 2.0 * (double)tensor_numel(a->y) * (double)(f->in * f->kh * f->kw);
}

// A causal mask leaves half of the products out; they are counted as if it did not (its calls are the small ones).
static double attention_flop(const attention_args *a)
{
    double queries = 0, keys = 0;
    for (int i = 0; i < a->n_streams; i++) {
        keys += (double)a->k[i].shape[1];
        if (tensor_present(a->q[i])) queries += (double)a->q[i].shape[1];
    }
    return 4.0 * (double)(a->k[0].shape[0] * a->k[0].shape[2] * a->k[0].shape[3]) * queries * keys;
}

#define TIMED(class, work, call)                                                                   \
    do {                                                                                           \
        double start_ = clock_now_s();                                                             \
        swd_status s_ = (call);                                                                    \
        active->seconds[class] += clock_now_s() - start_;                                          \
        active->flop[class] += (work);                                                             \
        return s_;                                                                                 \
    } while (0)

static swd_status linear(swd_backend *b, const linear_args *a, void *ws, swd_stream *s, swd_err *e)
{
    count_product(a);
    TIMED(METER_LINEAR, linear_flop(a), inner.linear(b, a, ws, s, e));
}

static swd_status conv(swd_backend *b, const conv_args *a, void *ws, swd_stream *s, swd_err *e)
{
    TIMED(METER_CONV, conv_flop(a), inner.conv(b, a, ws, s, e));
}

static swd_status attention(swd_backend *b, const attention_args *a, void *ws, swd_stream *s,
                            swd_err *e)
{
    TIMED(METER_ATTENTION, attention_flop(a), inner.attention(b, a, ws, s, e));
}

static swd_status group_norm(swd_backend *b, const group_norm_args *a, void *ws, swd_stream *s,
                             swd_err *e)
{
    TIMED(METER_NORM, 0, inner.group_norm(b, a, ws, s, e));
}

// The slots that count no arithmetic: parameters and arguments in between backend and stream.
#define PLAIN(slot, class, params, ...)                                                            \
    static swd_status slot params                                                                  \
    {                                                                                              \
        TIMED(class, 0, inner.slot(b, __VA_ARGS__, s, e));                                         \
    }
#define ENDS swd_stream *s, swd_err *e

PLAIN(layernorm, METER_NORM, (swd_backend * b, const norm_args *a, ENDS), a)
PLAIN(layernorm_modulate, METER_NORM, (swd_backend * b, const modulate_args *a, ENDS), a)
PLAIN(rms_norm, METER_NORM, (swd_backend * b, const norm_args *a, ENDS), a)
PLAIN(qk_norm_rope, METER_NORM, (swd_backend * b, const qk_norm_args *a, ENDS), a)
PLAIN(gate_residual, METER_OTHER,
      (swd_backend * b, swd_tensor x, swd_tensor y, swd_tensor gate, ENDS), x, y, gate)
PLAIN(activation, METER_OTHER, (swd_backend * b, swd_tensor y, swd_tensor x, swd_act act, ENDS), y,
      x, act)
PLAIN(gated_gelu, METER_OTHER, (swd_backend * b, swd_tensor y, swd_tensor p, swd_tensor q, ENDS), y,
      p, q)
PLAIN(axpby, METER_OTHER,
      (swd_backend * b, swd_tensor y, float p, swd_tensor x, float q, swd_tensor z, ENDS), y, p, x,
      q, z)
PLAIN(copy, METER_OTHER, (swd_backend * b, swd_tensor y, swd_tensor x, ENDS), y, x)
PLAIN(fill, METER_OTHER, (swd_backend * b, swd_tensor y, float value, ENDS), y, value)
PLAIN(embed, METER_OTHER, (swd_backend * b, swd_tensor y, swd_tensor table, swd_tensor ids, ENDS),
      y, table, ids)
PLAIN(relative_bias, METER_OTHER,
      (swd_backend * b, swd_tensor bias, swd_tensor table, int max_distance, ENDS), bias, table,
      max_distance)
PLAIN(timestep_sinusoid, METER_OTHER, (swd_backend * b, swd_tensor y, swd_tensor t, ENDS), y, t)
PLAIN(patchify, METER_OTHER, (swd_backend * b, swd_tensor y, swd_tensor x, int patch, ENDS), y, x,
      patch)
PLAIN(unpatchify, METER_OTHER, (swd_backend * b, swd_tensor x, swd_tensor y, int patch, ENDS), x, y,
      patch)
PLAIN(add_position, METER_OTHER,
      (swd_backend * b, swd_tensor x, swd_tensor table, int grid_h, int grid_w, ENDS), x, table,
      grid_h, grid_w)
PLAIN(guidance_combine, METER_OTHER,
      (swd_backend * b, swd_tensor v, swd_tensor cond, swd_tensor uncond, float guidance, ENDS), v,
      cond, uncond, guidance)
PLAIN(resize_renoise, METER_OTHER, (swd_backend * b, const resize_renoise_args *a, ENDS), a)
PLAIN(noise, METER_OTHER, (swd_backend * b, swd_tensor y, swd_tensor steps, ENDS), y, steps)
PLAIN(nchw_to_nhwc, METER_OTHER,
      (swd_backend * b, swd_tensor y, swd_tensor x, float scale, float shift, ENDS), y, x, scale,
      shift)
PLAIN(nhwc_to_nchw, METER_OTHER,
      (swd_backend * b, swd_tensor y, swd_tensor x, float scale, float shift, ENDS), y, x, scale,
      shift)
PLAIN(to_rgb8, METER_OTHER,
      (swd_backend * b, swd_tensor y, swd_tensor x, float scale, float shift, ENDS), y, x, scale,
      shift)
PLAIN(from_rgb8, METER_OTHER,
      (swd_backend * b, swd_tensor y, swd_tensor x, float scale, float shift, ENDS), y, x, scale,
      shift)

void meter_attach(meter *m, swd_backend *b)
{
    active = m;
    inner = b->ops;
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
}

void meter_detach(swd_backend *b)
{
    b->ops = inner;
    active = NULL;
}
