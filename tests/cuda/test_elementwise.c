// SPDX-License-Identifier: MIT
// Element-wise launchers beyond what the op cases reach: fp16, a bias, permuted strides, bits that a copy must keep, work in place,
// softmax.
#include "launch_support.h"

static double act_reference(double x, k_act act)
{
    switch (act) {
    case K_ACT_SILU:
        return x / (1 + exp(-x));
    case K_ACT_GELU_TANH:
        return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case K_ACT_GELU_ERF:
        return 0.5 * x * erfc(-x / sqrt(2));
    case K_ACT_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    case K_ACT_RELU:
        return x > 0 ? x : 0;
    case K_ACT_TANH:
        return tanh(x);
    default:
        return x;
    }
}

// Relative error of the activation of an exact float: roundings of the argument of the exponential grow by it.
static double act_error(double x, double y, k_act act)
{
    if (act == K_ACT_NONE || act == K_ACT_RELU) return 0;
    double inner = act == K_ACT_GELU_TANH ? 2 * fabs(x) + fabs(x * x * x) / 10 : x * x;
    return ldexp(fabs(y) * (10 + (act == K_ACT_GELU_TANH || act == K_ACT_GELU_ERF ? 2 * inner
                                                                                  : 2 * fabs(x))),
                 -24);
}

static void expect(double got, double want, double error, k_dtype t, const char *what)
{
    // the store rounds a number of want +- error; the smallest fp16 step is 2^-24
    error += roundoff(t) * (fabs(want) + error) + (t == K_F16 ? ldexp(1, -25) : 2e-36);
    if (t == K_F16 && fabs(want) + error >= 65520) return; // may be infinite
    CHECK(fabs(got - want) <= error, "%s: %.9g, not %.9g (+- %.3g)", what, got, want, error);
}

// [3, 2, 5, n] laid out as [5, 3, 2, n + gap], or in its own order; shift: elements past alignment.
static k_view permuted(array *a, k_dtype t, int64_t n, int gap, int shift)
{
    *a = array_make(t, 30 * (n + gap), shift);
    return (k_view){array_at(a, 0), t, {2 * (n + gap), n + gap, 6 * (n + gap)}};
}

static k_view contiguous(array *a, k_dtype t, int64_t n, int shift)
{
    *a = array_make(t, 30 * n, shift);
    return (k_view){array_at(a, 0), t, {10 * n, 5 * n, n}};
}

static int64_t at(const k_view *v, int64_t row) // of row [3, 2, 5]
{
    return row / 10 * v->stride[0] + row / 5 % 2 * v->stride[1] + row % 5 * v->stride[2];
}

static const float special[] = {0.0f,   -0.0f,  1e-40f, -1e-40f, 1e-20f, -1e-20f, 1e-3f,
                                -1e-3f, 5,      -5,     -12.5f,  20,     -20,     87,
                                -87,    120,    -120,   1e4f,    -1e4f,  6e4f,    -6e4f,
                                1e12f,  -1e12f, 1e20f,  -1e20f,  3e38f,  -3e38f,  0.15f};
enum { N_SPECIAL = sizeof special / sizeof *special };

static void check_activation(k_dtype tx, k_dtype ty, k_act act, int n, int gap, bool biased)
{
    array x, y, bias = array_make((k_dtype)(n % 3), n, act % 2);
    const int64_t shape[4] = {3, 2, 5, n};
    k_view vx = gap ? permuted(&x, tx, n, gap, gap % 2) : contiguous(&x, tx, n, 0),
           vy = gap ? permuted(&y, ty, n, gap + gap % 2, 0)
                    : contiguous(&y, ty, n, act == K_ACT_TANH);
    array_fill(&bias, random_unit, 1);
    for (int64_t i = 0; i < x.n; i++)
        x.v[i] = i < N_SPECIAL ? special[i] : (float)(8 * random_unit());
    array_send(&x);
    CUDA_OK(k_activation(vy, vx,
                         biased ? (k_view){array_at(&bias, 0), bias.dtype, {0}} : (k_view){0}, act,
                         shape, 0));
    array_fetch(&y);
    for (int64_t r = 0; r < 30; r++)
        for (int c = 0; c < n; c++) {
            float in = x.v[at(&vx, r) + c];
            if (biased) in += bias.v[c]; // one rounding, as the kernel's
            if (isinf(in)) continue;     // 3e38 + 1 is not, an fp16 special is
            double want = act_reference((double)in, act);
            expect((double)y.v[at(&vy, r) + c], want, act_error((double)in, want, act), ty,
                   "activation");
        }
    array_free(&x), array_free(&y), array_free(&bias);
}

