// SPDX-License-Identifier: MIT
// gpu_check [device]: what the CUDA backend is built on, on a real device: dev.cuh's wrappers against the emulator's words.
// Exits with 77 where there is no device.
#include "backend_cuda.h"
#include "wrappers.h"
#include <stdio.h>
#include <stdlib.h>

enum { SKIPPED = 77 };

static swd_status check_wrappers(swd_backend *b, int *n_off, swd_err *err)
{
    static uint32_t words[WRAPPER_WORDS];
    int major, minor, device = cuda_of(b)->device;
    SWD_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), err);
    SWD_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), err);
    bool e4m3 = major * 10 + minor >= 89;
    uint32_t *out;
    SWD_CUDA(cudaMalloc((void **)&out, sizeof words), err);
    swd_status st = cuda_status(wrappers_run(out, e4m3, cuda_stream(b, NULL)), "wrappers_run", err);
    if (st == SWD_OK) st = b->download(b, words, tensor1(out, SWD_I32, WRAPPER_WORDS), NULL, err);
    if (st == SWD_OK) st = b->synchronize(b, NULL, err);
    (void)cudaFree(out);
    if (st == SWD_OK) *n_off = wrappers_compare(words, e4m3);
    return st;
}

int main(int argc, char **argv)
{
    swd_err err = {0};
    swd_backend *b;
    int n = 0, n_off = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) {
        printf("gpu_check: no CUDA device here (%s): nothing was checked\n",
               cudaGetErrorString(cudaGetLastError()));
        return SKIPPED;
    }
    swd_status st = backend_cuda_create(&b, argc > 1 ? atoi(argv[1]) : 0, &err);
    if (st == SWD_OK) {
        printf("gpu_check: %s\n", b->device);
        st = check_wrappers(b, &n_off, &err);
        backend_destroy(&b);
    }
    if (st != SWD_OK) {
        fprintf(stderr, "gpu_check: %s\n", err.message);
        return 1;
    }
    printf("gpu_check: %s\n", n_off ? "some wrappers are off" : "every wrapper of dev.cuh agrees");
    return n_off != 0;
}
