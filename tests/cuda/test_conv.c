// SPDX-License-Identifier: MIT
// k_conv and k_conv_rgb8 against double precision: every kernel and tile, shapes across the tiles' borders, strides, paddings
// and upsampling, odd channel counts, storage types in any mix, pointers off their alignment.
#include "launch_support.h"

typedef struct conv_case {
    k_conv_kernel kernel;
    k_dtype compute, x, w, y;
    int batch, h, width, in, out, kh, kw, stride, before, after;
    bool up, bias;
    k_dtype residual; // with has_residual
    bool has_residual;
    k_act act;
    int shift; // of x, y and residual from their alignment, in elements
} conv_case;

typedef struct conv_data {
    k_conv_args args;
    array x, w, bias, residual, y, packed;
} conv_data;

static conv_data make_data(const conv_case *c)
{
    conv_data d = {0};
    int up = c->up ? 2 : 1, pad = c->before + c->after;
    k_conv_args *a = &d.args;
    a->shape = (k_conv_shape){c->out, c->in, c->kh, c->kw, c->stride, c->before, c->up, c->compute};
    a->batch = c->batch, a->h = c->h, a->w = c->width;
    a->ho = (c->h * up + pad - c->kh) / c->stride + 1;
    a->wo = (c->width * up + pad - c->kw) / c->stride + 1;
    int64_t n = (int64_t)c->batch * a->ho * a->wo * c->out, taps = c->kh * c->kw;
    d.x = array_make(c->x, (int64_t)c->batch * c->h * c->width * c->in, c->shift);
    d.w = array_make(c->w, taps * c->in * c->out, 0);
    d.bias = array_make(K_F32, c->out, 0);
    d.residual = array_make(c->residual, n, c->shift);
    d.y = array_make(c->y, n, c->shift);
    array_fill(&d.x, random_normal, 1);
    array_fill(&d.w, random_normal, 1 / sqrt((double)(taps * c->in)));
    array_fill(&d.bias, random_normal, 1);
    array_fill(&d.residual, random_normal, 1);
    a->packed_dtype = k_conv_packed_dtype(&a->shape, c->w);
    size_t bytes = k_conv_packed_bytes(&a->shape, c->w);
    d.packed = array_make(a->packed_dtype, (int64_t)(bytes / size_of(a->packed_dtype)), 0);
    a->packed = array_at(&d.packed, 0);
    CUDA_OK(k_conv_pack(array_at(&d.packed, 0), array_at(&d.w, 0), c->w, &a->shape, NULL));
    a->y = array_at(&d.y, 0), a->y_dtype = c->y;
    a->x = array_at(&d.x, 0), a->x_dtype = c->x;
    a->bias = c->bias ? array_at(&d.bias, 0) : NULL;
    a->residual = c->has_residual ? array_at(&d.residual, 0) : NULL;
    a->residual_dtype = c->residual;
    a->act = c->act;
    a->kernel = c->kernel;
    return d;
}

static void free_data(conv_data *d)
{
    array_fetch(&d->packed); // its guards
    array_free(&d->x), array_free(&d->w), array_free(&d->bias), array_free(&d->residual);
    array_free(&d->y), array_free(&d->packed);
}