static void test_activations_with_a_bias(void)
{
    static const int widths[] = {1, 3, 8, 19, 64, 111};
    for (int act = K_ACT_NONE; act <= K_ACT_TANH; act++)
        for (int i = 0; i < 6; i++)
            for (int t = 0; t < 9; t++)
                check_activation((k_dtype)(t % 3), (k_dtype)(t / 3), (k_act)act, widths[i],
                                 (int[]){0, 8, 5}[(i + t) % 3], (act + t) % 2);
}

// Between two storages a number is rounded once, to nearest even; the bits of one storage are kept, those of NaNs too.
static void test_copies_are_exact(void)
{
    const int64_t n = 1 << 16, shape[4] = {1, 1, 1, n};
    uint16_t *bits = malloc((size_t)n * 2), *back = malloc((size_t)n * 2);
    for (int64_t i = 0; i < n; i++) bits[i] = (uint16_t)i;
    for (int t = K_BF16; t <= K_F16; t++) {
        array x = array_make((k_dtype)t, n, 0), y = array_make((k_dtype)t, n, 0),
              wide = array_make(K_F32, n, 0);
        CUDA_OK(cudaMemcpy(array_at(&x, 0), bits, (size_t)n * 2, cudaMemcpyHostToDevice));
        k_view vx = {array_at(&x, 0), (k_dtype)t, {0}}, vy = {array_at(&y, 0), (k_dtype)t, {0}},
               vw = {array_at(&wide, 0), K_F32, {0}};
        CUDA_OK(k_copy(vy, vx, shape, 0));
        CUDA_OK(cudaMemcpy(back, array_at(&y, 0), (size_t)n * 2, cudaMemcpyDeviceToHost));
        CHECK(memcmp(back, bits, (size_t)n * 2) == 0, "a copy changed bits");
        CUDA_OK(k_copy(vw, vx, shape, 0));
        array_fetch(&wide);
        for (int64_t i = 0; i < n; i++) {
            float want = from_bits((k_dtype)t, (uint16_t)i);
            CHECK(isnan(want) ? isnan(wide.v[i]) : memcmp(&wide.v[i], &want, 4) == 0,
                  "%llx widened to %.9g", (long long)i, (double)wide.v[i]);
        }
        for (int64_t i = 0; i < n; i++) { // half way, a little less, a little more
            uint32_t u = (uint32_t)i << 16 | (uint32_t[]){0x8000, 0x7fff, 0x8001, 0x1000}[i % 4];
            memcpy(&wide.v[i], &u, 4);
            if (isnan(wide.v[i])) wide.v[i] = 1;
            if (t == K_F16)
                wide.v[i] =
                    (float)((double)from_bits(K_F16, (uint16_t)(i & 0x7fff)) * 1.00048828125);
            if (!(fabsf(wide.v[i]) < 3e38f)) wide.v[i] = 1;
        }
        array_send(&wide);
        CUDA_OK(k_copy(vy, vw, shape, 0));
        array_fetch(&y);
        for (int64_t i = 0; i < n; i++) {
            float want = rounded((k_dtype)t, wide.v[i]);
            CHECK(memcmp(&y.v[i], &want, 4) == 0, "%.9g became %.9g", (double)wide.v[i],
                  (double)y.v[i]);
        }
        array_free(&x), array_free(&y), array_free(&wide);
    }
    free(bits), free(back);
}

// Every split of a shape into collapsed dimensions: what is not copied stays as it was.
static void test_copies_of_any_strides(void)
{
    for (int n = 1; n <= 24; n++)
        for (int t = 0; t < 9; t++) {
            array x, y;
            int gap = (n + t) % 4 * 3;
            const int64_t shape[4] = {3, 2, 5, n};
            k_view vx = n % 5 ? permuted(&x, (k_dtype)(t % 3), n, gap, t % 2)
                              : contiguous(&x, (k_dtype)(t % 3), n, t % 2);
            y = array_make((k_dtype)(t / 3), 30 * n + 3, 0);
            k_view vy = {array_at(&y, 0),
                         y.dtype,
                         {10 * n, 5 * n, n}}; // contiguous, mostly in another order
            array_fill(&x, random_unit, 1);
            CUDA_OK(k_copy(vy, vx, shape, 0));
            array_fetch(&y);
            for (int64_t r = 0; r < 30; r++)
                for (int c = 0; c < n; c++) {
                    float want = rounded(y.dtype, x.v[at(&vx, r) + c]);
                    CHECK(y.v[r * n + c] == want, "row %lld of %d", (long long)r, n);
                }
            for (int i = 0; i < 3; i++) CHECK(isnan(y.v[30 * n + i]), "written past the rows");
            array_free(&x), array_free(&y);
        }
}

