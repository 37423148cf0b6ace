// SPDX-License-Identifier: MIT
// The row-wise, layout and resize ops against double-precision oracles.
//
// An element y of storage S may differ from its reference by  k 2^-24 magnitude + half ulp of S |ref| + 1e-36:  k float32
// roundings of intermediate values of that magnitude, then the store (2^-24 for F32, 2^-8 for BF16, which has 8 bits).
#include "op_support.h"
#include "base/rng.h"

TestSuite(ops_rows, .init = setup, .fini = teardown);

static const swd_dtype storage[] = {SWD_F32, SWD_BF16};
static const int64_t sizes[] = {1, 3, 19, 99, 111, 1030};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

static void near(float y, double ref, double magnitude, double k, swd_dtype dtype)
{
    double tolerance = k * ldexp(magnitude, -24) +
                       fabs(ref) * (dtype == SWD_BF16 ? ldexp(1, -8) : ldexp(1, -24)) + 1e-36;
    cr_assert(fabs((double)y - ref) <= tolerance, "%.9g, not %.9g (tolerance %.3g)", (double)y, ref,
              tolerance);
}

// [b, n, d] within a wider tensor: rows and images are strided.
typedef struct view {
    swd_tensor t, base, before;
} view;

static view make_view(swd_dtype dtype, int64_t b, int64_t n, int64_t d)
{
    view v = {.base = MAKE(dtype, true, b, n + 1, d + 5),
              .before = MAKE(dtype, false, b, n + 1, d + 5)};
    memcpy(v.before.data, v.base.data, tensor_bytes(v.base));
    v.t = tensor_slice(tensor_slice(v.base, 1, 0, n), 2, 2, d);
    return v;
}

static int64_t at(view v, int64_t i)
{
    int64_t d = v.t.shape[2], n = v.t.shape[1];
    return i / d / n * v.t.stride[0] + i / d % n * v.t.stride[1] + i % d;
}

static float val(view v, int64_t i)
{
    return get(v.t, at(v, i));
}
static void put(view v, int64_t i, float x)
{
    set(v.t, at(v, i), x);
    set(v.before, at(v, i) + 2, x);
}
static float old(view v, int64_t i)
{
    return get(v.before, at(v, i) + 2);
}

// Elements beside the view are as they were.
static void drop_view(view v)
{
    int64_t d = v.t.shape[2], n = v.t.shape[1], wide = d + 5;
    size_t size = dtype_size(v.t.dtype);
    for (int64_t i = 0; i < tensor_numel(v.base); i++)
        if (i % wide < 2 || i % wide >= d + 2 || i / wide % (n + 1) == n)
            cr_assert_eq(memcmp((char *)v.base.data + (size_t)i * size,
                                (char *)v.before.data + (size_t)i * size, size),
                         0, "an element beside the view changed");
    drop(v.base), drop(v.before);
}

// Mixes of storage and sizes for ops over [2, 3, d].
#define FOR_MIXES(tx, ty, d)                                                                       \
    for (int m_ = 0; m_ < 4 * N_SIZES; m_++)                                                       \
        for (swd_dtype tx = storage[m_ & 1], ty = storage[m_ >> 1 & 1], once_ = 0; once_ < 1;      \
             once_++)                                                                              \
            for (int64_t d = sizes[m_ / 4], end_ = d + 1; d < end_; d = end_)
enum { B = 2, N = 3 };