static double activate(double x, k_act act)
{
    switch (act) {
    case K_ACT_SILU:
        return x / (1 + exp(-x));
    case K_ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
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

// The result at element i of y before the residual, of operands as the products see them; *size: the sum of |products|.
static double reference(const conv_case *c, const conv_data *d, int64_t i, double *size)
{
    const k_conv_args *a = &d->args;
    int o = (int)(i % c->out), ox = (int)(i / c->out % a->wo),
        oy = (int)(i / c->out / a->wo % a->ho);
    int64_t b = i / c->out / a->wo / a->ho;
    double sum = c->bias ? d->bias.v[o] : 0;
    *size = fabs(sum);
    for (int ky = 0; ky < c->kh; ky++)
        for (int kx = 0; kx < c->kw; kx++) {
            int y = oy * c->stride + ky - c->before, x = ox * c->stride + kx - c->before;
            if (y < 0 || x < 0 || y >= c->h << c->up || x >= c->width << c->up) continue;
            const float *px =
                d->x.v + ((b * c->h + (y >> c->up)) * c->width + (x >> c->up)) * c->in;
            const float *pw = d->w.v + (int64_t)o * c->in * c->kh * c->kw + ky * c->kw + kx;
            for (int k = 0; k < c->in; k++) {
                double p = (double)rounded(c->compute, px[k]) *
                           (double)rounded(c->compute, pw[k * c->kh * c->kw]);
                sum += p;
                *size += fabs(p);
            }
        }
    return activate(sum, c->act);
}

// n float32 additions of random signs, twice over for tensor cores that truncate; an activation's slope is at most 1.13.
static double bound_of(const conv_case *c, double size, double act)
{
    double n = c->kh * c->kw * c->in;
    return ldexp(1, -23) * (4 + sqrt(n)) * size * 1.13 + (c->act ? ldexp(8, -24) * fabs(act) : 0);
}

static void run_case(const conv_case *c)
{
    conv_data d = make_data(c);
    CUDA_OK(k_conv(&d.args, NULL));
    CUDA_OK(cudaDeviceSynchronize());
    array_fetch(&d.y);
    for (int64_t i = 0; i < d.y.n; i++) {
        double size, act = reference(c, &d, i, &size), ref = act;
        if (c->has_residual) ref += d.residual.v[i];
        double bound = bound_of(c, size, act) + roundoff(c->y) * fabs(ref) +
                       (c->y == K_F16 ? ldexp(1, -25) : 0);
        CHECK(
            fabs(d.y.v[i] - ref) <= bound,
            "kernel %d, %d x %d x %d x %d -> %d, %d x %d / %d, pad %d, up %d: [%lld] is %.9g, not "
            "%.9g +- %.2g",
            c->kernel, c->batch, c->h, c->width, c->in, c->out, c->kh, c->kw, c->stride, c->before,
            c->up, (long long)i, (double)d.y.v[i], ref, bound);
    }
    free_data(&d);
}

static void run_cases(const conv_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) run_case(&cases[i]);
}
#define RUN_CASES(cases) run_cases(cases, sizeof cases / sizeof *cases)

#define SAME3 .kh = 3, .kw = 3, .stride = 1, .before = 1, .after = 1
#define ALL_BF16 .compute = K_BF16, .x = K_BF16, .w = K_BF16, .y = K_BF16
#define ALL_F16 .compute = K_F16, .x = K_F16, .w = K_F16, .y = K_F16
#define MAP(b, h_, w_, i, o) .batch = b, .h = h_, .width = w_, .in = i, .out = o
#define RESIDUAL(t) .has_residual = true, .residual = t

static void halo_tiles(void)
{
    const conv_case cases[] = {
        {K_CONV_HALO_128x64, ALL_BF16, MAP(1, 1, 1, 8, 5), SAME3},
        {K_CONV_HALO_128x64, ALL_BF16, MAP(2, 11, 19, 40, 99), SAME3, .bias = true,
         RESIDUAL(K_BF16)},
        {K_CONV_HALO_128x64, ALL_F16, MAP(1, 9, 17, 96, 72), SAME3, .bias = true,
         .act = K_ACT_RELU},
        {K_CONV_HALO_128x32, ALL_BF16, MAP(1, 10, 19, 64, 16), SAME3, .bias = true},
        {K_CONV_HALO_128x32, ALL_F16, MAP(1, 8, 16, 24, 33), SAME3, RESIDUAL(K_F32)},
        {K_CONV_HALO_128x128, ALL_BF16, MAP(1, 9, 20, 32, 136), SAME3, .bias = true,
         .act = K_ACT_SILU},
        {K_CONV_HALO_128x128, ALL_F16, MAP(1, 3, 5, 72, 128), SAME3, .bias = true, RESIDUAL(K_F16)},
        {K_CONV_HALO_256x128, ALL_BF16, MAP(1, 18, 17, 40, 130), SAME3, .bias = true,
         RESIDUAL(K_BF16)},
        {K_CONV_HALO_256x128, ALL_F16, MAP(1, 5, 19, 40, 128), SAME3, .bias = true},
    };
    RUN_CASES(cases);
}

static void halo_upsampling(void)
{
    const conv_case cases[] = {
        {K_CONV_HALO_128x64, ALL_BF16, MAP(2, 5, 9, 40, 72), SAME3, .up = true, .bias = true},
        {K_CONV_HALO_128x64, ALL_F16, MAP(1, 1, 1, 8, 3), SAME3, .up = true},
        {K_CONV_HALO_128x128, ALL_BF16, MAP(1, 6, 9, 64, 129), SAME3, .up = true, RESIDUAL(K_F32)},
        {K_CONV_HALO_256x128, ALL_BF16, MAP(1, 9, 9, 40, 128), SAME3, .up = true, .bias = true},
        {K_CONV_HALO_256x128, ALL_F16, MAP(1, 4, 4, 64, 136), SAME3, .up = true, .bias = true},
    };
    RUN_CASES(cases);
}

static void gemm_tiles(void)
{
    const conv_case cases[] = {
        {K_CONV_GEMM_64x64, ALL_BF16, MAP(1, 1, 1, 8, 1), .kh = 1, .kw = 1, .stride = 1},
        {K_CONV_GEMM_64x64, ALL_BF16, MAP(2, 9, 11, 72, 99), .kh = 1, .kw = 1, .stride = 1,
         .bias = true},
        {K_CONV_GEMM_64x64, ALL_F16, MAP(1, 18, 13, 40, 24), .kh = 3, .kw = 3, .stride = 2,
         .after = 1},
        {K_CONV_GEMM_128x128, ALL_BF16, MAP(1, 11, 13, 64, 136), .kh = 1, .kw = 1, .stride = 1,
         RESIDUAL(K_BF16)},
        {K_CONV_GEMM_128x128, ALL_F16, MAP(1, 23, 14, 32, 130), .kh = 3, .kw = 3, .stride = 2,
         .after = 1, .bias = true},
        {K_CONV_GEMM_128x32, ALL_BF16, MAP(1, 13, 11, 96, 16), SAME3, .bias = true},
        {K_CONV_GEMM_128x32, ALL_F16, MAP(1, 5, 7, 16, 40), .kh = 2, .kw = 2, .stride = 2,
         .bias = true},
        {K_CONV_GEMM_64x64, ALL_BF16, MAP(1, 9, 8, 16, 8), .kh = 7, .kw = 7, .stride = 1,
         .before = 3, .after = 3},
        {K_CONV_GEMM_64x64, ALL_BF16, MAP(2, 5, 6, 24, 40), .kh = 5, .kw = 3, .stride = 2,
         .before = 2, .after = 1, .up = true},
    };
    RUN_CASES(cases);
}

// Channel counts, types and pointers that cp.async cannot take.
static void gathered(void)
{
    const conv_case cases[] = {
        {.compute = K_BF16,
         .x = K_F32,
         .w = K_F32,
         .y = K_BF16,
         MAP(1, 9, 19, 16, 72),
         SAME3,
         .bias = true},
        {.compute = K_BF16,
         .x = K_F32,
         .w = K_BF16,
         .y = K_F32,
         MAP(2, 11, 5, 3, 32),
         SAME3,
         .bias = true},
        {.compute = K_F16,
         .x = K_BF16,
         .w = K_F32,
         .y = K_F16,
         MAP(1, 9, 9, 45, 40),
         SAME3,
         RESIDUAL(K_F32)},
        {ALL_BF16, MAP(1, 9, 17, 64, 40), SAME3, .shift = 1, .bias = true, RESIDUAL(K_BF16)},
        {ALL_BF16, MAP(1, 5, 7, 5, 9), SAME3, .up = true, .bias = true},
        {.compute = K_BF16,
         .x = K_F32,
         .w = K_F32,
         .y = K_F32,
         MAP(1, 7, 9, 16, 16),
         .kh = 1,
         .kw = 1,
         .stride = 1,
         .bias = true},
        {.compute = K_F16,
         .x = K_F32,
         .w = K_F16,
         .y = K_F16,
         MAP(1, 9, 8, 35, 70),
         .kh = 3,
         .kw = 3,
         .stride = 2,
         .after = 1},
        {ALL_F16, MAP(1, 6, 6, 8, 8), .kh = 4, .kw = 4, .stride = 1, .before = 1, .after = 2,
         .shift = 3},
    };
    RUN_CASES(cases);
}

static void columns(void)
{
    const conv_case cases[] = {
        {ALL_BF16, MAP(1, 1, 1, 8, 3), SAME3, .bias = true},
        {.compute = K_BF16,
         .x = K_BF16,
         .w = K_BF16,
         .y = K_F32,
         MAP(2, 15, 29, 64, 3),
         SAME3,
         .bias = true},
        {.compute = K_F16,
         .x = K_F16,
         .w = K_F16,
         .y = K_F32,
         MAP(1, 14, 14, 128, 2),
         SAME3,
         RESIDUAL(K_F16)},
        {ALL_F16, MAP(1, 19, 3, 40, 1), SAME3, .bias = true, .act = K_ACT_TANH},
        {.compute = K_BF16,
         .x = K_F32,
         .w = K_F32,
         .y = K_BF16,
         MAP(1, 16, 17, 33, 3),
         SAME3,
         .bias = true},
        {ALL_BF16, MAP(1, 5, 30, 32, 3), SAME3, .shift = 1, RESIDUAL(K_F32)},
    };
    RUN_CASES(cases);
}

static void chosen(void)
{
    const conv_case cases[] = {
        {ALL_BF16, MAP(1, 16, 16, 96, 96), SAME3, .bias = true, RESIDUAL(K_BF16)},
        {ALL_BF16, MAP(1, 8, 8, 96, 64), SAME3, .up = true, .bias = true},
        {ALL_BF16, MAP(1, 12, 12, 64, 32), .kh = 1, .kw = 1, .stride = 1, .bias = true},
        {ALL_BF16, MAP(1, 9, 9, 32, 3), .kh = 3, .kw = 3, .stride = 1, .bias = true}, // no padding
        {ALL_F16, MAP(1, 6, 7, 24, 20), .kh = 3, .kw = 3, .stride = 1, .before = 2, .after = 2,
         .bias = true},
        {ALL_BF16, MAP(1, 6, 7, 16, 30), SAME3, .up = true},
        {ALL_BF16, MAP(1, 6, 7, 16, 24), SAME3, .bias = true, .act = K_ACT_GELU_TANH},
        {ALL_BF16, MAP(1, 6, 7, 16, 24), SAME3, .bias = true, .act = K_ACT_GELU_ERF},
        {ALL_BF16, MAP(1, 6, 7, 16, 24), SAME3, .bias = true, .act = K_ACT_QUICK_GELU},
    };
    RUN_CASES(cases);
}

static void float32(void)
{
    const conv_case cases[] = {
        {MAP(1, 1, 1, 1, 1), .kh = 1, .kw = 1, .stride = 1},
        {MAP(2, 9, 19, 33, 70), SAME3, .bias = true, .act = K_ACT_SILU, RESIDUAL(K_F32)},
        {MAP(1, 7, 9, 3, 32), SAME3, .bias = true, .w = K_BF16},
        {MAP(1, 13, 12, 20, 9), .kh = 3, .kw = 3, .stride = 2, .after = 1, .y = K_BF16},
        {MAP(1, 5, 6, 24, 65), SAME3, .up = true, .bias = true, .x = K_BF16},
        {MAP(1, 9, 8, 5, 4), .kh = 7, .kw = 7, .stride = 1, .before = 3, .after = 3, .x = K_F16,
         .y = K_F16, .w = K_F16},
        {MAP(1, 8, 9, 64, 3), SAME3, .bias = true, .shift = 1},
    };
    RUN_CASES(cases);
}

// Values near the ends of the range: large ones overflow nothing in float32, denormal ones are not flushed to zero in storage.
static void extremes(void)
{
    const double scales[] = {1e18, 1e-38};
    for (int i = 0; i < 2; i++) {
        conv_case c = {ALL_BF16, MAP(1, 6, 9, 24, 16), SAME3};
        c.y = K_F32;
        conv_data d = make_data(&c);
        array_fill(&d.x, random_normal, scales[i]);
        CUDA_OK(k_conv(&d.args, NULL));
        CUDA_OK(cudaDeviceSynchronize());
        array_fetch(&d.y);
        for (int64_t e = 0; e < d.y.n; e++) {
            double size, ref = reference(&c, &d, e, &size);
            // below 2^-126 products and sums may be flushed: 24 * 9 of them
            double bound = bound_of(&c, size, ref) + ldexp(216, -126);
            CHECK(fabs(d.y.v[e] - ref) <= bound, "[%lld] is %g, not %g", (long long)e,
                  (double)d.y.v[e], ref);
        }
        free_data(&d);
    }
}

// All tiles add in one order: the same bytes, whichever is chosen for a size of map or a batch.
static void tiles_agree(void)
{
    static const k_conv_kernel kernels[] = {
        K_CONV_GEMM_64x64,   K_CONV_GEMM_128x128, K_CONV_GEMM_128x32, K_CONV_HALO_256x128,
        K_CONV_HALO_128x128, K_CONV_HALO_128x64,  K_CONV_HALO_128x32, K_CONV_AUTO};
    for (int up = 0; up < 2; up++) {
        conv_case c = {ALL_BF16,     MAP(1, 7, 10, 40, 40), SAME3,           .up = up,
                       .bias = true, .act = K_ACT_SILU,     RESIDUAL(K_BF16)};
        conv_data d = make_data(&c);
        float *first = calloc((size_t)d.y.n, sizeof *first);
        for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
            if (up && kernels[i] == K_CONV_HALO_128x32) continue; // not made for it
            d.args.kernel = kernels[i];
            CUDA_OK(cudaMemset(array_at(&d.y, 0), UNWRITTEN, (size_t)d.y.n * size_of(d.y.dtype)));
            CUDA_OK(k_conv(&d.args, NULL));
            CUDA_OK(cudaDeviceSynchronize());
            array_fetch(&d.y);
            if (i == 0) memcpy(first, d.y.v, (size_t)d.y.n * sizeof *first);
            CHECK(memcmp(first, d.y.v, (size_t)d.y.n * sizeof *first) == 0, "kernel %d, up %d",
                  kernels[i], up);
        }
        free(first);
        free_data(&d);
    }
}