static void test_fill(void)
{
    for (int n = 1; n <= 40; n++)
        for (int t = 0; t < 3; t++) {
            array y;
            k_view v = n % 4 ? permuted(&y, (k_dtype)t, n, n % 3 * 4, n % 2)
                             : contiguous(&y, (k_dtype)t, n, n % 8 == 0);
            const int64_t shape[4] = {3, 2, 5, n};
            CUDA_OK(k_fill(v, 0.1f, shape, 0));
            array_fetch(&y);
            int64_t filled = 0;
            for (int64_t i = 0; i < y.n; i++) {
                CHECK(isnan(y.v[i]) || y.v[i] == rounded((k_dtype)t, 0.1f), "filled with %g",
                      (double)y.v[i]);
                filled += !isnan(y.v[i]);
            }
            CHECK(filled == 30 * n, "%lld elements filled", (long long)filled);
            for (int64_t r = 0; r < 30; r++)
                for (int c = 0; c < n; c++) CHECK(!isnan(y.v[at(&v, r) + c]), "not filled");
            array_free(&y);
        }
}

enum { AXPBY, GUIDANCE, GATED_GELU, SCALE, N_KINDS };

static void check_binary(int kind, k_dtype ty, k_dtype tx, k_dtype tz, int n, int gap,
                         bool in_place)
{
    array x, y, z;
    const int64_t shape[4] = {3, 2, 5, n};
    k_view vx = permuted(&x, tx, n, gap, gap % 2), vz = permuted(&z, tz, n, 0, kind % 2), vy,
           none = {0};
    array_fill(&x, random_unit, 6), array_fill(&z, random_unit, 6);
    float *old = malloc((size_t)x.n * sizeof *old);
    memcpy(old, x.v, (size_t)x.n * sizeof *old);
    y = array_make(ty, 1, 0);
    if (in_place) {
        vy = vx;
    } else {
        array_free(&y);
        vy = permuted(&y, ty, n, gap, 0);
    }
    array *out = in_place ? &x : &y;
    if (kind == AXPBY) CUDA_OK(k_axpby(vy, 1.7f, vx, -0.3f, vz, shape, 0));
    if (kind == SCALE) CUDA_OK(k_axpby(vy, 1.7f, vx, NAN, none, shape, 0));
    if (kind == GUIDANCE) CUDA_OK(k_guidance(vy, vx, vz, 4.5f, shape, 0));
    if (kind == GATED_GELU) CUDA_OK(k_gated_gelu(vy, vx, vz, shape, 0));
    array_fetch(out);
    for (int64_t r = 0; r < 30; r++)
        for (int c = 0; c < n; c++) {
            double a = (double)old[at(&vx, r) + c], b = (double)z.v[at(&vz, r) + c],
                   g = act_reference(a, K_ACT_GELU_TANH);
            double want = kind == AXPBY      ? (double)1.7f * a + (double)-0.3f * b
                          : kind == SCALE    ? (double)1.7f * a
                          : kind == GUIDANCE ? b + 4.5 * (a - b)
                                             : g * b;
            double error = kind == GATED_GELU
                               ? fabs(b) * act_error(a, g, K_ACT_GELU_TANH) + ldexp(fabs(want), -23)
                               : ldexp(2 * (fabs(a) + fabs(b)) * 5, -24);
            expect((double)out->v[at(&vy, r) + c], want, error, out->dtype, "binary");
        }
    free(old);
    array_free(&x), array_free(&y), array_free(&z);
}

static void test_binary(void)
{
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int i = 0; i < 27; i++) {
            const k_dtype ty = (k_dtype)(i % 3), tx = (k_dtype)(i / 3 % 3), tz = (k_dtype)(i / 9);
            check_binary(kind, ty, tx, tz, (int[]){1, 3, 8, 19, 40}[i % 5],
                         (int[]){0, 8, 3}[i / 2 % 3], tx == ty && i % 2);
        }
}