Test(ops_rows, layernorm_and_rms_norm)
{
    FOR_MIXES(tx, ty, d)
    {
        view x = make_view(tx, B, N, d), y = make_view(ty, B, N, d);
        swd_tensor w = MAKE(SWD_F32, true, d), bias = MAKE(SWD_F32, true, d);
        for (int rms = 0; rms < 2; rms++)
            for (int affine = 0; affine < 2; affine++) {
                const double eps = 1e-3;
                if (rms)
                    OK(op_rms_norm(y.t, x.t, affine ? w : tensor_none(), (float)eps, ex));
                else
                    OK(op_layernorm(y.t, x.t, affine ? w : tensor_none(),
                                    affine ? bias : tensor_none(), (float)eps, ex));
                for (int64_t r = 0; r < B * N; r++) {
                    double mean = 0, q = 0;
                    for (int64_t i = 0; i < d && !rms; i++)
                        mean += (double)val(x, r * d + i) / (double)d;
                    for (int64_t i = 0; i < d; i++)
                        q += pow((double)val(x, r * d + i) - mean, 2) / (double)d;
                    double k = 1 / sqrt(q + (double)(float)eps);
                    for (int64_t i = 0; i < d; i++) {
                        double ref = ((double)val(x, r * d + i) - mean) * k;
                        if (affine) ref = ref * get(w, i) + (rms ? 0 : get(bias, i));
                        near(val(y, r * d + i), ref, k + fabs(ref) + 1, 4, ty);
                    }
                }
            }
        drop_view(x), drop_view(y), drop(w), drop(bias);
    }
}

// op_qk_norm is op_qk_norm_rope without tables.
static void check_qk_norm(swd_dtype dtype, int64_t n, int64_t heads, int64_t d, bool norm,
                          bool rope)
{
    view x = make_view(dtype, B, n, heads * d);
    swd_tensor w = MAKE(SWD_F32, true, d), c = MAKE(SWD_F32, true, n, (d + 1) / 2),
               s = MAKE(SWD_F32, true, n, (d + 1) / 2);
    swd_tensor split = tensor_split_last(x.t, d), weight = norm ? w : tensor_none();
    if (rope)
        OK(op_qk_norm_rope(split, weight, 1e-6f, c, s, ex));
    else
        OK(op_qk_norm(split, weight, 1e-6f, ex));
    for (int64_t r = 0; r < B * n * heads; r++) {
        double q = 0;
        for (int64_t i = 0; i < d; i++) q += pow(old(x, r * d + i), 2) / (double)d;
        double k = norm ? 1 / sqrt(q + (double)1e-6f) : 1;
        for (int64_t i = 0; i < d; i++) {
            double ref = old(x, r * d + i) * k * (norm ? get(w, i) : 1), magnitude = k;
            if (rope) {
                int64_t other = i ^ 1, row = r / heads % n * (d / 2) + i / 2;
                double o = old(x, r * d + other) * k * (norm ? get(w, other) : 1);
                ref = i % 2 ? ref * get(c, row) + o * get(s, row)
                            : ref * get(c, row) - o * get(s, row);
            }
            near(val(x, r * d + i), ref, magnitude, 6, dtype);
        }
    }
    drop_view(x), drop(w), drop(c), drop(s);
}

Test(ops_rows, qk_norm_and_rope)
{
    for (int i = 0; i < 16; i++) {
        check_qk_norm(storage[i & 1], 19, 3, i & 2 ? 64 : 6, i & 4, i & 8);
        if (!(i & 8)) check_qk_norm(storage[i & 1], 3, 1, i & 2 ? 1 : 99, i & 4, false);
    }
}

Test(ops_rows, gate_residual)
{
    FOR_MIXES(tx, ty, d)
    {
        for (int gated = 0; gated < 3; gated++) {
            view x = make_view(tx, B, N, d), y = make_view(ty, B, N, d);
            swd_tensor gate = MAKE(storage[gated == 2], true, B, d);
            OK(op_gate_residual(x.t, y.t, gated ? gate : tensor_none(), ex));
            for (int64_t i = 0; i < B * N * d; i++) {
                double g = gated ? get(gate, i / (N * d) * d + i % d) : 1;
                near(val(x, i), old(x, i) + g * val(y, i), 2, 2, tx);
            }
            drop_view(x), drop_view(y), drop(gate);
        }
    }
}

