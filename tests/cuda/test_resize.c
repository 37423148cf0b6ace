// SPDX-License-Identifier: MIT
// The step between two scales: bit for bit what the CPU's op computes, for every path (tiles, quads, equal sizes, no noise, noise from
// memory), alone and in batches of unlike ones.
#include "launch_support.h"
#include "backend/ops.h"
#include "base/rng.h"

typedef struct resize_case {
    int c, h, w, out_h, out_w;
    bool velocity, eps, x0;
    float sigma, sigma_next;
    int shift; // elements past alignment, of every array
} resize_case;

typedef struct operands {
    const resize_case *c;
    array x, v, eps, y, x0;
    renoise_step step;
} operands;

static operands operands_make(const resize_case *c, uint64_t seed, uint32_t draw)
{
    const int64_t in = (int64_t)c->c * c->h * c->w, out = (int64_t)c->c * c->out_h * c->out_w;
    operands o = {c,
                  array_make(K_F32, in, c->shift),
                  array_make(K_F32, in, c->shift),
                  array_make(K_F32, out, c->shift),
                  array_make(K_F32, out, c->shift),
                  array_make(K_F32, in, c->shift),
                  {seed, draw, c->sigma, c->sigma_next, 0}};
    array_fill(&o.x, random_normal, 1), array_fill(&o.v, random_normal, 1);

    if (c->sigma_next > 0)
        array_fill(&o.eps, random_normal, 1); // else it stays NaN, on the device too
    return o;
}

static void operands_free(operands *o)
{
    array *all[] = {&o->x, &o->v, &o->eps, &o->y, &o->x0};
    for (int i = 0; i < 5; i++) array_free(all[i]);
}

static k_resize_job job_of(const operands *o)
{
    const resize_case *c = o->c;
    return (k_resize_job){.y = array_at(&o->y, 0),
                          .x0 = c->x0 ? array_at(&o->x0, 0) : NULL,
                          .x = array_at(&o->x, 0),
                          .v = c->velocity ? array_at(&o->v, 0) : NULL,
                          .eps = c->eps ? array_at(&o->eps, 0) : NULL,
                          .c = c->c,
                          .h = c->h,
                          .w = c->w,
                          .out_h = c->out_h,
                          .out_w = c->out_w};
}

static void run(const k_resize_job *jobs, const operands *o, int n)
{
    k_resize_step steps[64], *device;
    CHECK(n <= 64, "%d jobs", n);
    for (int i = 0; i < n; i++)
        steps[i] = (k_resize_step){.seed = o[i].step.seed,
                                   .draw = o[i].step.draw,
                                   .sigma = o[i].step.sigma,
                                   .sigma_next = o[i].step.sigma_next};
    CUDA_OK(cudaMalloc((void **)&device, (size_t)n * sizeof *device));
    CUDA_OK(cudaMemcpy(device, steps, (size_t)n * sizeof *device, cudaMemcpyHostToDevice));
    CUDA_OK(k_resize_renoise(jobs, device, n, 0));
    CUDA_OK(cudaDeviceSynchronize());
    CUDA_OK(cudaFree(device));
}

static swd_exec *cpu;

static void same_bits(const array *got, const float *want, const char *what, const resize_case *c)
{
    for (int64_t i = 0; i < got->n; i++)
        CHECK(memcmp(&got->v[i], &want[i], sizeof(float)) == 0,
              "%s of %d x %d x %d -> %d x %d at %lld: %.9g, not %.9g", what, c->c, c->h, c->w,
              c->out_h, c->out_w, (long long)i, (double)got->v[i], (double)want[i]);
}

// Against the CPU's op; the host's copies are what the device got.
static void check_results(operands *o)
{
    const resize_case *c = o->c;
    float *y = calloc((size_t)o->y.n, sizeof *y), *x0 = calloc((size_t)o->x0.n, sizeof *x0);
    resize_renoise_args a = {.y = tensor4(y, SWD_F32, 1, c->c, c->out_h, c->out_w),
                             .x = tensor4(o->x.v, SWD_F32, 1, c->c, c->h, c->w),
                             .steps = tensor2(&o->step, SWD_U8, 1, sizeof o->step)};
    if (c->velocity) a.v = tensor4(o->v.v, SWD_F32, 1, c->c, c->h, c->w);
    if (c->eps) a.eps = tensor4(o->eps.v, SWD_F32, 1, c->c, c->out_h, c->out_w);
    if (c->x0) a.x0 = tensor4(x0, SWD_F32, 1, c->c, c->h, c->w);
    CHECK(op_resize_renoise(&a, cpu) == SWD_OK, "%s", cpu->err->message);
    array_fetch(&o->y), array_fetch(&o->x0);
    same_bits(&o->y, y, "y", c);
    if (c->x0) same_bits(&o->x0, x0, "x0", c);
    for (int64_t i = 0; i < o->x0.n && !c->x0; i++)
        CHECK(isnan(o->x0.v[i]), "an x0 that nobody asked for");
    free(y), free(x0);
}

