/* SPDX-License-Identifier: MIT */
/* For tests of the CUDA backend beside the CPU's. */
#ifndef SWD_TESTS_CUDA_BACKENDS_H
#define SWD_TESTS_CUDA_BACKENDS_H
#include "launch_support.h"
#include "backend_cuda.h"

static swd_backend
    *backends[2]; /* cpu, cuda; the second is absent where there is no device: then nothing runs */
static swd_err error;

#define OK(call) CHECK((call) == SWD_OK, "%s", error.message)

/* run_tests() with both open. */
static inline int run_beside_cpu(const launch_test *tests, size_t n, int argc, char **argv)
{
    OK(backend_cpu_create(&backends[0], 1, &error));
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0)
        OK(backend_cuda_create(&backends[1], 0, &error));
    int result = run_tests(tests, n, argc, argv);
    for (int i = 0; i < 2; i++) backend_destroy(&backends[i]);
    return result;
}
#endif