// What the float32 roundings of an activation are relative to.
static double act_magnitude(double x, double ref, swd_act act)
{
    switch (act) {
    case SWD_ACT_SILU:
        return fabs(ref);
    case SWD_ACT_QUICK_GELU:
        return fabs(ref) * (1 + fabs(x)); // 1.702 x is rounded before exp
    case SWD_ACT_GELU_TANH:               // 1 + tanh and 1 + erf cancel, until they are exactly 0
    case SWD_ACT_GELU_ERF:
        return x < -10 ? 1e-13 : fabs(x);
    case SWD_ACT_TANH:
        return fabs(ref);
    default:
        return 0;
    }
}

Test(ops_rows, activation)
{
    static const float special[] = {
        0.0f, -0.0f, 1e-40f, -1e-40f, 1e-45f, 1e-20f, -1e-20f, 1e-3f,  -1e-3f, 0.149f, -0.151f,
        5,    -5,    9.5f,   -9.5f,   20,     -20,    87,      -87,    88.5f,  -88.5f, -100,
        120,  -120,  1e4f,   -1e4f,   1e12f,  -1e12f, 1e20f,   -1e20f, 3e38f,  -3e38f};
    enum { N_SPECIAL = sizeof special / sizeof *special };
    for (int act = SWD_ACT_NONE; act <= SWD_ACT_TANH; act++) FOR_MIXES(tx, ty, d)
        {
            view x = make_view(tx, B, N, d), y = make_view(ty, B, N, d);
            for (int64_t i = 0; i < B * N * d; i++)
                put(x, i, i < N_SPECIAL ? special[i] : 6 * val(x, i));
            bool in_place = tx == ty && d % 2;
            OK(op_activation(in_place ? x.t : y.t, x.t, (swd_act)act, ex));
            for (int64_t i = 0; i < B * N * d; i++) {
                double v = old(x, i), ref = act_ref(v, (swd_act)act);
                float got = in_place ? val(x, i) : val(y, i);
                near(got, ref, act_magnitude(v, ref, (swd_act)act), 8, ty);
                if (v == 0 && act != SWD_ACT_RELU)
                    cr_assert_eq(!!signbit(got), !!signbit(v), "the sign of zero, act %d", act);
            }
            drop_view(x), drop_view(y);
        }
    view x = make_view(SWD_F32, 1, 1, 1);
    for (int act = SWD_ACT_NONE; act <= SWD_ACT_TANH; act++) {
        put(x, 0, NAN);
        OK(op_activation(x.t, x.t, (swd_act)act, ex));
        cr_assert(isnan(val(x, 0)), "act %d loses a NaN", act);
    }
    drop_view(x);
}

Test(ops_rows, gated_gelu_and_guidance_and_axpby)
{
    FOR_MIXES(tx, ty, d)
    {
        view a = make_view(tx, B, N, d), b = make_view(storage[d % 2], B, N, d),
             y = make_view(ty, B, N, d);
        for (int64_t i = 0; i < B * N * d; i++) put(a, i, 4 * val(a, i));
        OK(op_gated_gelu(y.t, a.t, b.t, ex));
        for (int64_t i = 0; i < B * N * d; i++)
            near(val(y, i), act_ref(val(a, i), SWD_ACT_GELU_TANH) * val(b, i), 4, 8, ty);
        OK(op_guidance_combine(y.t, a.t, b.t, 4.5f, ex));
        for (int64_t i = 0; i < B * N * d; i++)
            near(val(y, i), val(b, i) + 4.5 * ((double)val(a, i) - val(b, i)), 23, 3, ty);
        OK(op_axpby(y.t, 0.75f, a.t, -3, b.t, ex));
        for (int64_t i = 0; i < B * N * d; i++)
            near(val(y, i), 0.75 * val(a, i) - 3.0 * val(b, i), 6, 3, ty);
        OK(op_axpby(y.t, -0.3f, a.t, 7, tensor_none(), ex));
        for (int64_t i = 0; i < B * N * d; i++)
            near(val(y, i), (double)-0.3f * val(a, i), 0, 0, ty);
        drop_view(a), drop_view(b), drop_view(y);
    }
}

