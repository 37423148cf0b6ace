// SPDX-License-Identifier: MIT
// gpu_check [device]: what the CUDA backend does on a real device. Exits with 77 where there is none.
#include "backend_cuda.h"
#include <stdio.h>
#include <stdlib.h>

enum { SKIPPED = 77 };

int main(int argc, char **argv)
{
    swd_err err = {0};
    swd_backend *b;
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) {
        printf("gpu_check: no CUDA device here (%s): nothing was checked\n",
               cudaGetErrorString(cudaGetLastError()));
        return SKIPPED;
    }
    if (backend_cuda_create(&b, argc > 1 ? atoi(argv[1]) : 0, &err) != SWD_OK) {
        fprintf(stderr, "gpu_check: %s\n", err.message);
        return 1;
    }
    printf("gpu_check: %s\n", b->device);
    backend_destroy(&b);
    return 0;
}