// Sizes: upscales by tiles (widths that are multiples of 4, more and less than a tile), odd ones, equal ones, downscales, one way up
// and the other down.
static const int sizes[][5] = {
    {1, 1, 1, 1, 1},     {3, 1, 1, 4, 4},     {2, 2, 3, 4, 4},      {16, 8, 8, 12, 12},
    {4, 24, 32, 36, 48}, {2, 19, 33, 20, 36}, {1, 40, 48, 41, 100}, {3, 5, 7, 9, 11},
    {1, 3, 5, 19, 33},   {2, 9, 9, 9, 9},     {3, 16, 16, 16, 16},  {2, 12, 16, 7, 8},
    {1, 8, 8, 16, 4},    {1, 8, 8, 4, 16},    {5, 1, 3, 1, 8},      {1, 60, 124, 62, 128},
    {1, 8, 100, 16, 4},  {2, 100, 8, 8, 16},  {3, 4, 5, 6, 10},     {1, 64, 64, 80, 80}};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

static resize_case case_of(int i, int variant)
{
    const int *s = sizes[i];
    return (resize_case){.c = s[0],
                         .h = s[1],
                         .w = s[2],
                         .out_h = s[3],
                         .out_w = s[4],
                         .velocity = variant % 4 != 1,
                         .eps = variant % 3 == 1,
                         .x0 = variant % 2,
                         .sigma = variant % 5 == 4 ? 1.0f : 0.8959f,
                         .sigma_next = (float[]){0.7371f, 0, 1, 0.6022f}[(variant + i) % 4],
                         .shift = variant % 5 == 2};
}

static void test_one_job(void)
{
    for (int i = 0; i < N_SIZES; i++)
        for (int variant = 0; variant < 7; variant++) {
            resize_case c = case_of(i, variant);
            operands o =
                operands_make(&c, 0x123456789abcdefu * (uint64_t)(i + 1), (uint32_t)variant);
            k_resize_job job = job_of(&o);
            run(&job, &o, 1);
            check_results(&o);
            operands_free(&o);
        }
}

// More jobs than fit a launch, no two alike.
static void test_many_jobs(void)
{
    enum { N = 37 };
    resize_case cases[N];
    operands o[N];
    k_resize_job jobs[N];
    for (int i = 0; i < N; i++) {
        cases[i] = case_of(i % (N_SIZES - 1), i / 3);
        o[i] = operands_make(&cases[i], (uint64_t)i << 60 | (uint64_t)i, (uint32_t)i);
        jobs[i] = job_of(&o[i]);
    }
    run(jobs, o, N);
    for (int i = 0; i < N; i++) check_results(&o[i]), operands_free(&o[i]);
}

// A job without x makes noise: the stream that philox_randn() reads.
static void test_noise(void)
{
    static const int counts[] = {1, 2, 3, 4, 5, 19, 99, 111, 333, 4097};
    for (int i = 0; i < 10; i++) {
        array y = array_make(K_F32, counts[i], i % 2);
        float *want = malloc((size_t)counts[i] * sizeof *want);
        k_resize_job job = {.y = array_at(&y, 0), .c = 1, .out_h = 1, .out_w = counts[i]};
        operands o = {.step = {.seed = 0xfedcba9876543210u, .draw = 0x80000001u}};
        run(&job, &o, 1);
        array_fetch(&y);
        philox_randn(want, counts[i], 0, o.step.seed, o.step.draw);
        CHECK(memcmp(y.v, want, (size_t)counts[i] * sizeof *want) == 0, "%d normals differ",
              counts[i]);
        free(want);
        array_free(&y);
    }
}

int main(int argc, char **argv)
{
    static swd_err error;
    static swd_exec exec = {.err = &error};
    CHECK(backend_cpu_create(&exec.backend, 1, &error) == SWD_OK, "%s", error.message);
    cpu = &exec;
    static const launch_test tests[] = {
        {"one_job", test_one_job},
        {"many_jobs", test_many_jobs},
        {"noise", test_noise},
    };
    int result = run_tests(tests, sizeof tests / sizeof *tests, argc, argv);
    backend_destroy(&exec.backend);
    return result;
}