Test(ops_rows, copy_and_fill)
{
    FOR_MIXES(tx, ty, d)
    {
        view x = make_view(tx, B, N, d), y = make_view(ty, B, N, d);
        put(x, 0, -INFINITY), put(x, 1, -0.0f), put(x, 2, NAN);
        OK(op_copy(y.t, x.t, ex));
        for (int64_t i = 0; i < B * N * d; i++) { // one rounding, to nearest even: exact
            float v = val(x, i), want = ty == SWD_BF16 ? bf16_to_f32(f32_to_bf16(v)) : v,
                  got = val(y, i);
            cr_assert(isnan(v) ? isnan(got) : memcmp(&want, &got, 4) == 0, "%g became %g",
                      (double)v, (double)got);
        }
        OK(op_fill(y.t, 0.1f, ex));
        for (int64_t i = 0; i < B * N * d; i++)
            cr_assert_eq(val(y, i), ty == SWD_BF16 ? bf16_to_f32(f32_to_bf16(0.1f)) : 0.1f);
        drop_view(x), drop_view(y);
    }
}

Test(ops_rows, embed)
{
    enum { V = 7 };
    FOR_MIXES(tx, ty, d)
    {
        swd_tensor table = MAKE(tx, true, V, d), ids = MAKE(SWD_I32, false, B, N);
        view y = make_view(ty, B, N, d);
        int32_t *id = ids.data;
        memcpy(id, (int32_t[]){0, V - 1, 3, 3, 1, 0}, B * N * sizeof *id);
        OK(op_embed(y.t, table, ids, ex));
        for (int64_t i = 0; i < B * N * d; i++)
            near(val(y, i), get(table, id[i / d] * d + i % d), 0, 0, ty);
        id[4] = V;
        cr_assert_eq(op_embed(y.t, table, ids, ex), SWD_ERR_ARGUMENT);
        cr_assert(strstr(error.message, "token id 7 at position 1"), "%s", error.message);
        id[4] = -1;
        cr_assert_eq(op_embed(y.t, table, ids, ex), SWD_ERR_ARGUMENT);
        drop(table), drop(ids), drop_view(y);
    }
}

// exact + floor(log(a / exact) / log(max / exact) * (half - exact)), in whole numbers:
// the largest k with (a / exact)^(half - exact) >= (max / exact)^k.
static int bucket_ref(int query, int key, int buckets, int max)
{
    int half = buckets / 2, exact = half / 2, a = abs(key - query), k = 0;
    if (a >= exact) {
        int n = half - exact;
        while (k < n - 1 &&
               powl((long double)a / exact, n) >= powl((long double)max / exact, k + 1))
            k++;
        k += exact;
    } else {
        k = a;
    }
    return k + (key > query ? half : 0);
}

Test(ops_rows, relative_bias)
{
    static const int cases[][3] = {
        {32, 128, 1}, {32, 128, 19}, {32, 128, 300}, {8, 20, 99}, {4, 9, 33}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int64_t n = cases[c][2], heads = 3;
        swd_tensor table = MAKE(SWD_F32, true, cases[c][0], heads),
                   y = MAKE(SWD_F32, false, heads, n, n);
        OK(op_relative_bias(y, table, cases[c][1], ex));
        for (int64_t i = 0; i < heads * n * n; i++) {
            int k = bucket_ref((int)(i / n % n), (int)(i % n), cases[c][0], cases[c][1]);
            cr_assert_eq(get(y, i), get(table, k * heads + i / n / n),
                         "buckets %d, query %d, key %d", cases[c][0], (int)(i / n % n),
                         (int)(i % n));
        }
        drop(table), drop(y);
    }
}