// A gate of one sample must not reach the next, with a row of vectors and without.
static void test_gate_residual(void)
{
    for (int i = 0; i < 18; i++) {
        const int d = (int[]){1, 8, 19, 64, 99, 136}[i % 6], b = 1 + i % 3, n = 5;
        const k_dtype tx = (k_dtype)(i / 6);
        array x = array_make(tx, b * n * d, i % 2), y = array_make((k_dtype)(i % 3), b * n * d, 0),
              gate = array_make((k_dtype)(i / 3 % 3), b * d, 0);
        array_fill(&x, random_unit, 2), array_fill(&y, random_unit, 2),
            array_fill(&gate, random_unit, 2);
        float *old = malloc((size_t)x.n * sizeof *old);
        memcpy(old, x.v, (size_t)x.n * sizeof *old);
        const bool gated = i % 4 != 3;
        k_view vx = {array_at(&x, 0), tx, {n * d, d}}, vy = {array_at(&y, 0), y.dtype, {n * d, d}},
               vg = {array_at(&gate, 0), gate.dtype, {d}}, none = {0};
        CUDA_OK(k_gate_residual(vx, vy, gated ? vg : none, b, n, d, 0));
        array_fetch(&x);
        for (int64_t k = 0; k < x.n; k++) {
            double g = gated ? (double)gate.v[k / (n * d) * d + k % d] : 1,
                   want = (double)old[k] + g * (double)y.v[k];
            expect((double)x.v[k], want, ldexp(1, -21), tx, "gate_residual");
        }
        free(old);
        array_free(&x), array_free(&y), array_free(&gate);
    }
}

static void test_sinusoid(void)
{
    static const float times[] = {0, 1e-3f, 1, 333.3f, 602.151f, 945.387f, 1000};
    for (int t = 0; t < 3; t++)
        for (int half = 1; half <= 128; half += half < 4 ? 2 : 123) {
            array y = array_make((k_dtype)t, 7 * (2 * half + 3), 0), time = array_make(K_F32, 7, 1);
            memcpy(time.v, times, sizeof times);
            array_send(&time);
            k_view v = {array_at(&y, 0), (k_dtype)t, {2 * half + 3}};
            CUDA_OK(k_sinusoid(v, array_at(&time, 0), 7, 2 * half, 0));
            array_fetch(&y);
            for (int b = 0; b < 7; b++)
                for (int i = 0; i < half; i++) {
                    float freq = expf((float)-log(10000) * (float)i / (float)half),
                          angle = times[b] * freq;
                    const float *row = y.v + b * (2 * half + 3);
                    expect((double)row[i], cos((double)angle), 2.4e-7, (k_dtype)t, "cos");
                    expect((double)row[half + i], sin((double)angle), 2.4e-7, (k_dtype)t, "sin");
                }
            array_free(&y), array_free(&time);
        }
}

static void check_softmax(k_dtype tx, k_dtype ty, int n, int kind)
{
    const int rows = 11, pitch = n + n % 3;
    const float scale = kind == 1 ? 300.0f : 0.125f;
    array x = array_make(tx, rows * pitch, 0), y = array_make(ty, rows * pitch, 0);
    array_fill(&x, random_unit, 20);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < n; c++) {
            if (kind == 2) x.v[r * pitch + c] = 17;                 // all equal
            if (kind == 3 && c > r) x.v[r * pitch + c] = -INFINITY; // a mask
        }
    array_send(&x);
    k_view vx = {array_at(&x, 0), tx, {pitch}}, vy = {array_at(&y, 0), ty, {pitch}};
    CUDA_OK(k_softmax(vy, vx, scale, rows, n, 0));
    array_fetch(&y);
    for (int r = 0; r < rows; r++) {
        double top = -INFINITY, sum = 0;
        for (int c = 0; c < n; c++) top = fmax(top, (double)x.v[r * pitch + c] * (double)scale);
        for (int c = 0; c < n; c++) sum += exp((double)x.v[r * pitch + c] * (double)scale - top);
        for (int c = 0; c < n; c++) {
            double s = (double)x.v[r * pitch + c] * (double)scale, want = exp(s - top) / sum;
            // two scaled logits are rounded before their difference is taken
            double error = want == 0 ? 0 : ldexp(want * (24 + 3 * (fabs(s) + fabs(top))), -24);
            expect((double)y.v[r * pitch + c], want, error, ty, "softmax");
        }
        for (int c = n; c < pitch; c++) CHECK(isnan(y.v[r * pitch + c]), "written past a row");
    }
    array_free(&x), array_free(&y);
}

static void test_softmax(void)
{
    static const int widths[] = {1, 3, 19, 32, 77, 111, 333, 1023, 1024, 1025, 1100};
    for (int i = 0; i < 11; i++)
        for (int kind = 0; kind < 4; kind++)
            check_softmax((k_dtype)(i % 3), (k_dtype)((i + kind) % 3), widths[i], kind);
}

int main(int argc, char **argv)
{
    static const launch_test tests[] = {
        {"activations_with_a_bias", test_activations_with_a_bias},
        {"copies_are_exact", test_copies_are_exact},
        {"copies_of_any_strides", test_copies_of_any_strides},
        {"fill", test_fill},
        {"binary", test_binary},
        {"gate_residual", test_gate_residual},
        {"sinusoid", test_sinusoid},
        {"softmax", test_softmax},
    };
    return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
