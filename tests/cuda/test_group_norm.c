// SPDX-License-Identifier: MIT
// k_group_norm against double precision: one and three kernels, vectors and elements, in place, and data on which a careless
// variance is worthless.
#include "launch_support.h"

typedef enum values {
    NORMAL,
    FAR,      // mean 1000 times the deviation
    OUTLIER,  // the first pixel of every image, the kernels' pivot, is far from everything else
    SPREAD,   // channels of a group with means of their own
    CONSTANT, // variance 0: the result is beta
    DENORMAL,
} values;

typedef struct norm_case {
    k_dtype x, y;
    int batch, pixels, channels, groups;
    values values;
    int shift; // of x and y from their alignment, in elements
    bool silu, in_place;
} norm_case;

static double value(const norm_case *c, int64_t i)
{
    int64_t pixel = i / c->channels % c->pixels, channel = i % c->channels;
    switch (c->values) {
    case FAR:
        return 100 + 0.1 * random_normal();
    case OUTLIER:
        return pixel == 0 ? 5000 : random_normal();
    case SPREAD:
        return (double)(channel % 7) * 40 - 100 + random_normal();
    case CONSTANT:
        return 3.25;
    case DENORMAL:
        return random_normal() * 1e-40;
    default:
        return random_normal() * 2;
    }
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

// In units of rstd: the float32 mean is half of 2^-23 |mean| off, its sum (relative to the pivots, in merges of short chains) a
// few times 2^-24 of what is summed, deviations and the pivots' distance. Behind that a handful of float32 operations and the
// rounding of the store; SiLU's slope is at most 1.1.
static void check_group(const norm_case *c, const array *x, const array *y, const array *gamma,
                        const array *beta, int image, int group, float eps)
{
    int per = c->channels / c->groups;
    int64_t first = (int64_t)image * c->pixels * c->channels + group * per,
            n = (int64_t)c->pixels * per;
    double mean = 0, var = 0;
    for (int64_t i = 0; i < n; i++) mean += x->v[first + i / per * c->channels + i % per];
    mean /= (double)n;
    for (int64_t i = 0; i < n; i++) {
        double d = x->v[first + i / per * c->channels + i % per] - mean;
        var += d * d / (double)n;
    }
    double rstd = 1 / sqrt(var + (double)eps), distance = 0;
    for (int i = 0; i < per; i++) distance = fmax(distance, fabs(x->v[first + i] - mean) * rstd);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = first + i / per * c->channels + i % per;
        double g = gamma->v[group * per + i % per], b = beta->v[group * per + i % per];
        double d = (x->v[at] - mean) * rstd, ref = d * g + b;
        double bound =
            ldexp(1, -24) *
            (fabs(g) * (8 * (1 + fabs(d) + distance) + fabs(mean) * rstd) + 2 * fabs(ref));
        if (c->silu) {
            ref = silu(ref);
            bound = 1.1 * bound + ldexp(8, -24) * fabs(ref);
        }
        bound += roundoff(c->y) * fabs(ref) + 1e-30;
        if (c->y == K_F16) bound += ldexp(1, -25);
        CHECK(fabs(y->v[at] - ref) <= bound,
              "%d x %d x %d, %d groups, values %d: [%d, group %d, %lld] is %.9g, not %.9g +- %.2g",
              c->batch, c->pixels, c->channels, c->groups, c->values, image, group, (long long)i,
              (double)y->v[at], ref, bound);
    }
}

static void run_case(const norm_case *c)
{
    const float eps = c->values == DENORMAL ? 1e-30f : 1e-6f;
    int64_t n = (int64_t)c->batch * c->pixels * c->channels;
    array x = array_make(c->x, n, c->shift), y = array_make(c->y, n, c->shift);
    array gamma = array_make(K_F32, c->channels, c->shift),
          beta = array_make(K_F32, c->channels, 0);
    for (int64_t i = 0; i < n; i++) x.v[i] = (float)value(c, i);
    array_send(&x);
    array_fill(&gamma, random_normal, 1);
    array_fill(&beta, random_normal, 1);
    k_group_norm_args a = {.y = array_at(c->in_place ? &x : &y, 0),
                           .x = array_at(&x, 0),
                           .y_dtype = c->y,
                           .x_dtype = c->x,
                           .gamma = array_at(&gamma, 0),
                           .beta = array_at(&beta, 0),
                           .batch = c->batch,
                           .pixels = c->pixels,
                           .channels = c->channels,
                           .groups = c->groups,
                           .eps = eps,
                           .silu = c->silu};
    array ws = array_make(K_F32, (int64_t)(k_group_norm_workspace(&a) / 4), 0);
    CUDA_OK(k_group_norm(&a, array_at(&ws, 0), NULL));
    CUDA_OK(cudaDeviceSynchronize());
    if (c->in_place) {
        memcpy(y.v, x.v, (size_t)n * sizeof *y.v); // y.v: what went in
        array_fetch(&x);
        array kept = y;
        y = x;
        x = kept;
        y.dtype = c->y;
    } else {
        array_fetch(&y);
    }
    array_fetch(&ws);
    for (int b = 0; b < c->batch; b++)
        for (int g = 0; g < c->groups; g++) check_group(c, &x, &y, &gamma, &beta, b, g, eps);
    array_free(&x), array_free(&y), array_free(&gamma), array_free(&beta), array_free(&ws);
}