Test(ops_rows, timestep_sinusoid)
{
    static const float times[] = {0, 1, 500.25f, 999.9f, 1000};
    enum { T = sizeof times / sizeof *times };
    for (int d = 2; d <= 256; d += 127 * 2)
        for (int s = 0; s < 2; s++) {
            swd_tensor t = MAKE(SWD_F32, false, T), y = MAKE(storage[s], false, T, d);
            memcpy(t.data, times, sizeof times);
            OK(op_timestep_sinusoid(y, t, ex));
            for (int64_t i = 0; i < T * d; i++) {
                int64_t half = d / 2, j = i % half;
                double arg = times[i / d] * exp(-log(10000) * (double)j / (double)half);
                // the exponent, up to 9.2, is rounded: the argument is off by that many units
                near(get(y, i), i % d < half ? cos(arg) : sin(arg), 1 + 12 * arg, 2, storage[s]);
            }
            drop(t), drop(y);
        }
}

Test(ops_rows, patches)
{
    static const int cases[][4] = {
        {1, 1, 1, 1}, {2, 3, 5, 16}, {2, 6, 2, 3}, {3, 2, 3, 4}}; // patch, grid h, grid w, channels
    for (size_t k = 0; k < 2 * sizeof cases / sizeof *cases; k++) {
        int64_t p = cases[k / 2][0], gh = cases[k / 2][1], gw = cases[k / 2][2],
                ch = cases[k / 2][3], d = p * p * ch;
        swd_tensor x = MAKE(SWD_F32, true, B, ch, gh * p, gw * p),
                   back = MAKE(SWD_F32, false, B, ch, gh * p, gw * p);
        view y = make_view(storage[k % 2], B, gh * gw, d);
        OK(op_patchify(y.t, x, (int)p, ex));
        int64_t seen = 0;
        for (
            int64_t b = 0; b < B;
            b++) // the pixel (c, row, col) lies in token (row / p, col / p) at (c, row % p, col % p)
            for (int64_t c = 0; c < ch; c++)
                for (int64_t row = 0; row < gh * p; row++)
                    for (int64_t col = 0; col < gw * p; col++, seen++)
                        near(val(y, (b * gh * gw + row / p * gw + col / p) * d +
                                        (c * p + row % p) * p + col % p),
                             ((float *)x.data)[seen], 0, 0, storage[k % 2]);
        OK(op_unpatchify(back, y.t, (int)p, ex));
        seen = 0;
        for (int64_t b = 0; b < B; b++) // ... but is read from (row % p, col % p, c)
            for (int64_t c = 0; c < ch; c++)
                for (int64_t row = 0; row < gh * p; row++)
                    for (int64_t col = 0; col < gw * p; col++, seen++)
                        cr_assert_eq(get(back, seen),
                                     val(y, (b * gh * gw + row / p * gw + col / p) * d +
                                                (row % p * p + col % p) * ch + c));
        if (p == 1 && k % 2 == 0)
            cr_assert_eq(memcmp(x.data, back.data, tensor_bytes(x)), 0, "the round trip");
        drop(x), drop(back), drop_view(y);
    }
}

Test(ops_rows, add_position)
{
    static const int cases[][3] = {
        {1, 1, 1}, {7, 7, 7}, {7, 4, 3}, {7, 1, 6}, {8, 5, 8}}; // max, grid h, grid w
    for (size_t k = 0; k < 2 * sizeof cases / sizeof *cases; k++) {
        int64_t max = cases[k / 2][0], gh = cases[k / 2][1], gw = cases[k / 2][2], d = 19;
        view x = make_view(storage[k % 2], B, gh * gw, d);
        swd_tensor table = MAKE(SWD_F32, true, max * max, d);
        OK(op_add_position(x.t, table, (int)gh, (int)gw, ex));
        for (int64_t i = 0; i < B * gh * gw * d; i++) {
            int64_t t = i / d % (gh * gw), row = (max - gh) / 2 + t / gw,
                    col = (max - gw) / 2 + t % gw;
            near(val(x, i), (double)old(x, i) + get(table, (row * max + col) * d + i % d), 0, 0,
                 storage[k % 2]);
        }
        cr_assert_eq(op_add_position(x.t, table, (int)max + 1, (int)gw, ex), SWD_ERR_ARGUMENT);
        drop_view(x), drop(table);
    }
}