static void refusals(void)
{
    conv_case c = {K_CONV_HALO_128x64, ALL_BF16, MAP(1, 4, 4, 8, 8), .kh = 1, .kw = 1, .stride = 1};
    conv_data d = make_data(&c);
    CHECK(k_conv(&d.args, NULL) == cudaErrorInvalidValue, "the halo kernels are 3x3");
    d.args.kernel = K_CONV_GEMM_64x64;
    d.args.x_dtype = K_F32;
    CHECK(k_conv(&d.args, NULL) == cudaErrorInvalidValue, "the named tiles fetch x as it is");
    free_data(&d);
}

// Bytes are those of the float result, except where that lies within its bound of a rounding's edge.
static void check_rgb8(conv_case c, float scale, float shift, bool fused)
{
    conv_data d = make_data(&c);
    unsigned char *y, *out = malloc((size_t)d.y.n + 2 * BAND);
    CUDA_OK(cudaMalloc((void **)&y, (size_t)d.y.n + 2 * BAND));
    CUDA_OK(cudaMemset(y, 0xa5, (size_t)d.y.n + 2 * BAND));
    void *workspace = NULL;
    const size_t bytes = k_conv_rgb8_workspace(&d.args);
    CHECK(bytes == (fused ? 0 : (size_t)d.y.n * 4), "a workspace of %zu bytes", bytes);
    if (bytes) CUDA_OK(cudaMalloc(&workspace, bytes));
    CUDA_OK(k_conv_rgb8(y + BAND, &d.args, scale, shift, workspace, NULL));
    CUDA_OK(cudaMemcpy(out, y, (size_t)d.y.n + 2 * BAND, cudaMemcpyDeviceToHost));
    for (int i = 0; i < BAND; i++) {
        CHECK(out[i] == 0xa5, "written before the picture");
        CHECK(out[BAND + d.y.n + i] == 0xa5, "written past the picture");
    }
    for (int64_t i = 0; i < d.y.n; i++) {
        double size, act = reference(&c, &d, i, &size), v = act * scale + shift;
        double bound = bound_of(&c, size, act) * fabs(scale) +
                       ldexp(4, -24) * (fabs(act * scale) + fabs(shift));
        v = 255 * (v > 0 ? v < 1 ? v : 1 : 0);
        CHECK(fabs(out[BAND + i] - v) <= 0.5 + 255 * bound + ldexp(255, -23),
              "[%lld] is %d, not %.7g", (long long)i, out[BAND + i], v);
    }
    CUDA_OK(cudaFree(y));
    CUDA_OK(cudaFree(workspace));
    free(out);
    free_data(&d);
}