static void run_cases(const norm_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) run_case(&cases[i]);
}
#define RUN_CASES(cases) run_cases(cases, sizeof cases / sizeof *cases)

// The groups fit one block.
static void one_kernel(void)
{
    const norm_case cases[] = {
        {K_F32, K_F32, 1, 1, 1, 1, NORMAL, 0, 0, 0},
        {K_F32, K_F32, 2, 3, 5, 5, NORMAL, 0, 1, 0},
        {K_BF16, K_BF16, 2, 64, 96, 8, NORMAL, 0, 1, 0},
        {K_F16, K_F32, 1, 99, 24, 3, NORMAL, 1, 0, 0},
        {K_F32, K_F16, 1, 333, 12, 2, FAR, 0, 1, 0},
        {K_F32, K_F32, 1, 256, 32, 32, OUTLIER, 0, 0, 1},
        {K_F32, K_BF16, 3, 111, 21, 3, SPREAD, 0, 1, 0},
        {K_F32, K_F32, 1, 19, 8, 2, CONSTANT, 0, 0, 0},
        {K_F32, K_F32, 1, 19, 8, 2, DENORMAL, 0, 0, 0},
    };
    RUN_CASES(cases);
}

// Vectors of 8 channels; columns that do and do not fill a block, several blocks of columns, slabs of unequal size.
static void vectors(void)
{
    const norm_case cases[] = {
        {K_BF16, K_BF16, 1, 1031, 128, 2, NORMAL, 0, 1, 0},
        {K_BF16, K_BF16, 2, 777, 96, 8, NORMAL, 0, 1, 1},
        {K_F16, K_F16, 1, 2050, 32, 4, FAR, 0, 0, 0},
        {K_F32, K_F32, 1, 600, 512, 32, NORMAL, 0, 1, 0},
        {K_F32, K_F32, 2, 1031, 64, 4, FAR, 0, 0, 1},
        {K_F32, K_BF16, 1, 4099, 24, 3, OUTLIER, 0, 0, 0},
        {K_F32, K_F32, 1, 1500, 56, 8, SPREAD, 0, 0, 0},
        {K_BF16, K_F32, 1, 19, 1000, 1, SPREAD, 0, 1, 0},
        {K_F32, K_F32, 1, 1111, 64, 4, CONSTANT, 0, 0, 0},
        {K_F32, K_F32, 1, 1111, 64, 4, DENORMAL, 0, 0, 0},
    };
    RUN_CASES(cases);
}

// Element by element: channels that are no multiple of 8, or pointers off their alignment.
static void elements(void)
{
    const norm_case cases[] = {
        {K_F32, K_F32, 1, 8200, 3, 3, FAR, 0, 0, 0},
        {K_BF16, K_BF16, 2, 3001, 6, 2, NORMAL, 0, 1, 1},
        {K_F32, K_F32, 1, 999, 100, 4, OUTLIER, 0, 0, 0},
        {K_BF16, K_F32, 1, 1031, 64, 4, NORMAL, 1, 1, 0},
        {K_F16, K_F16, 1, 333, 99, 1, SPREAD, 3, 1, 0},
    };
    RUN_CASES(cases);
}

// More slabs than the least number of pixels would give: an image of many pixels.
static void many_slabs(void)
{
    const norm_case cases[] = {{K_BF16, K_BF16, 1, 70000, 8, 2, NORMAL, 0, 1, 0}};
    RUN_CASES(cases);
}

// The same bytes every time, and those of an image alone whatever else is in the batch.
static void batch_does_not_matter(void)
{
    enum { PIXELS = 700, CHANNELS = 64, N = PIXELS * CHANNELS };
    array x = array_make(K_BF16, 2 * N, 0), y = array_make(K_BF16, 2 * N, 0),
          z = array_make(K_BF16, N, 0);
    array gamma = array_make(K_F32, CHANNELS, 0), beta = array_make(K_F32, CHANNELS, 0);
    array_fill(&x, random_normal, 1);
    array_fill(&gamma, random_normal, 1);
    array_fill(&beta, random_normal, 1);
    k_group_norm_args a = {array_at(&y, 0),
                           array_at(&x, 0),
                           K_BF16,
                           K_BF16,
                           array_at(&gamma, 0),
                           array_at(&beta, 0),
                           2,
                           PIXELS,
                           CHANNELS,
                           4,
                           1e-6f,
                           true};
    array ws = array_make(K_F32, (int64_t)(k_group_norm_workspace(&a) / 4), 0);
    CUDA_OK(k_group_norm(&a, array_at(&ws, 0), NULL));
    a.y = array_at(&z, 0);
    a.x = array_at(&x, N);
    a.batch = 1;
    CUDA_OK(k_group_norm(&a, array_at(&ws, 0), NULL));
    CUDA_OK(cudaDeviceSynchronize());
    array_fetch(&y);
    array_fetch(&z);
    CHECK(memcmp(y.v + N, z.v, N * sizeof *z.v) == 0, "an image depends on its batch");
    array_free(&x), array_free(&y), array_free(&z), array_free(&gamma), array_free(&beta),
        array_free(&ws);
}

int main(int argc, char **argv)
{
    const launch_test tests[] = {
        {"one_kernel", one_kernel},
        {"vectors", vectors},
        {"elements", elements},
        {"many_slabs", many_slabs},
        {"batch_does_not_matter", batch_does_not_matter},
    };
    return run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
}