// Keys' kernel with a = -0.75, from its definition over the distance.
static double keys(double s)
{
    const double a = -0.75;
    s = fabs(s);
    if (s <= 1) return (a + 2) * s * s * s - (a + 3) * s * s + 1;
    return s < 2 ? a * s * s * s - 5 * a * s * s + 8 * a * s - 4 * a : 0;
}

static double bicubic(const double *plane, int64_t h, int64_t w, int64_t oh, int64_t ow, int64_t r,
                      int64_t c)
{
    double sy = ((double)r + 0.5) * (double)h / (double)oh - 0.5,
           sx = ((double)c + 0.5) * (double)w / (double)ow - 0.5, sum = 0;
    for (int64_t y = (int64_t)floor(sy) - 1; y <= (int64_t)floor(sy) + 2; y++)
        for (int64_t x = (int64_t)floor(sx) - 1; x <= (int64_t)floor(sx) + 2; x++) {
            int64_t cy = y < 0 ? 0 : y >= h ? h - 1 : y, cx = x < 0 ? 0 : x >= w ? w - 1 : x;
            sum += keys(sy - (double)y) * keys(sx - (double)x) * plane[cy * w + cx];
        }
    return sum;
}

typedef struct resize_case {
    int64_t h, w, oh, ow;
    bool v, x0, given;
    float sigma_next;
} resize_case;

static void check_resize(const resize_case *k)
{
    enum { C = 3 };
    static const uint64_t seeds[] = {7, 0xfedcba9876543210u};
    swd_tensor x = MAKE(SWD_F32, true, B, C, k->h, k->w), v = MAKE(SWD_F32, true, B, C, k->h, k->w);
    swd_tensor x0 = MAKE(SWD_F32, false, B, C, k->h, k->w),
               y = MAKE(SWD_F32, false, B, C, k->oh, k->ow);
    swd_tensor eps = MAKE(SWD_F32, true, B, C, k->oh, k->ow);
    resize_renoise_args a = {.y = y,
                             .x = x,
                             .v = k->v ? v : tensor_none(),
                             .x0 = k->x0 ? x0 : tensor_none(),
                             .sigma = 0.8f,
                             .sigma_next = k->sigma_next,
                             .eps = k->given ? eps : tensor_none(),
                             .seeds = seeds,
                             .step = 5};
    OK(op_resize_renoise(&a, ex));
    double *plane = calloc((size_t)tensor_numel(x), sizeof *plane);
    for (int64_t i = 0; i < tensor_numel(x); i++) {
        plane[i] = get(x, i) - (k->v ? (double)0.8f * get(v, i) : 0);
        if (k->x0)
            near(get(x0, i), plane[i], 1, 1, SWD_F32);
        else
            cr_assert_eq(((uint32_t *)x0.data)[i], 0xa5a5a5a5);
    }
    for (int64_t b = 0; b < B && !k->given; b++)
        philox_randn((float *)eps.data + b * C * k->oh * k->ow, C * k->oh * k->ow, 0, seeds[b], 5);
    for (int64_t i = 0; i < tensor_numel(y); i++) {
        int64_t c = i % k->ow, r = i / k->ow % k->oh, p = i / k->ow / k->oh;
        double value = bicubic(plane + p * k->h * k->w, k->h, k->w, k->oh, k->ow, r, c),
               n = k->sigma_next;
        if (k->h == k->oh && k->w == k->ow)
            cr_assert_float_eq(value, plane[i], 1e-12); // the kernel interpolates
        // the source coordinate is rounded too, and moves the value by its slope (at most 2 per axis at magnitude 2)
        near(get(y, i), (1 - n) * value + (n > 0 ? n * get(eps, i) : 0),
             4 + 4 * (double)(k->h + k->w), 4, SWD_F32);
        if (n == 1)
            cr_assert_eq(get(y, i), get(eps, i), "all noise: the stream of the image, bit for bit");
    }
    free(plane);
    drop(x), drop(v), drop(x0), drop(y), drop(eps);
}

