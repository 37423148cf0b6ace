// SPDX-License-Identifier: MIT
// The large CPU ops against plain double-precision loops: odd sizes, strided views, both storage types, guard bands.
#include "op_support.h"

TestSuite(ops, .init = setup, .fini = teardown);

// a + b |ref|: rounding of a sum of n products of magnitude `scale`, and of the store.
static void close_to(swd_tensor y, int64_t i, double ref, double magnitude, int64_t n,
                     swd_dtype compute)
{
    double eps = compute == SWD_BF16 ? ldexp(1, -8) : ldexp(1, -24),
           store = y.dtype == SWD_BF16 ? ldexp(1, -8) : ldexp(1, -23);
    double a = eps * magnitude * (compute == SWD_BF16 ? 4 : 4 * sqrt((double)n)) + 1e-6,
           d = fabs((double)get(y, i) - ref);
    cr_assert(d <= a + store * fabs(ref), "element %lld is %g, not %g", (long long)i,
              (double)get(y, i), ref);
}

typedef struct linear_case {
    int64_t b, n, in, out;
    swd_dtype x, w, y, compute;
    swd_act act;
    bool residual, gate, strided;
} linear_case;

static void check_linear(const linear_case *c)
{
    swd_tensor wide = MAKE(c->x, true, c->b, c->n + 1, c->in + 8), x = wide;
    x = tensor_slice(tensor_slice(x, 1, 0, c->n), 2, 0, c->in);
    if (!c->strided) x = MAKE(c->x, true, c->b, c->n, c->in);
    swd_tensor w = MAKE(c->w, true, c->out, c->in), bias = MAKE(SWD_F32, true, c->out),
               y = MAKE(c->y, true, c->b, c->n, c->out);
    swd_tensor gate = MAKE(SWD_F32, true, c->b, c->out),
               before = MAKE(c->y, false, c->b, c->n, c->out);
    memcpy(before.data, y.data, tensor_bytes(y));
    swd_linear *packed;
    OK(backend->linear_create(backend, &packed, w, bias, c->compute, &error));
    if (c->residual)
        OK(op_linear_residual(y, y, c->gate ? gate : tensor_none(), x, packed, ex));
    else
        OK(op_linear(y, x, packed, c->act, ex));
    for (int64_t r = 0; r < c->b * c->n; r++)
        for (int64_t o = 0; o < c->out; o++) {
            double sum = get(bias, o), magnitude = 1;
            for (int64_t i = 0; i < c->in; i++) {
                double p = (double)get(x, r / c->n * x.stride[0] + r % c->n * x.stride[1] + i) *
                           get(w, o * c->in + i);
                sum += p;
                magnitude += p * p;
            }
            double ref = act_ref(sum, c->act);
            if (c->residual)
                ref = get(before, r * c->out + o) +
                      ref * (c->gate ? get(gate, r / c->n * c->out + o) : 1);
            close_to(y, r * c->out + o, ref, sqrt(magnitude), c->in, c->compute);
        }
    backend->linear_destroy(backend, &packed);
    cr_assert_eq(backend->weight_bytes(backend), 0);
    if (!c->strided) drop(x);
    drop(wide), drop(w), drop(bias), drop(y), drop(gate), drop(before);
}