static void rgb8(void)
{
    check_rgb8((conv_case){ALL_BF16, MAP(2, 15, 29, 40, 3), SAME3, .bias = true}, 0.5f, 0.5f, true);
    check_rgb8((conv_case){ALL_F16, MAP(1, 28, 13, 64, 3), SAME3, .bias = true, .act = K_ACT_TANH},
               0.4f, 0.5f, true);
    check_rgb8((conv_case){ALL_BF16, MAP(2, 5, 7, 16, 5), SAME3, .bias = true}, 0.5f, 0.5f, false);
    check_rgb8(
        (conv_case){
            .compute = K_F32, .x = K_F32, .w = K_BF16, .y = K_F32, MAP(1, 9, 6, 12, 3), SAME3},
        0.5f, 0.5f, false);
    check_rgb8(
        (conv_case){
            .compute = K_BF16, .x = K_F32, .w = K_F32, .y = K_F32, MAP(1, 3, 19, 12, 1), SAME3},
        2.0f, 0.0f, true);
}

// The bytes that the CPU's op makes of the float result: half to even, NaN to 0, the ends of the range. A convolution that
// copies its input, one pixel a time (NaN * 0 would spoil its neighbours).
static void rgb8_rounding(void)
{
    const float scale = 1.0f / 255,
                in[] = {0.5f, 1.5f, 2.5f, 126.5f, 127.5f, 253.5f, 254.5f, 7.25f, 300, -4, NAN};
    enum { N = sizeof in / sizeof *in };
    conv_case c = {.compute = K_F16, .x = K_F16, .w = K_F16, .y = K_F32, MAP(1, 1, N, 1, 1), SAME3};
    conv_data d = make_data(&c);
    unsigned char *y, out[N];
    int ties = 0;
    for (int i = 0; i < 9; i++) d.w.v[i] = i == 4;
    array_send(&d.w);
    CUDA_OK(k_conv_pack(array_at(&d.packed, 0), array_at(&d.w, 0), c.w, &d.args.shape, NULL));
    CUDA_OK(cudaMalloc((void **)&y, N));
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) d.x.v[j] = j == i ? in[i] : 0;
        array_send(&d.x);
        CUDA_OK(k_conv_rgb8(y, &d.args, scale, 0, NULL, NULL));
        CUDA_OK(cudaMemcpy(out, y, N, cudaMemcpyDeviceToHost));
        float v = in[i] * scale;
        v = 255.0f * (v > 0 ? v < 1 ? v : 1 : 0);
        ties += v - floorf(v) == 0.5f;
        CHECK(out[i] == lrintf(v), "%g gives %d", (double)in[i], out[i]);
    }
    CHECK(ties >= 4, "%d ties are not worth a test", ties);
    CUDA_OK(cudaFree(y));
    free_data(&d);
}

int main(int argc, char **argv)
{
    const launch_test tests[] = {
        {"halo_tiles", halo_tiles},
        {"halo_upsampling", halo_upsampling},
        {"gemm_tiles", gemm_tiles},
        {"gathered", gathered},
        {"columns", columns},
        {"chosen", chosen},
        {"float32", float32},
        {"extremes", extremes},
        {"tiles_agree", tiles_agree},
        {"refusals", refusals},
        {"rgb8", rgb8},
        {"rgb8_rounding", rgb8_rounding},
    };
    return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
