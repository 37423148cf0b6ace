/* SPDX-License-Identifier: MIT */
/* What the tests of launchers share: arrays in device memory between guard bands, seen from the host as floats, random numbers,
 * and a main that runs the tests of a file and prints TAP. No library of tests: these programs also run under ThreadSanitizer, and
 * from a copied folder on machines with a GPU. */
#ifndef SWD_TESTS_CUDA_LAUNCH_SUPPORT_H
#define SWD_TESTS_CUDA_LAUNCH_SUPPORT_H
#include "kernels/kernels.h"
#include "tensor/tensor.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BAND = 64 };        /* bytes of guard on both sides */
enum { UNWRITTEN = 0xff }; /* what guards and outputs hold before a launch: NaN in every dtype */

/* A failure ends the program: what is left on the device would only confuse the next test. */
#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("Bail out! %s:%d: ", __FILE__, __LINE__);                                       \
            printf(__VA_ARGS__);                                                                   \
            printf("\n");                                                                          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
#define CUDA_OK(call) CHECK((call) == cudaSuccess, "%s failed", #call)

typedef struct launch_test {
    const char *name;
    void (*run)(void);
} launch_test;

/* Runs all tests, or those whose name has argv[1] in it. 77 where there is no device. */
static inline int run_tests(const launch_test *tests, int n, int argc, char **argv)
{
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        printf("1..0 # SKIP no CUDA device\n");
        return 77;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("1..%d\n", n);
    for (int i = 0; i < n; i++) {
        bool wanted = argc < 2 || strstr(tests[i].name, argv[1]);
        if (wanted) tests[i].run();
        printf("ok %d - %s%s\n", i + 1, tests[i].name, wanted ? "" : " # SKIP not asked for");
    }
    return 0;
}

static uint64_t random_state = 1;
static inline double random_unit(void) /* [-1, 1) */
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 40) / (1 << 23) - 1.0;
}
static inline double random_normal(void) /* near enough: mean 0, variance 1 */
{
    double s = 0;
    for (int i = 0; i < 12; i++) s += random_unit();
    return s / 2;
}

static inline double *zeros(int64_t n)
{
    return calloc((size_t)n + 1, sizeof(double));
}

static inline size_t size_of(k_dtype t)
{
    return t == K_F32 ? 4 : 2;
}
/* Relative error of one rounding to nearest. */
static inline double roundoff(k_dtype t)
{
    return ldexp(1, t == K_F32 ? -24 : t == K_F16 ? -11 : -8);
}
static inline uint16_t to_bits(k_dtype t, float x)
{
    return t == K_BF16 ? f32_to_bf16(x) : f32_to_f16(x);
}
static inline float from_bits(k_dtype t, uint16_t h)
{
    return t == K_BF16 ? bf16_to_f32(h) : f16_to_f32(h);
}
static inline float rounded(k_dtype t, float x)
{
    return t == K_F32 ? x : from_bits(t, to_bits(t, x));
}

typedef struct array {
    k_dtype dtype;
    int64_t n;
    float *v;            /* host: the elements, rounded to dtype */
    unsigned char *base; /* device, BAND bytes before the first element and its shift */
    size_t bytes;        /* from base */
    size_t start;        /* of element 0 */
} array;

/* n elements, uninitialised on the host, UNWRITTEN on the device; shift: elements past an address of 256-byte alignment. */
static inline array array_make(k_dtype dtype, int64_t n, int shift)
{
    array a = {.dtype = dtype, .n = n};
    a.start = 256 + (size_t)shift * size_of(dtype);
    a.bytes = a.start + (size_t)n * size_of(dtype) + BAND;
    a.v = calloc((size_t)n, sizeof *a.v);
    CUDA_OK(cudaMalloc((void **)&a.base, a.bytes));
    CUDA_OK(cudaMemset(a.base, UNWRITTEN, a.bytes));
    return a;
}

static inline void *array_at(const array *a, int64_t i)
{
    return a->base + a->start + (size_t)i * size_of(a->dtype);
}

/* Rounds the host's elements and sends them. */
static inline void array_send(array *a)
{
    size_t size = size_of(a->dtype);
    unsigned char *raw = malloc((size_t)a->n * size + 1);
    for (int64_t i = 0; i < a->n; i++) {
        a->v[i] = rounded(a->dtype, a->v[i]);
        uint16_t h = a->dtype == K_F32 ? 0 : to_bits(a->dtype, a->v[i]);
        memcpy(raw + (size_t)i * size, a->dtype == K_F32 ? (void *)&a->v[i] : (void *)&h, size);
    }
    CUDA_OK(cudaMemcpy(array_at(a, 0), raw, (size_t)a->n * size, cudaMemcpyHostToDevice));
    free(raw);
}

/* Fetches the elements and checks the guards. An element that no kernel has written is NaN. */
static inline void array_fetch(array *a)
{
    size_t size = size_of(a->dtype);
    unsigned char *raw = malloc(a->bytes);
    CUDA_OK(cudaMemcpy(raw, a->base, a->bytes, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < a->start; i++) CHECK(raw[i] == UNWRITTEN, "written before the array");
    for (size_t i = a->bytes - BAND; i < a->bytes; i++)
        CHECK(raw[i] == UNWRITTEN, "written past the array");
    for (int64_t i = 0; i < a->n; i++) {
        const unsigned char *p = raw + a->start + (size_t)i * size;
        uint16_t h;
        memcpy(&h, p, sizeof h);
        if (a->dtype == K_F32)
            memcpy(&a->v[i], p, sizeof a->v[i]);
        else
            a->v[i] = from_bits(a->dtype, h);
    }
    free(raw);
}

static inline void array_fill(array *a, double (*value)(void), double scale)
{
    for (int64_t i = 0; i < a->n; i++) a->v[i] = (float)(value() * scale);
    array_send(a);
}

static inline void array_free(array *a)
{
    CUDA_OK(cudaFree(a->base));
    free(a->v);
    memset(a, 0, sizeof *a);
}
#endif