Test(ops, linear)
{
    static const swd_dtype f = SWD_F32, h = SWD_BF16;
    const linear_case cases[] = {
        {1, 1, 1, 1, f, f, f, f, 0, 0, 0, 0},
        {2, 1, 64, 96, f, f, f, f, SWD_ACT_SILU, 0, 0, 0},
        {2, 19, 40, 72, f, f, f, f, SWD_ACT_GELU_TANH, 0, 0, 1},
        {2, 19, 40, 72, f, h, f, f, SWD_ACT_GELU_ERF, 0, 0, 0},
        {1, 33, 31, 17, f, f, h, f, SWD_ACT_QUICK_GELU, 0, 0, 0},
        {2, 9, 64, 600, f, h, f, f, 0, 1, 1, 0},
        {2, 300, 24, 40, f, f, f, f, 0, 1, 1, 1},
        {2, 9, 64, 48, h, h, h, f, SWD_ACT_RELU, 0, 0, 0},
        {2, 19, 64, 80, f, h, f, h, SWD_ACT_TANH, 0, 0, 1},
        {2, 19, 64, 80, h, h, h, h, 0, 0, 0, 1},
        {2, 300, 64, 32, h, h, f, h, 0, 1, 1, 0},
        {1, 3, 24, 40, f, f, f, f, 0, 1, 0, 0},
        {1, 3, 203, 40, f, h, f, f, SWD_ACT_SILU, 0, 0, 1},
        {1, 9, 16, 2100, f, h, f, f, 0, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_linear(&cases[i]);
}

typedef struct conv_case {
    int64_t b, h, w, in, out, k;
    int stride, before, after;
    bool up, residual;
    swd_dtype x, y, compute;
} conv_case;

static double conv_ref(const conv_case *c, swd_tensor x, swd_tensor w, int64_t b, int64_t oy,
                       int64_t ox, int64_t o, double *magnitude)
{
    int up = c->up ? 2 : 1;
    double sum = 0;
    for (int64_t i = 0; i < c->in * c->k * c->k; i++) {
        int64_t ch = i / (c->k * c->k), ky = i / c->k % c->k, kx = i % c->k;
        int64_t iy = oy * c->stride + ky - c->before, ix = ox * c->stride + kx - c->before;
        if (iy < 0 || ix < 0 || iy >= c->h * up || ix >= c->w * up) continue;
        double p = (double)get(x, ((b * c->h + iy / up) * c->w + ix / up) * c->in + ch) *
                   get(w, o * c->in * c->k * c->k + i);
        sum += p;
        *magnitude += p * p;
    }
    return sum;
}

static void check_conv(const conv_case *c)
{
    int up = c->up ? 2 : 1;
    int64_t ho = (c->h * up + c->before + c->after - c->k) / c->stride + 1,
            wo = (c->w * up + c->before + c->after - c->k) / c->stride + 1;
    swd_tensor x = MAKE(c->x, true, c->b, c->h, c->w, c->in),
               w = MAKE(SWD_BF16, true, c->out, c->in, c->k, c->k);
    swd_tensor bias = MAKE(SWD_F32, true, c->out), y = MAKE(c->y, false, c->b, ho, wo, c->out),
               r = MAKE(c->y, true, c->b, ho, wo, c->out);
    swd_conv *packed;
    OK(backend->conv_create(backend, &packed, w, bias, c->stride, c->before, c->after, c->up,
                            c->compute, &error));
    OK(op_conv(y, x, packed, SWD_ACT_NONE, c->residual ? r : tensor_none(), ex));
    for (int64_t i = 0; i<tensor_numel(y); i += c->b * ho * wo> 2000 ? 37 : 1) {
        int64_t o = i % c->out, ox = i / c->out % wo, oy = i / c->out / wo % ho;
        double magnitude = 1,
               ref = conv_ref(c, x, w, i / c->out / wo / ho, oy, ox, o, &magnitude) + get(bias, o);
        close_to(y, i, ref + (c->residual ? get(r, i) : 0), sqrt(magnitude), c->in * c->k * c->k,
                 c->compute);
    }
    backend->conv_destroy(backend, &packed);
    drop(x), drop(w), drop(bias), drop(y), drop(r);
}

Test(ops, conv)
{
    static const swd_dtype f = SWD_F32, h = SWD_BF16;
    const conv_case cases[] = {
        {2, 7, 5, 3, 8, 3, 1, 1, 1, 0, 0, f, f, f},
        {1, 8, 8, 16, 24, 3, 2, 0, 1, 0, 0, f, f, f},
        {1, 9, 11, 16, 16, 1, 1, 0, 0, 0, 1, f, f, f},
        {2, 6, 5, 16, 8, 3, 1, 1, 1, 1, 0, f, f, f},
        {1, 90, 150, 64, 8, 3, 1, 1, 1, 1, 1, f, h, f},
        {1, 17, 6, 32, 32, 3, 1, 1, 1, 0, 1, f, f, h},
        {1, 9, 9, 32, 3, 3, 1, 1, 1, 0, 0, h, h, h},
        {1, 9, 9, 32, 16, 3, 2, 0, 1, 0, 0, h, f, h},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_conv(&cases[i]);
}

typedef struct attention_case {
    int64_t b, h, d, n[2];
    int streams;
    bool causal, bias;
    swd_dtype dtype;
    float scale; // of the scores: large ones make the softmax a choice
} attention_case;

static void check_attention(const attention_case *c)
{
    attention_args a = {.n_streams = c->streams,
                        .scale = c->scale / (float)sqrt((double)c->d),
                        .causal = c->causal};
    swd_tensor packed[2], out[2];
    for (int i = 0; i < c->streams;
         i++) { // q, k, v are views of one packed row, as the models have them
        packed[i] = MAKE(c->dtype, true, c->b, c->n[i], 3 * c->h * c->d);
        out[i] = MAKE(c->dtype, false, c->b, c->n[i], c->h, c->d);
        swd_tensor *part[] = {&a.q[i], &a.k[i], &a.v[i]};
        for (int p = 0; p < 3; p++)
            *part[p] =
                tensor_split_last(tensor_slice(packed[i], 2, p * c->h * c->d, c->h * c->d), c->d);
        a.o[i] = out[i];
    }
    swd_tensor bias = MAKE(SWD_F32, true, c->h, c->n[0], c->n[0]);
    if (c->bias) a.bias = bias;
    OK(op_attention(&a, ex));
    double *p = calloc((size_t)(c->n[0] + c->n[1]), sizeof *p);
    for (int s = 0; s < c->streams; s++)
        for (int64_t t = 0; t < c->b * c->h * c->n[s]; t++) {
            int64_t q = t % c->n[s], h = t / c->n[s] % c->h, b = t / c->n[s] / c->h, n = 0;
            double top = -INFINITY, sum = 0;
            for (int ks = 0; ks < c->streams; ks++)
                for (int64_t j = 0; j < c->n[ks]; j++, n++) {
                    p[n] = 0;
                    for (int64_t i = 0; i < c->d; i++)
                        p[n] += (double)get(a.q[s], b * a.q[s].stride[0] + q * a.q[s].stride[1] +
                                                        h * c->d + i) *
                                get(a.k[ks],
                                    b * a.k[ks].stride[0] + j * a.k[ks].stride[1] + h * c->d + i);
                    p[n] =
                        p[n] * a.scale + (c->bias ? get(bias, (h * c->n[0] + q) * c->n[0] + j) : 0);
                    if (c->causal && j > q) p[n] = -INFINITY;
                    top = p[n] > top ? p[n] : top;
                }
            for (int64_t j = 0; j < n; j++) sum += p[j] = exp(p[j] - top);
            for (int64_t i = 0; i < c->d; i++) {
                double ref = 0;
                for (int64_t j = 0; j < n; j++) {
                    int ks = j >= c->n[0];
                    ref += p[j] / sum *
                           get(a.v[ks], b * a.v[ks].stride[0] +
                                            (j - (ks ? c->n[0] : 0)) * a.v[ks].stride[1] +
                                            h * c->d + i);
                }
                close_to(out[s], ((b * c->n[s] + q) * c->h + h) * c->d + i, ref, 1 + c->scale, c->d,
                         SWD_F32);
            }
        }
    free(p);
    for (int i = 0; i < c->streams; i++) drop(packed[i]), drop(out[i]);
    drop(bias);
}

Test(ops, attention)
{
    const attention_case cases[] = {
        {1, 1, 8, {1, 0}, 1, 0, 0, SWD_F32, 1},       {2, 3, 64, {99, 0}, 1, 0, 0, SWD_F32, 1},
        {2, 2, 64, {77, 0}, 1, 1, 0, SWD_F32, 1},     {1, 2, 64, {211, 0}, 1, 1, 0, SWD_F32, 30},
        {1, 2, 40, {130, 0}, 1, 0, 1, SWD_F32, 1},    {2, 2, 64, {259, 19}, 2, 0, 0, SWD_F32, 1},
        {1, 1, 512, {111, 0}, 1, 0, 0, SWD_F32, 1},   {2, 2, 24, {65, 33}, 2, 0, 0, SWD_BF16, 1},
        {1, 1, 16, {300, 0}, 1, 0, 0, SWD_F32, 1000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_attention(&cases[i]);
}

Test(ops, refuses_what_does_not_fit)
{
    swd_tensor w = MAKE(SWD_F32, true, 4, 8), x = MAKE(SWD_F32, true, 2, 7),
               y = MAKE(SWD_F32, false, 2, 4);
    swd_linear *packed;
    OK(backend->linear_create(backend, &packed, w, tensor_none(), SWD_F32, &error));
    cr_assert_eq(op_linear(y, x, packed, SWD_ACT_NONE, ex), SWD_ERR_ARGUMENT);
    cr_assert(strstr(error.message, "[4, 8]"));
    backend->linear_destroy(backend, &packed);
    drop(w), drop(x), drop(y);
}

Test(ops, norms)
{
    enum { B = 2, N = 19, D = 72, G = 6 };
    swd_tensor x = MAKE(SWD_F32, true, B, N, D), y = MAKE(SWD_F32, false, B, N, D),
               scale = MAKE(SWD_F32, true, B, D);
    swd_tensor shift = MAKE(SWD_F32, true, B, D), gamma = MAKE(SWD_F32, true, D),
               beta = MAKE(SWD_F32, true, D);
    for (int64_t i = 0; i < B * N * D; i++)
        ((float *)x.data)[i] += 1000.0f; // a large mean beside a small spread
    OK(op_layernorm_modulate(y, x, shift, scale, 1e-6f, ex));
    for (int64_t r = 0; r < B * N; r++) {
        double mean = 0, var = 0;
        for (int64_t i = 0; i < D; i++) mean += (double)get(x, r * D + i) / D;
        for (int64_t i = 0; i < D; i++) var += pow((double)get(x, r * D + i) - mean, 2) / D;
        for (int64_t i = 0; i < D; i++) {
            double ref = ((double)get(x, r * D + i) - mean) / sqrt(var + 1e-6);
            // the mean is rounded to float32 before it is taken away: 1000 * 2^-24 beside a spread of 0.5
            cr_assert_float_eq(
                get(y, r * D + i),
                ref * (1 + (double)get(scale, r / N * D + i)) + get(shift, r / N * D + i), 1e-3);
        }
    }
    swd_tensor map = tensor_reshape(x, (int64_t[]){B, 1, N, D}, 4),
               out = tensor_reshape(y, (int64_t[]){B, 1, N, D}, 4);
    for (int64_t i = 0; i < B * N * D; i++) ((float *)x.data)[i] -= 999.0f;
    OK(op_group_norm_silu(out, map, gamma, beta, G, 1e-5f, ex));
    for (int64_t b = 0; b < B; b++)
        for (int64_t g = 0; g < G; g++) {
            double mean = 0, var = 0, n = N * (D / G);
            for (int64_t i = 0; i < N * (D / G); i++)
                mean += get(x, (b * N + i / (D / G)) * D + g * (D / G) + i % (D / G)) / n;
            for (int64_t i = 0; i < N * (D / G); i++)
                var +=
                    pow(get(x, (b * N + i / (D / G)) * D + g * (D / G) + i % (D / G)) - mean, 2) /
                    n;
            for (int64_t i = 0; i < N * (D / G); i++) {
                int64_t c = g * (D / G) + i % (D / G), at = (b * N + i / (D / G)) * D + c;
                double ref = (get(x, at) - mean) / sqrt(var + 1e-5) * get(gamma, c) + get(beta, c);
                cr_assert_float_eq(get(y, at), act_ref(ref, SWD_ACT_SILU), 2e-5);
            }
        }
    drop(x), drop(y), drop(scale), drop(shift), drop(gamma), drop(beta);
}