Test(ops_rows, resize_renoise)
{
    static const resize_case cases[] = {
        {1, 1, 3, 5, 1, 1, 0, 0.5f},   {4, 4, 4, 4, 1, 1, 0, 0.25f}, {4, 4, 4, 4, 1, 0, 1, 0.25f},
        {3, 19, 5, 24, 1, 1, 1, 0.6f}, {32, 48, 40, 60, 1, 0, 0, 0}, {12, 9, 16, 12, 0, 0, 0, 0.3f},
        {12, 9, 16, 12, 0, 1, 1, 0},   {7, 5, 19, 99, 1, 1, 0, 1},   {8, 8, 8, 11, 1, 0, 1, 1},
        {9, 11, 5, 4, 1, 1, 0, 0.5f},  {8, 8, 8, 8, 0, 1, 0, 0},     {64, 1, 111, 1, 1, 0, 0, 0.9f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_resize(&cases[i]);
}

Test(ops_rows, resize_renoise_refuses)
{
    swd_tensor x = MAKE(SWD_F32, true, 1, 2, 3, 3), y = MAKE(SWD_F32, false, 1, 2, 5, 5),
               bad = MAKE(SWD_F32, true, 1, 2, 3, 5);
    uint64_t seed = 1;
    resize_renoise_args a = {.y = y, .x = x, .sigma_next = 0.5f};
    cr_assert_eq(op_resize_renoise(&a, ex), SWD_ERR_ARGUMENT, "neither noise nor seeds");
    a.seeds = &seed, a.eps = bad;
    cr_assert_eq(op_resize_renoise(&a, ex), SWD_ERR_ARGUMENT,
                 "noise of another shape, though there are seeds");
    a.eps = tensor_none(), a.v = bad;
    cr_assert_eq(op_resize_renoise(&a, ex), SWD_ERR_ARGUMENT, "a velocity of another shape");
    a.v = tensor_none(), a.sigma_next = NAN;
    cr_assert_eq(op_resize_renoise(&a, ex), SWD_ERR_ARGUMENT, "no number");
    a.sigma_next = 0.5f;
    OK(op_resize_renoise(&a, ex));
    drop(x), drop(y), drop(bad);
}

Test(ops_rows, noise)
{
    static const uint64_t seeds[] = {0, 42, 0xffffffffffffffffu};
    swd_tensor y = MAKE(SWD_F32, false, 3, 3, 19, 7), want = MAKE(SWD_F32, false, 3, 3, 19, 7);
    OK(op_noise(y, seeds, 2, ex));
    for (int b = 0; b < 3; b++) philox_randn((float *)want.data + b * 399, 399, 0, seeds[b], 2);
    cr_assert_eq(memcmp(y.data, want.data, tensor_bytes(y)), 0);
    cr_assert_eq(op_noise(y, NULL, 2, ex), SWD_ERR_ARGUMENT);
    drop(y), drop(want);
}

Test(ops_rows, relayout)
{
    static const int cases[][3] = {
        {1, 1, 1}, {3, 19, 5}, {16, 3, 99}, {4, 111, 1}}; // channels, height, width
    for (size_t k = 0; k < 4 * sizeof cases / sizeof *cases; k++) {
        int64_t c = cases[k / 4][0], h = cases[k / 4][1], w = cases[k / 4][2];
        swd_dtype tx = storage[k & 1], ty = storage[k >> 1 & 1];
        swd_tensor planar = MAKE(tx, true, B, c, h, w), map = MAKE(ty, false, B, h, w, c),
                   back = MAKE(tx, false, B, c, h, w);
        OK(op_nchw_to_nhwc(map, planar, 1.5f, -0.25f, ex));
        OK(op_nhwc_to_nchw(back, map, -2, 1, ex));
        for (int64_t i = 0; i < tensor_numel(planar); i++) {
            int64_t pixel = i % (h * w), ch = i / (h * w) % c,
                    j = (i / (h * w) / c * h * w + pixel) * c + ch;
            near(get(map, j), 1.5 * get(planar, i) - 0.25, 2, 2, ty);
            near(get(back, i), 1 - 2.0 * get(map, j), 3, 2, tx);
        }
        if (c != h) cr_assert_eq(op_nchw_to_nhwc(planar, map, 1, 0, ex), SWD_ERR_ARGUMENT);
        drop(planar), drop(map), drop(back);
    }
}

Test(ops_rows, rgb8)
{
    static const float in[] = {0,        1,         0.5f, -0.0f,  -1,    2,
                               INFINITY, -INFINITY, NAN,  1e-40f, 3e38f, -3e38f};
    static const int want[] = {0,   255, 128, 0, 0,   255,
                               255, 0,   0,   0, 255, 0}; // 127.5 goes to the even 128
    swd_tensor y = MAKE(SWD_U8, false, 1, 2, 2, 3), x = MAKE(SWD_F32, false, 1, 2, 2, 3);
    memcpy(x.data, in, sizeof in);
    OK(op_to_rgb8(y, x, 1, 0, ex));
    for (int i = 0; i < 12; i++) cr_assert_eq(((uint8_t *)y.data)[i], want[i], "%g", (double)in[i]);
    int halves = 0, down = 0;
    swd_tensor ramp = MAKE(SWD_F32, false, 1, 17, 10, 3), out = MAKE(SWD_U8, false, 1, 17, 10, 3);
    for (int i = 0; i < 510; i++) ((float *)ramp.data)[i] = (float)i / 510;
    OK(op_to_rgb8(out, ramp, 1, 0, ex));
    for (int i = 0; i < 510; i++) {
        float v = ((float *)ramp.data)[i] * 255.0f; // exactly i / 2 for some of the odd i: a tie
        int k = (int)floorf(v), even = k % 2 ? k + 1 : k,
            near_int = v - (float)k > 0.5f ? k + 1 : k;
        bool tie = v - (float)k == 0.5f;
        halves += tie, down += tie && even == k;
        cr_assert_eq(((uint8_t *)out.data)[i], tie ? even : near_int, "%.9g", (double)v);
    }
    cr_assert(halves > 20 && down > 10, "%d ties, %d to be rounded down", halves, down);
    for (int s = 0; s < 2; s++) {
        swd_tensor bytes = MAKE(SWD_U8, false, B, 19, 11, 3),
                   again = MAKE(SWD_U8, false, B, 19, 11, 3);
        swd_tensor map = MAKE(storage[s], false, B, 19, 11, 3);
        for (int i = 0; i < B * 19 * 11 * 3; i++) ((uint8_t *)bytes.data)[i] = (uint8_t)i;
        OK(op_from_rgb8(map, bytes, 2, -1, ex));
        for (int i = 0; i < B * 19 * 11 * 3; i++)
            near(get(map, i), (i & 255) / 255.0 * 2 - 1, 2, 2, storage[s]);
        OK(op_to_rgb8(again, map, 0.5f, 0.5f, ex));
        for (int i = 0; i < B * 19 * 11 * 3 && s == 0; i++)
            cr_assert_eq(((uint8_t *)again.data)[i], i & 255, "the round trip");
        drop(bytes), drop(again), drop(map);
    }
    drop(y), drop(x), drop(ramp), drop(out);
}
